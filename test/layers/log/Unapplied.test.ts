/**
 * A store may show what it has committed before the log knows of it: another thread commits. What is read of a live job
 * and of a view ends where the log is, whatever the store has.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import { EventLog, type NewEvent } from "../../../src/services/log/EventLog.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { Store, type StoreService } from "../../../src/services/store/Store.js"
import { boundsOf } from "../store/fixtures.js"
import { openJob, openView, readAll, record, runOn, seqs, settle, upTo } from "./harness.js"

/** A durable store that may keep its answers back. */
const makeStore = () => {
  const answers = Effect.unsafeMakeLatch(true)
  const layer = Layer.effect(
    Store,
    Effect.map(
      Store,
      (store): StoreService => ({
        ...store,
        kind: "durable",
        commit: (batch) => Effect.zipRight(store.commit(batch), answers.await)
      })
    )
  ).pipe(Layer.provide(StoreMemory.layer()))
  return { answers, run: runOn(() => layer) }
}

/** Everything is read from the store. */
const withoutTail = { tailBytes: 1 }

const turns = Effect.repeatN(eventLoop.next, 20)

const chunk = (n: number): NewEvent => ({
  type: "job.event",
  kind: "result_chunk",
  payload: JSON.stringify({
    kind: "result_chunk",
    ts: "",
    body: { result_id: "res_1", chunk_seq: n, data: `${n},`, encoding: "utf8" }
  })
})

const emitChunks = (job: Parameters<EventLog["Type"]["append"]>[0], from: number, to: number) =>
  Effect.flatMap(EventLog, (log) =>
    Effect.forEach(upTo(to, from), (n) => log.append(job, chunk(n)), { discard: true })
  )

describe("what is committed, and not applied yet", () => {
  it.effect("of a live job is not read, by whatever way", () => {
    const { answers, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const [log, store] = [yield* EventLog, yield* Store]
        const view = yield* openView
        const late = yield* openView
        const job = yield* openJob(view)
        yield* emitChunks(job, 1, 3)
        yield* settle
        yield* answers.close
        yield* emitChunks(job, 4, 9)
        yield* turns
        assert.deepStrictEqual(yield* boundsOf(store, job.jobId), { first: 1, last: 9 })

        assert.deepStrictEqual(seqs(yield* readAll(view)), [1, 2, 3])
        assert.strictEqual(
          (yield* Effect.flip(log.streamedResult(job))).message,
          "the job has not ended with a streamed result"
        )
        const followed: Array<number> = []
        const following = yield* Effect.fork(
          Stream.runForEach(log.events(job), ({ seq }) => Effect.sync(() => followed.push(seq)))
        )
        const joining = yield* Effect.fork(
          log.observe(late, job, { history: true, fromEventSeq: 2, onCommit: () => {} })
        )
        yield* turns
        assert.deepStrictEqual(followed, [1, 2, 3])
        assert.strictEqual(late.last, 0)

        yield* answers.open
        yield* Fiber.join(joining)
        yield* settle
        yield* turns
        assert.deepStrictEqual(seqs(yield* readAll(view)), upTo(9))
        assert.deepStrictEqual(followed, upTo(9))
        // From 3 on.
        assert.deepStrictEqual(seqs(yield* readAll(late)), upTo(7))
        yield* Fiber.interrupt(following)
      }),
      withoutTail
    )
  })

  it.effect("a job that is in the store before it is open is in memory once", () => {
    const { answers, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const [log, store] = [yield* EventLog, yield* Store]
        const view = yield* openView
        yield* answers.close
        const opening = yield* Effect.fork(log.openJob(record(view), view))
        yield* turns
        const [stored] = yield* store.jobs({ principals: "everyone", limit: 9 })
        const loaded = yield* log.loadJob(stored ?? assert.fail("it is not in the store"))
        yield* answers.open
        const opened = yield* Fiber.join(opening)
        assert.strictEqual(loaded, opened)
        yield* emitChunks(opened, 1, 3)
        yield* settle
        assert.deepStrictEqual(seqs(yield* readAll(view)), [1, 2, 3])
      }),
      withoutTail
    )
  })
})
