import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { Congestion } from "../../../src/layers/log/Congestion.js"
import { appended } from "../../../src/layers/log/History.js"
import type { JobState } from "../../../src/layers/log/JobState.js"
import { waitForOwner } from "../../../src/layers/log/Pace.js"
import { endsWheneverItHappens } from "../../support/anyMoment.js"

describe("whoever follows a job", () => {
  it("misses nothing that is appended, and no end, while it begins to wait", () => {
    for (const change of [{ last: 4 }, { closed: true }])
      endsWheneverItHappens(() => {
        const waking = new Set<() => void>()
        const follow = (wake: () => void) => {
          waking.add(wake)
          return () => waking.delete(wake)
        }
        const job = { last: 3, closed: false, follow }
        const happen = () => {
          Object.assign(job, change)
          for (const wake of [...waking]) wake()
        }
        return { wait: appended(job as unknown as JobState, 3), happen }
      })
  })
})

describe("a congested owner", () => {
  it.effect("remembers nobody whose emit was interrupted while it waited", () =>
    Effect.gen(function* () {
      const waiting = new Set<() => void>()
      class Watched extends Congestion {
        override onRelief(resume: () => void): () => void {
          const leave = super.onRelief(resume)
          waiting.add(resume)
          return () => {
            waiting.delete(resume)
            leave()
          }
        }
      }
      const owner = new Watched()
      owner.congested = true
      const job = { farOwner: owner, ownerView: undefined } as JobState
      const emits = yield* Effect.forEach(Array.from({ length: 100 }), () => Effect.fork(waitForOwner(job)))
      while (waiting.size < 100) yield* Effect.yieldNow()
      yield* Fiber.interruptAll(emits.slice(1))
      assert.strictEqual(waiting.size, 1)
      owner.relieve()
      yield* Fiber.join(emits[0] ?? Fiber.never)
    })
  )

  it("holds nobody who begins to wait while it is relieved", () =>
    endsWheneverItHappens(() => {
      const owner = new Congestion()
      owner.congested = true
      const job = { farOwner: owner, ownerView: undefined } as JobState
      return { wait: waitForOwner(job), happen: () => owner.relieve() }
    }))

  it("calls nobody back who has left", () => {
    const owner = new Congestion()
    owner.congested = true
    const called: Array<string> = []
    owner.onRelief(() => called.push("stays"))
    owner.onRelief(() => called.push("leaves"))()
    owner.relieve()
    assert.deepStrictEqual(called, ["stays"])
  })
})
