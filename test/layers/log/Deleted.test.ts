/** Jobs that somebody wants to be forgotten while the retention is at them. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import { EventLog } from "../../../src/services/log/EventLog.js"
import { Store } from "../../../src/services/store/Store.js"
import { isWaiting, makeStore, quiet } from "./gated.js"
import { emit, openView, record, settle } from "./harness.js"

/** A job that has ended, with so many events. */
const ended = (count: number) =>
  Effect.gen(function* () {
    const log = yield* EventLog
    const view = yield* openView
    const own = record(view)
    const job = yield* log.openJob(own, view)
    yield* emit(job, 1, count)
    yield* log.end(job, { type: "job.result", kind: "", payload: "{}" }, (lastEventSeq) => ({
      ...own,
      status: "success",
      endedAt: 2,
      lastEventSeq
    }))
    yield* settle
    yield* log.dropView(view)
    return own
  })

describe("a deletion in the middle of a pass of the retention", () => {
  it.effect("that drops the same jobs: each goes once, and is counted once", () => {
    const { gate, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const store = yield* Store
        const jobs = yield* Effect.replicateEffect(ended(3), 4)
        yield* gate.close
        // What is retired is found, and its commit waits.
        yield* TestClock.adjust("2 days")
        yield* quiet
        const forgetting = yield* Effect.fork(log.forget(jobs))
        yield* quiet
        assert.isTrue(yield* isWaiting(forgetting))
        yield* gate.open
        yield* Fiber.join(forgetting)
        for (const { jobId } of jobs) assert.isUndefined(yield* store.job(jobId))
        assert.deepStrictEqual([...(yield* store.endedCounts).values()], [])
        // The counts are right: as many as the cap fit, and stay.
        const kept = yield* Effect.replicateEffect(ended(1), 3)
        yield* TestClock.adjust("1 second")
        yield* quiet
        for (const { jobId } of kept) assert.isDefined(yield* store.job(jobId))
      }),
      { maxRetainedJobs: 3, jobRetention: "1 day" }
    )
  })

  it.effect("that cuts a job's log: nothing is cut of what is gone", () => {
    const { gate, run } = makeStore()
    return run(
      Effect.gen(function* () {
        const log = yield* EventLog
        const store = yield* Store
        const view = yield* openView
        const own = record(view)
        const job = yield* log.openJob(own, view)
        // Nobody reads it, and no emitter waits for that.
        yield* log.dropView(view)
        yield* emit(job, 1, 60)
        yield* settle
        // The end takes it over its cap, and the pass that follows waits with its cut.
        const end = yield* Effect.fork(
          Effect.zipRight(
            emit(job, 61, 90),
            log.end(job, { type: "job.result", kind: "", payload: "{}" }, (lastEventSeq) => ({
              ...own,
              status: "success",
              endedAt: 2,
              lastEventSeq
            }))
          )
        )
        yield* quiet
        yield* Fiber.join(end)
        yield* gate.close
        const forgetting = yield* Effect.fork(log.forget([own]))
        yield* quiet
        assert.isTrue(yield* isWaiting(forgetting))
        yield* gate.open
        yield* Fiber.join(forgetting)
        yield* quiet
        yield* settle
        assert.isUndefined(yield* store.job(own.jobId))
        assert.deepStrictEqual(yield* store.boundsOf([own.jobId]), new Map())
        while (yield* store.vacuum) yield* quiet
        assert.deepStrictEqual(yield* store.events(own.jobId, 1, 99), [])
      }),
      { maxRetainedEvents: 64, tailBytes: 1 }
    )
  })
})
