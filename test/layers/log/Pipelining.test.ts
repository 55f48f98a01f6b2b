/** Emits that return before their commit: the order of their events, how much may wait, and a store that fails. */
import { assert, describe, it } from "@effect/vitest"
import * as BigDecimal from "effect/BigDecimal"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FastCheck from "effect/FastCheck"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import { EventLog, type JobLog } from "../../../src/services/log/EventLog.js"
import { StoreError } from "../../../src/services/store/Store.js"
import { alsoInPostgres } from "../store/pg/layers.js"
import { full, isWaiting, makeStore, quiet, storedOf, unreadable } from "./gated.js"
import {
  awaited,
  emit,
  end,
  event,
  numbers,
  openJob,
  openView,
  readAll,
  record,
  seqs,
  settle,
  upTo
} from "./harness.js"
import { sqlite } from "./sqlite.js"

describe("an emit", () => {
  it.effect("returns before its commit, and cannot be read before it", () => {
    const { gate, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const view = yield* openView
        const job = yield* openJob(view)
        yield* gate.close
        yield* emit(job, 1, 10)
        yield* quiet
        assert.strictEqual(view.last, 0)
        assert.deepStrictEqual(yield* readAll(view), [])
        yield* gate.open
        yield* settle
        assert.deepStrictEqual(numbers(yield* readAll(view), job), upTo(10))
      })
    )
  })

  it.effect("waits while its job's window is full, and other jobs do not", () => {
    const { gate, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const view = yield* openView
        const [job, other] = [yield* openJob(view), yield* openJob(view)]
        yield* gate.close
        yield* emit(job, 1, 16)
        const waiting = yield* Effect.fork(emit(job, 17, 17))
        yield* emit(other, 1, 16)
        yield* quiet
        assert.isTrue(yield* isWaiting(waiting))
        yield* gate.open
        yield* Fiber.join(waiting)
        yield* settle
        assert.deepStrictEqual(numbers(yield* readAll(view), job), upTo(17))
      }),
      { maxUncommittedEvents: 16 }
    )
  })

  it.effect("waits while all jobs together have too much, and none of them starves", () => {
    const { gate, run } = makeStore()
    const size = 1024
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const view = yield* openView
        const jobs = yield* Effect.forEach(upTo(200), () => openJob(view))
        const big = (n: number) => ({ ...event("log", n), payload: JSON.stringify("x".repeat(size)) })
        let emitted = 0
        yield* gate.close
        const emitting = yield* Effect.forEach(jobs, (job) =>
          Effect.fork(
            Effect.forEach(upTo(50), (n) =>
              Effect.map(log.append(job, big(n)), () => {
                emitted++
              })
            )
          )
        )
        yield* quiet
        // One more of each job, which waits.
        assert.isAtMost(emitted * size, 512 * 1024)
        yield* gate.open
        yield* Fiber.joinAll(emitting)
        yield* settle
        assert.isTrue(jobs.every((job) => job.lastEventSeq > 0))
        assert.strictEqual(view.last, 200 * 50)
      }),
      { maxUncommittedBytesInAll: 512 * 1024 }
    )
  })

  it.effect("takes its place when it is called, over all fibers, and keeps it when it is interrupted", () => {
    const { gate, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const view = yield* openView
        const job = yield* openJob(view)
        yield* gate.close
        const fibers = yield* Effect.forEach(upTo(40), (n) => Effect.fork(emit(job, n, n)))
        yield* quiet
        assert.isTrue(yield* isWaiting(fibers[30] as Fiber.Fiber<void, unknown>))
        yield* Fiber.interruptAll(fibers)
        yield* gate.open
        yield* settle
        assert.deepStrictEqual(numbers(yield* readAll(view), job), upTo(40))
      }),
      { maxUncommittedEvents: 8 }
    )
  })

  it.effect(
    "is refused when as many were interrupted while they waited as may wait; there is room again later",
    () => {
      const { gate, run } = makeStore()
      return run(
        Effect.gen(function* () {
          const view = yield* openView
          const job = yield* openJob(view)
          yield* gate.close
          let refused = 0
          for (const n of upTo(100)) {
            const emitting = yield* Effect.fork(emit(job, n, n))
            yield* Effect.yieldNow()
            const exit = yield* Fiber.poll(emitting)
            if (exit._tag === "Some" && Exit.isFailure(exit.value)) refused++
            yield* Fiber.interrupt(emitting)
          }
          assert.isAtLeast(refused, 100 - 3 * 8)
          yield* gate.open
          yield* settle
          yield* emit(job, 101, 101)
          yield* settle
          const read = numbers(yield* readAll(view), job)
          assert.deepStrictEqual(read, [...upTo(100 - refused), 101])
        }),
        { maxUncommittedEvents: 8 }
      )
    }
  )

  it.effect("is refused so too when what was interrupted waited for its commit", () => {
    const { gate, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const job = yield* openJob(yield* openView)
        yield* gate.close
        for (const n of upTo(100)) {
          const emitting = yield* Effect.fork(log.append(job, awaited(event("tool_call", n))))
          yield* Effect.yieldNow()
          yield* Fiber.interrupt(emitting)
        }
        assert.isTrue(Exit.isFailure(yield* Effect.exit(log.append(job, awaited(event("tool_call", 101))))))
        yield* gate.open
        yield* settle
        assert.isAtMost((yield* storedOf(job)).length, 3 * 8)
        yield* log.append(job, awaited(event("tool_call", 102)))
      }),
      { maxUncommittedEvents: 8 }
    )
  })

  it.effect("goes on when what it waits with is committed together with the end of its job", () => {
    const { gate, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const view = yield* openView
        const job = yield* openJob(view)
        yield* gate.close
        const waiting = yield* Effect.fork(emit(job, 1, 9))
        yield* Effect.yieldNow()
        assert.isTrue(yield* isWaiting(waiting))
        const ending = yield* Effect.fork(end(job, view))
        yield* Effect.yieldNow()
        yield* gate.open
        yield* Fiber.join(ending)
        yield* Fiber.join(waiting)
        assert.deepStrictEqual(numbers(yield* readAll(view), job), [...upTo(9), undefined])
      }),
      { maxUncommittedEvents: 8 }
    )
  })

  it.effect("that is awaited returns with its commit, after everything before it", () => {
    const { gate, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const job = yield* openJob(yield* openView)
        yield* gate.close
        yield* emit(job, 1, 3)
        const waiting = yield* Effect.fork(log.append(job, awaited(event("tool_call", 4))))
        yield* quiet
        assert.isTrue(yield* isWaiting(waiting))
        yield* gate.open
        yield* Fiber.join(waiting)
        assert.deepStrictEqual(yield* storedOf(job), upTo(4))
      })
    )
  })
})

describe("a flush", () => {
  it.effect("returns when everything before it is committed, at once when nothing waits", () => {
    const { gate, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const job = yield* openJob(yield* openView)
        yield* log.flush(job)
        yield* gate.close
        yield* emit(job, 1, 5)
        const flushing = yield* Effect.fork(log.flush(job))
        yield* emit(job, 6, 9)
        yield* quiet
        assert.isTrue(yield* isWaiting(flushing))
        yield* gate.open
        yield* Fiber.join(flushing)
        assert.deepStrictEqual((yield* storedOf(job)).slice(0, 5), upTo(5))
      })
    )
  })

  it.effect("fails when the store does not take what was emitted", () => {
    const { control, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const job = yield* openJob(yield* openView)
        control.failing = full
        yield* emit(job, 1, 5)
        const flushing = yield* Effect.fork(Effect.exit(log.flush(job)))
        yield* quiet
        assert.isTrue(yield* isWaiting(flushing))
        yield* TestClock.adjust("10 seconds")
        yield* quiet
        assert.isTrue(Exit.isFailure(yield* Fiber.join(flushing)))
        assert.isTrue(Exit.isFailure(yield* Effect.exit(log.flush(job))))
      })
    )
  })
})

describe("a store that fails", () => {
  it.effect(
    "is tried again: what was emitted comes whole and in order, whoever waits is told at once",
    () => {
      const { control, run } = makeStore()
      return run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const view = yield* openView
          const job = yield* openJob(view)
          control.failing = full
          yield* emit(job, 1, 5)
          const awaiting = yield* Effect.exit(log.append(job, awaited(event("tool_call", 6))))
          assert.isTrue(Exit.isFailure(awaiting))
          yield* emit(job, 7, 9)
          yield* TestClock.adjust("1 second")
          yield* quiet
          assert.isAtLeast(control.tries, 3)
          assert.isUndefined(job.broken)
          assert.deepStrictEqual(yield* readAll(view), [])
          control.failing = undefined
          yield* TestClock.adjust("1 second")
          yield* settle
          const frames = yield* readAll(view)
          assert.deepStrictEqual(numbers(frames, job), [1, 2, 3, 4, 5, 7, 8, 9])
          assert.deepStrictEqual(seqs(frames), upTo(8))
        })
      )
    }
  )

  it.effect("breaks the jobs whose events it does not take, and no other", () => {
    const { control, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const view = yield* openView
        const [job, silent] = [yield* openJob(view), yield* openJob(view)]
        const seen: Array<string> = []
        job.whenBroken(({ details }) => seen.push(String(details?.["reason"])))
        yield* emit(job, 1, 2)
        yield* settle
        control.failing = full
        yield* emit(job, 3, 5)
        yield* TestClock.adjust("4 seconds")
        yield* quiet
        assert.isUndefined(job.broken)
        yield* TestClock.adjust("4 seconds")
        yield* quiet
        assert.deepStrictEqual(seen, ["storage"])
        control.failing = undefined
        const refused = yield* Effect.exit(emit(job, 6, 6))
        assert.isTrue(Exit.isFailure(refused))
        yield* emit(silent, 1, 1)
        yield* end(job, view)
        yield* settle
        const frames = yield* readAll(view)
        assert.deepStrictEqual(numbers(frames, job), [1, 2, undefined])
        assert.strictEqual(frames.filter(({ job_id }) => job_id === job.jobId).at(-1)?.type, "job.result")
        assert.deepStrictEqual(numbers(frames, silent), [1])
        assert.deepStrictEqual(seqs(frames), upTo(4))
      })
    )
  })

  it.effect("is tried for as long for a job that emits late as for the first", () => {
    const { control, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const view = yield* openView
        const [early, late] = [yield* openJob(view), yield* openJob(view)]
        control.failing = full
        yield* emit(early, 1, 1)
        yield* quiet
        for (let ms = 0; ms < 4_000; ms += 500) {
          yield* TestClock.adjust("500 millis")
          yield* quiet
        }
        yield* emit(late, 1, 1)
        for (let ms = 0; ms < 3_000; ms += 500) {
          yield* TestClock.adjust("500 millis")
          yield* quiet
        }
        assert.isDefined(early.broken)
        assert.isUndefined(late.broken)
        control.failing = undefined
        yield* TestClock.adjust("2 seconds")
        yield* settle
        assert.deepStrictEqual(yield* storedOf(late), [1])
      })
    )
  })

  it.effect("fails an end that waits behind what it does not take", () => {
    const { control, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const view = yield* openView
        const job = yield* openJob(view)
        control.failing = full
        yield* emit(job, 1, 2)
        assert.isTrue(Exit.isFailure(yield* Effect.exit(end(job, view))))
        control.failing = undefined
        yield* end(job, view).pipe(Effect.fork)
        yield* TestClock.adjust("1 second")
        yield* settle
        assert.deepStrictEqual(
          (yield* readAll(view)).map(({ type }) => type),
          ["job.event", "job.event", "job.result"]
        )
      })
    )
  })

  it.effect("that another has fenced is not tried again", () => {
    const { control, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const job = yield* openJob(yield* openView)
        control.failing = new StoreError({ message: "another runtime uses these tables", fenced: true })
        const { tries } = control
        yield* emit(job, 1, 2)
        yield* quiet
        assert.isDefined(job.broken)
        assert.strictEqual(control.tries, tries + 1)
      })
    )
  })

  it.effect("leaves no trace of what it did not take in the window of its job", () => {
    const { control, gate, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const job = yield* openJob(yield* openView)
        control.failing = full
        for (const n of upTo(20))
          assert.isTrue(Exit.isFailure(yield* Effect.exit(log.append(job, awaited(event("log", n))))))
        control.failing = undefined
        yield* gate.close
        yield* emit(job, 21, 28)
        yield* gate.open
        yield* settle
        assert.deepStrictEqual(yield* storedOf(job), upTo(28, 21))
      }),
      { maxUncommittedEvents: 8 }
    )
  })

  it.effect("while a mistake is looked for is tried again with all that was not committed", () => {
    const { control, gate, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const view = yield* openView
        const [bad, good] = [yield* openJob(view), yield* openJob(view)]
        yield* gate.close
        yield* emit(good, 1, 2)
        yield* emit(bad, 1, 1)
        yield* log.append(bad, unreadable(2))
        yield* log.append(bad, event("log", 3))
        // The batch is found to be bad at once, and its first item waits at the gate.
        yield* quiet
        yield* emit(bad, 4, 4)
        control.failing = full
        yield* gate.open
        yield* quiet
        control.failing = undefined
        yield* TestClock.adjust("1 second")
        yield* settle
        assert.deepStrictEqual(yield* storedOf(good), upTo(2))
        assert.deepStrictEqual(yield* storedOf(bad), [1])
        assert.isDefined(bad.broken)
      })
    )
  })

  it.effect("for a mistake discards what its job has emitted since", () => {
    const { gate, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const job = yield* openJob(yield* openView)
        yield* gate.close
        yield* emit(job, 1, 1)
        yield* log.append(job, unreadable(2))
        yield* quiet
        yield* emit(job, 3, 4)
        yield* gate.open
        yield* settle
        yield* settle
        assert.isDefined(job.broken)
        assert.deepStrictEqual(yield* storedOf(job), [1])
      })
    )
  })

  it.effect("that takes an event for a mistake breaks its job, and others in the batch are committed", () => {
    const { control, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const view = yield* openView
        const [bad, good] = [yield* openJob(view), yield* openJob(view)]
        yield* emit(bad, 1, 1)
        yield* log.append(bad, unreadable(2))
        yield* log.append(bad, event("log", 3))
        yield* emit(good, 1, 2)
        yield* settle
        assert.isDefined(bad.broken)
        const frames = yield* readAll(view)
        assert.deepStrictEqual(numbers(frames, bad), [1])
        assert.deepStrictEqual(numbers(frames, good), [1, 2])
        assert.isAbove(control.tries, 0)
      })
    )
  })

  it.effect("breaks a job, which is told no more of what its children spend, and is charged for it", () => {
    const { control, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const view = yield* openView
        const lease = { "cost.budget": ["USD:1"] }
        const parent = yield* log.openJob(record(view, { lease }), view)
        const child = yield* log.openJob(record(view, { lease, parentJobId: parent.jobId }), view, { parent })
        control.failing = full
        yield* emit(parent, 1, 3)
        yield* TestClock.adjust("10 seconds")
        yield* quiet
        assert.isDefined(parent.broken)
        control.failing = undefined
        const cost = { currency: "USD", amount: BigDecimal.unsafeFromString("0.5") }
        yield* log.append(child, { ...event("metric", 1), cost })
        const frames = yield* readAll(view)
        assert.deepStrictEqual(numbers(frames, parent), [])
        assert.lengthOf(numbers(frames, child), 2)
        assert.strictEqual(BigDecimal.format(parent.remaining.get("USD") as BigDecimal.BigDecimal), "0.5")
      })
    )
  })

  it.effect("charges the jobs above for a cost that comes after the end, however long it is away", () => {
    const { control, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const view = yield* openView
        const lease = { "cost.budget": ["USD:1"] }
        const parent = yield* log.openJob(record(view, { lease }), view)
        const child = yield* log.openJob(record(view, { lease, parentJobId: parent.jobId }), view, { parent })
        yield* end(child, view)
        control.failing = full
        const cost = { currency: "USD", amount: BigDecimal.unsafeFromString("0.5") }
        const charging = yield* Effect.fork(log.append(child, { ...event("metric", 1), cost }))
        yield* quiet
        yield* TestClock.adjust("1 minute")
        yield* quiet
        control.failing = undefined
        yield* TestClock.adjust("2 seconds")
        yield* Fiber.join(charging)
        assert.strictEqual(BigDecimal.format(parent.remaining.get("USD") as BigDecimal.BigDecimal), "0.5")
      })
    )
  })
})

describe.each([
  ["in memory", 40, StoreMemory.layer],
  ["on SQLite", 8, sqlite],
  ...alsoInPostgres().map(({ layer }) => ["in Postgres", 8, layer] as const)
] as const)("whatever a store %s does", (_, numRuns, inner) => {
  const scripts = FastCheck.record({
    jobs: FastCheck.integer({ min: 1, max: 4 }),
    window: FastCheck.integer({ min: 1, max: 12 }),
    /** Which tries fail. */
    failures: FastCheck.array(FastCheck.boolean(), { maxLength: 12 }),
    steps: FastCheck.array(
      FastCheck.record({
        job: FastCheck.nat(3),
        act: FastCheck.constantFrom("emit", "emit", "emit", "awaited", "interrupted", "flush", "turn", "time")
      }),
      { maxLength: 60 }
    )
  })

  it.effect.prop(
    "no log has a hole: it is a beginning of what was emitted, without what failed, or all of it",
    [scripts],
    ([{ failures, jobs: count, steps, window }]) => {
      const { control, run } = makeStore(inner)
      return run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const view = yield* openView
          const jobs: Array<{
            readonly job: JobLog
            readonly said: Array<number>
            readonly failed: Set<number>
          }> = []
          for (let i = 0; i < count; i++)
            jobs.push({ job: yield* openJob(view), said: [], failed: new Set() })
          let n = 0
          const fibers: Array<Fiber.Fiber<unknown, unknown>> = []
          for (const { act, job: which } of steps) {
            const target = jobs[which % count] as (typeof jobs)[number]
            const fails = failures.shift()
            control.failing = fails === true ? full : undefined
            if (act === "turn") yield* quiet
            else if (act === "time") yield* TestClock.adjust("700 millis")
            else if (act === "flush") fibers.push(yield* Effect.fork(Effect.exit(log.flush(target.job))))
            else {
              const number = ++n
              target.said.push(number)
              const emitted = event("log", number)
              const emitting = yield* Effect.fork(
                Effect.tapError(log.append(target.job, act === "awaited" ? awaited(emitted) : emitted), () =>
                  Effect.sync(() => target.failed.add(number))
                )
              )
              // Until it has its place.
              yield* Effect.yieldNow()
              if (act === "interrupted") yield* Fiber.interrupt(emitting)
              else fibers.push(emitting)
            }
          }
          control.failing = undefined
          yield* TestClock.adjust("20 seconds")
          yield* quiet
          for (const fiber of fibers) yield* Fiber.await(fiber)
          yield* settle
          const frames = yield* readAll(view)
          assert.deepStrictEqual(seqs(frames), upTo(frames.length))
          for (const { failed, job, said } of jobs) {
            const want = said.filter((each) => !failed.has(each))
            const got = numbers(frames, job)
            assert.deepStrictEqual(got, job.broken === undefined ? want : want.slice(0, got.length))
            assert.deepStrictEqual(yield* storedOf(job), got)
          }
        }),
        { maxUncommittedEvents: window }
      )
    },
    { fastCheck: { numRuns } }
  )
})
