/** Who watches a job that is unloaded, or owns it, or has gone. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import { open } from "../../support/Wire.js"
import { as, makeStore, pong, restarted, resume, submit } from "./support.js"
import { asleep, isEnd, isSleep, sleeper, start, told, unloaded, until } from "./unloading.js"

const whole = [
  "running",
  "begins",
  "a#1 started",
  "a#1 ended",
  "nap#1 started",
  "nap#1 ended",
  "b#1 started",
  "b#1 ended",
  "closing"
]

const upTo = (count: number) => Array.from({ length: count }, (_, i) => i + 1)

describe("whoever watches", () => {
  it.scoped(
    "sees one stream, of a subscription from before, from while it is unloaded, and from after it",
    () =>
      Effect.gen(function* () {
        const store = yield* makeStore
        const process = yield* start(store, [sleeper([])])
        yield* Effect.addFinalizer(() => process.stop)
        const session = yield* process.run(open())
        const job_id = (yield* submit(session, "sleeper")).job_id as string
        yield* session.next(isSleep)
        const watch = Effect.gen(function* () {
          const watcher = yield* process.run(open())
          yield* watcher.request("job.subscribe", { history: true }, { job_id })
          yield* watcher.expect("job.subscribed")
          return watcher
        })
        const before = yield* watch
        yield* TestClock.adjust("31 seconds")
        yield* unloaded(store.store, job_id)
        const meanwhile = yield* watch
        const leaving = yield* watch
        yield* leaving.request("job.unsubscribe", { job_id }, { job_id })
        yield* pong(leaving)
        const gone = yield* watch
        yield* gone.connection.close(1000, "")
        yield* TestClock.adjust("1 hour")
        yield* session.next(isEnd)
        const after = yield* watch
        for (const watcher of [before, meanwhile, after]) {
          yield* watcher.next(isEnd)
          assert.deepStrictEqual(told(watcher), whole)
          assert.deepStrictEqual(
            watcher.seen.flatMap(({ event_seq }) => event_seq ?? []),
            upTo(whole.length + 1)
          )
        }
        yield* pong(leaving)
        assert.notInclude(told(leaving), "b#1 started")
        const back = yield* process.run(open(resume(gone, 0)))
        yield* back.next(isEnd)
        assert.deepStrictEqual(told(back), whole)
      })
  )

  it.scoped("gets the same job for the same key, and owns it when nobody does", () =>
    Effect.gen(function* () {
      const did: Array<string> = []
      const { jobId, process, session, store } = yield* asleep(sleeper(did), {
        options: { resumeWindow: "1 minutes" },
        submitted: { idempotency_key: "key" }
      })
      const second = yield* process.run(open())
      assert.strictEqual((yield* submit(second, "sleeper", {}, { idempotency_key: "key" })).job_id, jobId)
      yield* session.request("session.close", {})
      yield* session.expect("session.closed")
      yield* TestClock.adjust("3 minutes")
      yield* until(Effect.map(store.store.session(session.sessionId), (found) => found === undefined))
      const third = yield* process.run(open())
      assert.strictEqual((yield* submit(third, "sleeper", {}, { idempotency_key: "key" })).job_id, jobId)
      yield* until(Effect.map(unloaded(store.store, jobId), ({ sessionId }) => sessionId === third.sessionId))
      yield* TestClock.adjust("1 hour")
      for (const watcher of [second, third])
        assert.strictEqual((yield* watcher.next(isEnd)).payload.result, "rested")
      assert.deepStrictEqual(did, ["load", "a", "closed", "load", "b", "closed"])
    })
  )

  it.scoped("may have gone: nobody needs to be there when it is due", () =>
    Effect.gen(function* () {
      const { jobId, process, session, store } = yield* asleep(sleeper([]), {
        options: { resumeWindow: "1 minutes" }
      })
      yield* session.request("session.close", {})
      yield* session.expect("session.closed")
      yield* TestClock.adjust("1 hour")
      const ended = yield* until(
        Effect.map(store.store.job(jobId), (record) => (record?.endedAt === undefined ? undefined : record))
      )
      assert.strictEqual(ended.status, "success")
      const watcher = yield* process.run(open(as("alice")))
      yield* watcher.request("job.subscribe", { job_id: jobId, history: true }, { job_id: jobId })
      yield* watcher.next(isEnd)
      assert.deepStrictEqual(told(watcher), whole)
    })
  )

  it.scoped("may stop watching in the next process, where nothing of the job is in memory", () =>
    Effect.gen(function* () {
      const did: Array<string> = []
      const { jobId, process, session, store } = yield* asleep(sleeper(did))
      const watcher = yield* process.run(open())
      yield* watcher.request("job.subscribe", {}, { job_id: jobId })
      yield* watcher.expect("job.subscribed")
      yield* process.kill
      const second = yield* start(restarted(store), [sleeper(did)])
      const leaving = yield* second.run(open(resume(watcher, 0)))
      yield* leaving.request("job.unsubscribe", { job_id: jobId }, { job_id: jobId })
      yield* pong(leaving)
      const again = yield* second.run(open(resume(session, 0)))
      yield* TestClock.adjust("1 hour")
      yield* again.next(isEnd)
      yield* pong(leaving)
      assert.deepStrictEqual(told(leaving), [])
      yield* second.stop
    })
  )
})
