/** What may be forgotten, counted in bytes, and what happens when it cannot be forgotten just now (§4.5). */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import { describe } from "vitest"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import { all } from "../../../src/protocol/Features.js"
import { EventLog, type JobLog, type NewEvent } from "../../../src/services/log/EventLog.js"
import {
  delegationKind,
  eventOverhead,
  type JobRecord,
  Op,
  Store,
  StoreError,
  type StoreService
} from "../../../src/services/store/Store.js"
import { boundsOf } from "../store/fixtures.js"
import { alsoInPostgres } from "../store/pg/layers.js"
import {
  emit,
  latest,
  openJob,
  openViewWith,
  readAll,
  record,
  runOn,
  seqs,
  settle,
  settled,
  upTo,
  wake
} from "./harness.js"
import { sqlite } from "./sqlite.js"

const KiB = 1024
const MiB = 1024 * KiB
const big = (n: number): NewEvent => ({
  type: "job.event",
  kind: "log",
  payload: JSON.stringify({ kind: "log", ts: "", body: { n, text: "x".repeat(900) } })
})
const bigBytes = big(1000).payload.length + eventOverhead

const emitBig = (job: JobLog, from: number, to: number) =>
  Effect.flatMap(EventLog, (log) =>
    Effect.forEach(upTo(to, from), (n) => log.append(job, big(n)), { discard: true })
  )
const openAbsent = Effect.gen(function* () {
  const log = yield* EventLog
  const view = yield* openViewWith(all)
  yield* log.detach(view)
  return view
})
const openEndable = (principal = "alice", more: Partial<JobRecord> = {}) =>
  Effect.gen(function* () {
    const log = yield* EventLog
    const owner = yield* openAbsent
    const own = record(owner, { principal, ...more })
    const job = yield* log.openJob(own, owner)
    const end = (at: number, payload = "{}") =>
      log.end(job, { type: "job.result", kind: "", payload }, (lastEventSeq) => ({
        ...own,
        status: "success",
        endedAt: at,
        lastEventSeq
      }))
    return { owner, job, end, jobId: job.jobId }
  })
/** Ends that no retention has passed for, in order. */
const late = (i: number) => latest - 1000 + i
const retained = (jobId: string) =>
  Effect.gen(function* () {
    const { first, last } = yield* boundsOf(yield* Store, jobId)
    return last - first + 1
  })
const kept = (jobs: ReadonlyArray<{ readonly jobId: string }>) =>
  Effect.flatMap(Store, (db) =>
    Effect.map(
      Effect.forEach(jobs, ({ jobId }) => db.job(jobId)),
      (found) => found.flatMap((job, i) => (job === undefined ? [] : [i]))
    )
  )

describe.each<readonly [string, number, () => Layer.Layer<Store, StoreError>]>([
  ["in memory", 16, StoreMemory.layer],
  ["on SQLite", 1, sqlite],
  ...alsoInPostgres().map(({ layer }) => ["in Postgres", 1, layer] as const)
])("a log %s", (_, share, store) => {
  const run = runOn(store)
  const bytes = (max: number) => ({ maxRetainedBytes: max * share, tailBytes: 1 })

  it.effect("keeps to its cap in bytes: the view of a session that is away, and its job", () =>
    run(
      Effect.gen(function* () {
        const view = yield* openAbsent
        const job = yield* openJob(view)
        yield* emitBig(job, 1, 3000)
        yield* settled
        const inView = view.last - view.first + 1
        assert.isAtMost(inView * bigBytes, 512 * KiB)
        assert.isAtLeast(inView * bigBytes, 256 * KiB)
        // Its cap, a place to begin with, and what one commit adds between two of them.
        assert.isAtMost((yield* retained(job.jobId)) * bigBytes, (512 + 2 * 64) * KiB)
        assert.deepStrictEqual(seqs(yield* readAll(view, view.first - 1)), upTo(3000, view.first))
      }),
      bytes(512 * KiB)
    )
  )

  it.effect("an emitter waits for the freeing of bytes", () =>
    run(
      Effect.gen(function* () {
        const view = yield* openAbsent
        const jobs = yield* Effect.forEach(upTo(4), () => openJob(view))
        let most = 0
        const looking = yield* Effect.fork(
          Effect.forever(
            Effect.gen(function* () {
              for (const { jobId } of jobs) most = Math.max(most, (yield* retained(jobId)) * bigBytes)
              yield* settle
            })
          )
        )
        yield* Effect.forEach(jobs, (job) => emitBig(job, 1, 1500), {
          concurrency: "unbounded",
          discard: true
        })
        yield* Fiber.interrupt(looking)
        // The cap, what an emitter may be ahead of the retention, and two batches of one emitter.
        assert.isAtMost(most, (256 + 64 + 2 * 128) * KiB)
      }),
      bytes(256 * KiB)
    )
  )

  it.effect("history counts towards a view's cap in bytes, as soon as nobody reads it", () =>
    run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const owner = yield* openAbsent
        const jobs = yield* Effect.forEach(upTo(4), () => openJob(owner))
        for (const job of jobs) yield* emitBig(job, 1, 400)
        yield* settled
        const reader = yield* openViewWith(all)
        for (const job of jobs) yield* log.observe(reader, job, { history: true, onCommit: () => {} })
        yield* settled
        const before = reader.last - reader.first + 1
        assert.isAbove(before * bigBytes, 600 * KiB)
        yield* log.detach(reader)
        yield* settled
        assert.isAtMost((reader.last - reader.first + 1) * bigBytes, 512 * KiB)
        // No more than it has to: cut inside the history of one job, not between jobs.
        assert.isAtLeast((reader.last - reader.first + 1) * bigBytes, 440 * KiB)
      }),
      bytes(512 * KiB)
    )
  )

  it.effect("a client that reads and never acknowledges does not keep a job over the job's cap", () =>
    run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const view = yield* openViewWith(all)
        const job = yield* openJob(view)
        const emitting = yield* Effect.fork(emit(job, 1, 9000))
        let after = 0
        while (after < 9000) {
          const { frames } = yield* log.read(view, after, wake)
          after += frames.length
          yield* settle
        }
        yield* Fiber.join(emitting)
        yield* settled
        assert.isAtMost(yield* retained(job.jobId), 2048 + 256)
      }),
      { maxRetainedEvents: 2048 * share, tailBytes: 1, backPressureLag: 1_000_000 }
    )
  )

  /** A job that has ended over its cap, since somebody needs the first of it. */
  const overdue = Effect.gen(function* () {
    const log = yield* EventLog
    const { end, job, owner } = yield* openEndable()
    const watcher = yield* openAbsent
    yield* log.observe(watcher, job, { history: false, onCommit: () => {} })
    yield* emit(job, 1, 1000)
    yield* settle
    yield* log.unobserve(watcher, job.jobId)
    const emitting = yield* Effect.fork(emit(job, 1001, 4000))
    while ((yield* Fiber.poll(emitting))._tag === "None") {
      yield* log.ack(owner, owner.last)
      yield* TestClock.adjust("1 second")
      yield* settle
    }
    yield* end(late(0))
    yield* settled
    assert.isAbove(yield* retained(job.jobId), 4000)
    return { job, owner, watcher }
  })

  it.effect("a job that ended over its cap keeps to it as soon as nobody needs the rest", () =>
    run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const { job, owner, watcher } = yield* overdue
        assert.strictEqual((yield* readAll(watcher)).length, 1000)
        yield* log.dropView(watcher)
        yield* log.ack(owner, owner.last)
        yield* TestClock.adjust("1 minute")
        yield* settled
        assert.isAtMost(yield* retained(job.jobId), 2048)
      }),
      { maxRetainedEvents: 2048 * share, tailBytes: 1, jobRetention: "1 days", resumeWindow: "1 minute" }
    )
  )

  it.effect("a job over its cap that is deleted keeps no other from being cut", () =>
    run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const [first, second] = yield* Effect.all([overdue, overdue])
        yield* log.forget([{ jobId: first.job.jobId, principal: "alice" }])
        yield* log.dropView(second.watcher)
        yield* log.ack(second.owner, second.owner.last)
        yield* TestClock.adjust("1 minute")
        yield* settled
        assert.isAtMost(yield* retained(second.job.jobId), 2048)
      }),
      { maxRetainedEvents: 2048 * share, tailBytes: 1, jobRetention: "1 days", resumeWindow: "1 minute" }
    )
  )

  it.effect(
    "the cap of finished jobs holds also when all of them are needed; their sessions begin after them",
    () =>
      run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const jobs = yield* Effect.forEach(upTo(10), () => openEndable())
          for (const [i, { end, job }] of jobs.entries()) {
            yield* emit(job, 1, 3)
            yield* end(late(i))
          }
          yield* settled
          assert.deepStrictEqual(yield* kept(jobs), [6, 7, 8, 9])
          for (const { owner } of jobs.slice(0, 6)) {
            const lost = yield* Effect.either(log.read(owner, 0, wake))
            assert.isTrue(Either.isLeft(lost) && lost.left._tag === "ResumeWindowExpired")
            assert.deepStrictEqual([owner.first, yield* readAll(owner, 4)], [5, []])
            assert.strictEqual((yield* (yield* Store).view(owner.sessionId)).first, 5)
          }
          for (const { owner } of jobs.slice(6)) assert.strictEqual((yield* readAll(owner)).length, 4)
        }),
        { maxRetainedJobs: 4 * share }
      )
  )

  it.effect("over the limit for all principals, whoever has most loses", () =>
    run(
      Effect.gen(function* () {
        const few = yield* Effect.forEach(upTo(2), () => openEndable("bob"))
        const many = yield* Effect.forEach(upTo(6), () => openEndable("alice"))
        for (const [i, { end }] of [...few, ...many].entries()) yield* end(late(i))
        yield* settled
        assert.deepStrictEqual(yield* kept(few), [0, 1])
        assert.deepStrictEqual(yield* kept(many), [3, 4, 5])
      }),
      { maxRetainedJobsInAll: 5 * share }
    )
  )

  it.effect("rows of what was dropped are freed without anybody asking, however many they are", () =>
    run(
      Effect.gen(function* () {
        const db = yield* Store
        const { end, job, owner } = yield* openEndable()
        yield* emit(job, 1, 6000)
        yield* end(0)
        yield* (yield* EventLog).ack(owner, owner.last)
        yield* Effect.repeat(Effect.zipRight(TestClock.adjust("1 second"), settled), {
          until: () => Effect.map(db.job(job.jobId), (found) => found === undefined),
          times: 100
        })
        yield* Effect.repeat(
          Effect.zipRight(TestClock.adjust("5 millis"), Effect.zipRight(settle, db.freeing)),
          { until: (rows) => rows === 0, times: 2000 }
        )
        assert.deepStrictEqual([yield* kept([job]), yield* db.freeing], [[], 0])
      }),
      { jobRetention: "1 seconds", tailBytes: 1 }
    )
  )
})

describe("a finished job that nobody needs", () => {
  it.effect("is kept until its retention has passed, and no longer", () =>
    runOn(StoreMemory.layer)(
      Effect.gen(function* () {
        const log = yield* EventLog
        const job = yield* openEndable()
        yield* job.end(0)
        yield* log.ack(job.owner, job.owner.last)
        for (let minute = 0; minute < 9; minute++) {
          yield* TestClock.adjust("1 minute")
          yield* settled
        }
        assert.deepStrictEqual(yield* kept([job]), [0])
        for (let minute = 0; minute < 3; minute++) {
          yield* TestClock.adjust("1 minute")
          yield* settled
        }
        assert.deepStrictEqual(yield* kept([job]), [])
      }),
      { jobRetention: "10 minutes" }
    )
  )
})

describe("a finished job that is found, and that somebody needs by now", () => {
  it.effect("stays, and can be observed", () => {
    const found: Array<string> = []
    const layer = Layer.effect(
      Store,
      Effect.map(
        Store,
        // What was true when it was looked for is not any more.
        (store): StoreService => ({ ...store, retired: () => Effect.sync(() => found.splice(0)) })
      )
    ).pipe(Layer.provide(StoreMemory.layer()))
    return runOn(() => layer)(
      Effect.gen(function* () {
        const log = yield* EventLog
        const job = yield* openEndable()
        yield* emit(job.job, 1, 3)
        yield* job.end(0)
        found.push(job.jobId)
        yield* Effect.repeat(Effect.zipRight(TestClock.adjust("1 second"), settled), {
          until: () => found.length === 0,
          times: 100
        })
        yield* settled
        assert.deepStrictEqual(yield* kept([job]), [0])
        const view = yield* openViewWith([])
        yield* log.observe(view, job.job, { history: true, onCommit: () => {} })
        assert.deepStrictEqual(seqs(yield* readAll(view)), [1, 2, 3, 4])
      }),
      { jobRetention: "1 seconds" }
    )
  })
})

describe("a store that cannot tell just now", () => {
  /** A store in memory some of whose answers the test replaces. */
  const faulty = () => {
    const control: { fails: boolean } = { fails: false }
    const broken = new StoreError({ message: "the disk does not answer" })
    const or = <A>(effect: Effect.Effect<A, StoreError>) =>
      Effect.suspend(() => (control.fails ? broken : effect))
    const layer = Layer.effect(
      Store,
      Effect.map(
        Store,
        (store): StoreService => ({
          ...store,
          viewers: (jobIds) => or(store.viewers(jobIds)),
          needed: (jobId) => or(store.needed(jobId)),
          retired: (query) => or(store.retired(query))
        })
      )
    ).pipe(Layer.provide(StoreMemory.layer()))
    return { control, run: runOn(() => layer) }
  }

  it.effect("an emitter waits until it can, and what may be forgotten is forgotten then", () => {
    const { control, run } = faulty()
    return run(
      Effect.gen(function* () {
        const view = yield* openAbsent
        const job = yield* openJob(view)
        control.fails = true
        const emitting = yield* Effect.fork(emit(job, 1, 3000))
        yield* Effect.repeat(settle, { until: () => view.last >= 1280 })
        yield* TestClock.adjust("10 seconds")
        yield* settled
        assert.strictEqual((yield* Fiber.poll(emitting))._tag, "None")
        assert.isAtMost(yield* retained(job.jobId), 1024 + 256 + 64)
        control.fails = false
        yield* Effect.repeat(Effect.zipRight(TestClock.adjust("1 second"), settle), {
          until: () => view.last >= 3000
        })
        yield* Fiber.join(emitting)
        yield* TestClock.adjust("2 seconds")
        yield* settled
        assert.isAtMost(yield* retained(job.jobId), 1024 + 256)
      }),
      { maxRetainedEvents: 1024 * 16 }
    )
  })

  it.effect("a submit waits for memory for a while only", () => {
    const { control, run } = faulty()
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const store = yield* Store
        const view = yield* openAbsent
        const job = yield* openJob(view)
        control.fails = true
        const emitting = yield* Effect.fork(emitBig(job, 1, 2000))
        yield* Effect.repeat(settle, { until: () => store.held() > MiB * 1.125 })
        const opening = yield* Effect.fork(log.openJob(record(view), view))
        yield* TestClock.adjust("9 seconds")
        yield* settled
        assert.strictEqual((yield* Fiber.poll(opening))._tag, "None")
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(opening)
        yield* Fiber.interrupt(emitting)
      }),
      { maxMemoryLogBytes: MiB }
    )
  })

  it.effect("a job whose retention has passed goes later", () => {
    const { control, run } = faulty()
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const job = yield* openEndable()
        yield* job.end(0)
        yield* log.ack(job.owner, job.owner.last)
        control.fails = true
        yield* TestClock.adjust("2 minutes")
        yield* settled
        assert.deepStrictEqual(yield* kept([job]), [0])
        control.fails = false
        yield* Effect.repeatN(Effect.zipRight(TestClock.adjust("30 seconds"), settled), 3)
        assert.deepStrictEqual(yield* kept([job]), [])
      }),
      { jobRetention: "1 seconds" }
    )
  })
})

describe("a log in memory with a limit for all", () => {
  const run = runOn(StoreMemory.layer)
  const limit = 2 * MiB

  it.effect("holds emitters rather than what they emit, however many there are", () =>
    run(
      Effect.gen(function* () {
        const store = yield* Store
        const view = yield* openAbsent
        const jobs = yield* Effect.forEach(upTo(16), () => openJob(view))
        let most = 0
        yield* Effect.forEach(
          jobs,
          (job) =>
            Effect.forEach(
              upTo(600),
              (n) =>
                Effect.flatMap(EventLog, (log) =>
                  Effect.map(log.append(job, big(n)), () => {
                    most = Math.max(most, store.held())
                  })
                ),
              { discard: true }
            ),
          { concurrency: "unbounded", discard: true }
        )
        // The limit, an eighth, and a batch.
        assert.isAtMost(most, limit * 1.125 + 2 * MiB)
        yield* settled
        assert.isAtMost(store.held(), limit * 1.125)
      }),
      { maxMemoryLogBytes: limit, tailBytes: 1 }
    )
  )

  it.effect("a client that reads and never acknowledges holds nobody's emitter for ever", () =>
    run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const store = yield* Store
        const reader = yield* openViewWith(all)
        const other = yield* openAbsent
        const jobs = [...(yield* Effect.forEach(upTo(8), () => openJob(reader))), yield* openJob(other)]
        const emitting = yield* Effect.fork(
          Effect.forEach(jobs, (job) => emitBig(job, 1, 600), { concurrency: "unbounded", discard: true })
        )
        let after = 0
        for (let turns = 0; (yield* Fiber.poll(emitting))._tag === "None"; turns++) {
          assert.isBelow(turns, 5_000, "the emitters hang")
          after += (yield* log.read(reader, after, wake)).frames.length
          yield* settle
        }
        while (after < reader.last) after += (yield* log.read(reader, after, wake)).frames.length
        assert.isAtLeast(after, 8 * 600)
        yield* settled
        assert.isAtMost(store.held(), limit * 1.125)
      }),
      { maxMemoryLogBytes: limit, tailBytes: 1, backPressureLag: 1_000_000 }
    )
  )

  it.effect("whoever reads loses nothing while there is a view that nobody reads", () =>
    run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const store = yield* Store
        const reader = yield* openViewWith(all)
        const small = yield* openAbsent
        yield* emitBig(yield* openJob(small), 1, 300)
        const job = yield* openJob(reader)
        for (let n = 1; n <= 3000 && small.first === 1; n += 50) {
          yield* emitBig(job, n, n + 49)
          yield* settle
          yield* log.read(reader, reader.last - 1, wake)
          yield* settled
        }
        assert.isAbove(small.first, 1)
        assert.isAbove(reader.last, small.last)
        assert.strictEqual(reader.first, 1)
        assert.isAtMost(store.held(), limit * 1.125)
      }),
      { maxMemoryLogBytes: limit, tailBytes: 1, backPressureLag: 1_000_000 }
    )
  )

  it.effect("what a job has delegated to and finds again goes last, before nobody can emit any more", () =>
    run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const store = yield* Store
        const parent = yield* openEndable()
        const entry = { kind: delegationKind, key: "a", ordinal: 1, about: "{}" }
        yield* log.commit([Op.PutJournal({ jobId: parent.jobId, entries: [entry] })])
        const child = (at: number) =>
          Effect.gen(function* () {
            const one = yield* openEndable("alice", { parentJobId: parent.jobId })
            yield* one.end(late(at), JSON.stringify("x".repeat(600 * KiB)))
            yield* log.ack(one.owner, one.owner.last)
            return one
          })
        const children = [yield* child(0)]
        const away = yield* openAbsent
        yield* emitBig(yield* openJob(away), 1, 1500)
        yield* settled
        assert.isAbove(away.first, 1)
        assert.deepStrictEqual(yield* kept(children), [0])
        yield* log.dropView(away)
        for (let at = 1; at < 8; at++) children.push(yield* child(at))
        yield* settled
        assert.isAtMost(store.held(), limit * 1.125)
        const left = yield* kept(children)
        assert.notInclude(left, 0)
        assert.deepStrictEqual(left, upTo(7, 8 - left.length))
        assert.isNotEmpty(left)
      }),
      { maxMemoryLogBytes: limit, tailBytes: 1 }
    )
  )

  it.effect("a finished job that was needed goes when it is needed no more", () =>
    run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const store = yield* Store
        const first = yield* openEndable()
        yield* emitBig(first.job, 1, 600)
        yield* first.end(late(0))
        const away = yield* openAbsent
        const running = yield* openJob(away)
        yield* emitBig(running, 1, 1500)
        yield* settled
        // Both are needed, so the larger view has lost, and the finished job is there.
        assert.strictEqual((yield* readAll(first.owner)).length, 601)
        assert.isAbove(away.first, 1)
        yield* log.ack(first.owner, first.owner.last)
        const { first: floor } = away
        // More than what the pass before has freed.
        yield* emitBig(running, 1501, 1800)
        yield* settled
        assert.deepStrictEqual(yield* kept([first]), [])
        assert.strictEqual(away.first, floor)
        assert.isAtMost(store.held(), limit * 1.125)
      }),
      { maxMemoryLogBytes: limit, tailBytes: 1 }
    )
  )
})
