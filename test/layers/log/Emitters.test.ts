/** Many emitters at once, and emitters that are interrupted wherever they are. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { defaultScheduler, type Scheduler } from "effect/Scheduler"
import * as TestClock from "effect/TestClock"
import { EventLog, type JobLog, type NewEvent } from "../../../src/services/log/EventLog.js"
import { gc } from "../../support/collected.js"
import { isWaiting, makeStore, quiet, storedOf } from "./gated.js"
import { awaited, emit, end, event, numbers, openJob, openView, readAll, seqs, upTo } from "./harness.js"

const MiB = 1024 * 1024

const inUse = () => {
  gc()
  gc()
  const { external, heapUsed } = process.memoryUsage()
  return heapUsed + external
}

describe("thousands of jobs that emit at once", () => {
  it.effect(
    "hold no more than all may have together; none starves, and all end",
    () => {
      const { control, gate, run } = makeStore()
      // More events than one batch takes are within the bound, and more jobs than that emit.
      const count = 2_400
      const perJob = 3
      const bytes = 8 * 1024
      /** Text of its own for each event, so that what is held is counted. */
      const sized = (n: number): NewEvent => ({
        ...event("log", n),
        payload: JSON.stringify({ kind: "log", ts: "", body: { n, text: String(n % 10).repeat(bytes) } })
      })
      return run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const view = yield* openView
          const jobs = yield* Effect.forEach(upTo(count), () => openJob(view), { concurrency: "unbounded" })
          const before = inUse()
          yield* gate.close
          let emitted = 0
          const emitting = yield* Effect.forEach(jobs, (job) =>
            Effect.fork(
              Effect.forEach(
                upTo(perJob),
                (n) =>
                  Effect.map(
                    Effect.suspend(() => log.append(job, sized(n))),
                    () => {
                      emitted++
                    }
                  ),
                { discard: true }
              )
            )
          )
          yield* quiet
          // The emitters of those that are within the bound have returned; each other waits with one event.
          assert.isAtMost(emitted * bytes, 16 * MiB)
          assert.isAbove(emitted, 0)
          const held = inUse() - before
          assert.isAtMost(held / MiB, 16 + (count * bytes) / MiB + 64)
          const ending = yield* Effect.forEach(emitting, (fiber, i) =>
            Effect.fork(Effect.zipRight(Fiber.join(fiber), end(jobs[i] as JobLog, view)))
          )
          yield* gate.open
          yield* Fiber.joinAll(ending)
          assert.strictEqual(emitted, count * perJob)
          assert.strictEqual(view.last, count * (perJob + 1))
          for (const job of [0, count / 2, count - 1].map((i) => jobs[i] as JobLog))
            assert.deepStrictEqual(yield* storedOf(job), [...upTo(perJob), undefined])
          assert.isAtMost(control.largest, 1_024)
        }),
        // Nothing of it is read.
        { maxRetainedBytes: 4096 * MiB, maxMemoryLogBytes: 4096 * MiB }
      )
    },
    300_000
  )
})

/** What an emitter may be in the middle of when it is interrupted. */
const situations = {
  "that returns at once": { open: true, before: 0, wait: false },
  "that waits for its commit": { open: false, before: 0, wait: true },
  "that waits in a full window": { open: false, before: 9, wait: false },
  "that waits for its commit in a full window": { open: false, before: 9, wait: true }
}

/** More than there are points at which such an emitter can be. */
const points = 80

/** Lets go of a fiber before its step `point`, once. */
const pausingBefore = (point: number): Scheduler => {
  let steps = 0
  return {
    shouldYield: () => (++steps === point ? 0 : false),
    scheduleTask: (task, priority) => defaultScheduler.scheduleTask(task, priority)
  }
}

describe.each(Object.entries(situations))("an emitter %s", (_, { before, open, wait }) => {
  it.effect(
    "may be interrupted at every point: its event is there once or not at all, and nothing else is touched",
    () => {
      const { gate, run } = makeStore()
      return run(
        Effect.gen(function* () {
          const log = yield* EventLog
          const view = yield* openView
          const job = yield* openJob(view)
          const expected: Array<number> = []
          const maybe = new Set<number>()
          let n = 0
          let ended = 0
          for (let point = 1; point <= points; point++) {
            if (!open) yield* gate.close
            const others = yield* Effect.forEach(upTo(before), () => {
              expected.push(++n)
              return Effect.fork(emit(job, n, n))
            })
            yield* Effect.yieldNow()
            const number = ++n
            const one = wait ? awaited(event("log", number)) : event("log", number)
            const emitter = yield* log
              .append(job, one)
              .pipe(Effect.withScheduler(pausingBefore(point)), Effect.forkDaemon)
            yield* Effect.yieldNow()
            const exit = yield* Fiber.interrupt(emitter)
            if (Exit.isSuccess(exit)) {
              ended++
              expected.push(number)
            } else maybe.add(number)
            expected.push(++n)
            const after = yield* Effect.fork(emit(job, n, n))
            yield* Effect.yieldNow()
            yield* gate.open
            yield* Fiber.joinAll([...others, after])
            yield* log.flush(job)
          }
          yield* TestClock.adjust("1 minute")
          yield* quiet
          const read = numbers(yield* readAll(view), job) as ReadonlyArray<number>
          assert.deepStrictEqual(
            read.filter((each) => !maybe.has(each)),
            expected
          )
          // In the order of the calls, each at most once.
          assert.isTrue(read.every((each, i) => i === 0 || each > (read[i - 1] as number)))
          assert.deepStrictEqual(seqs(yield* readAll(view)), upTo(read.length))
          assert.strictEqual(ended > 0, open)
          // Nothing of all that is left in the windows: as much may be emitted as at first.
          yield* gate.close
          yield* emit(job, n + 1, n + 8)
          const more = yield* Effect.fork(emit(job, n + 9, n + 9))
          yield* quiet
          assert.isTrue(yield* isWaiting(more))
          yield* gate.open
          yield* Fiber.join(more)
        }),
        { maxUncommittedEvents: 8 }
      )
    }
  )
})
