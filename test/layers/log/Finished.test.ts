/** What is remembered of jobs that have ended, apart from the store. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { LiveLogs } from "../../../src/layers/log/Live.js"
import * as Finished from "../../../src/layers/log/retention/Finished.js"
import * as Jobs from "../../../src/layers/log/retention/Jobs.js"
import type { RetentionParts } from "../../../src/layers/log/retention/Parts.js"
import * as Views from "../../../src/layers/log/retention/Views.js"
import { Tail } from "../../../src/layers/log/Tail.js"
import { Transaction } from "../../../src/layers/log/Transaction.js"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { Signal } from "../../../src/services/runtime/Signal.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { Op, Store } from "../../../src/services/store/Store.js"

const limits = { events: 1000, bytes: 1_000_000 }

/** The part that drops finished jobs, over a store in memory and a committer that commits each change by itself. */
const makeFinished = Effect.gen(function* () {
  const store = yield* Store
  const tail = new Tail(1_000, () => {})
  const committer: RetentionParts["committer"] = {
    change: (change) =>
      Effect.suspend(() => {
        const tx = new Transaction(() => ({ type: "job.event", kind: "metric", payload: "{}" }), limits)
        change(tx)
        return Effect.map(Effect.orDie(store.commit(tx.seal([]))), () => {
          tx.apply(tail)
        })
      })
  }
  const parts = {
    store,
    committer,
    live: new LiveLogs(store, limits, { release: () => {} }),
    tail,
    options: RuntimeOptions.make({ jobRetention: "1 seconds" }),
    turn: eventLoop,
    now: () => 1_000_000,
    monotonic: () => 0,
    windowMs: 1000,
    dropped: new Signal()
  }
  const views = Views.make(parts)
  return { store, finished: Finished.make(parts, views, Jobs.make(parts, views)) }
}).pipe(Effect.provide(StoreMemory.layer()))

const jobId = (i: number) => `job_${String(i).padStart(26, "0")}`

describe("finished jobs in memory", () => {
  it.effect("are forgotten with what is remembered of them", () =>
    Effect.gen(function* () {
      const { finished, store } = yield* makeFinished
      for (let i = 0; i < 600; i++) {
        yield* store.commit({
          ops: [
            Op.PutJob({
              job: {
                jobId: jobId(i),
                sessionId: "sess_1",
                submitId: `m${i}`,
                principal: "alice",
                agent: "echo@1.0.0",
                status: "success",
                rejected: false,
                lease: {},
                traceId: "0af7651916cd43dd8448eb211c80319c",
                createdAt: i,
                endedAt: i,
                lastEventSeq: 0
              }
            })
          ],
          owners: []
        })
        finished.add({ jobId: jobId(i), principal: "alice" })
      }
      assert.strictEqual(finished.kept.size, 600)
      yield* finished.dropRetired
      assert.strictEqual((yield* store.endedCounts).get("alice") ?? 0, 0)
      assert.strictEqual(finished.kept.size, 0)
    })
  )
})
