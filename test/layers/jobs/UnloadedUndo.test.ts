/** Jobs that wait unloaded and have done what is to be undone: however they end, that is, in reverse order, before their end. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import * as PolicyLayer from "../../../src/layers/auth/Policy.js"
import * as Vendor from "../../../src/protocol/Vendor.js"
import { Policy } from "../../../src/services/auth/Policy.js"
import { type JobService, Step } from "../../../src/services/jobs/Job.js"
import { never } from "../../../src/services/store/dueAt.js"
import { StoreError } from "../../../src/services/store/Store.js"
import { type Frame, open } from "../../support/Wire.js"
import { as, makeStore, pong, restarted, resume, type Session, submit, type TestStore } from "./support.js"
import { durable, isEnd, isSleep, start, told, unloaded, until } from "./unloading.js"

const keys = ["a", "b", "c"]

/** What an agent has done, and undone, in the world: each idempotency key once. */
class World {
  readonly done: Array<string> = []
  private readonly known = new Set<string>()
  loads = 0
  /** Undoing this one waits for ever, while it is set. */
  stuck: string | undefined

  act(what: string): Effect.Effect<void, never, Step> {
    return Effect.flatMap(Step, ({ idempotencyKey }) =>
      Effect.suspend(() => {
        if (!this.known.has(idempotencyKey)) this.done.push(what)
        this.known.add(idempotencyKey)
        return this.stuck === what ? Effect.never : Effect.void
      })
    )
  }
}

/** Does three things that can be undone, and then waits. */
const books = (world: World, wait: (job: JobService) => Effect.Effect<unknown, unknown>) =>
  durable("books", (job) =>
    Effect.gen(function* () {
      world.loads++
      for (const key of keys)
        yield* job.step(key, world.act(`do ${key}`), { compensate: () => world.act(`undo ${key}`) })
      yield* wait(job)
      return yield* job.step("late", world.act("do late"))
    })
  )

const naps = (world: World) => books(world, (job) => job.sleep("nap", "1 hour"))
const asks = (world: World) =>
  books(world, (job) => job.input("approve", { prompt: "Go on?", expiresIn: "1 hour" }))

const done = ["do a", "do b", "do c"]
const undone = [...done, "undo c", "undo b", "undo a"]

const waits = ({ payload }: Frame) => payload.kind === Vendor.inputRequest || isSleep({ payload } as Frame)

type Process = Effect.Effect.Success<ReturnType<typeof start>>

/** A process with one such job that waits unloaded. */
const asleep = (
  agents: Parameters<typeof start>[1],
  {
    kind = "durable",
    submitted = {},
    options,
    parts
  }: {
    readonly kind?: "durable" | "memory"
    readonly submitted?: Record<string, unknown>
    readonly options?: Parameters<typeof start>[2]
    readonly parts?: Parameters<typeof start>[3]
  } = {}
) =>
  Effect.gen(function* () {
    const made = yield* makeStore
    const store: TestStore = kind === "durable" ? made : { ...made, store: { ...made.store, kind } }
    const process = yield* start(store, agents, options, parts)
    yield* Effect.addFinalizer(() => process.stop)
    const session = yield* process.run(open())
    const jobId = (yield* submit(session, "books", {}, { idempotency_key: "key", ...submitted }))
      .job_id as string
    yield* session.next(waits)
    yield* TestClock.adjust("31 seconds")
    yield* unloaded(store.store, jobId)
    return { store, process, session, jobId }
  })

const next = (store: TestStore, session: Session, agents: Parameters<typeof start>[1]) =>
  Effect.gen(function* () {
    const after = restarted(store)
    const process: Process = yield* start(after, agents)
    yield* Effect.addFinalizer(() => process.stop)
    return { store: after, process, session: yield* process.run(open(resume(session, 0))) }
  })

const record = (store: TestStore, jobId: string) => Effect.map(store.store.job(jobId), (found) => found)

const ended = (store: TestStore, jobId: string) =>
  until(Effect.map(store.store.job(jobId), (found) => found?.endedAt !== undefined && found))

/** What the steps of a job are told to have come to, in order. */
const stepsOf = (session: Session) => told(session).filter((line) => line.endsWith(" ended"))

const wholeSteps = [
  ...keys.map((key) => `${key}#1 ended`),
  ...[...keys].reverse().map((key) => `compensate:${key}#1 ended`)
]

/** Looks at a job that has ended: one end, numbers without a gap, nothing left that is to be undone. */
const expectEnd = (session: Session, store: TestStore, jobId: string, code: string) =>
  Effect.gen(function* () {
    const ends = session.seen.filter((frame) => isEnd(frame) && frame.job_id === jobId)
    assert.deepStrictEqual(
      ends.map(({ payload }) => payload.code),
      [code]
    )
    const numbers = session.seen.flatMap(({ event_seq }) => event_seq ?? [])
    assert.deepStrictEqual(
      numbers,
      numbers.map((_, i) => i + 1)
    )
    assert.strictEqual(ends[0]?.payload.details?.not_undone, undefined)
    assert.deepStrictEqual(stepsOf(session), wholeSteps)
    const found = yield* record(store, jobId)
    assert.isDefined(found?.endedAt)
    assert.lengthOf(yield* store.store.due({ by: never, limit: 10 }), 0)
    assert.strictEqual((yield* store.store.jobByKey("alice", "key"))?.jobId, jobId)
  })

/** When the lease is over that jobs are given here. */
const expires_at = "1970-01-01T00:20:00.000Z"

describe("a job that is unloaded and has something to undo", () => {
  for (const agent of [naps, asks])
    it.scoped(`undoes it when it is cancelled while it ${agent === naps ? "sleeps" : "asks"}`, () =>
      Effect.gen(function* () {
        const world = new World()
        const { jobId, session, store } = yield* asleep([agent(world)])
        yield* session.request("job.cancel", { reason: "enough" }, { job_id: jobId })
        yield* session.expect("job.cancelled")
        yield* session.next(isEnd)
        assert.deepStrictEqual(world.done, undone)
        yield* expectEnd(session, store, jobId, "CANCELLED")
        const closed = session.seen.filter(({ payload }) => payload.kind === Vendor.inputClosed)
        assert.lengthOf(closed, agent === asks ? 1 : 0)
        yield* TestClock.adjust("3 hours")
        yield* pong(session)
        assert.deepStrictEqual([world.loads, world.done], [2, undone])
        assert.lengthOf(session.seen.filter(isEnd), 1)
      })
    )

  it.scoped("undoes it when another session of its principal cancels it", () =>
    Effect.gen(function* () {
      const world = new World()
      const policy = Layer.effect(
        Policy,
        Effect.map(Policy, (base) => ({ ...base, mayCancel: () => Effect.succeed(true as const) }))
      ).pipe(Layer.provide(PolicyLayer.layerSamePrincipal))
      const { jobId, process, session, store } = yield* asleep([naps(world)], { parts: { policy } })
      const other = yield* process.run(open(as("alice")))
      yield* other.request("job.cancel", {}, { job_id: jobId })
      yield* session.next(isEnd)
      assert.deepStrictEqual(world.done, undone)
      yield* expectEnd(session, store, jobId, "CANCELLED")
    })
  )

  it.scoped("undoes it when its session ends, where that says so", () =>
    Effect.gen(function* () {
      const world = new World()
      const { jobId, process, session, store } = yield* asleep([naps(world)], {
        options: { cancelOnBye: true }
      })
      const watcher = yield* process.run(open())
      yield* watcher.request("job.subscribe", { history: true }, { job_id: jobId })
      yield* watcher.expect("job.subscribed")
      yield* session.request("session.bye", {})
      yield* watcher.next(isEnd)
      assert.deepStrictEqual(world.done, undone)
      yield* expectEnd(watcher, store, jobId, "CANCELLED")
    })
  )

  for (const [what, submitted, code] of [
    ["its deadline passes", { max_runtime_sec: 600 }, "TIMEOUT"],
    ["its lease expires", { lease_constraints: { expires_at } }, "LEASE_EXPIRED"]
  ] as const)
    for (const restarts of [false, true])
      it.scoped(`undoes it when ${what}${restarts ? ", in the next process" : ""}`, () =>
        Effect.gen(function* () {
          const world = new World()
          const first = yield* asleep([naps(world)], { submitted })
          const { jobId } = first
          if (restarts) yield* first.process.kill
          yield* TestClock.adjust("21 minutes")
          const { session, store } = restarts ? yield* next(first.store, first.session, [naps(world)]) : first
          yield* session.next(isEnd)
          assert.deepStrictEqual(world.done, undone)
          yield* expectEnd(session, store, jobId, code)
        })
      )

  it.scoped("undoes it when nobody has answered in time", () =>
    Effect.gen(function* () {
      const world = new World()
      const { jobId, session, store } = yield* asleep([asks(world)])
      yield* TestClock.adjust("1 hour")
      const end = yield* session.next(isEnd)
      assert.strictEqual(end.payload.code, "INTERNAL_ERROR")
      assert.deepStrictEqual(world.done, undone)
      yield* expectEnd(session, store, jobId, "INTERNAL_ERROR")
    })
  )

  it.scoped("undoes it when the runtime ends, where nothing outlives that", () =>
    Effect.gen(function* () {
      const world = new World()
      const { jobId, process, store } = yield* asleep([naps(world)], { kind: "memory" })
      yield* Effect.forkDaemon(process.stop)
      const { status } = yield* ended(store, jobId)
      assert.strictEqual(status, "error")
      assert.deepStrictEqual(world.done, undone)
    })
  )

  for (const how of ["a cancel", "its deadline", "the end of its session"] as const)
    it.scoped(`goes on undoing when its process dies meanwhile, ended by ${how}`, () =>
      Effect.gen(function* () {
        const world = new World()
        const first = yield* asleep([naps(world)], {
          submitted: { max_runtime_sec: 600 },
          options: { cancelOnBye: true }
        })
        const { jobId } = first
        const watcher = yield* first.process.run(open())
        yield* watcher.request("job.subscribe", { history: true }, { job_id: jobId })
        yield* watcher.expect("job.subscribed")
        const before = first.store.batches.length
        // Its end is decided, and nothing is stored any more.
        const decided = () =>
          first.store.batches
            .slice(before)
            .some((batch) => batch.some((op) => op._tag === "PutJob" && op.job.survival?.ended !== undefined))
        if (how === "a cancel") {
          yield* first.session.request("job.cancel", {}, { job_id: jobId })
        } else if (how === "its deadline") yield* TestClock.adjust("10 minutes")
        else yield* first.session.request("session.bye", {})
        yield* until(
          Effect.sync(() => {
            if (!decided()) return false
            first.store.cut = true
            return true
          })
        )
        yield* first.process.kill
        const { session, store } = yield* next(first.store, watcher, [naps(world)])
        yield* session.next(isEnd)
        yield* expectEnd(session, store, jobId, how === "its deadline" ? "TIMEOUT" : "CANCELLED")
        assert.deepStrictEqual(world.done, undone)
        yield* TestClock.adjust("3 hours")
        yield* pong(session)
        assert.lengthOf(session.seen.filter(isEnd), 1)
      })
    )

  it.scoped("names what is left when its version is not here, and keeps its key", () =>
    Effect.gen(function* () {
      const world = new World()
      const first = yield* asleep([naps(world)])
      const { jobId } = first
      yield* first.process.kill
      const { session, store } = yield* next(first.store, first.session, [])
      yield* session.request("job.cancel", {}, { job_id: jobId })
      const end = yield* session.next(isEnd)
      assert.deepStrictEqual(
        [end.payload.code, end.payload.details?.not_undone],
        ["CANCELLED", ["c", "b", "a"]]
      )
      assert.deepStrictEqual([world.loads, world.done], [1, done])
      assert.strictEqual((yield* store.store.jobByKey("alice", "key"))?.jobId, jobId)
    })
  )

  it.scoped("is loaded for it as often as it takes when the store cannot be read", () =>
    Effect.gen(function* () {
      const world = new World()
      const made = yield* makeStore
      let failures = 0
      const inner = made.store
      const store: TestStore = Object.assign(made, {
        store: {
          ...inner,
          journal: (...[jobId, after, limit]: Parameters<typeof inner.journal>) =>
            Effect.suspend(() =>
              failures-- > 0
                ? Effect.fail(new StoreError({ message: "the disk is gone" }))
                : inner.journal(jobId, after, limit)
            )
        }
      })
      const process = yield* start(store, [naps(world)])
      yield* Effect.addFinalizer(() => process.stop)
      const session = yield* process.run(open())
      const jobId = (yield* submit(session, "books", {}, { idempotency_key: "key" })).job_id as string
      yield* session.next(waits)
      yield* TestClock.adjust("31 seconds")
      yield* unloaded(store.store, jobId)
      failures = 4
      yield* session.request("job.cancel", {}, { job_id: jobId })
      yield* session.expect("job.cancelled")
      while (!session.seen.some(isEnd)) {
        yield* pong(session)
        yield* TestClock.adjust("1 second")
      }
      yield* expectEnd(session, store, jobId, "CANCELLED")
      assert.deepStrictEqual(world.done, undone)
    })
  )

  it.scoped("is undone no longer than its time, and a cancel meanwhile wins", () =>
    Effect.gen(function* () {
      const world = new World()
      world.stuck = "undo b"
      const { jobId, session, store } = yield* asleep([naps(world)], { submitted: { max_runtime_sec: 600 } })
      yield* TestClock.adjust("569 seconds")
      yield* until(Effect.sync(() => world.done.includes("undo b")))
      yield* session.request("job.cancel", {}, { job_id: jobId })
      yield* session.expect("job.cancelled")
      yield* TestClock.adjust("1 minutes")
      const end = yield* session.next(isEnd)
      assert.deepStrictEqual([end.payload.code, end.payload.details?.not_undone], ["CANCELLED", ["b", "a"]])
      assert.strictEqual((yield* store.store.jobByKey("alice", "key"))?.jobId, jobId)
    })
  )

  for (const kind of ["naps", "asks"] as const)
    it.scoped(`undoes it when it is cancelled while it is being unloaded, and ${kind}`, () =>
      Effect.gen(function* () {
        const world = new World()
        const closing = yield* Effect.makeLatch(false)
        const made = yield* makeStore
        const agent = books(world, (job) =>
          Effect.onInterrupt(
            kind === "naps" ? job.sleep("nap", "1 hour") : job.input("approve", { prompt: "Go on?" }),
            () => closing.await
          )
        )
        const process = yield* start(made, [agent])
        yield* Effect.addFinalizer(() => process.stop)
        const session = yield* process.run(open())
        const jobId = (yield* submit(session, "books", {}, { idempotency_key: "key" })).job_id as string
        yield* session.next(waits)
        yield* TestClock.adjust("31 seconds")
        yield* pong(session)
        yield* session.request("job.cancel", {}, { job_id: jobId })
        yield* session.expect("job.cancelled")
        yield* closing.open
        yield* session.next(isEnd)
        assert.deepStrictEqual(world.done, undone)
        yield* expectEnd(session, made, jobId, "CANCELLED")
        const closed = session.seen.filter(({ payload }) => payload.kind === Vendor.inputClosed)
        assert.lengthOf(closed, kind === "asks" ? 1 : 0)
      })
    )

  it.scoped("is undone before the end of what delegated to it", () =>
    Effect.gen(function* () {
      const world = new World()
      const parent = durable("parent", (job) =>
        Effect.flatMap(job.delegate("books", {}, { key: "child" }), (child) => child.await)
      )
      const store = yield* makeStore
      const process = yield* start(store, [naps(world), parent])
      yield* Effect.addFinalizer(() => process.stop)
      const session = yield* process.run(open())
      const lease_request = { "agent.delegate": ["*"] }
      const jobId = (yield* submit(session, "parent", {}, { lease_request })).job_id as string
      const child = (yield* session.next(isSleep)).job_id as string
      yield* TestClock.adjust("31 seconds")
      yield* unloaded(store.store, child)
      yield* session.request("job.cancel", {}, { job_id: jobId })
      const ends = [yield* session.next(isEnd), yield* session.next(isEnd)]
      assert.deepStrictEqual(
        ends.map(({ job_id, payload }) => [job_id, payload.code, payload.details?.not_undone]),
        [
          [child, "CANCELLED", undefined],
          [jobId, "CANCELLED", undefined]
        ]
      )
      assert.deepStrictEqual(world.done, undone)
    })
  )
})
