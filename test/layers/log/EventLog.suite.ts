/** What every event log must do, whatever store is below it. */
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FastCheck from "effect/FastCheck"
import * as Fiber from "effect/Fiber"
import type * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import { describe } from "vitest"
import { all } from "../../../src/protocol/Features.js"
import { EventLog, type JobLog, type View } from "../../../src/services/log/EventLog.js"
import type * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { type JobRecord, Store, type StoreError } from "../../../src/services/store/Store.js"
import {
  emit,
  end,
  event,
  type Frame,
  numbers,
  openJob,
  openView,
  openViewWith,
  readAll,
  record,
  runOn,
  seqs,
  session,
  settle,
  upTo,
  wake
} from "./harness.js"

/** `share`: what part of the retention limits a log over this store keeps. */
export const suite = (name: string, share: number, store: () => Layer.Layer<Store, StoreError>): void => {
  const run = runOn(store)
  // A tail of almost nothing makes every read go through the store.
  const tails: ReadonlyArray<[string, RuntimeOptions.Input]> = [
    ["from the tail", {}],
    ["from the store", { tailBytes: 1 }]
  ]

  describe(name, () => {
    for (const [where, options] of tails)
      it.effect(`numbers events of several jobs without gap, ${where}`, () =>
        run(
          Effect.gen(function* () {
            const view = yield* openView
            const jobs = yield* Effect.all([openJob(view), openJob(view), openJob(view)])
            yield* Effect.forEach(jobs, (job) => emit(job, 1, 700), {
              concurrency: "unbounded",
              discard: true
            })
            yield* settle
            const frames = yield* readAll(view)
            assert.deepStrictEqual(seqs(frames), upTo(2100))
            for (const job of jobs) assert.deepStrictEqual(numbers(frames, job), upTo(700))
            assert.strictEqual(new Set(frames.map((frame) => frame.id)).size, 2100)
            const again = yield* readAll(view, 1234)
            assert.deepStrictEqual(again, frames.slice(1234))
          }),
          options
        )
      )

    for (const [where, options] of tails)
      it.effect(`joins history and live events without gap or duplicate, ${where}`, () =>
        run(
          Effect.gen(function* () {
            const log = yield* EventLog
            const owner = yield* openView
            const job = yield* openJob(owner)
            const late = yield* openView
            const emitting = yield* Effect.fork(emit(job, 1, 2000))
            yield* emit(yield* openJob(late), 1, 3)
            const before = yield* Effect.async<number>((resume) => {
              Effect.runFork(
                log.observe(late, job, { history: true, onCommit: (from) => resume(Effect.succeed(from)) })
              )
            })
            yield* emitting
            yield* settle
            const frames = yield* readAll(late)
            assert.deepStrictEqual(seqs(frames), upTo(frames.length))
            assert.deepStrictEqual(numbers(frames, job), upTo(2000))
            assert.isTrue(frames.slice(0, before).every((frame) => frame.job_id !== job.jobId))
          }),
          options
        )
      )

    it.effect("gives history newer than an event_seq of the owner", () =>
      run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const owner = yield* openView
          const [a, b] = yield* Effect.all([openJob(owner), openJob(owner)])
          for (let i = 1; i <= 50; i++) {
            yield* emit(a, i, i)
            yield* emit(b, i, i)
            yield* settle
          }
          const listed = a.lastEventSeq
          assert.strictEqual(listed, 99)
          const late = yield* openView
          yield* log.observe(late, a, { history: true, fromEventSeq: 60, onCommit: () => {} })
          const owned = (yield* readAll(owner)).filter(
            (frame) => frame.job_id === a.jobId && frame.event_seq > 60
          )
          assert.deepStrictEqual(
            numbers(yield* readAll(late), a),
            owned.map((frame) => frame.payload.body?.n)
          )
        })
      )
    )

    it.effect(
      "gives history newer than an event_seq of an owner that is gone, with all that came after it",
      () =>
        run(
          Effect.gen(function* () {
            const log = yield* EventLog
            const db = yield* Store
            const record = session({ features: ["subscribe"] })
            const owner = yield* log.openView(record)
            const [a, b] = yield* Effect.all([openJob(owner), openJob(owner)])
            yield* emit(a, 1, 3)
            yield* emit(a, 4, 5, "progress")
            yield* settle
            yield* emit(b, 1, 4)
            yield* settle
            yield* emit(a, 6, 8)
            yield* settle
            yield* log.dropView(record)
            yield* emit(a, 9, 10)
            yield* settle
            while (yield* db.vacuum) yield* Effect.yieldNow()
            assert.strictEqual(a.lastEventSeq, 10)
            for (const [fromEventSeq, first] of [
              [0, 1],
              [2, 3],
              // What the owner was not sent counts as the last that it was sent before.
              [3, 6],
              [7, 6],
              [8, 7],
              [9, 8],
              // Nobody can have seen by its numbers what came when it was gone.
              [10, 9],
              [99, 9]
            ] as const) {
              const late = yield* openView
              yield* log.observe(late, a, { history: true, fromEventSeq, onCommit: () => {} })
              assert.deepStrictEqual(
                numbers(yield* readAll(late), a),
                upTo(10, first),
                `after ${fromEventSeq}`
              )
            }
          })
        )
    )

    it.effect("numbers of a job that was adopted are those of the new owner", () =>
      run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const owner = yield* openView
          const heir = yield* openView
          yield* emit(yield* openJob(heir), 1, 20)
          const job = yield* openJob(owner)
          yield* emit(job, 1, 5)
          yield* settle
          yield* log.observe(heir, job, { history: true, fromEventSeq: 2, onCommit: () => {} })
          yield* log.adopt(heir, job, () => ({ ...record(heir), jobId: job.jobId }))
          assert.strictEqual(job.lastEventSeq, 23)
          yield* emit(job, 6, 8)
          yield* settle
          assert.strictEqual(job.lastEventSeq, 26)
          for (const [fromEventSeq, first] of [
            [0, 3],
            [22, 5],
            [24, 7],
            [26, 9]
          ] as const) {
            const late = yield* openView
            yield* log.observe(late, job, { history: true, fromEventSeq, onCommit: () => {} })
            assert.deepStrictEqual(
              numbers(yield* readAll(late), job),
              upTo(8, first),
              `after ${fromEventSeq}`
            )
          }
        })
      )
    )

    it.effect("does not number events for a session that lacks the feature", () =>
      run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const owner = yield* openView
          const job = yield* openJob(owner)
          const plain = yield* openViewWith(["subscribe"])
          yield* emit(job, 1, 5)
          yield* emit(job, 6, 10, "progress")
          yield* emit(job, 11, 12)
          yield* settle
          yield* log.observe(plain, job, { history: true, onCommit: () => {} })
          yield* emit(job, 13, 14, "progress")
          yield* emit(job, 15, 16)
          yield* log.append(job, event("status", 17, owner.sessionId))
          yield* emit(job, 18, 18)
          yield* settle
          const frames = yield* readAll(plain)
          assert.deepStrictEqual(seqs(frames), upTo(frames.length))
          assert.deepStrictEqual(numbers(frames, job), [1, 2, 3, 4, 5, 11, 12, 15, 16, 18])
          assert.deepStrictEqual(numbers(yield* readAll(owner), job), upTo(18))
        })
      )
    )

    it.effect("stores how far each view has come with a job, until it has the job's end", () =>
      run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const db = yield* Store
          const owner = yield* openView
          const plain = yield* openViewWith(["subscribe"])
          const job = yield* openJob(owner)
          const at = (view: View) =>
            Effect.map(db.observed(view.sessionId), (all) => all.map(({ cursor, last }) => [cursor, last]))
          yield* emit(job, 1, 5)
          yield* settle
          yield* log.observe(plain, job, { history: false, onCommit: () => {} })
          assert.deepStrictEqual(yield* at(plain), [[5, 5]])
          yield* emit(job, 6, 10, "progress")
          yield* settle
          assert.deepStrictEqual([yield* at(owner), yield* at(plain)], [[[10, 10]], [[10, 10]]])
          yield* emit(job, 11, 12)
          yield* emit(job, 13, 13, "result_chunk")
          yield* settle
          assert.deepStrictEqual([yield* at(owner), yield* at(plain)], [[[13, 13]], [[13, 13]]])
          assert.deepStrictEqual(yield* db.lagging(job.jobId), [])
          yield* end(job, owner)
          assert.deepStrictEqual([yield* at(owner), yield* at(plain)], [[], []])
          yield* log.observe(yield* openView, job, { history: true, onCommit: () => {} })
          assert.deepStrictEqual((yield* db.observersOf([job.jobId])).size, 0)
        })
      )
    )

    it.effect("discards what comes after the end, and gives the end to a late subscriber", () =>
      run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const owner = yield* openView
          const job = yield* openJob(owner)
          yield* emit(job, 1, 3)
          yield* end(job, owner)
          yield* emit(job, 4, 9)
          yield* settle
          const frames = yield* readAll(owner)
          assert.deepStrictEqual(
            frames.map((frame) => frame.type),
            ["job.event", "job.event", "job.event", "job.result"]
          )
          const late = yield* openView
          yield* log.observe(late, job, { history: false, onCommit: () => {} })
          assert.deepStrictEqual(
            (yield* readAll(late)).map((frame) => frame.type),
            ["job.result"]
          )
          yield* log.observe(late, job, { history: true, onCommit: () => {} })
          assert.deepStrictEqual(seqs(yield* readAll(late)), upTo(5))
        })
      )
    )

    it.effect("an adoption that was decided before the end does not undo the end", () =>
      run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const store = yield* Store
          const owner = yield* openView
          const other = yield* openView
          const stale = record(owner)
          const job = yield* log.openJob(stale, owner)
          yield* log.end(job, { type: "job.result", kind: "", payload: "{}" }, (lastEventSeq) => ({
            ...stale,
            status: "success",
            endedAt: 2,
            lastEventSeq
          }))
          yield* log.adopt(other, job, () => ({ ...stale, sessionId: other.sessionId }))
          assert.strictEqual((yield* store.job(job.jobId))?.status, "success")
          const ended = (yield* store.job(job.jobId)) as JobRecord
          yield* log.adopt(other, job, () => ({ ...ended, sessionId: other.sessionId }))
          const adopted = yield* store.job(job.jobId)
          assert.deepStrictEqual([adopted?.sessionId, adopted?.status], [other.sessionId, "success"])
        })
      )
    )

    it.effect("evicts the oldest over the limit, says so to a reader behind, and keeps the rest", () =>
      run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const view = yield* openView
          // A session that nobody is connected to; a connected one would set the pace.
          yield* log.detach(view)
          const job = yield* openJob(view)
          yield* emit(job, 1, 5000)
          yield* settle
          assert.isAbove(view.first, 1)
          assert.isAtMost(view.last - view.first, 2048 + 1024)
          const behind = yield* Effect.either(log.read(view, 0, wake))
          assert.isTrue(Either.isLeft(behind) && behind.left._tag === "ResumeWindowExpired")
          // What it evicts besides, while it is read, depends on how long the store takes.
          let first: number
          let read: Either.Either<ReadonlyArray<Frame>, unknown>
          do {
            first = view.first
            read = yield* Effect.either(readAll(view, first - 1))
          } while (view.first !== first)
          assert.deepStrictEqual(seqs(Either.getOrThrow(read)), upTo(5000, first))
        }),
        { maxRetainedEvents: 2048 * share, tailBytes: 1 }
      )
    )

    it.effect(
      "holds an emitter whose reader would fall out of what is retained, until it has caught up",
      () =>
        run(
          Effect.gen(function* () {
            const log = yield* EventLog
            const view = yield* openView
            const job = yield* openJob(view)
            const emitting = yield* Effect.fork(emit(job, 1, 20_000))
            let after = 0
            while (after < 20_000) {
              const { frames: page } = yield* log.read(view, after, wake)
              after += page.length
              // Slower than the emitter could be: one page per commit.
              yield* settle
            }
            yield* Fiber.join(emitting)
            assert.strictEqual(after, 20_000)
          }),
          { maxRetainedEvents: 4096 * share }
        )
    )

    it.effect("does not hold it for a reader that does not get on", () =>
      run(
        Effect.gen(function* () {
          const view = yield* openView
          const job = yield* openJob(view)
          const emitting = yield* Effect.fork(emit(job, 1, 10_000))
          yield* TestClock.adjust("1 second")
          // Real turns pass until it is held; then only the clock lets it go.
          yield* Effect.repeat(settle, { until: () => view.last > 2048 })
          assert.isTrue((yield* Fiber.poll(emitting))._tag === "None")
          yield* Effect.repeat(Effect.zipRight(settle, TestClock.adjust("10 seconds")), {
            until: () => view.last >= 10_000
          })
          yield* Fiber.join(emitting)
        }),
        { maxRetainedEvents: 4096 * share }
      )
    )

    it.effect("tells a session that does not acknowledge, once until its lag has halved", () =>
      run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const view = yield* openViewWith(all)
          const job = yield* openJob(view)
          const signals = Effect.map(
            readAll(view),
            (frames) => frames.filter((frame) => frame.payload.kind === "status").length
          )
          // The threshold is not crossed when it is reached.
          yield* emit(job, 1, 100)
          yield* Effect.zipRight(settle, settle)
          assert.strictEqual(yield* signals, 0)
          yield* emit(job, 1, 500)
          yield* Effect.zipRight(settle, settle)
          assert.strictEqual(yield* signals, 1)
          yield* log.ack(view, view.last - 51)
          yield* emit(job, 1, 200)
          yield* Effect.zipRight(settle, settle)
          assert.strictEqual(yield* signals, 1)
          yield* log.ack(view, view.last - 50)
          yield* emit(job, 1, 200)
          yield* Effect.zipRight(settle, settle)
          assert.strictEqual(yield* signals, 2)
        }),
        { backPressureLag: 100 }
      )
    )

    it.effect.prop(
      "any interleaving of emits, subscriptions and reads is exactly once and in order",
      [
        FastCheck.array(
          FastCheck.record({
            what: FastCheck.constantFrom("emit", "emit", "emit", "observe", "unobserve", "read"),
            job: FastCheck.nat(3),
            view: FastCheck.nat(2),
            count: FastCheck.integer({ min: 1, max: 40 })
          }),
          { minLength: 5, maxLength: 60 }
        ),
        FastCheck.boolean()
      ],
      ([steps, small]) =>
        run(
          Effect.gen(function* () {
            const log = yield* EventLog
            const owner = yield* openView
            const jobs = yield* Effect.forEach(upTo(4), () => openJob(owner))
            const views = yield* Effect.forEach(upTo(3), () => openView)
            const emitted = jobs.map(() => 0)
            const cursors = views.map(() => 0)
            const seen: Array<Array<Frame>> = views.map(() => [])
            for (const step of steps) {
              const job = jobs[step.job] as JobLog
              const view = views[step.view] as View
              switch (step.what) {
                case "emit": {
                  const from = (emitted[step.job] as number) + 1
                  emitted[step.job] = from + step.count - 1
                  yield* emit(job, from, from + step.count - 1)
                  break
                }
                case "observe":
                  if (!seen[step.view]?.some((frame) => frame.job_id === job.jobId))
                    yield* log.observe(view, job, { history: true, onCommit: () => {} })
                  break
                case "unobserve":
                  yield* settle
                  yield* log.unobserve(view, job.jobId)
                  break
                default: {
                  const frames = yield* readAll(view, cursors[step.view])
                  cursors[step.view] = (cursors[step.view] as number) + frames.length
                  seen[step.view]?.push(...frames)
                }
              }
            }
            yield* settle
            const owned = yield* readAll(owner)
            assert.deepStrictEqual(seqs(owned), upTo(owned.length))
            jobs.forEach((job, i) => assert.deepStrictEqual(numbers(owned, job), upTo(emitted[i] as number)))
            for (const [i, view] of views.entries()) {
              const all = yield* readAll(view)
              assert.deepStrictEqual(seqs(all), upTo(all.length))
              // What was read piecemeal is what a replay from the start gives, ids included.
              assert.deepStrictEqual(all.slice(0, seen[i]?.length), seen[i])
            }
          }),
          small ? { tailBytes: 1 } : {}
        ),
      { fastCheck: { numRuns: 4 + 2 * share } }
    )
  })
}
