import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import { Op, Store } from "../../../src/services/store/Store.js"
import { aJob, someEvents } from "./fixtures.js"
import { newsSuite } from "./news.suite.js"
import { suite } from "./Store.suite.js"

suite("memory", StoreMemory.layer())
newsSuite("memory", StoreMemory.layer())

describe("StoreMemory", () => {
  it.effect("a page that was read does not change under its reader", () =>
    Effect.gen(function* () {
      const store = yield* Store
      yield* store.commit({
        ops: [Op.PutJob({ job: aJob("job_a") }), Op.Append({ jobId: "job_a", events: someEvents(1, 5) })],
        owners: []
      })
      const page = yield* store.events("job_a", 1, 10)
      yield* store.commit({
        ops: [
          Op.Append({ jobId: "job_a", events: someEvents(6, 9) }),
          Op.TrimJob({ jobId: "job_a", seq: 8 })
        ],
        owners: []
      })
      assert.deepEqual(page, someEvents(1, 5))
    }).pipe(Effect.provide(StoreMemory.layer()))
  )
})
