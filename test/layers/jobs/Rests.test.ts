/** Jobs of which nothing runs, when several things happen to them at once. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as TestClock from "effect/TestClock"
import * as Vendor from "../../../src/protocol/Vendor.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { never } from "../../../src/services/store/dueAt.js"
import { type Frame, open } from "../../support/Wire.js"
import { makeStore, pong, restarted, resume, submit, type TestStore } from "./support.js"
import { durable, isEnd, isSleep, sleeping, start, unloaded, until } from "./unloading.js"

const lease_request = { "agent.delegate": ["*"] }

/** A store whose reads of journals wait at a latch. */
const slowJournals = Effect.gen(function* () {
  const made = yield* makeStore
  const latch = yield* Effect.makeLatch(true)
  const waiting = { count: 0 }
  const inner = made.store
  const store: TestStore = Object.assign(made, {
    store: {
      ...inner,
      journal: (...args: Parameters<typeof inner.journal>) =>
        Effect.suspend(() => {
          waiting.count++
          return Effect.zipRight(latch.await, inner.journal(...args))
        })
    }
  })
  return { store, latch, waiting }
})

/** Agents that are not durable, and delegate to one that is. */
const mortal = ["child", "undoes"].map((name) =>
  Agent.handle(Agent.make(`mortal-${name}`, { version: "1.0.0" }), () =>
    Effect.flatMap(Job, (job) => Effect.flatMap(job.delegate(name, {}), (below) => below.await))
  )
)

const nap = durable("nap", (job) => Effect.as(job.sleep("nap", "1 hour"), "rested"))

describe("jobs that are due while there is no room", () => {
  it.scoped("do not keep what a loaded job waits for from being loaded", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const child = durable("child", (job) => Effect.as(job.sleep("nap", "2 minutes"), "child"))
      const parent = durable("parent", (job) =>
        Effect.gen(function* () {
          yield* job.sleep("nap", "1 hour")
          const below = yield* job.delegate("child", {}, { key: "child" })
          return yield* below.await
        })
      )
      const process = yield* start(store, [nap, child, parent], { maxWokenJobs: 1 })
      yield* Effect.addFinalizer(() => process.stop)
      const session = yield* process.run(open())
      const first = (yield* submit(session, "parent", {}, { lease_request })).job_id as string
      yield* sleeping(session, 1)
      yield* TestClock.adjust("1 second")
      const others: Array<string> = []
      for (let i = 0; i < 40; i++) others.push((yield* submit(session, "nap")).job_id as string)
      yield* sleeping(session, 41)
      yield* TestClock.adjust("31 seconds")
      for (const id of [first, ...others]) yield* unloaded(store.store, id)
      yield* TestClock.adjust("1 hour")
      yield* sleeping(session, 42)
      // The parent has the only place, and its child sleeps.
      yield* TestClock.adjust("31 seconds")
      yield* TestClock.adjust("2 minutes")
      while (session.seen.filter(isEnd).length < 42) {
        yield* TestClock.adjust("1 second")
        yield* session.next(() => true)
      }
      const ends = session.seen.filter(isEnd)
      assert.deepStrictEqual(
        ends.filter(({ job_id }) => job_id === first).map(({ payload }) => payload.result),
        ["child"]
      )
      assert.lengthOf(yield* store.store.due({ by: never, limit: 10 }), 0)
    })
  )

  it.scoped("end by their limits all the same", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const busy = durable("busy", (job) =>
        Effect.zipRight(job.sleep("nap", "1 hour"), job.step("work", Effect.sleep("10 hours")))
      )
      const process = yield* start(store, [busy], { maxWokenJobs: 1 })
      yield* Effect.addFinalizer(() => process.stop)
      const session = yield* process.run(open())
      for (let i = 0; i < 20; i++) yield* submit(session, "busy")
      const max_runtime_sec = 7_200
      const { job_id } = yield* submit(session, "busy", {}, { max_runtime_sec })
      yield* sleeping(session, 21)
      yield* TestClock.adjust("31 seconds")
      yield* unloaded(store.store, job_id)
      yield* TestClock.adjust("1 hour")
      yield* pong(session)
      yield* TestClock.adjust("1 hour")
      const end = yield* session.next(isEnd)
      assert.deepStrictEqual([end.job_id, end.payload.code], [job_id, "TIMEOUT"])
    })
  )
})

describe("what was delegated and waits unloaded", () => {
  const agents = (did: Array<string>) => [
    durable("child", (job) =>
      Effect.gen(function* () {
        did.push("child")
        yield* job.sleep("nap", "1 hour")
        yield* job.step(
          "late",
          Effect.sync(() => void did.push("late"))
        )
      })
    ),
    durable("asks", (job) => job.input("approve", { prompt: "?" })),
    durable("parent", (job) =>
      Effect.gen(function* () {
        const below = yield* job.delegate("child", {}, { key: "child" })
        return yield* below.await
      })
    ),
    durable("asker", (job) =>
      Effect.flatMap(job.delegate("asks", {}, { key: "child" }), (below) => below.await)
    )
  ]
  const family = (name = "parent") =>
    Effect.gen(function* () {
      const { latch, store, waiting } = yield* slowJournals
      const did: Array<string> = []
      const process = yield* start(store, agents(did))
      yield* Effect.addFinalizer(() => Effect.zipRight(latch.open, process.stop))
      const session = yield* process.run(open())
      const parent = (yield* submit(session, name, {}, { lease_request })).job_id as string
      const waits = yield* session.next(
        (frame) => frame.payload.kind === Vendor.inputRequest || isSleep(frame)
      )
      const child = waits.job_id as string
      yield* TestClock.adjust("31 seconds")
      yield* unloaded(store.store, child)
      return { child, did, latch, parent, process, session, store, waiting, waits }
    })
  const isEndOf = (jobId: string) => (frame: Frame) => isEnd(frame) && frame.job_id === jobId

  for (const who of ["child", "parent"] as const)
    it.scoped(
      `ends once when its ${who === "child" ? "own" : "parent's"} cancel comes while it is loaded`,
      () =>
        Effect.gen(function* () {
          const { child, did, latch, parent, session, store, waiting } = yield* family()
          yield* latch.close
          waiting.count = 0
          yield* TestClock.adjust("1 hour")
          yield* until(Effect.sync(() => waiting.count > 0))
          yield* session.request("job.cancel", {}, { job_id: who === "child" ? child : parent })
          yield* session.expect("job.cancelled")
          yield* latch.open
          assert.strictEqual((yield* session.next(isEndOf(child))).payload.code, "CANCELLED")
          yield* session.next(isEndOf(parent))
          yield* TestClock.adjust("2 hours")
          yield* pong(session)
          assert.lengthOf(session.seen.filter(isEnd), 2)
          assert.notInclude(did, "late")
          const numbers = session.seen.flatMap(({ event_seq }) => event_seq ?? [])
          assert.deepStrictEqual(
            numbers,
            numbers.map((_, i) => i + 1)
          )
          assert.lengthOf(yield* store.store.due({ by: never, limit: 10 }), 0)
        })
    )

  it.scoped("has one close of what it asks when an answer and its parent's cancel come at once", () =>
    Effect.gen(function* () {
      const { child, latch, parent, session, waiting, waits } = yield* family("asker")
      yield* latch.close
      waiting.count = 0
      const { input_id } = waits.payload.body
      yield* session.request(Vendor.jobInput, { input_id, value: 1 }, { job_id: child })
      yield* until(Effect.sync(() => waiting.count > 0))
      yield* session.request("job.cancel", {}, { job_id: parent })
      yield* session.expect("job.cancelled")
      yield* latch.open
      yield* session.next(isEndOf(child))
      yield* session.next(isEndOf(parent))
      yield* pong(session)
      assert.lengthOf(
        session.seen.filter(({ payload }) => payload.kind === Vendor.inputClosed),
        1
      )
      assert.lengthOf(session.seen.filter(isEnd), 2)
    })
  )

  it.scoped("is counted no more when its parent's process dies and it does not survive that", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const options = { maxWaitingJobsPerPrincipal: 1 }
      const child = durable("child", (job) => job.sleep("nap", "1 hour"))
      const undoes = durable("undoes", (job) =>
        Effect.zipRight(
          job.step("a", Effect.void, { compensate: () => Effect.void }),
          job.sleep("nap", "1 hour")
        )
      )
      const given = [nap, child, undoes]
      let last = store
      let process = yield* start(last, [...given, ...mortal], options)
      let session = yield* process.run(open())
      for (const name of ["mortal child", "mortal undoes"]) {
        const agent = name.split(" ")
        yield* submit(session, agent.join("-"), {}, { lease_request })
        const { job_id } = yield* session.next(isSleep)
        yield* TestClock.adjust("31 seconds")
        yield* unloaded(last.store, job_id)
        yield* process.kill
        last = restarted(last)
        process = yield* start(last, [...given, ...mortal], options)
        session = yield* process.run(open(resume(session, 0)))
        yield* session.next(isEnd)
        yield* session.next(isEnd)
        // There is room for another one.
        const other = (yield* submit(session, "nap")).job_id as string
        yield* session.next((frame) => isSleep(frame) && frame.job_id === other)
        yield* TestClock.adjust("31 seconds")
        yield* unloaded(last.store, other)
        yield* session.request("job.cancel", {}, { job_id: other })
        yield* session.next(isEndOf(other))
      }
      yield* process.stop
    })
  )
})

describe("a job that is answered while it begins to be unloaded", () => {
  it.scoped("is loaded with the answer", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const process = yield* start(store, [durable("asks", (job) => job.input("approve", { prompt: "?" }))])
      yield* Effect.addFinalizer(() => Effect.zipRight(store.gate.open, process.stop))
      const session = yield* process.run(open())
      const job_id = (yield* submit(session, "asks")).job_id as string
      const asked = yield* session.next(({ payload }) => payload.kind === Vendor.inputRequest)
      yield* pong(session)
      const { input_id } = asked.payload.body
      // The answer is being stored when it has only waited for long enough.
      yield* store.gate.close
      yield* session.request(Vendor.jobInput, { input_id, value: "yes" }, { job_id })
      for (let turn = 0; turn < 20; turn++) yield* eventLoop.next
      yield* TestClock.adjust("31 seconds")
      for (let turn = 0; turn < 20; turn++) yield* eventLoop.next
      yield* store.gate.open
      assert.strictEqual((yield* session.next(isEnd)).payload.result, "yes")
      assert.lengthOf(
        session.seen.filter(({ payload }) => payload.kind === Vendor.inputClosed),
        1
      )
      assert.isUndefined((yield* store.store.job(job_id))?.waitingFor)
    })
  )
})

describe("a job that only waits whenever its process dies", () => {
  it.scoped("is taken for no crash loop, however often that is", () =>
    Effect.gen(function* () {
      const options = { unloadAfter: "10 days", attemptPause: "1 second", maxAttempts: 2 } as const
      let store = yield* makeStore
      let process = yield* start(store, [nap], options)
      let session = yield* process.run(open())
      const job_id = (yield* submit(session, "nap")).job_id as string
      yield* session.next(isSleep)
      for (let attempt = 2; attempt < 8; attempt++) {
        yield* pong(session)
        yield* process.kill
        store = restarted(store)
        process = yield* start(store, [nap], options)
        session = yield* process.run(open(resume(session, 0)))
        yield* TestClock.adjust("61 seconds")
        yield* session.next(
          ({ payload }) => payload.body?.attempt === attempt && payload.body.phase === "recovered"
        )
      }
      yield* TestClock.adjust("1 hour")
      assert.strictEqual((yield* session.next(isEnd)).payload.result, "rested")
      assert.isAbove((yield* store.store.job(job_id))?.survival?.deaths ?? 0, 2)
      yield* process.stop
    })
  )
})

describe("a principal at its session cap", () => {
  it.scoped("keeps the session whose job waits unloaded, also in the next process", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const options = { maxSessionsPerPrincipal: 2 }
      const first = yield* start(store, [nap], options)
      const sleeps = yield* first.run(open())
      const job_id = (yield* submit(sleeps, "nap")).job_id as string
      yield* sleeping(sleeps, 1)
      yield* TestClock.adjust("31 seconds")
      yield* unloaded(store.store, job_id)
      const leave = (session: typeof sleeps) =>
        Effect.zipRight(session.connection.close(1000, ""), Effect.repeatN(eventLoop.next, 50))
      /** The one that is gone for longer stays: the other makes room. */
      const crowd = Effect.gen(function* () {
        yield* leave(yield* open())
        yield* leave(yield* open())
        return yield* open(resume(sleeps, 0))
      })
      yield* leave(sleeps)
      yield* Effect.scoped(first.run(crowd))
      yield* first.stop
      const second = yield* start(restarted(store), [nap], options)
      yield* Effect.addFinalizer(() => second.stop)
      const session = yield* second.run(crowd)
      yield* TestClock.adjust("1 hour")
      assert.strictEqual((yield* session.next(isEnd)).payload.result, "rested")
    })
  )
})
