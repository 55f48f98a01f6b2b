import { assert, describe, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import { leavesFirst } from "../../../src/layers/jobs/Recovery.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { type JobFilter, type JobRecord, Op, StoreError } from "../../../src/services/store/Store.js"
import { open } from "../../support/Wire.js"
import { survival } from "../store/fixtures.js"
import { agents, makeStore, pong, restarted, resume, serve, submit, type TestStore } from "./support.js"
import { until } from "./unloading.js"

const id = (n: number) => `job_${String(n).padStart(26, "0")}`

const record = (n: number, more: Partial<JobRecord> = {}): JobRecord => ({
  jobId: id(n),
  sessionId: "sess_gone",
  submitId: `s${n}`,
  principal: "alice",
  agent: "forever@1.0.0",
  status: "running",
  rejected: false,
  lease: {},
  traceId: "a".repeat(32),
  createdAt: n,
  lastEventSeq: 0,
  ...more
})

const endsIn = (batch: ReadonlyArray<Op>) =>
  batch.flatMap((op) => (op._tag === "PutJob" && op.job.endedAt !== undefined ? [op.job] : []))

/** Waits until no job is open in the store. */
const settled = ({ store }: TestStore): Effect.Effect<void> =>
  Effect.repeat(
    Effect.zipRight(
      Effect.yieldNow(),
      Effect.orDie(store.jobs({ principals: "everyone", status: ["running"], limit: 1 }))
    ),
    { until: (open) => open.length === 0 }
  )

describe("jobs that the last process left", () => {
  it.scopedLive("end in few commits, none of them long, children before their parents", () =>
    Effect.gen(function* () {
      const count = 1_200
      const store = yield* makeStore
      yield* store.store.commit({
        ops: Array.from({ length: count }, (_, i) =>
          // Every tenth is a child of the job 600 before it: in another page of the store, and of the commits.
          Op.PutJob({ job: record(i, i >= 600 && i % 10 === 0 ? { parentJobId: id(i - 600) } : {}) })
        ),
        owners: []
      })
      store.batches.length = 0
      yield* Effect.provide(settled(store), serve(store, agents))
      const ends = store.batches.map(endsIn).filter((jobs) => jobs.length > 0)
      assert.isAtMost(ends.length, 12)
      // A commit is a turn of the event loop, which everybody else waits for.
      assert.isAtMost(Math.max(...ends.map((jobs) => jobs.length)), 150)
      const order = new Map(ends.flat().map(({ jobId }, i) => [jobId, i]))
      assert.strictEqual(order.size, count)
      for (const job of ends.flat()) {
        assert.strictEqual(job.status, "error")
        if (job.parentJobId !== undefined)
          assert.isBelow(order.get(job.jobId) as number, order.get(job.parentJobId) as number)
      }
    })
  )

  it.scoped(
    "end while sessions are served; each resumed session gets each end once, and a key waits for its job",
    () =>
      Effect.gen(function* () {
        const store = yield* makeStore
        const { before, jobs } = yield* Effect.gen(function* () {
          const before = yield* open()
          const jobs: Array<string | undefined> = []
          for (let i = 0; i < 3; i++) {
            jobs.push((yield* submit(before, "forever", i, { idempotency_key: `k${i}` })).job_id)
            yield* before.expect("job.event")
          }
          store.cut = true
          return { before, jobs }
        }).pipe(Effect.provide(serve(store, agents)))
        const next = restarted(store)
        yield* next.gate.close
        yield* Effect.gen(function* () {
          const opened = yield* Effect.fork(open(resume(before, 1)))
          yield* next.gate.open
          const after = yield* Fiber.join(opened)
          const again = yield* submit(after, "forever", 0, { idempotency_key: "k0" })
          assert.notInclude(jobs, again.job_id)
          const ends = after.seen.filter(({ type }) => type === "job.error")
          assert.sameMembers(
            ends.map(({ job_id }) => job_id),
            jobs
          )
          const numbers = after.seen.flatMap(({ event_seq }) => (event_seq === undefined ? [] : [event_seq]))
          assert.deepStrictEqual(numbers.slice(0, 5), [2, 3, 4, 5, 6])
        }).pipe(Effect.provide(serve(next, agents)))
      })
  )

  it.scoped("keep their key until it is known how they end", () =>
    Effect.gen(function* () {
      const { store } = yield* makeStore
      yield* store.commit({
        ops: [Op.PutJob({ job: record(1, { idempotencyKey: "k", paramsDigest: "other" }) })],
        owners: []
      })
      const read = yield* Effect.makeLatch(false)
      const slow = {
        ...store,
        boundsOf: (jobIds: ReadonlyArray<string>) => Effect.zipRight(read.await, store.boundsOf(jobIds))
      }
      yield* Effect.gen(function* () {
        const session = yield* open()
        yield* session.request("job.submit", { agent: "echo", input: 1, idempotency_key: "k" })
        yield* pong(session)
        yield* read.open
        const answer = yield* session.next(({ type }) => type === "job.accepted" || type === "job.error")
        assert.strictEqual(answer.type, "job.accepted")
        assert.notStrictEqual(answer.job_id, id(1))
      }).pipe(Effect.provide(serve({ store: slow }, agents)))
    })
  )

  it.scoped("that a cancelled job had delegated to end as it does", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      yield* store.store.commit({
        ops: [
          Op.PutJob({ job: record(1, { cancelRequested: { reason: "enough", at: 1 } }) }),
          Op.PutJob({ job: record(2, { parentJobId: id(1) }) }),
          Op.PutJob({ job: record(3) })
        ],
        owners: []
      })
      yield* Effect.provide(settled(store), serve(store, agents))
      const jobs = yield* store.store.jobs({ principals: "everyone", limit: 10 })
      assert.deepStrictEqual(
        jobs.map(({ status }) => status),
        ["cancelled", "cancelled", "error"]
      )
      assert.deepStrictEqual(
        jobs.map(({ keyFreed }) => keyFreed),
        [undefined, undefined, true]
      )
    })
  )

  it.scoped("are each ended or run again, but for those of which something is damaged", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const agent = "quick@1.0.0"
      const quick = Agent.handle(Agent.make("quick", { version: "1.0.0", durable: true }), () => Effect.void)
      yield* store.store.commit({
        ops: [
          Op.PutJob({ job: record(1) }),
          Op.PutJob({ job: record(2) }),
          ...[3, 4].flatMap((n) => [
            Op.PutJob({ job: record(n, { agent, survival }) }),
            Op.PutInput({ jobId: id(n), input: "null" })
          ]),
          Op.PutJob({ job: record(5, { agent, survival, cancelRequested: { at: 1 } }) })
        ],
        owners: []
      })
      const damaged = (jobId: string) =>
        Effect.fail(new StoreError({ message: "damaged", damaged: { jobId } }))
      const { boundsOf, journal } = store.store
      const service: typeof store.store = {
        ...store.store,
        boundsOf: (jobIds) => (jobIds.includes(id(1)) ? damaged(id(1)) : boundsOf(jobIds)),
        journal: (jobId, ...args) =>
          jobId === id(4) || jobId === id(5) ? damaged(jobId) : journal(jobId, ...args)
      }
      const statuses = Effect.map(store.store.jobs({ principals: "everyone", limit: 10 }), (jobs) =>
        jobs.map(({ status }) => status)
      )
      const expected = ["running", "error", "success", "running", "cancelled"]
      yield* Effect.gen(function* () {
        for (let i = 0; i < 50; i++) {
          yield* TestClock.adjust("1 second")
          if (String(yield* statuses) === String(expected)) break
        }
        assert.deepStrictEqual(yield* statuses, expected)
        // Nobody waits for what is not known.
        const session = yield* open()
        yield* session.request("job.cancel", {}, { job_id: id(4) })
        assert.isDefined(yield* session.next(({ type }) => /^job.cancelled|error$/.test(type)))
      }).pipe(Effect.provide(serve({ store: service }, [...agents, quick])))
    })
  )

  it.scoped("are tried again when the store cannot say where they end", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      yield* store.store.commit({ ops: [Op.PutJob({ job: record(1) })], owners: [] })
      let asked = 0
      const { boundsOf } = store.store
      const service = {
        ...store.store,
        boundsOf: (jobIds: ReadonlyArray<string>) =>
          Effect.suspend(() =>
            ++asked <= 2 ? Effect.fail(new StoreError({ message: "the disk is away" })) : boundsOf(jobIds)
          )
      }
      const open = store.store.jobs({ principals: "everyone", status: ["running"], limit: 1 })
      const left = yield* Effect.zipRight(TestClock.adjust("1 second"), open).pipe(
        Effect.repeat({ until: (jobs) => jobs.length === 0, times: 200 }),
        Effect.provide(serve({ store: service }, agents))
      )
      assert.deepStrictEqual([left.length, asked], [0, 3])
    })
  )

  it.scopedLive("are tried again when the store does not take their ends", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      yield* store.store.commit({ ops: [Op.PutJob({ job: record(1) })], owners: [] })
      store.failing = true
      yield* Effect.gen(function* () {
        yield* until(Effect.sync(() => store.failed > 1))
        assert.isNotEmpty(yield* store.store.jobs({ principals: "everyone", status: ["running"], limit: 9 }))
        store.failing = false
        yield* settled(store)
      }).pipe(Effect.provide(serve(store, agents)))
    })
  )
})

it("leaves come first, however the clock stood when they were made", () => {
  const records = [
    record(5, { createdAt: 9 }),
    record(4, { createdAt: 1, parentJobId: id(5) }),
    record(3, { createdAt: 5, parentJobId: id(4) }),
    record(2)
  ]
  const order = leavesFirst(records).map(({ jobId }) => jobId)
  assert.isBelow(order.indexOf(id(3)), order.indexOf(id(4)))
  assert.isBelow(order.indexOf(id(4)), order.indexOf(id(5)))
})

describe("a store that gives the same open jobs again and again", () => {
  it.scoped("keeps the runtime from starting, rather than that it reads for ever", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      yield* store.store.commit({
        ops: Array.from({ length: 500 }, (_, i) => Op.PutJob({ job: record(i + 1) })),
        owners: []
      })
      const service = {
        ...store.store,
        jobs: (filter: JobFilter) => store.store.jobs({ ...filter, after: undefined })
      }
      const started = yield* Effect.exit(Layer.build(serve({ store: service }, agents)))
      assert.isTrue(Exit.isFailure(started) && Cause.pretty(started.cause).includes("read for ever"))
    })
  )
})
