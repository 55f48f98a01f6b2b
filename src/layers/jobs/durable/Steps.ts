/**
 * `step` and `sleep` of a durable job. What is found in the journal is handed out; what is not runs, and its outcome is
 * committed with the event that tells of it before anybody is given it.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import type { ArcpError, InternalError, Timeout } from "../../../protocol/Errors.js"
import { eventPayload, timestamp } from "../../../protocol/EventText.js"
import { byteLength } from "../../../protocol/Utf8.js"
import * as Vendor from "../../../protocol/Vendor.js"
import { inTime } from "../../../services/jobs/inTime.js"
import {
  type JobService,
  type RunStep,
  Step,
  type StepError,
  type StepOptions
} from "../../../services/jobs/Job.js"
import type { EventLog, JobLog, NewEvent } from "../../../services/log/EventLog.js"
import * as Tracing from "../../../services/runtime/Tracing.js"
import { toInternalError } from "../../../services/store/Store.js"
import * as Faults from "../Faults.js"
import { sleepUntil } from "../Limits.js"
import * as Appending from "./appending.js"
import { Compensations } from "./Compensations.js"
import * as Enduring from "./Enduring.js"
import type { About, Journal, KeyedKind, Known } from "./Journal.js"
import * as Outcome from "./Outcome.js"
import type { Presence } from "./Presence.js"
import { RunningStep, type Whereabouts } from "./Running.js"

/** What the steps of a job work on. */
export interface StepContext {
  readonly log: EventLog["Type"]
  readonly job: JobLog
  readonly journal: Journal
  readonly whereabouts: Whereabouts
  readonly compensations: Compensations
  readonly presence: Presence
  readonly running: Enduring.Parts["running"]
  /** Epoch ms. */
  readonly now: () => number
  readonly awaitEmits: boolean
}

type State = "started" | "retry" | "ended" | "failed"

/** What is told of a step. */
type Told = { readonly key: string; readonly state: State; readonly attempt: number } & Record<
  string,
  unknown
>

/** Appends what a step has come to, and what the journal has of it from then on. */
const tell = (
  context: Pick<StepContext, "awaitEmits" | "job" | "log" | "now">,
  body: Told,
  makeJournal?: NewEvent["makeJournal"]
): Effect.Effect<void, InternalError> =>
  Appending.begin(context, {
    type: "job.event",
    kind: Vendor.step,
    payload: eventPayload(Vendor.step, timestamp(context.now()), JSON.stringify(body)),
    awaited: context.awaitEmits,
    makeJournal
  })

const unread = toInternalError("the job's journal could not be read")

/** Waits until what was told is committed. */
export const committed = ({ job, log }: StepContext): Effect.Effect<void, InternalError> =>
  Effect.tapError(log.flush(job), Faults.blamed)

/** Tells whether something is of a handler that does nothing any more that it has not done: what undoes its steps does. */
const isSettled = ({ settling }: Journal, key: string, within: RunningStep | undefined): boolean =>
  settling && within === undefined && !Compensations.isKey(key)

/**
 * What a handler comes to that is run for its compensations only, and has to go no further: it is held there until all that
 * undoes its steps is known, and then ends as in a job that has ended, also where it cannot be interrupted.
 */
const heldBack = ({ halted }: Journal): Effect.Effect<never> => Effect.zipRight(halted, Effect.interrupt)

/**
 * Runs `use` with a key that nobody else has meanwhile. The log is closed to a job that has ended, or goes on in the next
 * process: there nothing is begun any more.
 */
export const keyed = <A, E, R>(
  { job, journal, presence, whereabouts }: Pick<StepContext, "job" | "journal" | "presence" | "whereabouts">,
  kind: KeyedKind,
  key: string,
  use: (known: Known, within: RunningStep | undefined) => Effect.Effect<A, E, R>
): Effect.Effect<A, E | InternalError, R> =>
  Effect.withFiberRuntime<A, E | InternalError, R>((fiber) => {
    if (job.ended) return Effect.interrupt
    const within = whereabouts.stepOf(fiber as Fiber.RuntimeFiber<unknown, unknown>)
    const passes = within === undefined && whereabouts.isOwn(fiber as Fiber.RuntimeFiber<unknown, unknown>)
    return Effect.acquireUseRelease(
      Effect.tap(journal.claim(kind, key), () => presence.begin()),
      (known) =>
        known.size === undefined && isSettled(journal, key, within) ? heldBack(journal) : use(known, within),
      (known) =>
        Effect.sync(() => {
          known.running = false
          presence.end()
          if (passes) journal.pass()
        })
    )
  })

/** Returns the outcome that was found, when it is its turn; one of this run as soon as it is stored. */
export const handedOut = (context: StepContext, known: Known): Effect.Effect<string, InternalError> => {
  const { journal, running } = context
  const found = journal.handOut(
    known.ordinal,
    Enduring.whileAway(Effect.mapError(journal.value(known), unread), { running })
  )
  return known.isFresh ? Effect.zipRight(committed(context), found) : found
}

/** Waits until everything that was found and is being asked for has been handed out. */
export const afterFound = (journal: Journal): Effect.Effect<void> =>
  Effect.suspend(() =>
    journal.isReplaying ? journal.handOut(Number.POSITIVE_INFINITY, Effect.void) : Effect.void
  )

/** An outcome that fits into the journal: another one says so of one that does not. */
const fitting = (journal: Journal, key: string, outcome: Outcome.Outcome): Outcome.Outcome => {
  const over = journal.overLimit(key, byteLength(outcome.text))
  return over === undefined ? outcome : Outcome.ofError(over)
}

/**
 * Commits an outcome; whoever waits for it may be interrupted, and it is committed all the same. `undo`: of a step that has done what
 * it does. When what it came to cannot be kept that is an outcome that failed, and its step is undone all the same: in this process,
 * which has what it came to. To a later one it is a step that cannot be undone, and the job's end names it.
 */
const commitOutcome = (
  context: StepContext,
  known: Known,
  attempted: About,
  outcome: Outcome.Outcome,
  ms: number | undefined,
  restore: <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<A, E>,
  undo?: (keptText: string | undefined) => ReturnType<Undo>
): Effect.Effect<string, InternalError> =>
  Effect.suspend(() => {
    if (context.job.ended) return Effect.interrupt
    const { state, text } = fitting(context.journal, known.key, outcome)
    const about: About = {
      ...attempted,
      ...(state === "failed" ? { failed: true } : {}),
      ...(undo === undefined ? {} : { compensate: true })
    }
    // Before it waits for its place: it is undone also when its job ends before it has one.
    if (undo !== undefined) context.compensations.add(known.key, undo(state === "ended" ? text : undefined))
    const told = tell(context, { key: known.key, state, attempt: about.attempt, ms }, () =>
      context.journal.entry(known, about, text)
    )
    return Effect.as(Effect.zipRight(told, restore(committed(context))), text)
  })

/** How an attempt of a step ended: with an outcome, or with what may be tried again. */
type Attempted<E> = Either.Either<Outcome.Outcome, E | Timeout>

/** Tells of an attempt that gave no outcome: it died, or was interrupted. */
const cutOff = (context: StepContext, key: string, attempt: number, ms: number): Effect.Effect<void> =>
  context.job.ended ? Effect.void : Effect.ignore(tell(context, { key, state: "failed", attempt, ms }))

/** Runs an attempt of a step in a span of its own, where somebody traces (§11). */
const inSpan = <A, E, R>(
  attempted: Effect.Effect<A, E, R>,
  key: string,
  attempt: number
): Effect.Effect<A, E, R> =>
  Effect.flatMap(Tracing.isTraced, (isTraced) =>
    isTraced
      ? Effect.withSpan(attempted, "arcp.step", {
          captureStackTrace: false,
          attributes: { "arcp.step.key": key, "arcp.step.attempt": attempt }
        })
      : attempted
  )

/** Runs an effect until it has an outcome, and commits that. */
const run = <A, AI, E, EI, R>(
  context: StepContext,
  known: Known,
  within: RunningStep | undefined,
  effect: Effect.Effect<A, E, R>,
  options: Omit<StepOptions<A, AI, E, EI>, "compensate">,
  undo?: Undo<A, E>
): Effect.Effect<string, InternalError, Exclude<R, Step>> => {
  const { job, journal, now } = context
  const { key } = known
  const bounded = inTime(key, effect, options.timeout)
  return Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      yield* restore(afterFound(journal))
      const full = journal.overLimit(key, 0)
      if (full !== undefined) return yield* full
      const driver = options.retry === undefined ? undefined : yield* Schedule.driver(options.retry)
      for (;;) {
        // A handler that did not end in time may be waiting to try again.
        if (job.ended || isSettled(journal, key, within)) return yield* Effect.interrupt
        const attempt = known.about.attempt + 1
        const about: About = { ...known.about, attempt, within: within?.key }
        const running = new RunningStep(journal.jobId, key, attempt)
        const startedAt = now()
        const state = attempt === 1 ? "started" : "retry"
        yield* restore(tell(context, { key, state, attempt }, () => journal.entry(known, about)))
        const exit = yield* Effect.exit(
          Effect.provideService(restore(inSpan(bounded, key, attempt)), Step, running)
        )
        running.over = true
        const ms = now() - startedAt
        const attempted = yield* toOutcome(key, exit, options).pipe(
          Effect.onError(() => cutOff(context, key, attempt, ms))
        )
        if (Either.isLeft(attempted)) {
          const again =
            driver === undefined ? undefined : yield* Effect.option(restore(driver.next(attempted.left as E)))
          if (again?._tag === "Some") continue
        }
        const outcome = Either.isRight(attempted)
          ? attempted.right
          : yield* Outcome.ofFailure(key, attempted.left as E, options)
        const undoDone =
          undo === undefined || Exit.isFailure(exit)
            ? undefined
            : (keptText: string | undefined) =>
                undo(keptText === undefined ? exit : Outcome.found(key, keptText, options))
        return yield* commitOutcome(context, known, about, outcome, ms, restore, undoDone)
      }
    })
  ) as Effect.Effect<string, InternalError, Exclude<R, Step>>
}

/** Returns what an attempt came to; fails with its cause when that is no outcome. */
const toOutcome = <A, AI, E, EI>(
  key: string,
  exit: Exit.Exit<A, E | Timeout>,
  options: Outcome.Schemas<A, AI, E, EI>
): Effect.Effect<Attempted<E>> => {
  if (Exit.isSuccess(exit)) return Effect.map(Outcome.ofSuccess(key, exit.value, options), Either.right)
  const { cause } = exit
  const failure = Cause.failureOption(cause)
  return Cause.isInterrupted(cause) || failure._tag === "None"
    ? Effect.failCause(cause as Cause.Cause<never>)
    : Effect.succeed(Either.left(failure.value))
}

/** Sleeps until a time that the first run has decided. */
const sleepOnce = (
  context: StepContext,
  known: Known,
  within: RunningStep | undefined,
  duration: Duration.DurationInput
): Effect.Effect<void, InternalError> => {
  const { journal, now } = context
  const { key } = known
  return Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      yield* restore(afterFound(journal))
      const full = journal.overLimit(key, 0)
      if (full !== undefined) return yield* full
      const isBegun = known.about.until !== undefined
      const since = isBegun ? known.about.since : now()
      const until = known.about.until ?? now() + Duration.toMillis(duration)
      const about: About = { attempt: 1, since, until, within: within?.key }
      if (!isBegun) {
        const body = { key, state: "started", attempt: 1, until: timestamp(until) } as const
        yield* restore(tell(context, body, () => journal.entry(known, about)))
      }
      yield* restore(committed(context))
      yield* restore(context.presence.waiting({ until }, sleepUntil(until)))
      yield* commitOutcome(
        context,
        known,
        about,
        { state: "ended", text: "{}" },
        since === undefined ? undefined : now() - since,
        restore
      )
    })
  )
}

/** What undoes a step, made of what that came to. */
type Undo<A = never, E = never> = (
  output: Effect.Effect<A, E | Timeout | InternalError>
) => Effect.Effect<unknown, unknown, Step>

const nested = (key: string, { key: outer }: RunningStep) =>
  Effect.die(
    new Error(
      `step ${key} is inside of step ${outer}, and cannot be undone by itself: give the compensation to ${outer}`
    )
  )

/** Returns what undoes a step, in the surroundings in which that was asked for. */
const undoing = <A, AI, E, EI, RC>({
  compensate
}: Pick<StepOptions<A, AI, E, EI, RC>, "compensate">): Effect.Effect<Undo<A, E> | undefined, never, RC> => {
  return compensate === undefined
    ? Effect.succeed(undefined)
    : Effect.map(
        Effect.context<RC>(),
        (context) => (output: Effect.Effect<A, E | Timeout | InternalError>) =>
          Effect.scoped(
            Effect.flatMap(Effect.all([Step, Effect.scope]), ([step, scope]) =>
              Effect.provide(
                Effect.flatMap(output, compensate),
                // The step is the one that undoes, and the handler's scope is closed by then.
                context.pipe(Context.add(Step, step), Context.add(Scope.Scope, scope))
              )
            )
          )
      )
}

/** Returns `step`, `sleep` and `hold` of a job. */
export const make = (context: StepContext): Pick<JobService, "step" | "sleep" | "hold"> => ({
  hold: (effect) => context.presence.hold(effect),
  step: <A, E = never, R = never, AI = unknown, EI = unknown, RC = never>(
    key: string,
    effect: Effect.Effect<A, E, R>,
    options: StepOptions<A, AI, E, EI, RC> = {}
  ): Effect.Effect<A, E | StepError, Exclude<R | RC, Step>> =>
    Compensations.isKey(key)
      ? Effect.die(new Error(`step ${key}: keys that begin so are of compensations`))
      : (keyed(context, "step", key, (known, within) => {
          if (options.compensate !== undefined && within !== undefined) return nested(key, within)
          return Effect.flatMap(undoing(options), (undo) => {
            if (known.size === undefined)
              return Effect.flatMap(run(context, known, within, effect, options, undo), (text) =>
                Outcome.found(key, text, options)
              )
            return Effect.flatMap(handedOut(context, known), (text) => {
              const { compensations, journal } = context
              if (undo !== undefined && known.about.compensate === true) {
                compensations.add(key, undo(Outcome.found(key, text, options)))
                // It is the last that was asked for: what comes now may be something that is not in the journal.
                if (journal.settling && compensations.areKnown) return heldBack(journal)
              }
              return Outcome.found(key, text, options)
            })
          })
        }) as Effect.Effect<A, E | StepError, Exclude<R | RC, Step>>),
  sleep: (key, duration) =>
    keyed(context, "sleep", key, (known, within) =>
      known.size === undefined
        ? sleepOnce(context, known, within, duration)
        : Effect.asVoid(handedOut(context, known))
    )
})

/** Runs a compensation as a step, unless that has an outcome. */
export const compensate = (
  context: StepContext,
  key: string,
  undo: Effect.Effect<unknown, ArcpError, Step>
): Effect.Effect<void, InternalError> =>
  keyed(context, "step", key, (known, within) =>
    known.size === undefined
      ? Effect.asVoid(run(context, known, within, Effect.asVoid(undo), {}))
      : Effect.void
  )

/** Made by the call, and not when its effect is run, so that the stack leads to the agent's line. */
const notDurable = (method: string) => () =>
  Effect.die(
    new Error(
      `job.${method} is for durable agents only: declare the agent with durable: true, among the options of Agent.make or Agent.fromPromise`
    )
  )

/** What an agent that is not durable has in their place. */
export const none: { readonly step: RunStep } & Pick<JobService, "sleep" | "hold" | "input"> = {
  step: notDurable("step"),
  sleep: notDurable("sleep"),
  hold: (effect) => effect,
  input: notDurable("input")
}
