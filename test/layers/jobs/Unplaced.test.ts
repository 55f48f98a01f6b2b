/** Steps that are done and whose outcomes have no place in the log, when their job ends: they are undone, or named by its end. */
import { assert, describe, it } from "@effect/vitest"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as Committed from "../../../src/layers/log/Committed.js"
import * as Vendor from "../../../src/protocol/Vendor.js"
import type { JobService } from "../../../src/services/jobs/Job.js"
import type * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { open } from "../../support/Wire.js"
import { makeStore, pong, type Session, serve, submit, type TestStore } from "./support.js"
import { durable, isEnd, start, until } from "./unloading.js"

/** Charges a card in a step; `then` is what the step does when it has, before it ends. */
const charging = (done: Array<string>, then: (job: JobService) => Effect.Effect<unknown, unknown>) =>
  durable("charging", (job) => {
    const act = (what: string) => Effect.sync(() => void done.push(what))
    return job.step("card", Effect.zipRight(act("charge"), Effect.orDie(Effect.asVoid(then(job)))), {
      compensate: () => act("refund")
    })
  })

/** Submits the job, and gives what it has come to when it has ended. */
const ended = (
  parts: {
    readonly store: TestStore
    readonly options?: RuntimeOptions.Input
    readonly consumers?: ReadonlyArray<Committed.Consumer>
    readonly then?: (job: JobService) => Effect.Effect<unknown, unknown>
  },
  meanwhile: (session: Session, jobId: string, done: ReadonlyArray<string>) => Effect.Effect<unknown, unknown>
) =>
  Effect.gen(function* () {
    const { consumers = [], options, store, then = () => Effect.void } = parts
    const done: Array<string> = []
    return yield* Effect.gen(function* () {
      const session = yield* open()
      const { job_id } = yield* submit(session, "charging")
      yield* meanwhile(session, job_id as string, done)
      const ends = () => session.seen.filter(isEnd)
      for (let turns = 0; turns < 500 && ends().length === 0; turns++) {
        yield* pong(session)
        yield* TestClock.adjust("1 second")
      }
      const steps = session.seen.filter(({ payload }) => payload.kind === Vendor.step)
      return {
        done,
        told: steps.map(({ payload: { body } }) => `${body.key} ${body.state}`),
        ends: ends().map(({ payload }) => [payload.code, payload.details?.not_undone])
      }
    }).pipe(
      Effect.provide(
        serve(store, [charging(done, then)], { heartbeatInterval: "300 days", ...options }, { consumers })
      )
    )
  })

const compensated = ["compensate:card started", "compensate:card ended"]

describe("a step that is done, and whose outcome has no place in the log", () => {
  /** A consumer that takes nothing before that, and has room for the accept and two events. */
  const after = (go: Effect.Effect<unknown>) => [
    Committed.consumer((events) => Effect.zipRight(go, Stream.runDrain(events)), { capacity: 3 })
  ]
  /** Cancels the job when the step is done, and waits until it is not waited for any longer. */
  const cancelled = (session: Session, job_id: string, done: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      yield* until(Effect.sync(() => done.length > 0))
      yield* session.request("job.cancel", {}, { job_id })
      yield* session.expect("job.cancelled")
      yield* TestClock.adjust("31 seconds")
      yield* Effect.repeatN(pong(session), 3)
    })

  it.scoped("is undone when there is room for it while its job is being ended", () =>
    Effect.gen(function* () {
      const go = yield* Deferred.make<void>()
      const { done, ends, told } = yield* ended(
        { store: yield* makeStore, consumers: after(Deferred.await(go)) },
        (...job) => Effect.zipRight(cancelled(...job), Deferred.succeed(go, undefined))
      )
      assert.deepStrictEqual(done, ["charge", "refund"])
      assert.deepStrictEqual(told, ["card started", "card ended", ...compensated])
      assert.deepStrictEqual(ends, [["CANCELLED", undefined]])
    })
  )

  it.scoped("is named by the end when there is no room for it in time", () =>
    Effect.gen(function* () {
      const parts = { store: yield* makeStore, consumers: after(Effect.never) }
      const { done, ends, told } = yield* ended(parts, cancelled)
      assert.deepStrictEqual(done, ["charge"])
      assert.deepStrictEqual(told, ["card started"])
      assert.deepStrictEqual(ends, [["CANCELLED", ["card"]]])
    })
  )

  it.scoped("is named by the end that the next process writes", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const done: Array<string> = []
      const agents = [charging(done, () => Effect.void)]
      const first = yield* start(store, agents, {}, { consumers: after(Effect.never) })
      const session = yield* first.run(open())
      const jobId = (yield* submit(session, "charging")).job_id as string
      yield* cancelled(session, jobId, done)
      yield* until(Effect.map(store.store.job(jobId), (record) => record?.survival?.ended !== undefined))
      yield* first.stop
      const second = yield* start(store, agents)
      yield* Effect.addFinalizer(() => second.stop)
      yield* until(Effect.map(store.store.job(jobId), (record) => record?.endedAt !== undefined))
      const last = (yield* store.store.boundsOf([jobId])).get(jobId)?.last ?? 0
      const [end] = yield* store.store.events(jobId, last, 1)
      const { code, details } = JSON.parse(end?.payload ?? "{}")
      assert.deepStrictEqual([code, details?.not_undone], ["CANCELLED", ["card"]])
      assert.deepStrictEqual(done, ["charge"])
    })
  )

  it.scoped("is undone when the log refuses it", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const { gate } = store
      const given = yield* Deferred.make<void>()
      const then = (job: JobService) =>
        Effect.gen(function* () {
          yield* job.flush
          yield* gate.close
          // More than may be given up while the store takes nothing.
          for (let i = 0; i < 6; i++) {
            const emitting = yield* Effect.fork(job.log("info", `${i}`))
            yield* Effect.repeatN(Effect.yieldNow(), 10)
            yield* Fiber.interrupt(emitting)
          }
          yield* Deferred.succeed(given, undefined)
        })
      const { done, ends, told } = yield* ended({ store, options: { maxUncommittedEvents: 2 }, then }, () =>
        // How the job ends is stored before anything is undone.
        Deferred.await(given).pipe(
          Effect.zipRight(Effect.repeatN(eventLoop.next, 50)),
          Effect.zipRight(gate.open)
        )
      )
      assert.deepStrictEqual(done, ["charge", "refund"])
      assert.deepStrictEqual(told, ["card started", ...compensated])
      assert.deepStrictEqual(ends, [["INTERNAL_ERROR", undefined]])
    })
  )
})
