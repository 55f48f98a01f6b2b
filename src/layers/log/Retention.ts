/**
 * What may be forgotten (§4.5), and nothing else decides it.
 *
 * - A view has a floor, which is stored. What is above the floor and needed stays; over the session's cap an absent
 *   session loses the oldest of its own view, and nobody else loses anything by it.
 * - A job's events go when they are over the job's own cap and no view needs them, or when the job's retention has
 *   passed and no view needs it. Who needs what is asked of the store, which knows every session, also those that
 *   this process has not loaded: so the answer is the same after a restart.
 * - Everything is done in batches by fibers of their own. An emitter that gets ahead of them waits (`room`).
 *
 * If the process dies anywhere in here, a floor or a job was dropped whole or not at all; the next pass goes on.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { InternalError } from "../../protocol/Errors.js"
import { Signal } from "../../services/runtime/Signal.js"
import { inRealTime } from "../../services/runtime/within.js"
import type { StoreError } from "../../services/store/Store.js"
import type { JobState } from "./JobState.js"
import type { Limits } from "./Ledger.js"
import { Agenda } from "./retention/Agenda.js"
import * as FinishedJobs from "./retention/Finished.js"
import * as JobLogs from "./retention/Jobs.js"
import * as Memory from "./retention/Memory.js"
import { batch, type RetentionParts } from "./retention/Parts.js"
import { Retirements } from "./retention/Retirements.js"
import * as SessionViews from "./retention/Views.js"
import { patienceMs, type ViewState } from "./ViewState.js"

/** Rows waiting to be freed on disk at which emitters over their job's cap wait for the freeing. */
const maxFreeing = 200_000

/** Before a pass that could not make room is repeated. */
const passAgain = Duration.millis(10)

/** Forgets what is over the limits, or old, and that nobody needs. */
export interface Retention {
  /** Looks at what a commit has touched. */
  readonly published: (touched: {
    readonly views: ReadonlyArray<ViewState>
    readonly jobs: ReadonlyArray<JobState>
  }) => void
  /** Looks at a view that is not read any more. */
  readonly detached: (view: ViewState) => void
  /** Counts a job that has ended, or a submit that was refused. */
  readonly ended: (jobId: string, principal: string) => void
  /** Drops jobs that have ended because somebody wants it; see `FinishedJobs`. */
  readonly forget: (
    jobs: ReadonlyArray<FinishedJobs.FinishedJob>
  ) => Effect.Effect<void, InternalError | StoreError>
  /** Begins to free what was dropped: a view, or something else. */
  readonly dropped: () => void
  /** Returns whether an emitter of this job is ahead of the retention, and has to wait for `room`. */
  readonly isBlocked: (job: JobState) => boolean
  /** Waits until what was to be forgotten is freed, for `patienceMs` at the most; an emitter then asks again. */
  readonly room: (job: JobState) => Effect.Effect<void>
  /** Counts what is stored, and forks what retains, drops and frees, each in a fiber of its own. */
  readonly start: Effect.Effect<void, StoreError, Scope.Scope>
}

/** What keeps to each of the limits, and what is to be looked at. */
export interface Keepers {
  readonly views: SessionViews.ViewCaps
  readonly jobs: JobLogs.JobCaps
  readonly finished: FinishedJobs.FinishedJobs
  readonly memory: Memory.MemoryCap
  readonly agenda: Agenda
}

/** Returns what keeps to each of the limits: the one thing that decides what is forgotten, in a runtime or at rest. */
export const keepers = (parts: RetentionParts): Keepers => {
  const views = SessionViews.make(parts)
  const jobs = JobLogs.make(parts, views)
  const finished = FinishedJobs.make(parts, views, jobs)
  const memory = Memory.make(parts, views, jobs, finished)
  return { views, jobs, finished, memory, agenda: new Agenda() }
}

/** Tries again what fails: whatever it would have forgotten is still there. */
const trying = <A>(what: string, effect: Effect.Effect<A, InternalError | StoreError>) =>
  Effect.catchAllCause(effect, (cause) =>
    Effect.zipRight(
      Effect.logWarning(`${what} did not succeed; it will be tried again`, cause),
      Effect.sleep("1 second")
    )
  )

/** Gives up what is over a limit, whenever something is. */
const retain = (
  { keeps, store, turn }: RetentionParts,
  { agenda, finished, jobs, memory, views }: Keepers,
  retirements: Retirements
) => {
  const freed = Effect.gen(function* () {
    while ((yield* store.freeing) > maxFreeing && (yield* store.vacuum)) yield* turn.next
  })
  const pass = Effect.gen(function* () {
    const due = agenda.take()
    for (const view of due.views) yield* views.lookAt(view)
    for (let i = 0; i < due.jobs.length; i += batch) yield* jobs.lookAt(due.jobs.slice(i, i + batch))
    if (due.jobs.length > 0) yield* freed
    yield* memory.relieve
    // Of a cluster one does, every so often.
    if (keeps === undefined) yield* finished.enforceCaps
    if (jobs.overdue.size > 0) retirements.changed.give()
  }).pipe(Effect.ensuring(Effect.sync(() => agenda.passed())))
  return Effect.gen(function* () {
    yield* agenda.signal.wait
    // What is emitted in one turn is looked at in one pass.
    yield* turn.next
    yield* trying("giving up old events", pass)
  }).pipe(Effect.forever)
}

/** Returns how often jobs are looked for that are due and could not be dropped, in milliseconds. */
const sweepInterval = ({ options, windowMs }: RetentionParts): number =>
  Math.min(30_000, Math.max(100, Math.min(windowMs, Duration.toMillis(options.jobRetention)) / 4))

/** Timers longer than 2^31 ms do not fire in JavaScript. */
const longestSleep = Duration.toMillis("1 day")

/** Drops jobs whose retention has passed, when there are any. */
const sweep = (
  { monotonic }: RetentionParts,
  { agenda, finished, jobs }: Keepers,
  retirements: Retirements
) =>
  Effect.gen(function* () {
    const { counts } = finished
    const left = retirements.next(monotonic(), jobs.overdue.size > 0 || counts.isOver)
    if (left === undefined) return yield* retirements.changed.wait
    const due = Effect.as(Effect.sleep(Duration.millis(Math.min(left, longestSleep))), true)
    if (!(yield* Effect.raceFirst(due, Effect.as(retirements.changed.wait, false)))) return
    for (const job of jobs.overdue.values()) agenda.jobs.add(job)
    if (agenda.jobs.size > 0) agenda.signal.give()
    yield* trying(
      "dropping old jobs",
      Effect.gen(function* () {
        const dropped = yield* finished.dropRetired
        yield* finished.enforceCaps
        retirements.passed(monotonic(), dropped, counts.inAll)
      })
    )
  }).pipe(Effect.forever)

/**
 * The same of a node of a cluster, every so often: one of them does for all, also what others have ended, and have dropped. Each
 * looks after its own logs that are over their cap.
 */
const sweepShared = (
  parts: RetentionParts,
  keeps: Effect.Effect<boolean, StoreError>,
  { agenda, finished, jobs, views }: Keepers
) => {
  const pass = Effect.gen(function* () {
    // Only the node of a session knows, and the keeper asks the store.
    yield* views.storeNeeds(parts.live.views.keys())
    if (!(yield* keeps)) return
    yield* finished.dropRetired
    yield* finished.count
    yield* finished.enforceCaps
    parts.dropped.give()
  })
  const look = Effect.suspend(() => {
    for (const job of jobs.overdue.values()) agenda.jobs.add(job)
    if (agenda.jobs.size > 0) agenda.signal.give()
    return trying("dropping old jobs", pass)
  })
  return Effect.forever(Effect.delay(look, Duration.millis(sweepInterval(parts))))
}

/** Frees the pages of what was dropped, a little at a time, so that commits come between. */
const free = ({ dropped, keeps, store }: RetentionParts) =>
  Effect.gen(function* () {
    yield* dropped.wait
    if (keeps !== undefined && !(yield* keeps)) return
    while (yield* store.vacuum) yield* Effect.sleep("5 millis")
  }).pipe(
    Effect.tapErrorCause(() => Effect.sync(() => dropped.give())),
    (all) => trying("freeing what was dropped", all),
    Effect.forever
  )

/**
 * Returns whether an emitter of a job is ahead: its job, with what is not committed yet, an eighth over what it may hold, or
 * the memory full.
 */
const blocking = ({ live: { limits } }: RetentionParts, memory: Memory.MemoryCap) => {
  // Enough that an emitter does not wait for each of its events, however small the limits are.
  const slack: Limits = {
    events: Math.max(256, Math.ceil(limits.events / 8)),
    bytes: Math.max(64 * 1024, Math.ceil(limits.bytes / 8))
  }
  return ({ allowance, ledger, window }: JobState): boolean =>
    ledger.events + (window?.events ?? 0) > allowance.events + slack.events ||
    ledger.bytes + (window?.bytes ?? 0) > allowance.bytes + slack.bytes ||
    memory.isFull()
}

/** Waits for passes until an emitter of the job is not ahead any more. */
const waitForRoom = (job: JobState, isBlocked: (job: JobState) => boolean, agenda: Agenda) =>
  Effect.whileLoop({
    while: () => isBlocked(job),
    body: () => {
      agenda.jobs.add(job)
      return Effect.zipRight(
        agenda.nextPass,
        // A pass that could not give up anything is not repeated at once, again and again.
        Effect.suspend(() => (isBlocked(job) ? inRealTime(Effect.sleep(passAgain)) : Effect.void))
      )
    },
    step: () => {}
  }).pipe(Effect.timeoutOption(Duration.millis(patienceMs)), Effect.asVoid)

/** Returns what keeps views, jobs and memory to their caps. It runs once it is started. */
export const make = (context: Omit<RetentionParts, "dropped">): Retention => {
  const dropped = new Signal()
  const parts: RetentionParts = { ...context, dropped }
  const { limits } = parts.live
  const keeping = keepers(parts)
  const { agenda, finished, memory } = keeping
  const isBlocked = blocking(parts, memory)
  const retirements = new Retirements(sweepInterval(parts), Duration.toMillis(parts.options.jobRetention))

  return {
    published: (touched) => {
      for (const view of touched.views) if (view.ledger.exceeds(view.allowance)) agenda.views.add(view)
      for (const job of touched.jobs)
        if (job.ledger.exceeds(job.closed ? limits : job.allowance)) agenda.jobs.add(job)
      if (agenda.views.size > 0 || agenda.jobs.size > 0 || memory.isOver()) agenda.signal.give()
    },
    detached: (view) => {
      if (!view.ledger.exceeds(limits)) return
      agenda.views.add(view)
      agenda.signal.give()
    },
    ended: (jobId, principal) => {
      if (finished.add({ jobId, principal })) agenda.signal.give()
      retirements.ended(parts.monotonic())
      if (finished.counts.isOver) retirements.changed.give()
    },
    forget: finished.forget,
    dropped: () => dropped.give(),
    isBlocked,
    room: (job) => waitForRoom(job, isBlocked, agenda),
    start: Effect.gen(function* () {
      if (yield* finished.count) agenda.signal.give()
      retirements.begin(finished.counts.inAll)
      // What the last process did not get round to.
      dropped.give()
      yield* Effect.forkScoped(retain(parts, keeping, retirements))
      yield* Effect.forkScoped(
        parts.keeps === undefined
          ? sweep(parts, keeping, retirements)
          : sweepShared(parts, parts.keeps, keeping)
      )
      yield* Effect.forkScoped(free(parts))
    })
  }
}
