/** The committer over a store that is held, that fails and that throws: in process, when the test says. */
import { assert, describe, it } from "@effect/vitest"
import * as BigDecimal from "effect/BigDecimal"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Layer from "effect/Layer"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import { all } from "../../../src/protocol/Features.js"
import { EventLog } from "../../../src/services/log/EventLog.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { Store, StoreError, type StoreService } from "../../../src/services/store/Store.js"
import {
  awaited,
  emit,
  end,
  event,
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
  upTo
} from "./harness.js"

type Commit = StoreService["commit"]

/** A durable store in memory whose commits the test may replace. */
const makeStore = () => {
  const control: { commit: ((real: Commit) => Commit) | undefined } = { commit: undefined }
  const layer = Layer.effect(
    Store,
    Effect.map(
      Store,
      (store): StoreService => ({
        ...store,
        kind: "durable",
        commit: (batch) => Effect.suspend(() => (control.commit?.(store.commit) ?? store.commit)(batch))
      })
    )
  ).pipe(Layer.provide(StoreMemory.layer()))
  return { control, run: runOn(() => layer) }
}

const failing: (real: Commit) => Commit = () => () => new StoreError({ message: "the disk is full" })

describe("the committer", () => {
  it.effect("nothing can be read, and nobody is woken, before the commit", () => {
    const { control, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const view = yield* openView
        const job = yield* openJob(view)
        let woken = 0
        yield* log.attach(view, { features: [], wake: () => woken++ })
        const gate = yield* Deferred.make<void>()
        const reached = yield* Deferred.make<void>()
        control.commit = (real) => (batch) =>
          Deferred.succeed(reached, undefined).pipe(
            Effect.zipRight(Deferred.await(gate)),
            Effect.zipRight(real(batch))
          )
        const emitting = yield* Effect.fork(log.append(job, awaited(event("log", 1))))
        yield* Deferred.await(reached)
        assert.strictEqual(view.last, 0)
        assert.strictEqual(woken, 0)
        assert.deepStrictEqual(yield* readAll(view), [])
        assert.isTrue((yield* Fiber.poll(emitting))._tag === "None")
        yield* Deferred.succeed(gate, undefined)
        yield* Fiber.join(emitting)
        assert.strictEqual(woken, 1)
        assert.deepStrictEqual(numbers(yield* readAll(view), job), [1])
      })
    )
  })

  it.effect("a failed commit leaves nothing: no number, no job, no observer", () => {
    const { control, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const owner = yield* openView
        const job = yield* openJob(owner)
        const other = yield* openView
        control.commit = failing
        const failures = yield* Effect.all([
          Effect.exit(log.append(job, awaited(event("log", 1)))),
          Effect.exit(log.openJob(record(owner), owner)),
          Effect.exit(log.observe(other, job, { history: true, onCommit: () => {} })),
          Effect.exit(log.unobserve(owner, job.jobId)),
          Effect.exit(log.adopt(other, job, () => ({ ...record(other), jobId: job.jobId }))),
          Effect.exit(log.openView(session()))
        ])
        assert.isTrue(failures.every((exit) => exit._tag === "Failure"))
        control.commit = undefined
        assert.deepStrictEqual([owner.last, [...owner.observedJobs].length, other.subscribedCount], [0, 1, 0])
        yield* emit(yield* openJob(owner), 1, 1)
        yield* log.append(job, awaited(event("log", 1)))
        assert.deepStrictEqual(numbers(yield* readAll(owner), job), [1])
        assert.deepStrictEqual(yield* readAll(other), [])
        // The owner is still the owner: it sets the numbering, in which another job's event came before.
        assert.strictEqual(job.lastEventSeq, 2)
      })
    )
  })

  it.effect("a job's end is its last event, also when its session is told of its lag meanwhile", () => {
    const { run } = makeStore()
    return run(
      Effect.gen(function* () {
        const view = yield* openViewWith(all)
        const job = yield* openJob(view)
        // More than one batch: the session lags, and the end is queued, when the first is committed.
        const emitting = upTo(1_100).map((n) => emit(job, n, n))
        yield* Effect.all([...emitting, end(job, view)], { concurrency: "unbounded", discard: true })
        yield* Effect.zipRight(settle, settle)
        const frames = yield* readAll(view)
        assert.strictEqual(frames.length, 1_101)
        assert.strictEqual(frames.at(-1)?.type, "job.result")
      }),
      { backPressureLag: 100 }
    )
  })

  it.effect("a record that could not be changed is not changed by what is spent later", () => {
    const { control, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const owner = yield* openView
        const own = record(owner, { lease: { "cost.budget": ["USD:1"] } })
        const job = yield* log.openJob(own, owner)
        control.commit = failing
        const wish = { ...own, cancelRequested: { at: 1 } }
        assert.isTrue(Exit.isFailure(yield* Effect.exit(log.amend(job, wish, () => {}))))
        control.commit = undefined
        const cost = { currency: "USD", amount: BigDecimal.unsafeFromString("0.5") }
        yield* log.append(job, { ...event("metric", 1), cost })
        const stored = yield* (yield* Store).job(job.jobId)
        assert.deepStrictEqual(stored?.budget, { USD: "0.5" })
        assert.isUndefined(stored?.cancelRequested)
      })
    )
  })

  it.effect("the end of a job that could not be committed may be repeated", () => {
    const { control, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const view = yield* openView
        const job = yield* openJob(view)
        control.commit = failing
        assert.isTrue(Exit.isFailure(yield* Effect.exit(end(job, view))))
        assert.deepStrictEqual(yield* readAll(view), [])
        control.commit = undefined
        yield* end(job, view)
        assert.deepStrictEqual(
          (yield* readAll(view)).map((frame) => frame.type),
          ["job.result"]
        )
      })
    )
  })

  it.effect("an item that throws fails by itself", () => {
    const { run } = makeStore()
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const view = yield* openView
        const job = yield* openJob(view)
        const bad = { ...record(view), lease: { "cost.budget": ["USD:1"] } }
        Object.defineProperty(bad, "budget", {
          enumerable: true,
          get: () => {
            throw new Error("a record that cannot be read")
          }
        })
        const [first, broken, last] = yield* Effect.all(
          [Effect.exit(emit(job, 1, 1)), Effect.exit(log.openJob(bad, view)), Effect.exit(emit(job, 2, 2))],
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(
          [first, broken, last].map((exit) => exit._tag),
          ["Success", "Failure", "Success"]
        )
        assert.deepStrictEqual(numbers(yield* readAll(view), job).sort(), [1, 2])
      })
    )
  })

  it.effect("a batch that is full loses nothing", () => {
    const { run } = makeStore()
    return run(
      Effect.gen(function* () {
        const view = yield* openView
        const job = yield* openJob(view)
        const emitters = upTo(1024 * 3 + 1)
        yield* Effect.forEach(emitters, (n) => emit(job, n, n), { concurrency: "unbounded", discard: true })
        yield* settle
        const frames = yield* readAll(view)
        assert.deepStrictEqual(seqs(frames), emitters)
        assert.deepStrictEqual(numbers(frames, job), emitters)
      })
    )
  })

  it.live("a log that closes commits nothing beside a commit that its store has not answered", () => {
    const { control, run } = makeStore()
    let commits = 0
    const gate = Deferred.unsafeMake<void>(FiberId.none)
    const emitting = Effect.gen(function* () {
      const log = yield* EventLog
      const view = yield* openView
      const [stuck, queued, filling] = [yield* openJob(view), yield* openJob(view), yield* openJob(view)]
      const reached = yield* Deferred.make<void>()
      control.commit = (real) => (batch) => {
        commits++
        return Deferred.succeed(reached, undefined).pipe(
          Effect.zipRight(Deferred.await(gate)),
          Effect.zipRight(real(batch))
        )
      }
      const first = yield* Effect.forkDaemon(Effect.exit(log.append(stuck, awaited(event("log", 1)))))
      // What nobody waits for is in that commit too, and fills the window of its job.
      const waiting = yield* Effect.forkDaemon(
        Effect.exit(Effect.forEach(upTo(400), (n) => log.append(filling, event("log", n)), { discard: true }))
      )
      yield* Deferred.await(reached)
      return {
        first,
        waiting,
        flushing: yield* Effect.forkDaemon(Effect.exit(log.flush(filling))),
        second: yield* Effect.forkDaemon(Effect.exit(log.append(queued, awaited(event("log", 1)))))
      }
    })
    return Effect.gen(function* () {
      const { first, flushing, second, waiting } = yield* run(emitting)
      // Nobody waits for longer than the log does: neither for that commit nor for what it leaves no room for.
      for (const fiber of [first, second, waiting, flushing])
        assert.isTrue(Exit.isFailure(yield* Fiber.join(fiber)))
      // The answer that still comes is nobody's any more.
      yield* Deferred.succeed(gate, undefined)
      yield* Effect.repeatN(eventLoop.next, 20)
      assert.strictEqual(commits, 1)
    })
  })

  it.effect("a defect after the commit stops the log, and whoever waits is told", () => {
    const { run } = makeStore()
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const view = yield* openView
        const job = yield* openJob(view)
        const stopped = yield* Effect.fork(Effect.exit(log.stopped))
        yield* log.attach(view, {
          features: [],
          wake: () => {
            throw new Error("a reader that throws")
          }
        })
        const exits = yield* Effect.forEach(
          [1, 2],
          (n) => Effect.exit(log.append(job, awaited(event("log", n)))),
          { concurrency: "unbounded" }
        )
        assert.isTrue(exits.every(Exit.isFailure))
        assert.isTrue(Exit.isFailure(yield* Effect.exit(log.commit([]))))
        assert.isTrue(Exit.isFailure(yield* Fiber.join(stopped)))
      })
    )
  })
})
