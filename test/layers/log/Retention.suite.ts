/** What may be forgotten (§4.5), whatever store is below the log. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { describe } from "vitest"
import { all, type Feature } from "../../../src/protocol/Features.js"
import { EventLog, type JobLog, type View } from "../../../src/services/log/EventLog.js"
import type * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { Store, type StoreError } from "../../../src/services/store/Store.js"
import { boundsOf } from "../store/fixtures.js"
import {
  emit,
  type Frame,
  latest,
  layerOn,
  numbers,
  openJob,
  openViewWith,
  readAll,
  record,
  runOn,
  seqs,
  session,
  settle,
  settled,
  upTo,
  wake
} from "./harness.js"

/** Acknowledges nothing, so all that was not sent is needed. */
const acking = all
const plain = all.filter((feature) => feature !== "ack")

const openEndable = (owner: View, principal = "alice") =>
  Effect.gen(function* () {
    const log = yield* EventLog
    const own = record(owner, { principal })
    const job = yield* log.openJob(own, owner)
    const end = (at = 2) =>
      log.end(job, { type: "job.result", kind: "", payload: "{}" }, (lastEventSeq) => ({
        ...own,
        status: "success",
        endedAt: at,
        lastEventSeq
      }))
    return { job, end, record: own }
  })

/** An absent session: nobody reads it. */
const openAbsent = (features: ReadonlyArray<Feature> = acking) =>
  Effect.gen(function* () {
    const log = yield* EventLog
    const view = yield* openViewWith(features)
    yield* log.detach(view)
    return view
  })

const swept = Effect.zipRight(TestClock.adjust("1 minute"), settled)

const history = (job: JobLog, features = plain) =>
  Effect.gen(function* () {
    const log = yield* EventLog
    const late = yield* openViewWith(features)
    yield* log.observe(late, job, { history: true, onCommit: () => {} })
    return yield* readAll(late)
  })

export const suite = (name: string, share: number, store: () => Layer.Layer<Store, StoreError>): void => {
  const run = runOn(store)
  const limit = (events: number): RuntimeOptions.Input => ({
    maxRetainedEvents: events * share,
    tailBytes: 1
  })

  describe(name, () => {
    it.effect("what one session loses is lost to nobody else", () =>
      run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const a = yield* openAbsent()
          const { end, job } = yield* openEndable(a)
          yield* emit(job, 1, 300)
          yield* end()
          const b = yield* openAbsent()
          yield* log.observe(b, job, { history: false, onCommit: () => {} })
          yield* emit(yield* openJob(b), 1, 6000)
          yield* settled
          assert.isAbove(b.first, 1)
          assert.strictEqual((yield* readAll(a)).length, 301)
          assert.strictEqual((yield* history(job)).length, 301)
        }),
        limit(2048)
      )
    )

    it.effect(
      "a job that was dropped while somebody was about to observe it is refused, and costs no session",
      () =>
        run(
          Effect.gen(function* () {
            const log = yield* EventLog
            const db = yield* Store
            const owner = yield* openViewWith(acking)
            const { end, job, record } = yield* openEndable(owner)
            yield* emit(job, 1, 3)
            yield* end()
            yield* log.ack(owner, owner.last)
            const stored = yield* db.job(job.jobId)
            yield* swept
            assert.isUndefined(yield* db.job(job.jobId))
            const late = yield* openViewWith(plain)
            for (const seen of [job, yield* log.loadJob(stored ?? record)])
              for (const history of [true, false])
                assert.isTrue(
                  Either.isLeft(
                    yield* Effect.either(log.observe(late, seen, { history, onCommit: () => {} }))
                  )
                )
            yield* emit(yield* openJob(late), 1, 2)
            yield* settle
            assert.deepStrictEqual(seqs(yield* readAll(late)), [1, 2])
          }),
          { jobRetention: "10 seconds", tailBytes: 1 }
        )
    )

    it.effect("a session that is away loses the oldest of its own view, and its job keeps to its cap", () =>
      run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const db = yield* Store
          const view = yield* openAbsent()
          const job = yield* openJob(view)
          yield* emit(job, 1, 20_000)
          yield* settled
          assert.isAtMost(view.last - view.first + 1, 2048)
          assert.isAbove(view.last - view.first + 1, 1024)
          const { first, last } = yield* boundsOf(db, job.jobId)
          assert.isAtMost(last - first + 1, 2048 + 256)
          const before = yield* Effect.either(log.read(view, view.first - 2, wake))
          assert.isTrue(Either.isLeft(before) && before.left._tag === "ResumeWindowExpired")
          assert.deepStrictEqual(seqs(yield* readAll(view, view.first - 1)), upTo(20_000, view.first))
        }),
        limit(2048)
      )
    )

    it.effect("events that are acknowledged go first, and do not count", () =>
      run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const view = yield* openAbsent(acking)
          const job = yield* openJob(view)
          yield* emit(job, 1, 1900)
          yield* settle
          yield* log.ack(view, 1900)
          yield* emit(job, 1901, 3800)
          yield* settled
          assert.deepStrictEqual(seqs(yield* readAll(view, 1900)), upTo(3800, 1901))
          assert.isAtMost(view.last - view.first + 1, 2048)
        }),
        limit(2048)
      )
    )

    it.effect("who reads is paced, and loses nothing of what jobs keep anyway", () =>
      run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const owner = yield* openAbsent(plain)
          const jobs = yield* Effect.forEach(upTo(4), () => openEndable(owner))
          for (const { end, job } of jobs) {
            yield* emit(job, 1, 1500)
            yield* end()
          }
          const reader = yield* openViewWith(acking)
          for (const { job } of jobs) yield* log.observe(reader, job, { history: true, onCommit: () => {} })
          yield* settled
          const frames = yield* readAll(reader)
          assert.strictEqual(frames.length, 4 * 1501)
          for (const { job } of jobs) assert.deepStrictEqual(numbers(frames, job).slice(0, 1500), upTo(1500))
        }),
        limit(2048)
      )
    )

    it.effect("who reads loses nothing, however many jobs of its session emit at once", () =>
      run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const reader = yield* openViewWith(plain)
          const jobs = yield* Effect.forEach(upTo(8), () => openJob(reader))
          const emitting = yield* Effect.fork(
            Effect.forEach(jobs, (job) => emit(job, 1, 1000), { concurrency: "unbounded", discard: true })
          )
          const frames: Array<Frame> = []
          for (let turns = 0; frames.length < 8 * 1000; turns++) {
            assert.isBelow(turns, 20_000, "the emitters hang")
            for (const text of (yield* log.read(reader, frames.length, wake)).frames)
              frames.push(JSON.parse(text) as Frame)
            yield* settle
          }
          yield* Fiber.join(emitting)
          assert.deepStrictEqual(seqs(frames), upTo(8 * 1000))
          for (const job of jobs) assert.deepStrictEqual(numbers(frames, job), upTo(1000))
        }),
        limit(256)
      )
    )

    it.effect(
      "over the cap of a job its oldest go that no view needs; a view within its own cap keeps what it needs",
      () =>
        run(
          Effect.gen(function* () {
            const log = yield* EventLog
            const db = yield* Store
            const owner = yield* openViewWith(plain)
            const job = yield* openJob(owner)
            const watcher = yield* openAbsent(acking)
            yield* log.observe(watcher, job, { history: false, onCommit: () => {} })
            yield* emit(job, 1, 1000)
            yield* settle
            yield* log.unobserve(watcher, job.jobId)
            const emitting = yield* Effect.fork(emit(job, 1001, 9000))
            for (let after = 0; after < 9000; ) {
              const { frames } = yield* log.read(owner, after, wake)
              after += frames.length
              yield* settle
            }
            yield* Fiber.join(emitting)
            yield* settled
            assert.deepStrictEqual(numbers(yield* readAll(watcher), job), upTo(1000))
            yield* log.dropView(watcher)
            yield* emit(job, 9001, 9600)
            yield* settled
            assert.isAbove((yield* boundsOf(db, job.jobId)).first, 1)
          }),
          limit(2048)
        )
    )

    it.effect("a finished job stays past its retention while a session needs it, and no longer", () =>
      run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const db = yield* Store
          const view = yield* openAbsent(acking)
          const { end, job } = yield* openEndable(view)
          yield* emit(job, 1, 5)
          yield* end(0)
          const other = yield* openEndable(yield* openAbsent(acking), "bob")
          yield* other.end(0)
          yield* swept
          assert.isDefined(yield* db.job(job.jobId))
          assert.strictEqual((yield* readAll(view)).length, 6)
          yield* log.ack(view, 6)
          yield* swept
          assert.isUndefined(yield* db.job(job.jobId))
          assert.isDefined(yield* db.job(other.job.jobId))
          assert.deepStrictEqual(yield* readAll(view, 6), [])
          const behind = yield* Effect.either(log.read(view, 0, wake))
          assert.isTrue(Either.isLeft(behind) && behind.left._tag === "ResumeWindowExpired")
        }),
        { jobRetention: "1 seconds" }
      )
    )

    it.effect("a session that does not acknowledge needs what was sent less than a window ago", () =>
      run(
        Effect.gen(function* () {
          const db = yield* Store
          const view = yield* openViewWith(plain)
          const { end, job } = yield* openEndable(view)
          yield* end(0)
          assert.strictEqual((yield* readAll(view)).length, 1)
          yield* TestClock.adjust("5 minutes")
          yield* settled
          assert.isDefined(yield* db.job(job.jobId))
          yield* readAll(view)
          yield* TestClock.adjust("6 minutes")
          yield* settled
          yield* swept
          assert.isUndefined(yield* db.job(job.jobId))
        }),
        { jobRetention: "1 minutes", resumeWindow: "10 minutes" }
      )
    )

    it.effect("finished jobs are capped per principal; the oldest go, and those that are needed last", () =>
      run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const db = yield* Store
          const view = yield* openViewWith(acking)
          const away = yield* openAbsent(acking)
          const needed = yield* openEndable(away)
          yield* needed.end(latest - 1000)
          const others = yield* openEndable(view, "bob")
          yield* others.end(latest - 999)
          const ids: Array<string> = []
          for (let i = 0; i < 12; i++) {
            const { end, job } = yield* openEndable(view)
            ids.push(job.jobId)
            yield* end(latest - 500 + i)
            yield* log.ack(view, view.last)
            yield* settled
          }
          const kept = yield* Effect.filter(ids, (id) => Effect.map(db.job(id), (job) => job !== undefined))
          assert.deepStrictEqual(kept, ids.slice(-3))
          assert.isDefined(yield* db.job(needed.job.jobId))
          assert.isDefined(yield* db.job(others.job.jobId))
        }),
        { maxRetainedJobs: 4 * share }
      )
    )

    it.effect("an emitter waits for the freeing of what was evicted, not for a client that is away", () =>
      run(
        Effect.gen(function* () {
          const db = yield* Store
          const view = yield* openAbsent(acking)
          const jobs = yield* Effect.forEach(upTo(3), () => openJob(view))
          let most = 0
          const look = Effect.forever(
            Effect.gen(function* () {
              for (const job of jobs) {
                const { first, last } = yield* boundsOf(db, job.jobId)
                most = Math.max(most, last - first + 1)
              }
              yield* settle
            })
          )
          const looking = yield* Effect.fork(look)
          yield* Effect.forEach(jobs, (job) => emit(job, 1, 12_000), {
            concurrency: "unbounded",
            discard: true
          })
          yield* Fiber.interrupt(looking)
          assert.isAtMost(most, 1024 + 1024 / 8 + 1024)
        }),
        limit(1024)
      )
    )
  })

  describe(`${name}, opened again`, () => {
    /** Two logs after each other over one store that stays. */
    const twice = <A, B, E>(
      first: Effect.Effect<A, E, EventLog | Store | Scope.Scope>,
      second: (a: A) => Effect.Effect<B, E, EventLog | Store | Scope.Scope>,
      options: RuntimeOptions.Input = {}
    ) =>
      Effect.gen(function* () {
        const scope = yield* Effect.scope
        const kept = yield* Layer.buildWithScope(store(), scope)
        const open = <A, E>(effect: Effect.Effect<A, E, EventLog | Store | Scope.Scope>) =>
          Effect.scoped(effect).pipe(Effect.provide(layerOn(Layer.succeedContext(kept), options)))
        return yield* open(second(yield* open(first)))
      }).pipe(Effect.scoped)

    it.effect("keeps the same, counted in the same way", () =>
      twice(
        Effect.gen(function* () {
          const log = yield* EventLog
          const stored = session({ features: acking })
          const view = yield* log.openView(stored)
          const job = yield* openJob(view)
          for (let i = 0; i < 4; i++) {
            yield* emit(job, 500 * i + 1, 500 * i + 500)
            yield* settle
            yield* log.ack(view, view.last)
          }
          yield* emit(job, 2001, 2500)
          yield* settled
          return { stored: { ...stored, acked: view.acked }, first: view.first, last: view.last }
        }),
        ({ first, last, stored }) =>
          Effect.gen(function* () {
            const log = yield* EventLog
            const view = yield* log.holdView(stored)
            assert.deepStrictEqual([view.first, view.last], [first, last])
            const jobs = yield* Effect.all([openJob(view), openJob(view)])
            yield* emit(jobs[0], 1, 1)
            yield* settled
            assert.deepStrictEqual(seqs(yield* readAll(view, stored.acked)), upTo(last + 1, stored.acked + 1))
            // And the limit is the same one.
            yield* emit(jobs[1], 1, 6000)
            yield* settled
            assert.isAtMost(view.last - view.first + 1, 2048)
          }),
        limit(2048)
      )
    )

    it.effect("counts finished jobs of the processes before", () =>
      twice(
        Effect.gen(function* () {
          const view = yield* openViewWith(acking)
          for (let i = 0; i < 3; i++) yield* (yield* openEndable(view)).end(latest - 10 + i)
        }),
        () =>
          Effect.gen(function* () {
            const db = yield* Store
            const view = yield* openViewWith(acking)
            for (let i = 0; i < 3; i++) yield* (yield* openEndable(view)).end(latest - 5 + i)
            yield* settled
            assert.strictEqual((yield* db.endedCounts).get("alice"), 4)
          }),
        { maxRetainedJobs: 4 * share }
      )
    )

    it.effect("a floor stays where it was, and nothing before it is read", () =>
      twice(
        Effect.gen(function* () {
          const log = yield* EventLog
          const stored = session({ features: acking })
          const view = yield* log.openView(stored)
          yield* emit(yield* openJob(view), 1, 5000)
          yield* settled
          return { stored, first: view.first, last: view.last }
        }),
        ({ first, last, stored }) =>
          Effect.gen(function* () {
            const log = yield* EventLog
            const db = yield* Store
            yield* Effect.repeat(db.vacuum, { while: (more) => more })
            const view = yield* log.holdView(stored)
            assert.isAbove(first, 1)
            assert.deepStrictEqual([view.first, view.last], [first, last])
            assert.strictEqual((yield* readAll(view, first - 1)).length, last - first + 1)
          }),
        limit(2048)
      )
    )
  })
}
