/**
 * From `running` to the terminal message. A job has two fibers in the runtime's scope: the handler's, and its
 * supervisor, which is the only one to write the terminal message. The supervisor waits for whichever comes
 * first: the handler's exit, or an ending (cancel, limit, shutdown), which interrupts the handler. Either way the
 * handler's scope is closed in its own fiber, so that finalizers can still emit, and the supervisor waits for that fiber
 * no longer than the grace, which a shutdown cuts short; then the log is closed to it and what it still emits is
 * discarded.
 *
 * If the process dies anywhere in here, the stored record still says `running`, and the next start ends the
 * job (Recovery.ts). The supervisor itself is uninterruptible: only the death of the process keeps
 * it from writing the end.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import * as Budget from "../../protocol/Budget.js"
import { type ArcpError, InternalError, isArcpError } from "../../protocol/Errors.js"
import { eventPayload, timestamp } from "../../protocol/EventText.js"
import { failureMessage } from "../../services/agents/Agent.js"
import { Job, type JobService } from "../../services/jobs/Job.js"
import { Lease, type LeaseService, leaseErrorOf } from "../../services/lease/Lease.js"
import type { JobLog } from "../../services/log/EventLog.js"
import { inRealTime } from "../../services/runtime/within.js"
import type { JobRecord } from "../../services/store/Store.js"
import type { Emitter } from "./Emitter.js"
import * as Faults from "./Faults.js"
import type { JobParts } from "./JobParts.js"
import type { Limit } from "./Limits.js"
import type { LiveJob } from "./LiveJob.js"
import * as Terminal from "./Terminal.js"

/** What finalizers get when the runtime shuts down. */
const lastGrace = Duration.seconds(1)

interface RunContext {
  readonly live: LiveJob
  readonly job: JobLog
  readonly handler: Effect.Effect<unknown, ArcpError, Job | Lease | Scope.Scope>
  /** What the handler gets. */
  readonly service: JobService
  readonly lease: LeaseService
  /** See `Emitter.finish`. */
  readonly finish: Emitter["finish"]
  readonly limits: ReadonlyArray<Limit>
  /** The job's own. */
  readonly span: Tracer.Span
  readonly parts: JobParts
}

/** The handler with what it is given, in the job's span and scope; its first event is `running`. */
const handlerOf = (
  { handler, job, lease, live, parts, service, span }: RunContext,
  scope: Scope.CloseableScope
) => {
  const running = parts.log
    .append(job, {
      type: "job.event",
      kind: "status",
      payload: eventPayload("status", timestamp(parts.now()), `{"phase":"running"}`)
    })
    .pipe(Effect.tapError((error) => Effect.sync(() => Faults.blame(error))))
  return Effect.zipRight(running, handler).pipe(
    Effect.onExit((exit) => {
      live.returned(exit)
      return Scope.close(scope, exit)
    }),
    Effect.provide(
      Context.make(Job, service).pipe(
        Context.add(Lease, lease),
        Context.add(Scope.Scope, scope),
        Context.add(Tracer.ParentSpan, span)
      )
    )
  )
}

/** What is left of the budgets, as attributes have it. */
const tellBudget = (span: Tracer.Span, job: JobLog) => {
  if (job.remaining.size > 0) span.attribute("arcp.budget.remaining", Budget.entries(job.remaining).join(" "))
}

/** Waits for a handler that was interrupted, or for its finalizers: as long as the grace, or until a shutdown hurries. */
const awaitStop = (
  live: LiveJob,
  fiber: Fiber.RuntimeFiber<unknown, ArcpError>,
  grace: Duration.Duration
): Effect.Effect<void> =>
  Effect.gen(function* () {
    if (!live.hurried) {
      const hurried = Deferred.unsafeMake<void>(FiberId.none)
      live.hurry = () => Deferred.unsafeDone(hurried, Effect.void)
      fiber.addObserver(live.hurry)
      yield* Effect.timeoutOption(Effect.interruptible(Deferred.await(hurried)), grace)
    }
    if (live.hurried)
      yield* Effect.interruptible(Fiber.await(fiber)).pipe(
        Effect.timeoutOption(Duration.min(grace, lastGrace)),
        inRealTime
      )
  })

const conclude = (
  { finish, live, parts: { now, options } }: RunContext,
  fiber: Fiber.RuntimeFiber<unknown, ArcpError>
): Effect.Effect<Terminal.Terminal> =>
  Effect.suspend(() => {
    const { ending, record } = live
    const maxBytes = options.maxOutboundFrameBytes
    const fail = (error: ArcpError) =>
      Terminal.failed(error, "error", now(), maxBytes, { keyFreed: Faults.isOurs(error) })
    const end = (exit: Exit.Exit<unknown, ArcpError>): Effect.Effect<Terminal.Terminal> => {
      if (ending !== undefined) return Effect.succeed(Terminal.ended(ending, record, now(), maxBytes))
      if (Exit.isFailure(exit)) return Effect.succeed(fail(toError(exit.cause)))
      return finish(exit.value).pipe(
        Effect.map((streamed) => Terminal.succeeded(exit.value, streamed, now(), maxBytes)),
        Effect.catchAll((error) => Effect.succeed(fail(error)))
      )
    }
    const exit = fiber.unsafePoll()
    if (exit !== null) return Effect.zipRight(logDefect(exit, record), end(exit))
    // What it returned is nothing to build on while what it holds is not let go of; what it failed with stays.
    const returned = live.exit ?? held
    return Effect.logError(`agent ${record.agent} did not end within its grace in ${record.jobId}`).pipe(
      Effect.zipRight(logDefect(returned, record)),
      Effect.zipRight(end(Exit.zipRight(returned, held)))
    )
  })

/** Runs the handler of a job to its one terminal message, whatever ends it; gives what it came to. */
export const run = (context: RunContext): Effect.Effect<unknown, ArcpError> => {
  const { job, limits, live, parts, span } = context
  return Effect.gen(function* () {
    live.status = "running"
    tellBudget(span, job)
    const scope = yield* Scope.make()
    // Daemons, because a handler that cannot be interrupted must not keep anything from closing.
    const fiber = yield* Effect.forkDaemon(Effect.interruptible(handlerOf(context, scope)))
    fiber.addObserver((exit) => live.returned(exit))
    const timers = yield* Effect.forEach(limits, ({ ending, reached }) =>
      Effect.zipRight(
        reached,
        Effect.sync(() => live.end(ending))
      ).pipe(Effect.interruptible, Effect.forkDaemon)
    )
    yield* Deferred.await(live.changed)
    yield* Effect.forEach(timers, Fiber.interruptFork, { discard: true })
    if (live.ending !== undefined) yield* Fiber.interruptFork(fiber)
    if (fiber.unsafePoll() === null) yield* awaitStop(live, fiber, parts.options.cancelGrace)
    yield* live.settleChildren
    live.concluded = true
    const terminal = yield* conclude(context, fiber)
    live.status = terminal.status
    yield* live.cancelStored
    yield* Terminal.write(parts, job, live.owner, terminal, parts.now(), () => live.record)
    if (live.awaited !== undefined)
      yield* Deferred.complete(
        live.awaited.outcome,
        terminal.streamed === true ? parts.log.streamedResult(job) : terminal.outcome
      )
    tellBudget(span, job)
    return yield* terminal.outcome
  }).pipe(Effect.uninterruptible)
}

const held = Exit.fail(
  new InternalError({ message: "the agent's finalizers did not end within the cancel grace" })
)

const logDefect = (exit: Exit.Exit<unknown, unknown>, record: JobRecord) =>
  Exit.isSuccess(exit) || Cause.defects(exit.cause).length === 0
    ? Effect.void
    : Effect.logError(`agent ${record.agent} failed in ${record.jobId}`, exit.cause)

const toError = (cause: Cause.Cause<ArcpError>): ArcpError => {
  const failure = Cause.failureOption(cause)
  if (failure._tag === "Some" && isArcpError(failure.value)) return failure.value
  if (Cause.isInterruptedOnly(cause)) return new InternalError({ message: "the agent interrupted itself" })
  const squashed = Cause.squash(cause)
  return leaseErrorOf(squashed) ?? new InternalError({ message: failureMessage(squashed) })
}
