/**
 * From the start of the handler to the terminal message. A job has two fibers in the runtime's scope: the handler's, and
 * its supervisor, which is the only one to write the terminal message. The supervisor waits for whichever comes
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
import * as Chunk from "effect/Chunk"
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
import { timestamp } from "../../protocol/EventText.js"
import { failureMessage, missingService, type Registered } from "../../services/agents/Agent.js"
import * as Thrown from "../../services/agents/Thrown.js"
import { EndedBy } from "../../services/jobs/EndedBy.js"
import { Job, type JobService } from "../../services/jobs/Job.js"
import { Lease, type LeaseService, leaseErrorOf } from "../../services/lease/Lease.js"
import type { JobLog, NewEvent } from "../../services/log/EventLog.js"
import { attempt, decided } from "../../services/runtime/decided.js"
import type { Errand } from "../../services/runtime/Pending.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"
import { Turn } from "../../services/runtime/Turn.js"
import { inRealTime } from "../../services/runtime/within.js"
import type { JobRecord } from "../../services/store/Store.js"
import * as Enduring from "./durable/Enduring.js"
import { type HandledJob, undone, unlessCancelled } from "./durable/Undone.js"
import type { Emitter } from "./Emitter.js"
import * as Faults from "./Faults.js"
import * as Limits from "./Limits.js"
import type { LiveJob, TerminalMessage } from "./LiveJob.js"
import type { Streamed } from "./ResultWriter.js"
import * as Terminal from "./Terminal.js"

export interface RunContext extends HandledJob {
  readonly handler: Effect.Effect<unknown, ArcpError, Job | Lease | Scope.Scope>
  /** See `Registered.services`. */
  readonly services: Registered["services"]
  /** What the handler gets. */
  readonly service: JobService
  readonly lease: LeaseService
  /** See `Emitter.finish`. */
  readonly finish: Emitter["finish"]
  readonly limits: ReadonlyArray<Limits.Limit>
  /** The job's own. */
  readonly span: Tracer.Span
  /** Called at the commit of the terminal message. */
  readonly stored: () => void
  /** Stores that the job is unloaded, or has it end as one that is. */
  readonly unloaded: Effect.Effect<void>
}

/** Returns the first event of a job, which is stored with its record. */
export const running = (at: number): NewEvent => ({
  type: "job.event",
  kind: "status",
  payload: JSON.stringify({ kind: "status", ts: timestamp(at), body: { phase: "running" } })
})

/**
 * Starts the handler with what it is given, in the job's span and scope, and closes that in its fiber. A daemon, because one
 * that cannot be interrupted must not keep anything from closing.
 */
const start = (
  { lease, live, parts, service, services, span, surroundings }: RunContext,
  handler: RunContext["handler"],
  onExit: (exit: Exit.Exit<unknown, ArcpError>) => void
): Fiber.RuntimeFiber<unknown, ArcpError> => {
  const given = services?.({ job: service, lease }) ?? new Map<string, unknown>()
  given.set(Job.key, service).set(Lease.key, lease)
  given.set(Tracer.ParentSpan.key, span).set(Turn.key, parts.turn)
  const graceMs = Duration.toMillis(parts.options.cancelGrace)
  given.set(EndedBy.key, { error: () => endedBy(live), graceMs })
  const run = Effect.flatMap(Scope.make(), (scope) => {
    given.set(Scope.Scope.key, scope)
    return Effect.onExit(handler, (exit) => {
      onExit(exit)
      return Scope.close(scope, exit)
    })
  })
  const fiber = surroundings.forkInterruptible(run, Context.unsafeMake<Job | Lease | Scope.Scope>(given))
  if (live.parent !== undefined) fiber.addObserver(live.runsHandler())
  return fiber
}

/** Returns what a handler is told that is given up: why its job ends, or that it goes on elsewhere, or later. */
const endedBy = ({ ending, record }: LiveJob): ArcpError => {
  if (ending?._tag === "Leave") return leftToTheNext
  if (ending?._tag === "Unload") return waits
  return ending === undefined ? hasEnded : Terminal.errorOf(ending, record)
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
        Effect.timeoutOption(Duration.min(grace, Limits.lastGrace)),
        inRealTime
      )
  })

/** Returns how a job ends whose handler has ended or is waited for no longer; whatever that was, a job has an end. */
const conclude = (
  context: RunContext,
  fiber: Fiber.RuntimeFiber<unknown, ArcpError>
): Effect.Effect<TerminalMessage> => {
  const end = attempt(() => decide(context, fiber))
  return decided(end)?._tag === "Success"
    ? end
    : Effect.catchAllDefect(end, (defect) => {
        const { live, parts } = context
        const logged = Effect.logError(
          `the end of ${live.record.jobId} could not be made out`,
          Cause.die(Thrown.readable(defect))
        )
        const error = new InternalError({ message: failed })
        return Effect.as(
          Effect.exit(logged),
          Terminal.failed(error, "error", parts.now(), parts.options.maxOutboundFrameBytes)
        )
      })
}

const decide = (
  { finish, live, parts: { now, options } }: RunContext,
  fiber: Fiber.RuntimeFiber<unknown, ArcpError>
): Effect.Effect<TerminalMessage> => {
  const { ending, record } = live
  const maxBytes = options.maxOutboundFrameBytes
  const fail = (error: ArcpError) =>
    Terminal.failed(error, "error", now(), maxBytes, { keyFreed: Faults.isOurs(error) })
  const end = (exit: Exit.Exit<unknown, ArcpError>): Effect.Effect<TerminalMessage> => {
    if (ending !== undefined) return Effect.succeed(Terminal.ended(ending, record, now(), maxBytes))
    if (Exit.isFailure(exit)) return Effect.succeed(fail(toError(exit.cause, options)))
    const finished = finish(exit.value)
    const succeed = (streamed: Streamed | undefined) =>
      Terminal.succeeded(exit.value, streamed, now(), maxBytes)
    const ended = decided(finished)
    return ended !== undefined && Exit.isSuccess(ended)
      ? Effect.succeed(succeed(ended.value))
      : Effect.match(finished, { onFailure: fail, onSuccess: succeed })
  }
  const polled = fiber.unsafePoll()
  const exit = polled && Thrown.readableExit(polled)
  if (exit !== null)
    return Exit.isSuccess(exit)
      ? end(exit)
      : Effect.zipRight(
          logDefect(exit, record),
          Effect.suspend(() => end(exit))
        )
  // What it returned is nothing to build on while what it holds is not let go of; what it failed with stays.
  const returned = live.exit ?? held
  return Effect.logError(`agent ${record.agent} did not end within its grace in ${record.jobId}`).pipe(
    Effect.zipRight(logDefect(returned, record)),
    Effect.zipRight(Effect.suspend(() => end(Exit.zipRight(returned, held))))
  )
}

/**
 * Returns how a job ends: when what it has emitted is not in its log, with that, whatever its handler says, so that nobody
 * takes a part for the whole. A cancel stays one.
 */
const unlessBroken = ({ job, live, parts }: RunContext, concluded: TerminalMessage): TerminalMessage => {
  const { broken: error } = job
  const terminal =
    error === undefined || live.ending?._tag === "Cancel"
      ? concluded
      : Terminal.ended(
          { _tag: "Broken", error },
          live.record,
          parts.now(),
          parts.options.maxOutboundFrameBytes
        )
  live.status = terminal.status
  return terminal
}

/** Runs a job to its one terminal message, whatever ends it, and after all that it has delegated to; gives what it came to. */
export function* run(context: RunContext): Errand<Exit.Exit<unknown, ArcpError>> {
  const { job, live, parts, settled, span, surroundings } = context
  tellBudget(span, job)
  const startedAt = parts.now()
  surroundings.say("job started")
  const concluding =
    settled === undefined ? yield* handled(context) : () => Effect.succeed(unlessCancelled(context, settled))
  if (live.waitsFor !== undefined) {
    yield* context.unloaded
    return Exit.fail(waits)
  }
  yield* live.settleChildren()
  if (live.ending?._tag === "Leave") {
    yield* left(context)
    return Exit.fail(leftToTheNext)
  }
  if (live.inputs !== undefined) yield* live.inputs.end
  live.concluded = true
  return yield* finish(context, yield* concluding(), startedAt)
}

/** Runs the handler of a job until it has ended, or is waited for no longer; gives what decides how the job ends. */
function* handled(context: RunContext): Errand<() => Effect.Effect<TerminalMessage>> {
  const { begin, handler, job, limits, live, parts, surroundings } = context
  /** What comes after the lease is over is the lease's end, also where its timer comes later still: a child's was earlier. */
  const returned = (exit: Exit.Exit<unknown, ArcpError>) => {
    if (Limits.isExpired(live.record, parts.now())) live.end({ _tag: "LeaseExpired" })
    live.returned(exit)
  }
  const fiber = start(context, begin === undefined ? handler : Effect.zipRight(begin, handler), returned)
  fiber.addObserver(returned)
  job.whenBroken((error) => {
    Faults.blame(error)
    live.end({ _tag: "Broken", error })
  })
  const timers = limits.map(({ ending, reached }) =>
    surroundings.forkInterruptible(Effect.map(reached, () => live.end(ending)))
  )
  while (live.exit === undefined && live.ending === undefined) yield* live.changed.wait
  for (const timer of timers) timer.unsafeInterruptAsFork(FiberId.none)
  if (live.ending !== undefined) fiber.unsafeInterruptAsFork(FiberId.none)
  if (fiber.unsafePoll() === null) yield* awaitStop(live, fiber, parts.options.cancelGrace)
  return () => conclude(context, fiber)
}

/** Undoes what is to be undone, and writes the terminal message; gives what the job came to. */
function* finish(
  context: RunContext,
  concluded: TerminalMessage,
  startedAt: number
): Errand<Exit.Exit<unknown, ArcpError>> {
  const { job, live, parts, span, surroundings, undoing } = context
  const last =
    undoing === undefined
      ? concluded
      : yield* undone(context, undoing, concluded, () => start(context, context.handler, () => {}))
  if (last === undefined) {
    yield* left(context)
    return Exit.fail(leftToTheNext)
  }
  yield* live.cancelStored
  const terminal = yield* Terminal.write(
    parts,
    job,
    live.owner,
    () => {
      const terminal = unlessBroken(context, last)
      return undoing === undefined ? terminal : Terminal.notUndone(terminal, undoing)
    },
    parts.now(),
    () => live.record,
    (isOurs) => {
      live.ended = isOurs
      context.stored()
    }
  )
  if (live.awaited !== undefined)
    if (terminal.streamed === true)
      yield* Deferred.complete(
        live.awaited.outcome,
        Enduring.of(
          live.parent?.record,
          parts.log.streamedResult(job),
          parts,
          () => live.parent?.ending !== undefined
        )
      )
    else Deferred.unsafeDone(live.awaited.outcome, terminal.outcome)
  tellBudget(span, job)
  surroundings.say(`job ended: ${terminal.status} after ${parts.now() - startedAt} ms`)
  return terminal.outcome
}

/** Stores that the handler does not run any more: that its process ends is nothing that it has done. */
const left = ({ job, live, parts }: RunContext): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { survival } = live.record
    if (survival === undefined) return Effect.void
    const record = { ...live.record, survival: { ...survival, left: true } }
    return Effect.zipRight(
      Effect.ignoreLogged(parts.log.amend(job, record, () => {})),
      Effect.logInfo("job left to the next start")
    )
  })

const waits = new InternalError({
  message: "the job only waits, and is not in memory",
  details: { reason: "unloaded" }
})

const leftToTheNext = new InternalError({
  message: "the runtime shut down; the job goes on when it is started again",
  details: { reason: "shutdown" }
})

const hasEnded = new InternalError({ message: "the job has ended" })

const held = Exit.fail(
  new InternalError({ message: "the agent's finalizers did not end within the cancel grace" })
)

/** Logs whole what the agent has not declared: of it, the client is told next to nothing. */
const logDefect = (exit: Exit.Exit<unknown, unknown>, record: JobRecord) =>
  Exit.isSuccess(exit) ||
  !Chunk.some(Cause.defects(exit.cause), (defect) => leaseErrorOf(defect) === undefined)
    ? Effect.void
    : Effect.logError(`agent ${record.agent} failed in ${record.jobId}`, Thrown.whole(exit.cause))

/** The error of a job whose handler ended with this cause. */
const toError = (
  cause: Cause.Cause<ArcpError>,
  { revealFailures }: Pick<Options, "revealFailures">
): ArcpError => {
  const failure = Cause.failureOption(cause)
  if (failure._tag === "Some" && isArcpError(failure.value)) return failure.value
  if (Cause.isInterruptedOnly(cause)) return new InternalError({ message: "the agent interrupted itself" })
  const squashed = Cause.squash(cause)
  const missing = missingService(squashed)
  if (missing !== undefined)
    return new InternalError({ message: `the agent needs ${missing}, which this runtime does not have` })
  return (
    leaseErrorOf(squashed) ??
    new InternalError({ message: revealFailures ? failureMessage(squashed) : failed })
  )
}

/** Whatever an agent throws may have been made of what only the runtime may know. */
const failed = "the agent failed; the runtime's log says why"
