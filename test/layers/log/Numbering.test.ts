/** A session is taken while commits are on their way, fail, or drop what it has not come to: what its view then has. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import { all } from "../../../src/protocol/Features.js"
import { EventLog, type JobLog, type View } from "../../../src/services/log/EventLog.js"
import type * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import {
  type Batch,
  type JobRecord,
  Store,
  StoreError,
  type StoreService
} from "../../../src/services/store/Store.js"
import { quiet } from "./gated.js"
import { emit, event, layerOn, numbers, readAll, record, seqs, session, settle, upTo } from "./harness.js"

const features = all.filter((feature) => feature !== "ack")

/** What a test does to a store: before a commit and a read of the backlog, and after a read of what is observed. */
interface Meddling {
  commit?: ((batch: Batch) => Effect.Effect<void, StoreError>) | undefined
  backlog?: Effect.Effect<void> | undefined
  observed?: Effect.Effect<void> | undefined
}

const meddled = (store: StoreService, meddling: Meddling): StoreService => ({
  ...store,
  commit: (batch) =>
    Effect.zipRight(
      Effect.suspend(() => meddling.commit?.(batch) ?? Effect.void),
      store.commit(batch)
    ),
  backlog: (after, limit) =>
    Effect.zipRight(
      Effect.suspend(() => meddling.backlog ?? Effect.void),
      store.backlog(after, limit)
    ),
  observed: (sessionId) =>
    Effect.zipLeft(
      store.observed(sessionId),
      Effect.suspend(() => meddling.observed ?? Effect.void)
    )
})

const opens = (batch: Batch, jobId: string) =>
  batch.ops.some((op) => op._tag === "PutJob" && op.job.jobId === jobId)

/** Runs a process that opens a session with a job, and then the test in the next process, in which a store is meddled with. */
const inNextProcess = <E>(
  body: (given: {
    readonly own: JobRecord
    readonly stored: ReturnType<typeof session>
    readonly meddling: Meddling
  }) => Effect.Effect<void, E, EventLog | Store | Scope.Scope>,
  options: RuntimeOptions.Input = {}
) =>
  Effect.gen(function* () {
    const kept = yield* Layer.build(StoreMemory.layer())
    const store = yield* Effect.provide(Store, kept)
    const meddling: Meddling = {}
    const run = <A, E2>(effect: Effect.Effect<A, E2, EventLog | Store | Scope.Scope>) =>
      Effect.scoped(effect).pipe(
        Effect.provide(layerOn(Layer.succeed(Store, meddled(store, meddling)), options))
      )
    const given = yield* run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const stored = session({ features })
        const view = yield* log.openView(stored)
        const own = record(view)
        const job = yield* log.openJob(own, view)
        yield* emit(job, 1, 2)
        yield* settle
        return { own, stored }
      })
    )
    yield* run(body({ ...given, meddling }))
  }).pipe(Effect.scoped)

const numbered = (view: View, last: number) =>
  Effect.repeat(settle, { until: () => view.last >= last, times: 2_000 })

const endOf = (job: JobLog, own: JobRecord) =>
  Effect.flatMap(EventLog, (log) =>
    log.end(job, { type: "job.result", kind: "", payload: "{}" }, (lastEventSeq) => ({
      ...own,
      status: "success",
      endedAt: 2,
      lastEventSeq
    }))
  )

/** A commit that waits, once it has come. */
const gate = Effect.gen(function* () {
  const reached = yield* Deferred.make<void>()
  const open = yield* Deferred.make<void>()
  return {
    pass: Effect.zipRight(Deferred.succeed(reached, undefined), Deferred.await(open)),
    reached: Deferred.await(reached),
    open: Deferred.succeed(open, undefined)
  }
})

describe("A session that is taken while", () => {
  it.effect("a job is delegated for it, in a commit that began before, gets that job", () =>
    inNextProcess(({ meddling, own, stored }) =>
      Effect.gen(function* () {
        const log = yield* EventLog
        const absent = log.absentView(stored)
        const parent = yield* log.reopenJob(own)
        const child = record(absent, { parentJobId: own.jobId })
        const committing = yield* gate
        meddling.commit = (batch) => (opens(batch, child.jobId) ? committing.pass : Effect.void)
        const opening = yield* Effect.fork(log.openJob(child, absent, { parent, event: event("log", 1) }))
        yield* committing.reached
        const held = yield* Effect.fork(log.holdView(stored))
        yield* quiet
        yield* committing.open
        const below = yield* Fiber.join(opening)
        const view = yield* Fiber.join(held)
        yield* emit(below, 2, 3)
        yield* emit(parent, 3, 3)
        yield* numbered(view, 6)
        const frames = yield* readAll(view)
        assert.deepStrictEqual(numbers(frames, below), [1, 2, 3])
        assert.deepStrictEqual(seqs(frames), upTo(6))
      })
    )
  )

  it.effect("a job is delegated for it, while what it observes is read, gets that job", () =>
    inNextProcess(({ meddling, own, stored }) =>
      Effect.gen(function* () {
        const log = yield* EventLog
        const absent = log.absentView(stored)
        const parent = yield* log.reopenJob(own)
        yield* emit(parent, 3, 5)
        yield* settle
        const child = record(absent, { parentJobId: own.jobId })
        const [reading, committing] = [yield* gate, yield* gate]
        meddling.observed = reading.pass
        meddling.commit = (batch) => (opens(batch, child.jobId) ? committing.pass : Effect.void)
        const held = yield* Effect.fork(log.holdView(stored))
        yield* reading.reached
        const opening = yield* Effect.fork(log.openJob(child, absent, { parent, event: event("log", 1) }))
        yield* committing.reached
        yield* reading.open
        const view = yield* Fiber.join(held)
        yield* quiet
        yield* committing.open
        const below = yield* Fiber.join(opening)
        yield* emit(below, 2, 3)
        yield* numbered(view, 8)
        const frames = yield* readAll(view)
        assert.deepStrictEqual(numbers(frames, below), [1, 2, 3])
        assert.deepStrictEqual(seqs(frames), upTo(8))
      })
    )
  )

  it.live("a page of it cannot be committed gets what was delegated meanwhile once", () =>
    inNextProcess(({ meddling, own, stored }) =>
      Effect.gen(function* () {
        const log = yield* EventLog
        const parent = yield* log.reopenJob(own)
        yield* emit(parent, 3, 5)
        yield* settle
        const reading = yield* gate
        meddling.backlog = reading.pass
        const view = yield* log.holdView(stored)
        yield* reading.reached
        const child = record(view, { parentJobId: own.jobId })
        const below = yield* log.openJob(child, view, { parent, event: event("log", 1) })
        let failures = 0
        meddling.commit = (batch) =>
          failures === 0 && batch.ops.some((op) => op._tag === "PutRun")
            ? Effect.suspend(() => {
                failures++
                return new StoreError({ message: "the disk is full" })
              })
            : Effect.void
        yield* reading.open
        meddling.backlog = undefined
        yield* Effect.repeat(Effect.zipRight(Effect.ignore(settle), Effect.yieldNow()), {
          until: () => failures === 1
        })
        yield* emit(below, 2, 4)
        yield* settle
        yield* Effect.repeat(Effect.zipRight(settle, Effect.sleep("20 millis")), {
          until: () => view.last >= 9,
          times: 200
        })
        yield* Effect.repeatN(settle, 20)
        const frames = yield* readAll(view)
        assert.deepStrictEqual(numbers(frames, below), [1, 2, 3, 4])
        assert.deepStrictEqual(numbers(frames, parent), [1, 2, 3, 4, 5])
      })
    )
  )

  it.effect("a job of it is deleted has lost that, and is not looked at for ever", () =>
    inNextProcess(({ meddling, own, stored }) =>
      Effect.gen(function* () {
        const log = yield* EventLog
        const job = yield* log.reopenJob(own)
        yield* emit(job, 3, 5)
        yield* endOf(job, own)
        log.letGo(job)
        const { open, pass, reached } = yield* gate
        meddling.commit = (batch) => (batch.ops.some((op) => op._tag === "DropJob") ? pass : Effect.void)
        // What it observes is read before the drop, and looked at while that is on its way.
        const reading = yield* gate
        meddling.observed = reading.pass
        const held = yield* Effect.fork(log.holdView(stored))
        yield* reading.reached
        const dropping = yield* Effect.fork(log.forget([own]))
        yield* reached
        yield* reading.open
        const view = yield* Fiber.join(held)
        yield* quiet
        yield* open
        yield* Fiber.join(dropping)
        yield* Effect.repeat(settle, { until: () => view.lost, times: 200 })
        assert.isTrue(view.lost)
        let rounds = 0
        meddling.backlog = Effect.sync(() => {
          rounds++
        })
        yield* quiet
        assert.isAtMost(rounds, 1)
      })
    )
  )

  it.effect("a job of it ends is listed with the number of that end", () =>
    inNextProcess(({ meddling, own, stored }) =>
      Effect.gen(function* () {
        const log = yield* EventLog
        const store = yield* Store
        const job = yield* log.reopenJob(own)
        yield* emit(job, 3, 5)
        yield* settle
        const reading = yield* gate
        meddling.backlog = reading.pass
        const view = yield* log.holdView(stored)
        yield* reading.reached
        yield* endOf(job, own)
        yield* reading.open
        meddling.backlog = undefined
        yield* numbered(view, 6)
        assert.strictEqual(view.last, 6)
        assert.strictEqual((yield* store.job(own.jobId))?.lastEventSeq, 6)
      })
    )
  )

  it.effect("what it observes is read, and a job of it ends and is forgotten, gets that end", () =>
    inNextProcess(
      ({ meddling, own, stored }) =>
        Effect.gen(function* () {
          const log = yield* EventLog
          const job = yield* log.reopenJob(own)
          const reading = yield* gate
          meddling.observed = reading.pass
          const held = yield* Effect.fork(log.holdView(stored))
          yield* reading.reached
          yield* emit(job, 3, 4)
          yield* endOf(job, own)
          log.letGo(job)
          // Nothing of it is in memory any more.
          const other = yield* log.openView(session({ features }))
          yield* emit(yield* log.openJob(record(other), other), 1, 50)
          yield* settle
          yield* reading.open
          const view = yield* Fiber.join(held)
          yield* numbered(view, 5)
          assert.deepStrictEqual(numbers(yield* readAll(view), job), [1, 2, 3, 4, undefined])
        }),
      { tailBytes: 1 }
    )
  )

  it.effect("a job of it has ended, and asks for the history of that, has its end once", () =>
    inNextProcess(({ meddling, own, stored }) =>
      Effect.gen(function* () {
        const log = yield* EventLog
        const store = yield* Store
        const job = yield* log.reopenJob(own)
        yield* emit(job, 3, 4)
        yield* endOf(job, own)
        const reading = yield* gate
        meddling.backlog = reading.pass
        const view = yield* log.holdView(stored)
        yield* reading.reached
        meddling.backlog = undefined
        yield* log.observe(view, job, { history: true, onCommit: () => {} })
        yield* reading.open
        yield* Effect.repeatN(settle, 20)
        assert.deepStrictEqual(numbers(yield* readAll(view), job), [1, 2, 1, 2, 3, 4, undefined])
        assert.deepStrictEqual(yield* store.observed(stored.sessionId), [])
      })
    )
  )
})

describe("A session that begins to observe a job with its history", () => {
  it.effect(
    "gets all of it when the first event that is not for everybody comes meanwhile, and no tail has it",
    () =>
      inNextProcess(
        ({ meddling }) =>
          Effect.gen(function* () {
            const log = yield* EventLog
            const owner = yield* log.openView(session({ features }))
            const job = yield* log.openJob(record(owner), owner)
            const view = yield* log.openView(session({ features: ["subscribe"] }))
            yield* emit(job, 1, 50)
            yield* settle
            const committing = yield* gate
            meddling.commit = (batch) =>
              batch.ops.some((op) => op._tag === "Append") ? committing.pass : Effect.void
            yield* emit(job, 51, 51, "progress")
            yield* emit(job, 52, 60)
            yield* committing.reached
            const observing = yield* Effect.fork(
              log.observe(view, job, { history: true, onCommit: () => {} })
            )
            yield* quiet
            yield* committing.open
            yield* Fiber.join(observing)
            yield* emit(job, 61, 61)
            yield* settle
            assert.deepStrictEqual(
              numbers(yield* readAll(view), job),
              upTo(61).filter((n) => n !== 51)
            )
          }),
        { tailBytes: 1 }
      )
  )
})
