/**
 * Whoever waits because all jobs together have too much goes on whatever becomes of what fills the windows: also when
 * it is given up, and no commit follows.
 */
import { assert, describe, it } from "@effect/vitest"
import * as BigDecimal from "effect/BigDecimal"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as TestClock from "effect/TestClock"
import { maxBytes } from "../../../src/layers/log/CommitQueue.js"
import type { InternalError } from "../../../src/protocol/Errors.js"
import { EventLog, type JobLog, type NewEvent } from "../../../src/services/log/EventLog.js"
import { full, isWaiting, makeStore, quiet, storedOf, unreadable } from "./gated.js"
import { awaited, emit, end, event, layerOn, openJob, openView, readAll, record } from "./harness.js"

/** Of all jobs together: less than one large event. */
const limits = { maxUncommittedBytesInAll: 64 * 1024, maxUncommittedBytes: 1024 * 1024 } as const

const withPayload = (event: NewEvent, bytes: number): NewEvent =>
  Object.defineProperty(event, "payload", { value: JSON.stringify("x".repeat(bytes)), enumerable: true })

const large = (event: NewEvent) => withPayload(event, 100_000)

/**
 * Closes the gate and leaves a job waiting whose own event is in the batch at the gate; `fill` then emits the large one
 * that it will wait for when that batch is committed.
 */
const leaveWaiting = (
  gate: Effect.Latch,
  fill: (log: EventLog["Type"], job: JobLog) => Effect.Effect<void, InternalError>
) =>
  Effect.gen(function* () {
    const log = yield* EventLog
    const view = yield* openView
    const otherView = yield* openView
    const [first, good, filler] = [yield* openJob(view), yield* openJob(view), yield* openJob(otherView)]
    yield* gate.close
    yield* Effect.forkDaemon(log.append(first, large(event("log", 1))))
    yield* Effect.yieldNow()
    const waiting = yield* Effect.forkDaemon(Effect.exit(emit(good, 1, 1)))
    yield* quiet
    const filling = yield* Effect.forkDaemon(Effect.exit(fill(log, filler)))
    yield* Effect.yieldNow()
    assert.isTrue(yield* isWaiting(waiting))
    return { filler, filling, good, otherView, waiting }
  })

describe("whoever waits because of all jobs goes on", () => {
  it.effect("when what fills them is a mistake", () => {
    const { gate, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const { filler, good, waiting } = yield* leaveWaiting(gate, (log, job) =>
          log.append(job, large(unreadable(1)))
        )
        yield* gate.open
        assert.isTrue(Exit.isSuccess(yield* Fiber.join(waiting)))
        assert.isDefined(filler.broken)
        assert.deepStrictEqual(yield* storedOf(good), [1])
      }),
      limits
    )
  })

  it.effect("when the job whose events fill them is given up, though nothing can be committed", () => {
    const { control, gate, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const { filler, good, waiting } = yield* leaveWaiting(gate, (log, job) => {
          control.refused = job.jobId
          return log.append(job, large(event("log", 1)))
        })
        yield* gate.open
        yield* quiet
        assert.deepStrictEqual(yield* storedOf(good), [1])
        assert.isTrue(yield* isWaiting(waiting))
        yield* TestClock.adjust("10 seconds")
        assert.isTrue(Exit.isSuccess(yield* Fiber.join(waiting)))
        assert.isDefined(filler.broken)
      }),
      limits
    )
  })

  it.effect("when the log stops after a commit", () => {
    const { gate, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const { filling, otherView, waiting } = yield* leaveWaiting(gate, (log, job) =>
          log.append(job, awaited(large(event("tool_call", 1))))
        )
        yield* log.attach(otherView, {
          features: [],
          wake: () => {
            throw new Error("a reader that throws")
          }
        })
        yield* gate.open
        assert.isTrue(Exit.isFailure(yield* Fiber.join(filling)))
        assert.isTrue(Exit.isSuccess(yield* Fiber.join(waiting)))
      }),
      limits
    )
  })

  it.effect("when what fills them was waited for, and the store did not take it", () => {
    const { control, gate, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const { filling, waiting } = yield* leaveWaiting(gate, (log, job) => {
          control.refused = job.jobId
          return log.append(job, awaited(large(event("tool_call", 1))))
        })
        yield* gate.open
        assert.isTrue(Exit.isFailure(yield* Fiber.join(filling)))
        assert.isTrue(Exit.isSuccess(yield* Fiber.join(waiting)))
      }),
      limits
    )
  })

  it.effect("when the log is closed, and what fills them was left in its queue", () => {
    const { control, gate, layer } = makeStore()
    return Effect.gen(function* () {
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(layerOn(layer, limits), scope)
      const { filling, waiting } = yield* leaveWaiting(gate, (log, job) => {
        control.refused = job.jobId
        // A batch by itself, which is not taken; what comes after it is not tried any more.
        const first = log.append(job, awaited(withPayload(event("tool_call", 1), maxBytes)))
        const second = log.append(job, awaited(large(event("tool_call", 2))))
        return Effect.zipRight(Effect.fork(first), Effect.zipRight(Effect.yieldNow(), second))
      }).pipe(Effect.provide(context))
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* Effect.yieldNow()
      yield* gate.open
      yield* Fiber.join(closing)
      assert.isTrue(Exit.isFailure(yield* Fiber.join(filling)))
      assert.isTrue(Exit.isSuccess(yield* Fiber.join(waiting)))
    })
  })
})

describe("a store that fails", () => {
  it.effect("is not waited for once nothing is to be tried again", () => {
    const { control, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const view = yield* openView
        const [bad, good] = [yield* openJob(view), yield* openJob(view)]
        control.refused = bad.jobId
        yield* emit(bad, 1, 1)
        yield* Effect.whileLoop({
          while: () => bad.broken === undefined,
          body: () => Effect.zipRight(TestClock.adjust("100 millis"), quiet),
          step: () => {}
        })
        // The clock stands still from here on.
        yield* log.append(good, awaited(event("tool_call", 1)))
        assert.deepStrictEqual(yield* storedOf(good), [1])
      })
    )
  })
})

describe("jobs that endure a store that is away", () => {
  it.effect("all go on when it is back, however long that takes", () => {
    const { control, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const view = yield* openView
        const jobs = [yield* openJob(view), yield* openJob(view), yield* openJob(view)]
        control.failing = full
        for (const job of jobs) {
          job.endure()
          yield* emit(job, 1, 1)
        }
        yield* TestClock.adjust("1 minute")
        for (const job of jobs) assert.isUndefined(job.broken)
        // Of all that wait, three are tried by themselves, and not each.
        control.tries = 0
        yield* TestClock.adjust("10 seconds")
        assert.isAtMost(control.tries, 60)
        control.failing = undefined
        yield* TestClock.adjust("10 seconds")
        for (const job of jobs) assert.deepStrictEqual(yield* storedOf(job), [1])
      })
    )
  })

  it.effect("all go on when it is back in the middle of finding out", () => {
    const { control, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const view = yield* openView
        const jobs = [yield* openJob(view), yield* openJob(view)]
        control.failing = full
        for (const job of jobs) {
          job.endure()
          yield* emit(job, 1, 1)
        }
        yield* TestClock.adjust("1 minute")
        // The batch and the first job's event are refused once more, and what comes next is taken.
        const before = control.tries
        Object.defineProperty(control, "failing", {
          get: () => (control.tries <= before + 2 ? full : undefined)
        })
        yield* TestClock.adjust("10 seconds")
        for (const job of jobs) {
          assert.isUndefined(job.broken)
          assert.deepStrictEqual(yield* storedOf(job), [1])
        }
      })
    )
  })

  it.effect("all go on when it only comes back for a moment, again and again", () => {
    const { control, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const view = yield* openView
        const [first, second] = [yield* openJob(view), yield* openJob(view)]
        const jobs = [first, second]
        control.failing = full
        for (const job of jobs) {
          job.endure()
          yield* emit(job, 1, 1)
        }
        yield* TestClock.adjust("1 minute")
        // The batch is refused, the first job's event is, the second's is taken; then nothing is, from where on differs.
        for (const taken of [1, 2, 3]) {
          const before = control.tries
          Object.defineProperty(control, "failing", {
            configurable: true,
            get: () => {
              const tried = control.tries - before
              return tried >= 3 && tried < 3 + taken && tried !== 4 ? undefined : full
            }
          })
          yield* TestClock.adjust("1 minute")
          for (const job of jobs) assert.isUndefined(job.broken)
          yield* emit(second, taken + 1, taken + 1)
        }
        Object.defineProperty(control, "failing", { value: undefined })
        yield* TestClock.adjust("1 minute")
        for (const job of jobs) assert.isUndefined(job.broken)
        assert.deepStrictEqual(yield* storedOf(first), [1])
        assert.deepStrictEqual(yield* storedOf(second), [1, 2, 3, 4])
      })
    )
  })

  it.effect("keep no change from being committed when nothing but theirs is refused", () => {
    const { control, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const view = yield* openView
        const bad = yield* openJob(view)
        bad.endure()
        control.refused = bad.jobId
        yield* emit(bad, 1, 1)
        yield* TestClock.adjust("10 seconds")
        assert.isUndefined(bad.broken)
        // Sessions come and go, and no job says anything.
        for (let i = 0; i < 3 && bad.broken === undefined; i++) {
          const opening = yield* Effect.fork(Effect.exit(openView))
          yield* TestClock.adjust("10 seconds")
          yield* Fiber.join(opening)
        }
        assert.isDefined(bad.broken)
      })
    )
  })

  it.effect("keep no other from being committed when nothing but theirs is refused", () => {
    const { control, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const view = yield* openView
        const [bad, good] = [yield* openJob(view), yield* openJob(view)]
        bad.endure()
        control.refused = bad.jobId
        yield* emit(bad, 1, 1)
        yield* TestClock.adjust("10 seconds")
        assert.isUndefined(bad.broken)
        const appending = yield* Effect.fork(log.append(good, event("log", 1)))
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual(yield* storedOf(good), [1])
        yield* Fiber.join(appending)
        assert.isDefined(bad.broken)
        yield* log.append(good, awaited(event("tool_call", 2)))
        assert.deepStrictEqual(yield* storedOf(good), [1, 2])
      })
    )
  })
})

describe("what a child spends in the commit in which its parent ends", () => {
  it.effect("is reported on its parent before that end, whichever was asked for first", () => {
    const { gate, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const view = yield* openView
        const lease = { "cost.budget": ["USD:1"] }
        const parent = yield* log.openJob(record(view, { lease }), view)
        const child = yield* log.openJob(record(view, { lease, parentJobId: parent.jobId }), view, { parent })
        yield* gate.close
        const ending = yield* Effect.fork(end(parent, view))
        yield* Effect.yieldNow()
        const cost = { currency: "USD", amount: BigDecimal.unsafeFromString("0.5") }
        const spending = yield* Effect.fork(log.append(child, { ...event("metric", 1), cost }))
        yield* Effect.yieldNow()
        yield* gate.open
        yield* Fiber.join(ending)
        yield* Fiber.join(spending)
        const frames = (yield* readAll(view)).filter(({ job_id }) => job_id === parent.jobId)
        assert.deepStrictEqual(
          frames.map(({ payload, type }) => payload.kind ?? type),
          ["metric", "job.result"]
        )
      })
    )
  })
})
