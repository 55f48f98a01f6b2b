/** Jobs of which nothing runs: how they end without being loaded, what they do not take up, and what they are loaded with. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import { never } from "../../../src/services/store/dueAt.js"
import { open } from "../../support/Wire.js"
import { makeStore, pong, restarted, resume, type Session, submit } from "./support.js"
import {
  asleep,
  durable,
  isEnd,
  isSleep,
  sleeper,
  sleeping,
  start,
  told,
  unloaded,
  until
} from "./unloading.js"

/** When the lease is over that jobs are given here. */
const expires_at = "1970-01-01T00:20:00.000Z"

const ended = (session: Session, jobId: string) =>
  Effect.map(
    session.next((frame) => isEnd(frame) && frame.job_id === jobId),
    ({ payload }) => payload.code ?? payload.result
  )

describe("a job that is unloaded ends without being loaded", () => {
  it.scoped("when it is cancelled", () =>
    Effect.gen(function* () {
      const did: Array<string> = []
      const { jobId, session, store } = yield* asleep(sleeper(did))
      const ids = [1, 2].map(() => session.request("job.cancel", { reason: "enough" }, { job_id: jobId }))
      yield* Effect.all(ids)
      yield* session.expect("job.cancelled")
      yield* session.expect("job.cancelled")
      assert.strictEqual(yield* ended(session, jobId), "CANCELLED")
      assert.lengthOf(did, 3)
      assert.lengthOf(yield* store.store.due({ by: never, limit: 10 }), 0)
      yield* session.request("job.cancel", {}, { job_id: jobId })
      yield* session.expect("job.cancelled")
      yield* TestClock.adjust("2 hours")
      yield* pong(session)
      assert.lengthOf(session.seen.filter(isEnd), 1)
      assert.deepStrictEqual(told(session), [
        "running",
        "begins",
        "a#1 started",
        "a#1 ended",
        "nap#1 started"
      ])
    })
  )

  it.scoped("as it was decided, when it is cancelled while that is not stored", () =>
    Effect.gen(function* () {
      const submitted = { lease_constraints: { expires_at } }
      const { jobId, session, store } = yield* asleep(sleeper([]), { submitted })
      store.failing = true
      yield* TestClock.adjust("20 minutes")
      yield* session.expect("session.error", ({ payload }) => payload.details?.job_id === jobId)
      yield* TestClock.adjust("30 seconds")
      store.failing = false
      yield* session.request("job.cancel", {}, { job_id: jobId })
      yield* pong(session)
      assert.isUndefined(session.seen.find(({ type }) => type === "job.cancelled"))
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* ended(session, jobId), "LEASE_EXPIRED")
      yield* session.expect("job.cancelled")
      assert.isUndefined((yield* store.store.job(jobId))?.cancelRequested)
    })
  )

  it.scoped("when it was to be cancelled and the process has died", () =>
    Effect.gen(function* () {
      const did: Array<string> = []
      const { jobId, process, session, store } = yield* asleep(sleeper(did))
      // The wish is stored, and then nothing more.
      yield* session.request("job.cancel", {}, { job_id: jobId })
      yield* session.expect("job.cancelled")
      const wished = yield* store.store.job(jobId)
      yield* process.kill
      if (wished?.endedAt === undefined) assert.isDefined(wished?.cancelRequested)
      const second = yield* start(restarted(store), [sleeper(did)])
      const again = yield* second.run(open(resume(session, 0)))
      assert.strictEqual(yield* ended(again, jobId), "CANCELLED")
      assert.lengthOf(did, 3)
      yield* second.stop
    })
  )

  for (const [what, submitted, code] of [
    ["its deadline passes", { max_runtime_sec: 600 }, "TIMEOUT"],
    ["its lease expires", { lease_constraints: { expires_at } }, "LEASE_EXPIRED"]
  ] as const)
    for (const restarts of [false, true])
      it.scoped(`when ${what}${restarts ? ", in the next process" : ""}`, () =>
        Effect.gen(function* () {
          const did: Array<string> = []
          const { jobId, process, session, store } = yield* asleep(sleeper(did), { submitted })
          if (!restarts) {
            yield* TestClock.adjust("21 minutes")
            assert.strictEqual(yield* ended(session, jobId), code)
          } else {
            yield* process.kill
            yield* TestClock.adjust("2 hours")
            const second = yield* start(restarted(store), [sleeper(did)])
            const again = yield* second.run(open(resume(session, 0)))
            assert.strictEqual(yield* ended(again, jobId), code)
            yield* second.stop
          }
          assert.lengthOf(did, 3)
        })
      )

  it.scoped("with its session, where that says so", () =>
    Effect.gen(function* () {
      const did: Array<string> = []
      const { jobId, process, session } = yield* asleep(sleeper(did), { options: { cancelOnBye: true } })
      const watcher = yield* process.run(open())
      yield* watcher.request("job.subscribe", {}, { job_id: jobId })
      yield* watcher.expect("job.subscribed")
      yield* session.request("session.bye", {})
      assert.strictEqual(yield* ended(watcher, jobId), "CANCELLED")
      assert.lengthOf(did, 3)
    })
  )

  it.scoped("with its session, also when it runs and its process dies before it has ended", () =>
    Effect.gen(function* () {
      const memory = yield* makeStore
      const stubborn = durable("stubborn", () => Effect.uninterruptible(Effect.never))
      const process = yield* start(memory, [stubborn], { cancelOnBye: true })
      const session = yield* process.run(open())
      const { job_id } = yield* submit(session, "stubborn")
      yield* session.request("session.bye", { reason: "enough" })
      const record = yield* until(
        Effect.map(memory.store.job(job_id as string), (found) => found?.cancelRequested && found)
      )
      assert.isUndefined(record.endedAt)
    })
  )

  it.scoped("with the runtime, where nothing outlives that", () =>
    Effect.gen(function* () {
      const did: Array<string> = []
      const memory = yield* makeStore
      const process = yield* start({ ...memory, store: { ...memory.store, kind: "memory" } }, [sleeper(did)])
      const session = yield* process.run(open())
      const jobs: Array<string> = []
      for (let i = 0; i < 3; i++) jobs.push((yield* submit(session, "sleeper")).job_id as string)
      yield* sleeping(session, jobs.length)
      yield* TestClock.adjust("31 seconds")
      for (const id of jobs) yield* unloaded(memory.store, id)
      yield* Effect.forkDaemon(process.stop)
      for (const id of jobs) {
        const record = yield* until(
          Effect.map(memory.store.job(id), (found) => (found?.endedAt === undefined ? undefined : found))
        )
        assert.strictEqual(record.status, "error")
      }
      assert.strictEqual(did.filter((what) => what === "load").length, 3)
    })
  )
})

describe("a job that is parked", () => {
  const parked = Effect.gen(function* () {
    const did: Array<string> = []
    const { jobId, process, session, store } = yield* asleep(sleeper(did), {
      submitted: { max_runtime_sec: 7_200 }
    })
    yield* process.kill
    yield* TestClock.adjust("1 hour")
    const second = restarted(store)
    const without = yield* start(second, [])
    const again = yield* without.run(open(resume(session, 0)))
    const isParked = yield* until(
      Effect.map(second.store.job(jobId), (record) => record?.survival?.parked !== undefined && record)
    )
    return { again, did, isParked, jobId, second, without }
  })

  it.scoped("is a row too, listed as such, and can be cancelled", () =>
    Effect.gen(function* () {
      const { again, did, isParked, jobId, without } = yield* parked
      assert.strictEqual(isParked.survival?.waiting?.dueAt, 7_200_000)
      yield* again.request("session.list_jobs", {})
      const [entry] = (yield* again.expect("session.jobs")).payload.jobs
      assert.deepStrictEqual([entry.parked, entry.status], ["agent_not_available", "running"])
      yield* again.request("job.cancel", {}, { job_id: jobId })
      assert.strictEqual(yield* ended(again, jobId), "CANCELLED")
      assert.lengthOf(did, 3)
      yield* without.stop
    })
  )

  for (const observed of [true, false])
    for (const seconds of [3, 30])
      it.scoped(
        `is told of once${observed ? "" : ", though nobody observes it,"} when its store was away for ${seconds} s`,
        () =>
          Effect.gen(function* () {
            const did: Array<string> = []
            const { jobId, process, session, store } = yield* asleep(sleeper(did))
            yield* process.kill
            const second = restarted(store)
            const without = yield* start(second, [])
            const early = observed ? yield* without.run(open(resume(session, 0))) : undefined
            second.failing = true
            // It is due, and its agent is not here.
            yield* TestClock.adjust("1 hour")
            for (let i = 0; i < seconds; i++) yield* TestClock.adjust("1 second")
            yield* until(Effect.sync(() => second.failed > 0 || undefined))
            second.failing = false
            for (let i = 0; i < 10; i++) yield* TestClock.adjust("1 second")
            yield* until(
              Effect.map(
                second.store.job(jobId),
                (record) => record?.survival?.parked !== undefined || undefined
              )
            )
            const again = early ?? (yield* without.run(open(resume(session, 0))))
            yield* pong(again)
            const phases = again.seen.map(({ payload }) => payload.body?.phase)
            assert.lengthOf(
              phases.filter((phase) => phase === "parked"),
              1
            )
            yield* again.request("job.cancel", {}, { job_id: jobId })
            assert.strictEqual(yield* ended(again, jobId), "CANCELLED")
            yield* without.stop
          })
      )

  it.scoped("ends by its deadline", () =>
    Effect.gen(function* () {
      const { again, jobId, without } = yield* parked
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* ended(again, jobId), "TIMEOUT")
      yield* without.stop
    })
  )

  it.scoped("runs when its agent is back at a start", () =>
    Effect.gen(function* () {
      const { again, did, jobId, second, without } = yield* parked
      yield* without.kill
      const third = yield* start(restarted(second), [sleeper(did)])
      const last = yield* third.run(open(resume(again, 0)))
      assert.strictEqual(yield* ended(last, jobId), "rested")
      assert.strictEqual(told(last).filter((line) => line === "b#1 ended").length, 1)
      yield* third.stop
    })
  )
})

describe("what was delegated", () => {
  const lease_request = { "agent.delegate": ["*"] }
  const family = (did: Array<string>) => [
    durable("child", (job) =>
      Effect.gen(function* () {
        did.push("child")
        yield* job.sleep("nap", "1 hour")
        return did.length
      })
    ),
    durable("parent", (job) =>
      Effect.gen(function* () {
        did.push("parent")
        const child = yield* job.delegate("child", {}, { key: "child" })
        return yield* child.await
      })
    )
  ]
  const begun = Effect.gen(function* () {
    const store = yield* makeStore
    const did: Array<string> = []
    const process = yield* start(store, family(did))
    yield* Effect.addFinalizer(() => process.stop)
    const session = yield* process.run(open())
    const parent = (yield* submit(session, "parent", {}, { lease_request })).job_id as string
    const child = (yield* session.next(isSleep)).job_id as string
    yield* TestClock.adjust("31 seconds")
    yield* unloaded(store.store, child)
    return { child, did, parent, process, session, store }
  })

  it.scoped("is unloaded while its parent waits for it, who gets what it comes to", () =>
    Effect.gen(function* () {
      const { child, did, parent, session, store } = yield* begun
      assert.deepStrictEqual(did, ["parent", "child"])
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* ended(session, child), 3)
      assert.strictEqual(yield* ended(session, parent), 3)
      assert.deepStrictEqual(did, ["parent", "child", "child"])
      assert.lengthOf(yield* store.store.due({ by: never, limit: 10 }), 0)
    })
  )

  it.scoped("ends with its parent, before it, and is not loaded for that", () =>
    Effect.gen(function* () {
      const { child, did, parent, session } = yield* begun
      yield* session.request("job.cancel", {}, { job_id: parent })
      const ends = [yield* session.next(isEnd), yield* session.next(isEnd)]
      assert.deepStrictEqual(
        ends.map(({ job_id, payload }) => [job_id, payload.code]),
        [
          [child, "CANCELLED"],
          [parent, "CANCELLED"]
        ]
      )
      assert.lengthOf(did, 2)
    })
  )

  it.scoped("is cancelled by itself, and its parent learns of it", () =>
    Effect.gen(function* () {
      const { child, parent, session } = yield* begun
      yield* session.request("job.cancel", {}, { job_id: child })
      assert.strictEqual(yield* ended(session, child), "CANCELLED")
      // The handler takes it for a defect.
      assert.strictEqual(yield* ended(session, parent), "INTERNAL_ERROR")
    })
  )

  it.scoped("stays unloaded over a restart, below its parent, which is run again", () =>
    Effect.gen(function* () {
      const { child, did, parent, process, session, store } = yield* begun
      yield* process.kill
      const next = restarted(store)
      const second = yield* start(next, family(did))
      const again = yield* second.run(open(resume(session, 0)))
      yield* again.next(({ payload }) => payload.body?.phase === "recovered")
      yield* pong(again)
      assert.deepStrictEqual(did, ["parent", "child", "parent"])
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* ended(again, child), 4)
      assert.strictEqual(yield* ended(again, parent), 4)
      yield* second.stop
    })
  )

  it.scoped("ends with a parent that is ended after a restart", () =>
    Effect.gen(function* () {
      const { child, did, parent, process, session, store } = yield* begun
      yield* process.kill
      const second = yield* start(restarted(store), family(did))
      const again = yield* second.run(open(resume(session, 0)))
      yield* again.next(({ payload }) => payload.body?.phase === "recovered")
      yield* again.request("job.cancel", {}, { job_id: parent })
      assert.strictEqual(yield* ended(again, child), "CANCELLED")
      assert.strictEqual(yield* ended(again, parent), "CANCELLED")
      assert.deepStrictEqual(did, ["parent", "child", "parent"])
      yield* second.stop
    })
  )

  it.scoped("is left with its parent by a runtime that is stopped", () =>
    Effect.gen(function* () {
      const { child, did, parent, process, session, store } = yield* begun
      yield* process.stop
      const second = yield* start(restarted(store), family(did))
      const again = yield* second.run(open(resume(session, 0)))
      yield* again.next(({ payload }) => payload.body?.phase === "recovered")
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* ended(again, child), 4)
      assert.strictEqual(yield* ended(again, parent), 4)
      yield* second.stop
    })
  )
})
