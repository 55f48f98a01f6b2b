/** Jobs that only wait are not in memory: when they are unloaded, and how they are loaded when they are due. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import { never } from "../../../src/services/store/dueAt.js"
import { open } from "../../support/Wire.js"
import { makeStore, pong, restarted, resume, submit } from "./support.js"
import {
  asleep,
  durable,
  isEnd,
  isSleep,
  loaded,
  sleeper,
  start,
  told,
  unloaded,
  until
} from "./unloading.js"

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

describe("a job that only waits", () => {
  it.scoped("is loaded when it is due also after a look at those that are due has died", () =>
    Effect.gen(function* () {
      const { session, store } = yield* asleep(sleeper([]))
      const { due } = store.store
      let died = 0
      Object.assign(store.store, {
        due: (...args: Parameters<typeof due>) => (died++ === 0 ? Effect.die("a fault") : due(...args))
      })
      yield* TestClock.adjust("60 minutes")
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual((yield* session.next(isEnd)).payload.result, "rested")
      assert.isAbove(died, 1)
    })
  )

  it.scoped(
    "is unloaded after a while, and loaded when it is due: one stream, each step once, no attempt",
    () =>
      Effect.gen(function* () {
        const did: Array<string> = []
        const { jobId, record, session, store } = yield* asleep(sleeper(did))
        assert.deepStrictEqual(did, ["load", "a", "closed"])
        assert.deepStrictEqual(record.survival?.waiting, { sleepingUntil: 3_600_000, dueAt: 3_600_000 })
        yield* TestClock.adjust("59 minutes")
        yield* pong(session)
        assert.lengthOf(did, 3)
        yield* TestClock.adjust("1 minutes")
        const end = yield* session.next(isEnd)
        assert.strictEqual(end.payload.result, "rested")
        assert.deepStrictEqual(told(session), whole)
        // What it took is from its beginning, which another run of the handler has seen.
        assert.deepStrictEqual(
          session.seen.flatMap(({ payload }) => {
            const { key, ms } = payload?.body ?? {}
            return key === "nap" && ms !== undefined ? [ms] : []
          }),
          [3_600_000]
        )
        assert.deepStrictEqual(
          session.seen.flatMap(({ event_seq }) => event_seq ?? []),
          upTo(whole.length + 1)
        )
        assert.deepStrictEqual(did, ["load", "a", "closed", "load", "b", "closed"])
        const ended = yield* store.store.job(jobId)
        assert.deepStrictEqual([ended?.survival?.attempt, ended?.survival?.deaths], [1, 0])
        assert.isUndefined(ended?.survival?.waiting)
      })
  )

  it.scoped("is not unloaded before that, nor while it does anything, is held, or others depend on it", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const nap = durable("nap", (job) => job.sleep("nap", "1 hour"))
      const both = (name: string, other: Parameters<typeof durable>[1]) =>
        durable(name, (job) =>
          Effect.all([job.sleep("nap", "1 hour"), other(job)], { concurrency: "unbounded" })
        )
      const process = yield* start(store, [
        nap,
        both("steps", (job) => job.step("step", Effect.never)),
        both("holds", (job) => job.hold(Effect.never)),
        both("nested", (job) => job.step("outer", job.sleep("inner", "1 hour"))),
        both("delegates", (job) => job.delegate("nap", {}, { key: "child" }))
      ])
      yield* Effect.addFinalizer(() => process.stop)
      const session = yield* process.run(open())
      const lease_request = { "agent.delegate": ["*"] }
      for (const name of ["steps", "holds", "nested", "delegates"]) {
        yield* submit(session, name, {}, { lease_request })
        yield* session.next(isSleep)
      }
      yield* TestClock.adjust("5 minutes")
      const { job_id } = yield* submit(session, "nap")
      yield* session.next((frame) => isSleep(frame) && frame.job_id === job_id)
      yield* TestClock.adjust("29 seconds")
      yield* pong(session)
      const rows = () =>
        Effect.map(store.store.due({ by: never, limit: 10 }), (all) => all.map(({ agent }) => agent))
      // What was delegated only sleeps, and who has delegated it waits for it.
      assert.deepStrictEqual(yield* rows(), ["nap@1.0.0"])
      yield* TestClock.adjust("2 seconds")
      yield* unloaded(store.store, job_id)
      assert.lengthOf(yield* rows(), 2)
    })
  )

  it.scoped("waits anew after each thing that it does", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const dozer = durable("dozer", (job) =>
        Effect.forEach([1, 2, 3, 4], (i) => job.sleep(`nap ${i}`, "20 seconds"))
      )
      const process = yield* start(store, [dozer])
      yield* Effect.addFinalizer(() => process.stop)
      const session = yield* process.run(open())
      yield* submit(session, "dozer")
      for (let i = 0; i < 4; i++) {
        yield* session.next(isSleep)
        yield* TestClock.adjust("20 seconds")
      }
      yield* session.next(isEnd)
      assert.isFalse(
        store.batches.flat().some((op) => op._tag === "PutJob" && op.job.survival?.waiting !== undefined)
      )
    })
  )

  it.scoped("is unloaded and loaded as often as it waits, and has the same winner of a race", () =>
    Effect.gen(function* () {
      let loads = 0
      const racer = durable("racer", (job) =>
        Effect.gen(function* () {
          loads++
          const first = yield* Effect.race(
            Effect.as(job.sleep("long", "3 hours"), "long"),
            Effect.as(job.sleep("short", "1 hour"), "short")
          )
          yield* job.log("info", `won by ${first}`)
          yield* job.sleep("after", "2 hours")
          return first
        })
      )
      const { jobId, record, session, store } = yield* asleep(racer)
      assert.strictEqual(record.survival?.waiting?.dueAt, 3_600_000)
      yield* TestClock.adjust("1 hour")
      yield* session.next(isSleep)
      yield* TestClock.adjust("31 seconds")
      yield* unloaded(store.store, jobId)
      yield* TestClock.adjust("2 hours")
      assert.strictEqual((yield* session.next(isEnd)).payload.result, "short")
      assert.strictEqual(loads, 3)
      assert.deepStrictEqual(
        told(session).filter((line) => line.startsWith("won")),
        ["won by short"]
      )
    })
  )

  it.scoped("shows in listings and to whoever subscribes until when it sleeps, in memory and not", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const process = yield* start(store, [sleeper([])])
      yield* Effect.addFinalizer(() => process.stop)
      const session = yield* process.run(open())
      const job_id = (yield* submit(session, "sleeper")).job_id as string
      yield* session.next(isSleep)
      const look = Effect.gen(function* () {
        yield* session.request("session.list_jobs", {})
        const [entry] = (yield* session.expect("session.jobs")).payload.jobs
        const other = yield* process.run(open())
        yield* other.request("job.subscribe", { job_id }, { job_id })
        const subscribed = yield* other.expect("job.subscribed")
        return [entry.sleeping_until, entry.status, entry.last_event_seq, subscribed.payload.sleeping_until]
      })
      const expected = ["1970-01-01T01:00:00.000Z", "running", 5, "1970-01-01T01:00:00.000Z"]
      for (let [shown] = yield* look; shown === undefined; [shown] = yield* look) yield* pong(session)
      assert.deepStrictEqual(yield* look, expected)
      yield* TestClock.adjust("31 seconds")
      yield* unloaded(store.store, job_id)
      assert.deepStrictEqual(yield* look, expected)
      yield* TestClock.adjust("1 hour")
      yield* session.next(isEnd)
      assert.isUndefined((yield* look)[0])
    })
  )
})

describe("a job that is unloaded, over a restart", () => {
  it.scoped("stays a row, and is loaded by the next process when it is due", () =>
    Effect.gen(function* () {
      const did: Array<string> = []
      const { process, session, store } = yield* asleep(sleeper(did))
      yield* process.kill
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
      yield* second.stop
    })
  )

  it.scoped("is loaded at once when it was due meanwhile", () =>
    Effect.gen(function* () {
      const did: Array<string> = []
      const { process, session, store } = yield* asleep(sleeper(did))
      yield* process.kill
      yield* TestClock.adjust("2 hours")
      const second = yield* start(restarted(store), [sleeper(did)])
      const again = yield* second.run(open(resume(session, 0)))
      assert.strictEqual((yield* again.next(isEnd)).payload.result, "rested")
      assert.deepStrictEqual(told(again), whole)
      yield* second.stop
    })
  )

  it.scoped("is one also when it only waited at the end of a process that was stopped", () =>
    Effect.gen(function* () {
      const did: Array<string> = []
      const store = yield* makeStore
      const first = yield* start(store, [sleeper(did)], { shutdownGrace: "1 hour" })
      const session = yield* first.run(open())
      const { job_id } = yield* submit(session, "sleeper")
      yield* session.next(isSleep)
      yield* pong(session)
      // Nobody waits for it, however long the grace is.
      yield* first.stop
      yield* unloaded(store.store, job_id)
      const second = yield* start(restarted(store), [sleeper(did)])
      const again = yield* second.run(open(resume(session, 0)))
      yield* TestClock.adjust("1 hour")
      yield* again.next(isEnd)
      assert.deepStrictEqual(told(again), whole)
      assert.deepStrictEqual(did, ["load", "a", "closed", "load", "b", "closed"])
      yield* second.stop
    })
  )

  it.scoped(
    "goes on as an attempt when the process dies before the unloading is stored, and after the loading",
    () =>
      Effect.gen(function* () {
        const did: Array<string> = []
        const store = yield* makeStore
        const first = yield* start(store, [sleeper(did)])
        const session = yield* first.run(open())
        const { job_id } = yield* submit(session, "sleeper")
        yield* session.next(isSleep)
        yield* pong(session)
        store.cut = true
        yield* TestClock.adjust("31 seconds")
        yield* until(Effect.sync(() => did.includes("closed")))
        yield* first.kill
        const second = restarted(store)
        const process = yield* start(second, [sleeper(did)])
        const again = yield* process.run(open(resume(session, 0)))
        yield* again.next(({ payload }) => payload.body?.phase === "recovered")
        yield* pong(again)
        yield* TestClock.adjust("31 seconds")
        yield* unloaded(second.store, job_id)
        // It is loaded, and dies before anything else is stored.
        yield* second.gate.close
        yield* TestClock.adjust("1 hour")
        yield* pong(again)
        yield* second.gate.open
        yield* loaded(second.store, job_id as string)
        yield* process.kill
        const third = yield* start(restarted(second), [sleeper(did)])
        const last = yield* third.run(open(resume(again, 0)))
        // The second time in a row it is begun again after a pause.
        yield* TestClock.adjust("2 seconds")
        yield* last.next(isEnd)
        const lines = told(last)
        assert.deepStrictEqual(
          lines.filter((line) => line.startsWith("recovered")),
          lines.includes("recovered 3") ? ["recovered 2", "recovered 3"] : ["recovered 2"]
        )
        assert.strictEqual(lines.filter((line) => line === "b#1 ended" || line === "b#2 ended").length, 1)
        yield* third.stop
      })
  )
})

describe("while a job is being unloaded", () => {
  /** Its finalizer waits until it is let go. */
  const slow = (did: Array<string>, closing: Deferred.Deferred<void>) =>
    durable("slow", (job) =>
      Effect.gen(function* () {
        did.push("load")
        yield* Effect.addFinalizer(() =>
          Effect.zipRight(Deferred.await(closing), Effect.ignore(job.log("info", "closing")))
        )
        yield* job.sleep("nap", "40 seconds")
        return did.length
      })
    )
  const begun = Effect.gen(function* () {
    const store = yield* makeStore
    const did: Array<string> = []
    const closing = yield* Deferred.make<void>()
    const process = yield* start(store, [slow(did, closing)])
    yield* Effect.addFinalizer(() => process.stop)
    const session = yield* process.run(open())
    const job_id = (yield* submit(session, "slow")).job_id as string
    yield* session.next(isSleep)
    yield* TestClock.adjust("31 seconds")
    yield* pong(session)
    const isRow = Effect.map(store.store.due({ by: never, limit: 1 }), (rows) => rows.length > 0)
    return { closing, did, isRow, job_id, process, session, store }
  })

  it.scoped("a cancel takes its place", () =>
    Effect.gen(function* () {
      const { closing, did, isRow, job_id, session } = yield* begun
      yield* session.request("job.cancel", { reason: "enough" }, { job_id })
      yield* session.expect("job.cancelled")
      yield* Deferred.succeed(closing, undefined)
      const end = yield* session.next(isEnd)
      assert.deepStrictEqual([end.payload.code, did.length, yield* isRow], ["CANCELLED", 1, false])
      // Its log was closed before.
      assert.notInclude(told(session), "closing")
      yield* TestClock.adjust("1 minutes")
      yield* pong(session)
      assert.lengthOf(session.seen.filter(isEnd), 1)
    })
  )

  it.scoped("it is due: it is loaded as soon as nothing of it runs any more", () =>
    Effect.gen(function* () {
      const { closing, did, isRow, session } = yield* begun
      yield* TestClock.adjust("20 seconds")
      yield* pong(session)
      assert.deepStrictEqual([did.length, yield* isRow], [1, false])
      yield* Deferred.succeed(closing, undefined)
      const end = yield* session.next(isEnd)
      assert.strictEqual(end.payload.result, 2)
      assert.deepStrictEqual(told(session), ["running", "nap#1 started", "nap#1 ended", "closing"])
    })
  )

  it.scoped(
    "one that does not let go is waited for no longer than the grace, and nothing of it is heard again",
    () =>
      Effect.gen(function* () {
        const store = yield* makeStore
        let loads = 0
        const stuck = yield* Deferred.make<void>()
        const stubborn = durable("stubborn", (job) =>
          Effect.gen(function* () {
            if (++loads === 1)
              yield* Effect.addFinalizer(() =>
                Effect.zipRight(
                  Deferred.await(stuck),
                  Effect.ignore(job.log("info", "late", {}, { key: "late" }))
                )
              )
            yield* job.sleep("nap", "1 hour")
            yield* job.step("wait", Effect.sleep("1 hour"))
            return loads
          })
        )
        const process = yield* start(store, [stubborn])
        yield* Effect.addFinalizer(() => process.stop)
        const session = yield* process.run(open())
        const { job_id } = yield* submit(session, "stubborn")
        yield* session.next(isSleep)
        yield* TestClock.adjust("31 seconds")
        yield* pong(session)
        yield* TestClock.adjust("31 seconds")
        yield* unloaded(store.store, job_id)
        yield* TestClock.adjust("1 hour")
        yield* session.next(({ payload }) => payload.body?.key === "wait")
        // It runs again, and the first load of it now says something.
        yield* Deferred.succeed(stuck, undefined)
        yield* pong(session)
        yield* TestClock.adjust("1 hour")
        assert.strictEqual((yield* session.next(isEnd)).payload.result, 2)
        assert.notInclude(told(session), "late")
      })
  )

  it.scoped("a store that fails delays it, and a cancel still ends the job", () =>
    Effect.gen(function* () {
      const { closing, isRow, job_id, session, store } = yield* begun
      store.failing = true
      yield* Deferred.succeed(closing, undefined)
      yield* pong(session)
      yield* session.request("job.cancel", {}, { job_id })
      yield* pong(session)
      store.failing = false
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* session.next(isEnd)).payload.code, "CANCELLED")
      assert.isFalse(yield* isRow)
    })
  )
})
