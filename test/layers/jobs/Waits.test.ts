/** Places among the jobs that were due and are loaded. */
import { describe, it } from "@effect/vitest"
import { Waits } from "../../../src/layers/jobs/durable/Waits.js"
import { endsWheneverItHappens } from "../../support/anyMoment.js"

describe("a place among the jobs that were due", () => {
  it("is taken by whoever begins to wait while one is left", () =>
    endsWheneverItHappens(() => {
      const waits = new Waits(() => 0, 1)
      waits.enter()
      return { wait: waits.place, happen: () => waits.leave() }
    }))
})
