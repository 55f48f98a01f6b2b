/**
 * From `running` to the terminal message. A job has two fibers in the runtime's scope: the handler's, and its
 * supervisor, which is the only one to write the terminal message. The supervisor waits for whichever comes
 * first: the handler's exit, or an ending (cancel, deadline, shutdown). An ending interrupts the handler and
 * waits for it no longer than the grace, which a shutdown cuts short; then the log is closed to it and what it still emits is discarded.
 *
 * If the process dies anywhere in here, the stored record still says `running`, and the next start ends the
 * job (Jobs.ts, `recover`). The supervisor itself is uninterruptible: only the death of the process keeps
 * it from writing the end.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Schedule from "effect/Schedule"
import * as Tracer from "effect/Tracer"
import * as Budget from "../../protocol/Budget.js"
import {
  type ArcpError,
  Cancelled,
  InternalError,
  isArcpError,
  LeaseExpired,
  Timeout,
  toPayload
} from "../../protocol/Errors.js"
import { eventPayload, timestamp } from "../../protocol/EventText.js"
import type { JobStatus } from "../../protocol/Message.js"
import { failureMessage } from "../../services/agents/Agent.js"
import { Job, type JobService } from "../../services/jobs/Job.js"
import type { JobSession } from "../../services/jobs/Jobs.js"
import { Lease, type LeaseService, leaseErrorOf } from "../../services/lease/Lease.js"
import type { EventLog, JobLog } from "../../services/log/EventLog.js"
import type { JobRecord } from "../../services/store/Store.js"
import type { Emitter } from "./Emitter.js"
import type { Ending, LiveJob } from "./LiveJob.js"

/** One day: timers beyond 2^31 ms do not fire, so longer waits are cut into pieces. */
const longestSleep = 86_400_000

/** Sleeps until a time, however far away. */
export const sleepUntil = (epochMs: number): Effect.Effect<void> =>
  Effect.clockWith((clock) =>
    Effect.suspend(() => {
      const left = epochMs - clock.unsafeCurrentTimeMillis()
      return left <= 0
        ? Effect.void
        : Effect.zipRight(clock.sleep(Duration.millis(Math.min(left, longestSleep))), sleepUntil(epochMs))
    })
  )

/** What finalizers get when the runtime shuts down. */
const lastGrace = Duration.seconds(1)

const realClock = Clock.make()
/** A shutdown ends in real time, also under a clock that stands still. */
export const inRealTime = Effect.withClock(realClock)

/** Retries of a terminal message that could not be committed: soon at first, then every 5 s. */
const retryTerminal = Schedule.union(Schedule.exponential("20 millis"), Schedule.spaced("5 seconds"))

export const run = (context: {
  readonly live: LiveJob
  readonly job: JobLog
  readonly handler: Effect.Effect<unknown, ArcpError, Job | Lease>
  /** What the handler gets. */
  readonly service: JobService
  readonly lease: LeaseService
  /** See `Emitter.finish`. */
  readonly finish: Emitter["finish"]
  readonly deadline: { readonly at: number; readonly ending: Ending } | undefined
  /** The span of the job that delegated to it. */
  readonly parentSpan: Tracer.AnySpan | undefined
  readonly log: EventLog["Type"]
  readonly cancelGrace: Duration.Duration
  readonly now: () => number
}): Effect.Effect<void> => {
  const { live, job, log, now } = context

  const running = log.append(job, {
    type: "job.event",
    kind: "status",
    payload: eventPayload("status", timestamp(now()), `{"phase":"running"}`)
  })

  const handler = Effect.zipRight(running, context.handler).pipe(
    Effect.provideService(Job, context.service),
    Effect.provideService(Lease, context.lease),
    Effect.withSpan("arcp.job", {
      captureStackTrace: false,
      parent:
        context.parentSpan ??
        Tracer.externalSpan({ traceId: live.record.traceId, spanId: live.record.traceId.slice(16) }),
      attributes: {
        "arcp.session_id": live.record.sessionId,
        "arcp.job_id": live.record.jobId,
        "arcp.agent": live.record.agent,
        "arcp.lease.capabilities": Object.keys(live.record.lease).join(" "),
        "arcp.lease.expires_at": live.record.leaseConstraints?.expires_at,
        "arcp.budget.remaining": Budget.entries(job.remaining).join(" ")
      }
    })
  )

  const conclude = Effect.suspend(() => {
    const { ending, exit } = live
    if (ending !== undefined) return Effect.succeed(ended(ending, live.record, now()))
    if (exit === undefined || Exit.isFailure(exit))
      return logDefect(exit?.cause, live.record).pipe(
        Effect.as(failed(exit === undefined ? stopped : toError(exit.cause), "error", now()))
      )
    return context.finish.pipe(
      Effect.map((streamed) => succeeded(exit.value, streamed, now())),
      Effect.catchAll((error) => Effect.succeed(failed(error, "error", now())))
    )
  })

  return Effect.gen(function* () {
    live.status = "running"
    // Daemons, because a handler that cannot be interrupted must not keep anything from closing.
    const fiber = yield* Effect.forkDaemon(Effect.interruptible(handler))
    fiber.addObserver((exit) => {
      if (live.ending !== undefined) return
      live.exit = exit
      Deferred.unsafeDone(live.changed, Effect.void)
    })
    const timer =
      context.deadline === undefined
        ? undefined
        : yield* sleepUntil(context.deadline.at).pipe(
            Effect.zipRight(Effect.sync(() => live.end((context.deadline as { ending: Ending }).ending))),
            Effect.interruptible,
            Effect.forkDaemon
          )
    yield* Deferred.await(live.changed)
    if (timer !== undefined) yield* Fiber.interruptFork(timer)
    if (live.ending !== undefined) {
      yield* Fiber.interruptFork(fiber)
      const stopped = Effect.interruptible(Fiber.await(fiber))
      if (!live.hurried) {
        const hurried = Deferred.unsafeMake<void>(FiberId.none)
        live.hurry = () => Deferred.unsafeDone(hurried, Effect.void)
        fiber.addObserver(live.hurry)
        yield* Effect.timeoutOption(Effect.interruptible(Deferred.await(hurried)), context.cancelGrace)
      }
      if (live.hurried)
        yield* inRealTime(Effect.timeoutOption(stopped, Duration.min(context.cancelGrace, lastGrace)))
    }
    yield* live.settleChildren
    live.concluded = true
    const terminal = yield* conclude
    live.status = terminal.status
    yield* write(log, { record: live.record, owner: live.owner, job }, terminal, now())
    if (live.awaited !== undefined)
      yield* Deferred.complete(
        live.awaited.outcome,
        terminal.streamed === true ? log.streamedResult(job) : terminal.outcome
      )
  }).pipe(Effect.uninterruptible)
}

export interface Terminal {
  readonly type: "job.result" | "job.error"
  readonly kind: "" | "streamed"
  readonly status: JobStatus
  readonly payload: string
  /** The same for whoever delegated to the job; a streamed result is read from the log instead. */
  readonly outcome: Exit.Exit<unknown, ArcpError>
  readonly streamed?: boolean
}

/** Writes the terminal message, as often as it takes; tells the owner when it does not get through. */
export const write = (
  log: EventLog["Type"],
  ended: {
    readonly record: JobRecord
    readonly owner: Pick<JobSession, "sessionId" | "send">
    readonly job: JobLog
  },
  terminal: Terminal,
  endedAt: number
) => {
  const { record, owner } = ended
  let told = false
  return log
    .end(ended.job, terminal, (lastEventSeq) => ({
      ...record,
      sessionId: owner.sessionId,
      status: terminal.status,
      endedAt,
      lastEventSeq
    }))
    .pipe(
      Effect.tapError((error) =>
        Effect.suspend(() => {
          if (told) return Effect.void
          told = true
          owner.send({
            type: "session.error",
            payload: toPayload(error, { job_id: record.jobId })
          })
          return Effect.logError(
            `the end of ${record.jobId} could not be stored; trying again`,
            error.message
          )
        })
      ),
      Effect.retry(retryTerminal),
      Effect.ignore
    )
}

const stopped = new InternalError({ message: "the job was stopped" })

const logDefect = (cause: Cause.Cause<unknown> | undefined, record: JobRecord) =>
  cause === undefined || Cause.defects(cause).length === 0
    ? Effect.void
    : Effect.logError(`agent ${record.agent} failed in ${record.jobId}`, cause)

const toError = (cause: Cause.Cause<ArcpError>): ArcpError => {
  const failure = Cause.failureOption(cause)
  if (failure._tag === "Some" && isArcpError(failure.value)) return failure.value
  if (Cause.isInterruptedOnly(cause)) return new InternalError({ message: "the agent interrupted itself" })
  const squashed = Cause.squash(cause)
  return leaseErrorOf(squashed) ?? new InternalError({ message: failureMessage(squashed) })
}

export const failed = (
  error: ArcpError,
  finalStatus: "error" | "cancelled" | "timed_out",
  at: number,
  details?: Record<string, unknown>
): Terminal => ({
  type: "job.error",
  kind: "",
  status: finalStatus,
  outcome: Exit.fail(error),
  payload: JSON.stringify({
    ...toPayload(error, details),
    final_status: finalStatus,
    completed_at: timestamp(at)
  })
})

const ended = (ending: Ending, record: JobRecord, at: number): Terminal => {
  switch (ending._tag) {
    case "Cancel":
      return failed(
        new Cancelled({
          message:
            ending.reason === undefined ? "the job was cancelled" : `the job was cancelled: ${ending.reason}`
        }),
        "cancelled",
        at
      )
    case "Timeout":
      return failed(
        new Timeout({ message: `the job ran longer than ${record.maxRuntimeSec} s` }),
        "timed_out",
        at
      )
    case "LeaseExpired":
      return failed(
        new LeaseExpired({ message: `the lease expired at ${record.leaseConstraints?.expires_at}` }),
        "error",
        at
      )
    case "Shutdown":
      return failed(
        new InternalError({
          message: "the runtime shut down before the job ended; submit it again",
          details: { reason: "runtime_restart" }
        }),
        "error",
        at
      )
  }
}

const succeeded = (
  output: unknown,
  streamed: { readonly resultId: string; readonly size: number; readonly inline?: unknown } | undefined,
  at: number
): Terminal => {
  const result =
    streamed === undefined
      ? { result: output }
      : "inline" in streamed
        ? { result: streamed.inline }
        : { result_id: streamed.resultId, result_size: streamed.size }
  try {
    return {
      type: "job.result",
      kind: "result_id" in result ? "streamed" : "",
      status: "success",
      outcome: Exit.succeed("result" in result ? result.result : undefined),
      streamed: "result_id" in result,
      payload: JSON.stringify({ final_status: "success", ...result, completed_at: timestamp(at) })
    }
  } catch {
    return failed(new InternalError({ message: "the agent's output cannot be written as JSON" }), "error", at)
  }
}
