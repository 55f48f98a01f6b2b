/** What jobs that are unloaded take up, what they are loaded with, and how they are answered. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/TestClock"
import { Waits } from "../../../src/layers/jobs/durable/Waits.js"
import * as Vendor from "../../../src/protocol/Vendor.js"
import { Credentials } from "../../../src/services/credentials/Credentials.js"
import { never } from "../../../src/services/store/dueAt.js"
import { type Frame, open } from "../../support/Wire.js"
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

const ended = (session: Session, jobId: string) =>
  Effect.map(
    session.next((frame) => isEnd(frame) && frame.job_id === jobId),
    ({ payload }) => payload.code ?? payload.result
  )

describe("jobs that are unloaded", () => {
  it.scoped("take no place under the caps of running jobs, and have a cap of their own", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const process = yield* start(store, [sleeper([])], {
        maxJobsPerPrincipal: 1,
        maxJobsPerSession: 1,
        maxSubscriptionsPerSession: 1,
        maxWaitingJobsPerPrincipal: 2
      })
      yield* Effect.addFinalizer(() => process.stop)
      const session = yield* process.run(open())
      for (let i = 0; i < 3; i++) {
        const { job_id } = yield* submit(session, "sleeper")
        yield* session.next(isSleep)
        yield* TestClock.adjust("31 seconds")
        if (i < 2) yield* unloaded(store.store, job_id)
      }
      yield* pong(session)
      assert.lengthOf(yield* store.store.due({ by: never, limit: 10 }), 2)
      const id = yield* session.request("job.submit", { agent: "sleeper", input: {} })
      const refused = yield* session.next(({ payload }) => payload.details?.request_id === id)
      assert.strictEqual(refused.payload.details.limit, "jobs_per_session")
      // Its own jobs are no subscriptions.
      const [{ jobId } = { jobId: "" }] = yield* store.store.due({ by: never, limit: 1 })
      yield* session.request("job.subscribe", {}, { job_id: jobId })
      yield* session.expect("job.subscribed")
      yield* TestClock.adjust("61 minutes")
      for (let i = 0; i < 3; i++) assert.strictEqual((yield* session.next(isEnd)).payload.result, "rested")
    })
  )

  it.scoped("make room, when they end, for one that stayed in memory because they were too many", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const process = yield* start(store, [sleeper([])], { maxWaitingJobsPerPrincipal: 1 })
      yield* Effect.addFinalizer(() => process.stop)
      const session = yield* process.run(open())
      const jobs: Array<string> = []
      for (let i = 0; i < 2; i++) {
        jobs.push((yield* submit(session, "sleeper")).job_id as string)
        yield* session.next(isSleep)
        yield* TestClock.adjust("31 seconds")
        yield* unloaded(store.store, jobs[0])
      }
      const [first, second] = jobs as [string, string]
      yield* session.request("job.cancel", {}, { job_id: first })
      assert.strictEqual(yield* ended(session, first), "CANCELLED")
      yield* TestClock.adjust("31 seconds")
      yield* unloaded(store.store, second)
    })
  )

  it("that cannot be unloaded are tried again later, also when room is wanted, and do not keep others from it", () => {
    let now = 0
    const waits = new Waits(() => now, 0)
    waits.idles("a", true)
    now = 10
    waits.idles("b", true)
    // Nobody has room for what is due.
    assert.isFalse(waits.enter())
    assert.deepStrictEqual(waits.nextToUnload(30_000), { jobId: "a", inMs: 0 })
    waits.putOff("a")
    assert.deepStrictEqual(waits.nextToUnload(30_000), { jobId: "b", inMs: 0 })
    waits.idles("b", false)
    assert.deepStrictEqual(waits.nextToUnload(30_000), { jobId: "a", inMs: 30_000 })
    assert.deepStrictEqual(waits.nextToUnload(0), { jobId: "a", inMs: 1_000 })
    assert.deepStrictEqual(waits.allIdle, ["a"])
  })

  it.scoped("take their turn when many are due, those that only wait again at once making room", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      let running = 0
      let most = 0
      const napper = durable("napper", (job) =>
        Effect.gen(function* () {
          yield* job.sleep("first", "1 hour")
          yield* job.step(
            "work",
            Effect.acquireUseRelease(
              Effect.sync(() => {
                most = Math.max(most, ++running)
              }),
              () => Effect.sleep("1 second"),
              () => Effect.sync(() => running--)
            )
          )
          yield* job.sleep("second", "1 hour")
          return "rested"
        })
      )
      const process = yield* start(store, [napper], { maxWokenJobs: 2, unloadAfter: "10 minutes" })
      yield* Effect.addFinalizer(() => process.stop)
      const session = yield* process.run(open())
      const jobs: Array<string> = []
      for (let i = 0; i < 7; i++) jobs.push((yield* submit(session, "napper")).job_id as string)
      yield* sleeping(session, jobs.length)
      yield* TestClock.adjust("11 minutes")
      for (const id of jobs) yield* unloaded(store.store, id)
      yield* TestClock.adjust("49 minutes")
      // Some seconds, and not four times ten minutes.
      for (let second = 0; second < 10; second++) {
        yield* TestClock.adjust("1 second")
        yield* pong(session)
      }
      assert.strictEqual(told(session).filter((line) => line === "second#1 started").length, 7)
      assert.strictEqual(most, 2)
      for (let minute = 0; minute < 62; minute++) {
        yield* TestClock.adjust("1 minutes")
        yield* pong(session)
      }
      assert.lengthOf(session.seen.filter(isEnd), 7)
    })
  )

  it.scoped("give their credentials back, and get others with what is left of their budget", () =>
    Effect.gen(function* () {
      const held = new Map<string, { readonly id: string; readonly value: string }>()
      const budgets: Array<unknown> = []
      let made = 0
      const wire = (jobId: string) => {
        const one = held.get(jobId)
        return one === undefined
          ? []
          : [
              {
                id: one.id,
                scheme: "bearer" as const,
                value: Redacted.make(one.value),
                endpoint: "https://llm"
              }
            ]
      }
      const credentials = Layer.succeed(Credentials, {
        enabled: true,
        mint: ({ budget, jobId }) =>
          Effect.sync(() => {
            assert.isFalse(held.has(jobId))
            budgets.push([...budget.values()].map((amount) => Number(amount.value) / 10 ** amount.scale))
            held.set(jobId, { id: `cred_${++made}`, value: `secret ${made}` })
            return wire(jobId)
          }),
        held: wire,
        rotate: () => Effect.die("not used here"),
        release: (jobId) => Effect.sync(() => held.delete(jobId)),
        outstanding: Effect.succeed([]),
        revoke: () => Effect.void
      })
      const payer = durable("payer", (job) =>
        Effect.gen(function* () {
          yield* job.step("pay", job.metric({ name: "cost.x", value: 0.25, unit: "USD" }))
          yield* job.sleep("nap", "1 hour")
          yield* job.step("pay again", job.metric({ name: "cost.x", value: 0.25, unit: "USD" }))
          return (yield* job.credentials).map(({ id }) => id)
        })
      )
      const { jobId, session } = yield* asleep(payer, {
        parts: { credentials },
        submitted: { lease_request: { "cost.budget": ["USD:1"] } }
      })
      yield* until(Effect.sync(() => held.size === 0))
      yield* TestClock.adjust("1 hour")
      const rotated = yield* session.next(({ payload }) => payload.body?.phase === "credential_rotated")
      assert.deepInclude(rotated.payload.body, { id: "cred_2", value: "secret 2" })
      assert.deepStrictEqual(yield* ended(session, jobId), ["cred_2"])
      assert.deepStrictEqual(budgets, [[1], [0.75]])
      const remaining = session.seen.flatMap(({ payload }) =>
        payload.body?.name === "cost.budget.remaining" ? [payload.body.value] : []
      )
      assert.deepStrictEqual(remaining, [0.75, 0.5])
    })
  )

  it.scoped("are answered where they are: loaded with an answer, and for nothing else", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      let loads = 0
      const asks = durable("asks", (job) =>
        Effect.gen(function* () {
          loads++
          return yield* job.input("approve", {
            prompt: "Deploy?",
            choices: ["yes", "no"],
            expiresIn: "1 hour"
          })
        })
      )
      const process = yield* start(store, [asks])
      yield* Effect.addFinalizer(() => process.stop)
      const session = yield* process.run(open())
      const answer = (to: Session, job_id: string, input_id: string, value: unknown) =>
        Effect.gen(function* () {
          const id = yield* to.request(Vendor.jobInput, { input_id, value }, { job_id })
          const { payload } = yield* to.next(
            ({ payload }) => payload.request_id === id || payload.details?.request_id === id
          )
          return payload.details?.reason ?? "accepted"
        })
      const ask = Effect.gen(function* () {
        const job_id = (yield* submit(session, "asks")).job_id as string
        const asked = yield* session.next(({ payload }) => payload.kind === Vendor.inputRequest)
        return [job_id, asked.payload.body.input_id as string] as const
      })
      const [job, input] = yield* ask
      const [other] = yield* ask
      yield* TestClock.adjust("31 seconds")
      yield* unloaded(store.store, job)
      yield* unloaded(store.store, other)
      assert.strictEqual(yield* answer(session, job, input, "perhaps"), "value")
      yield* pong(session)
      assert.strictEqual(loads, 2)
      assert.strictEqual(yield* answer(session, job, input, "yes"), "accepted")
      assert.strictEqual(yield* answer(session, job, input, "yes"), "accepted")
      assert.strictEqual(yield* answer(session, job, input, "no"), "already_answered")
      assert.strictEqual(yield* ended(session, job), "yes")
      assert.strictEqual(loads, 3)
      // Nobody answers the other.
      yield* TestClock.adjust("1 hour")
      yield* session.next((frame) => isEnd(frame) && frame.job_id === other)
      assert.strictEqual(loads, 4)
      const closed = session.seen.filter(({ payload }) => payload.kind === Vendor.inputClosed)
      assert.deepStrictEqual(
        closed.map(({ job_id, payload }) => [job_id, payload.body.reason]),
        [
          [job, "answered"],
          [other, "expired"]
        ]
      )
    })
  )

  it.scoped("that were answered right before the process died are loaded at the next start", () =>
    Effect.gen(function* () {
      const asks = durable("asks", (job) => job.input("approve", { prompt: "Deploy?" }))
      const store = yield* makeStore
      const process = yield* start(store, [asks])
      const session = yield* process.run(open())
      const job_id = (yield* submit(session, "asks")).job_id as string
      const asked = yield* session.next(({ payload }) => payload.kind === Vendor.inputRequest)
      yield* TestClock.adjust("31 seconds")
      const { survival } = yield* unloaded(store.store, job_id)
      assert.strictEqual(survival?.waiting?.dueAt, never)
      yield* session.request(
        Vendor.jobInput,
        { input_id: asked.payload.body.input_id, value: "yes" },
        { job_id }
      )
      yield* session.expect(Vendor.jobInputAccepted)
      yield* process.kill
      const second = yield* start(restarted(store), [asks])
      const again = yield* second.run(open(resume(session, 0)))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* ended(again, job_id), "yes")
      yield* second.stop
    })
  )

  const asks = durable("asks", (job) => job.input("approve", { prompt: "Deploy?" }))

  /** A frame that comes without the clock being moved. */
  const heard = (session: Session, wanted: (frame: Frame) => boolean) =>
    until(Effect.map(pong(session), () => session.seen.find(wanted)))

  /** Answers, and gives what that is refused with. */
  const refusalOf = (session: Session, job_id: string, input_id: unknown) =>
    Effect.gen(function* () {
      const id = yield* session.request(Vendor.jobInput, { input_id, value: "yes" }, { job_id })
      const refused = yield* heard(session, ({ payload }) => payload.details?.request_id === id)
      return refused.payload.code
    })

  it.scoped("refuse an answer at once that the store does not take, and take it later", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const process = yield* start(store, [asks])
      yield* Effect.addFinalizer(() => process.stop)
      const session = yield* process.run(open())
      const jobId = (yield* submit(session, "asks")).job_id as string
      const asked = yield* session.next(({ payload }) => payload.kind === Vendor.inputRequest)
      const { input_id } = asked.payload.body
      yield* TestClock.adjust("31 seconds")
      yield* unloaded(store.store, jobId)
      store.failing = true
      assert.strictEqual(yield* refusalOf(session, jobId, input_id), "INTERNAL_ERROR")
      store.failing = false
      yield* session.request(Vendor.jobInput, { input_id, value: "no" }, { job_id: jobId })
      yield* session.expect(Vendor.jobInputAccepted)
      assert.strictEqual(yield* ended(session, jobId), "no")
    })
  )

  it.scoped("below a job that runs, wait for the same after an answer that was not stored", () =>
    Effect.gen(function* () {
      const parent = durable("parent", (job) =>
        Effect.flatMap(job.delegate("asks", {}, { key: "child" }), (child) => child.await)
      )
      const store = yield* makeStore
      const process = yield* start(store, [parent, asks])
      const session = yield* process.run(open())
      const lease_request = { "agent.delegate": ["*"] }
      const above = (yield* submit(session, "parent", {}, { lease_request })).job_id as string
      const asked = yield* session.next(({ payload }) => payload.kind === Vendor.inputRequest)
      const { input_id } = asked.payload.body
      const child = asked.job_id as string
      yield* TestClock.adjust("31 seconds")
      yield* unloaded(store.store, child)
      yield* process.kill
      const after = restarted(store)
      const second = yield* start(after, [parent, asks])
      yield* Effect.addFinalizer(() => second.stop)
      const again = yield* second.run(open(resume(session, 0)))
      yield* heard(again, ({ payload }) => payload.body?.phase === "recovered")
      after.failing = true
      assert.strictEqual(yield* refusalOf(again, child, input_id), "INTERNAL_ERROR")
      after.failing = false
      yield* again.request("session.list_jobs", {})
      const { jobs } = (yield* again.expect("session.jobs")).payload
      const listed = jobs.find(({ job_id }: { readonly job_id: string }) => job_id === child)
      assert.deepStrictEqual(listed.waiting_for, [input_id])
      yield* again.request("job.cancel", {}, { job_id: above })
      assert.strictEqual(yield* ended(again, child), "CANCELLED")
      const closed = again.seen.filter(({ payload }) => payload.kind === Vendor.inputClosed)
      assert.deepStrictEqual(
        closed.map(({ payload }) => payload.body),
        [{ input_id, reason: "cancelled" }]
      )
    })
  )
})
