/** Jobs that only wait are not in memory: unloaded, ended where they are, and loaded when they are due. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import { open } from "../../support/Wire.js"
import { makeStore, pong, restarted, resume, submit } from "./support.js"
import { isEnd, sleeper, start, told, unloaded } from "./unloading.js"

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

describe("a job that only waits", () => {
  it.scoped(
    "is unloaded after a while, and loaded when it is due: one stream, each step once, no attempt",
    () =>
      Effect.gen(function* () {
        const store = yield* makeStore
        const did: Array<string> = []
        const process = yield* start(store, [sleeper(did)])
        const session = yield* process.run(open())
        const { job_id } = yield* submit(session, "sleeper")
        yield* session.next(({ payload }) => payload.body?.key === "nap")
        yield* TestClock.adjust("29 seconds")
        yield* pong(session)
        assert.deepStrictEqual(did, ["load", "a"])
        yield* TestClock.adjust("2 seconds")
        const { survival } = yield* unloaded(store.store, job_id)
        assert.deepStrictEqual(did, ["load", "a", "closed"])
        assert.deepStrictEqual(survival?.waiting, { sleepingUntil: 3_600_000, dueAt: 3_600_000 })
        yield* TestClock.adjust("1 hour")
        const end = yield* session.next(isEnd)
        assert.strictEqual(end.payload.result, "rested")
        assert.deepStrictEqual(told(session), whole)
        assert.deepStrictEqual(
          session.seen.flatMap(({ event_seq }) => event_seq ?? []),
          Array.from({ length: whole.length + 1 }, (_, i) => i + 1)
        )
        assert.deepStrictEqual(did, ["load", "a", "closed", "load", "b", "closed"])
        const record = yield* store.store.job(job_id as string)
        assert.strictEqual(record?.survival?.attempt, 1)
        assert.isUndefined(record?.survival?.waiting)
      })
  )

  it.scoped("stays a row over a restart, and is loaded by the next process when it is due", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const did: Array<string> = []
      const first = yield* start(store, [sleeper(did)])
      const session = yield* first.run(open())
      const { job_id } = yield* submit(session, "sleeper")
      yield* session.next(({ payload }) => payload.body?.key === "nap")
      yield* TestClock.adjust("31 seconds")
      yield* unloaded(store.store, job_id)
      yield* first.kill
      const next = restarted(store)
      const second = yield* start(next, [sleeper(did)])
      const again = yield* second.run(open(resume(session, 0)))
      yield* TestClock.adjust("30 minutes")
      yield* pong(again)
      assert.deepStrictEqual(did, ["load", "a", "closed"])
      yield* TestClock.adjust("30 minutes")
      assert.strictEqual((yield* again.next(isEnd)).payload.result, "rested")
      assert.deepStrictEqual(told(again), whole)
      assert.deepStrictEqual(did, ["load", "a", "closed", "load", "b", "closed"])
    })
  )
})
