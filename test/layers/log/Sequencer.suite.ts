/** Views that nobody has held: what was committed meanwhile is numbered when somebody takes the session, whatever the store. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { all } from "../../../src/protocol/Features.js"
import { EventLog, type JobLog, type View } from "../../../src/services/log/EventLog.js"
import type * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { type JobRecord, Store, type StoreError } from "../../../src/services/store/Store.js"
import {
  emit,
  event,
  type Frame,
  id,
  layerOn,
  numbers,
  readAll,
  record,
  seqs,
  session,
  settle,
  upTo,
  wake
} from "./harness.js"

type Process<A, E = unknown> = Effect.Effect<A, E, EventLog | Store | Scope.Scope>

const features = all.filter((feature) => feature !== "ack")

/** Opens a session and a job of it, with two events. */
const started = (more: Partial<JobRecord> = {}) =>
  Effect.gen(function* () {
    const log = yield* EventLog
    const stored = session({ features })
    const view = yield* log.openView(stored)
    const own = record(view, more)
    const job = yield* log.openJob(own, view)
    yield* emit(job, 1, 2)
    yield* settle
    return { job, log, own, stored, view }
  })

const endOf = (job: JobLog, own: JobRecord) =>
  Effect.flatMap(EventLog, (log) =>
    log.end(job, { type: "job.result", kind: "", payload: "{}" }, (lastEventSeq) => ({
      ...own,
      status: "success",
      endedAt: 2,
      lastEventSeq
    }))
  )

/** Waits until a view has numbered so much. */
const numbered = (view: View, last: number) =>
  Effect.repeat(settle, { until: () => view.last >= last, times: 10_000 })

const jobsOf = (frames: ReadonlyArray<Frame>) =>
  frames.map((frame) => [frame.job_id, frame.payload.body?.n ?? "end"])

export const suite = (name: string, share: number, store: () => Layer.Layer<Store, StoreError>): void => {
  /** Runs one process after the other over one store. */
  const processes = (
    body: (
      run: <A, E>(effect: Process<A, E>, options?: RuntimeOptions.Input) => Effect.Effect<A, E | StoreError>
    ) => Effect.Effect<void, unknown>
  ) =>
    Effect.gen(function* () {
      const kept = yield* Layer.buildWithScope(store(), yield* Effect.scope)
      yield* body((effect, options = {}) =>
        Effect.scoped(effect).pipe(Effect.provide(layerOn(Layer.succeedContext(kept), options)))
      )
    }).pipe(Effect.scoped)

  describe(`A view that nobody holds, on ${name}`, () => {
    it.effect(
      "is not numbered; whoever takes its session gets all of it, in the order of commits, and goes on",
      () =>
        processes((run) =>
          Effect.gen(function* () {
            const { child, own, stored } = yield* run(
              Effect.gen(function* () {
                const { job, log, own, stored, view } = yield* started()
                const child = record(view, { parentJobId: own.jobId })
                yield* log.openJob(child, view, { parent: job, event: event("log", 1) })
                return { child, own, stored }
              })
            )
            yield* run(
              Effect.gen(function* () {
                const log = yield* EventLog
                const db = yield* Store
                const parent = yield* log.reopenJob(own)
                const below = yield* log.reopenJob(child, { parent })
                const expected: Array<readonly [string, number | string]> = []
                const say = (job: JobLog, n: number) =>
                  Effect.zipRight(emit(job, n, n), settle).pipe(
                    Effect.tap(() => Effect.sync(() => expected.push([job.jobId, n])))
                  )
                for (let n = 3; n < 9; n += 2) {
                  yield* say(parent, n)
                  yield* say(below, n - 1)
                  yield* say(below, n)
                  yield* say(parent, n + 1)
                }
                yield* endOf(below, child)
                expected.push([child.jobId, "end"])
                yield* say(parent, 9)
                assert.deepStrictEqual(yield* db.view(stored.sessionId), { first: 1, last: 3 })
                assert.strictEqual(yield* db.needed(child.jobId), 1)
                assert.deepStrictEqual(yield* db.lagging(own.jobId), [stored.sessionId])
                const view = yield* log.holdView(stored)
                yield* numbered(view, 3 + expected.length)
                yield* emit(parent, 10, 11)
                yield* settle
                const frames = yield* readAll(view, 3)
                assert.deepStrictEqual(seqs(frames), upTo(3 + frames.length, 4))
                assert.deepStrictEqual(jobsOf(frames), [
                  ...expected.map((each) => [...each]),
                  [own.jobId, 10],
                  [own.jobId, 11]
                ])
                assert.strictEqual(parent.lastEventSeq, view.last)
                assert.deepStrictEqual(
                  (yield* db.observed(stored.sessionId)).map(({ cursor, jobId, last }) => [
                    jobId,
                    cursor,
                    last
                  ]),
                  [[own.jobId, 11, 11]]
                )
                // Of the child, which has ended, what listings say of it is stored.
                const ended = frames.findLast((frame) => frame.job_id === child.jobId)
                assert.strictEqual((yield* db.job(child.jobId))?.lastEventSeq, ended?.event_seq)
              })
            )
          })
        )
    )

    it.effect("is numbered with the features of the hello that takes it", () =>
      processes((run) =>
        Effect.gen(function* () {
          const { own, stored } = yield* run(started())
          yield* run(
            Effect.gen(function* () {
              const job = yield* (yield* EventLog).reopenJob(own)
              yield* emit(job, 3, 4, "progress")
              yield* emit(job, 5, 5)
              yield* (yield* EventLog).append(job, event("status", 6, id("sess")))
              yield* emit(job, 7, 8, "result_chunk")
              yield* settle
            })
          )
          yield* run(
            Effect.gen(function* () {
              const log = yield* EventLog
              const db = yield* Store
              const view = yield* log.holdView({ ...stored, features: ["result_chunk"] })
              yield* numbered(view, 5)
              yield* settle
              assert.deepStrictEqual(
                (yield* readAll(view)).map((frame) => frame.payload.body?.n),
                [1, 2, 5, 7, 8]
              )
              assert.deepStrictEqual(yield* db.lagging(own.jobId), [])
            })
          )
        })
      )
    )

    for (const [where, options] of [
      ["from the tail", {}],
      ["from the store", { tailBytes: 1 }]
    ] as const)
      it.effect(`is caught up with while its jobs emit, without gap or duplicate, ${where}`, () =>
        processes((run) =>
          Effect.gen(function* () {
            const { own, stored, watching } = yield* run(
              Effect.gen(function* () {
                const { job, log, own, stored } = yield* started()
                const watching = session({ features })
                yield* log.observe(yield* log.openView(watching), job, { history: true, onCommit: () => {} })
                return { own, stored, watching }
              })
            )
            yield* run(
              Effect.gen(function* () {
                const log = yield* EventLog
                const job = yield* log.reopenJob(own)
                yield* emit(job, 3, 6_000)
                const emitting = yield* Effect.fork(emit(job, 6_001, 12_000))
                const view = yield* log.holdView(stored)
                const watcher = yield* log.holdView(watching)
                yield* Fiber.join(emitting)
                yield* Effect.all([numbered(view, 12_000), numbered(watcher, 12_000)])
                for (const each of [view, watcher]) {
                  const frames = yield* readAll(each)
                  assert.deepStrictEqual(seqs(frames), upTo(12_000))
                  assert.deepStrictEqual(numbers(frames, job), upTo(12_000))
                }
              }),
              options
            )
          })
        )
      )

    it.effect("of a job that waits in no memory follows it when that is loaded", () =>
      processes((run) =>
        Effect.gen(function* () {
          const { own, stored } = yield* run(started())
          yield* run(
            Effect.gen(function* () {
              const log = yield* EventLog
              const view = yield* log.holdView(stored)
              const job = yield* log.reopenJob(own)
              yield* emit(job, 3, 4)
              yield* settle
              assert.strictEqual(view.last, 4)
              yield* endOf(job, own)
              assert.strictEqual(view.last, 5)
            })
          )
        })
      )
    )

    it.effect("gets a job that was delegated for it, and one that it subscribes to again only once", () =>
      processes((run) =>
        Effect.gen(function* () {
          const { own, stored } = yield* run(started())
          yield* run(
            Effect.gen(function* () {
              const log = yield* EventLog
              const db = yield* Store
              const absent = log.absentView(stored)
              const parent = yield* log.reopenJob(own)
              const early = record(absent, { parentJobId: own.jobId })
              const below = yield* log.openJob(early, absent, { parent, event: event("log", 1) })
              yield* emit(parent, 3, 5)
              yield* settle
              const view = yield* log.holdView(stored)
              // Whoever has run before the session came back may still have what was here of it.
              const late = yield* log.openJob(record(absent, { parentJobId: own.jobId }), absent, {
                parent,
                event: event("log", 1)
              })
              yield* log.observe(view, parent, { history: true, onCommit: () => {} })
              yield* emit(late, 2, 2)
              yield* emit(below, 2, 2)
              yield* numbered(view, 11)
              yield* settle
              const frames = yield* readAll(view)
              assert.deepStrictEqual(numbers(frames, late), [1, 2])
              assert.deepStrictEqual(numbers(frames, below), [1, 2])
              const again = numbers(frames, parent).slice(2)
              assert.include(
                [JSON.stringify([3, 4, 5, 1, 2, 3, 4, 5]), JSON.stringify([1, 2, 3, 4, 5])],
                JSON.stringify(again)
              )
              assert.deepStrictEqual(yield* db.lagging(own.jobId), [])
              yield* emit(parent, 6, 6)
              yield* settle
              assert.strictEqual(numbers(yield* readAll(view), parent).at(-1), 6)
            })
          )
        })
      )
    )

    it.effect(
      "that has more to come than a session may retain has lost it, and its job keeps to its cap",
      () =>
        processes((run) =>
          Effect.gen(function* () {
            const { own, stored } = yield* run(started())
            const options = { maxRetainedEvents: 2048 * share }
            yield* run(
              Effect.gen(function* () {
                const log = yield* EventLog
                const db = yield* Store
                const job = yield* log.reopenJob(own)
                yield* emit(job, 3, 1_500)
                yield* settle
                assert.isFalse(yield* db.hasLost(stored.sessionId))
                yield* emit(job, 1_501, 9_000)
                yield* Effect.repeat(Effect.zipRight(settle, db.hasLost(stored.sessionId)), {
                  until: (lost) => lost,
                  times: 10_000
                })
                const bounds = Effect.map(db.boundsOf([own.jobId]), (all) => all.get(own.jobId))
                yield* emit(job, 9_001, 9_600)
                yield* Effect.repeat(Effect.zipRight(settle, bounds), {
                  until: (found) => (found?.last ?? 0) - (found?.first ?? 0) <= 3_000,
                  times: 10_000
                })
                const view = yield* log.holdView(stored)
                assert.isTrue(view.lost)
                assert.strictEqual(
                  (yield* Effect.flip(log.read(view, view.last, wake)))._tag,
                  "ResumeWindowExpired"
                )
              }),
              options
            )
          })
        )
    )

    it.effect("of a job that it no longer observes gets no more of that", () =>
      processes((run) =>
        Effect.gen(function* () {
          const { other, stored } = yield* run(
            Effect.gen(function* () {
              const { log, stored, view } = yield* started()
              const owner = yield* log.openView(session({ features }))
              const other = record(owner)
              const job = yield* log.openJob(other, owner)
              yield* log.observe(view, job, { history: true, onCommit: () => {} })
              return { other, stored }
            })
          )
          yield* run(
            Effect.gen(function* () {
              const log = yield* EventLog
              const db = yield* Store
              const job = yield* log.reopenJob(other)
              yield* emit(job, 1, 3)
              yield* settle
              const view = yield* log.holdView(stored)
              yield* log.unobserve(view, other.jobId)
              const before = view.last
              yield* emit(job, 4, 5)
              yield* settle
              assert.strictEqual(view.last, before)
              assert.deepStrictEqual(
                (yield* db.observersOf([other.jobId])).get(other.jobId)?.includes(stored.sessionId),
                false
              )
            })
          )
        })
      )
    )
  })
}
