import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import { Op, Store } from "../../../src/services/store/Store.js"
import { aJob, aRun, aSession, someEvents } from "./fixtures.js"
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

  it.effect("counts the runs of views, calls that are owed and wishes, for as long as it has them", () =>
    Effect.gen(function* () {
      const store = yield* Store
      const commit = (...ops: ReadonlyArray<Op>) => store.commit({ ops, owners: [] })
      yield* commit(
        Op.PutJob({ job: aJob("job_a", { sessionId: "sess_b" }) }),
        Op.PutSession({ session: aSession("sess_a") })
      )
      const held = store.held()
      const grown = (what: string) => {
        const now = store.held()
        assert.isAbove(now, held, what)
        return now
      }
      const run = (n: number, count = 1) => Op.PutRun({ sessionId: "sess_a", run: aRun(n, count) })
      yield* commit(run(1), run(2), run(3))
      const three = grown("runs")
      yield* commit(run(3, 4))
      assert.strictEqual(store.held(), three)
      yield* commit(Op.TrimSession({ sessionId: "sess_a", eventSeq: 3 }))
      assert.isBelow(grown("a run"), three)
      yield* commit(Op.DropSession({ sessionId: "sess_a" }))
      assert.strictEqual(store.held(), held)

      const call = (text: string) => Op.PutHookEvent({ event: { jobId: "job_a", seq: 1, text } })
      yield* commit(call("x".repeat(100)))
      const owed = grown("a call")
      yield* commit(call("x".repeat(200)))
      assert.strictEqual(store.held(), owed + 100)
      yield* commit(
        Op.DropHookEvents({
          events: [
            { jobId: "job_a", seq: 1 },
            { jobId: "job_a", seq: 2 }
          ]
        })
      )
      assert.strictEqual(store.held(), held)

      const wish = { id: "w", jobId: "job_a", kind: "cancel", body: "{}", from: "a", at: 1 }
      yield* commit(Op.PutWish({ wish }))
      const wished = grown("a wish")
      yield* commit(Op.AnswerWish({ id: "w", answer: "x".repeat(50) }))
      assert.strictEqual(store.held(), wished + 50)
      yield* commit(Op.DropWishes({ ids: ["w", "v"] }))
      assert.strictEqual(store.held(), held)
    }).pipe(Effect.provide(StoreMemory.layer()))
  )
})
