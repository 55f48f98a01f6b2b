/**
 * Jobs of which nothing runs: they wait unloaded, or are parked. One that was submitted is a row of the store and nothing
 * else; it has a place among the running jobs only while it is being ended. One that was delegated keeps its place below its
 * parent, which runs. Whatever ends such a job ends it here, and loads nothing.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import type { InternalError } from "../../../protocol/Errors.js"
import { isOurs } from "../../../services/cluster/Cluster.js"
import type { JobSession } from "../../../services/jobs/Jobs.js"
import type { JobLog } from "../../../services/log/EventLog.js"
import { dueAt } from "../../../services/store/dueAt.js"
import type { JobRecord, Survival } from "../../../services/store/Store.js"
import * as Faults from "../Faults.js"
import type { JobParts } from "../JobParts.js"
import { type Ending, LiveJob, orphaned, type TerminalMessage } from "../LiveJob.js"
import { over } from "../over.js"
import type { RunningJob } from "../RunningJobs.js"
import { Surroundings } from "../Surroundings.js"
import * as Terminal from "../Terminal.js"
import * as Inputs from "./Inputs.js"
import { absentOwner } from "./Owners.js"
import * as Settling from "./Settling.js"
import * as Survivals from "./Survival.js"

/** A job that survives. */
export type Survivor = JobRecord & { readonly survival: Survival }

/** Returns the record of a job that survives. */
export const survivor = (record: JobRecord | undefined): Survivor | undefined =>
  record?.survival === undefined ? undefined : { ...record, survival: record.survival }

/** Has a job loaded that is to be undone before it ends; returns whether it is, and ends there. */
const attemptUndo = (
  { running, waits }: JobParts,
  job: RunningJob,
  terminal: () => TerminalMessage
): Effect.Effect<boolean> =>
  Terminal.untilStored(
    Effect.suspend(() => waits.undo(job, terminal())),
    running
  ).pipe(
    Effect.catchAllCause((cause) =>
      Effect.as(Effect.logError(`${job.live.record.jobId} could not be undone`, cause), false)
    )
  )

/** Returns what a job has to undo; nothing when that cannot be read until the runtime is gone. */
const compensationsOf = (parts: JobParts, record: JobRecord) =>
  Terminal.untilStored(Settling.compensationsOf(parts, record), parts.running).pipe(
    Effect.catchAllCause((cause) =>
      Effect.as(Effect.logError(`what ${record.jobId} has to undo could not be read`, cause), undefined)
    )
  )

/** Writes the end of a job of which nothing runs; of one that goes on in the next process nothing. */
const conclude = (parts: JobParts, { live, log: job }: RunningJob): Effect.Effect<void> =>
  Effect.gen(function* () {
    yield* live.cancelStored
    const { ending } = live
    if (ending !== undefined && ending._tag !== "Leave") {
      const at = parts.now()
      const terminalNow = () =>
        Terminal.ended(live.ending ?? ending, live.record, at, parts.options.maxOutboundFrameBytes)
      const undoing = yield* compensationsOf(parts, live.record)
      if (undoing?.isDue === true && (yield* attemptUndo(parts, { live, log: job }, terminalNow))) return
      const last = () => (undoing === undefined ? terminalNow() : Terminal.notUndone(terminalNow(), undoing))
      yield* Inputs.endStored(parts, job, live)
      live.concluded = true
      // One that came since.
      yield* live.cancelStored
      const terminal = yield* Effect.gen(() =>
        Terminal.write(
          parts,
          job,
          live.owner,
          last,
          at,
          () => live.record,
          (isOurs) => {
            live.ended = isOurs
          }
        )
      )
      live.status = terminal.status
      if (live.awaited !== undefined) yield* Deferred.complete(live.awaited.outcome, terminal.outcome)
      yield* Effect.logInfo(`job ended, without being loaded: ${terminal.status}`)
    }
    parts.waits.over(live.record.principal)
    live.over()
  })

/**
 * Has a job rest: it is ended here, whatever ends it. `over` is called when that is done. Whatever else is done with it under its lock
 * comes first: one that is being loaded is ended by its load.
 */
export const rest = (
  parts: JobParts,
  job: RunningJob,
  surroundings: Surroundings,
  over: () => void
): void => {
  const { live } = job
  parts.running.add(job)
  live.over = over
  live.rest(() => {
    live.rests = undefined
    const ended = parts.underway.begin()
    surroundings
      .forkUninterruptible(parts.waits.locked(live.record.jobId, conclude(parts, job)))
      .addObserver(ended)
  })
  // The runtime has told so while it was being unloaded.
  if (live.leaving) live.end({ _tag: "Leave" })
}

/** Returns the session that owns a job, as far as it is known. */
export const ownerOf = (parts: JobParts, record: Survivor): Effect.Effect<JobSession, InternalError> =>
  Effect.suspend(() => {
    const session = parts.owners.session(record.sessionId)
    return session === undefined ? absentOwner(parts, record, record.survival) : Effect.succeed(session)
  })

/** Gives a job of which nothing runs its place among the running ones, and below its parent; `done` is called when it has ended. */
export const place = (
  parts: JobParts,
  record: Survivor,
  job: JobLog,
  session: JobSession,
  done?: () => void
): Effect.Effect<RunningJob> =>
  Effect.gen(function* () {
    const parent = record.parentJobId === undefined ? undefined : parts.running.get(record.parentJobId)
    const submitter = Survivals.submitter(record, record.survival)
    const live = new LiveJob(record, session, parent?.live, submitter)
    live.status = "running"
    if (live.awaited !== undefined) Deferred.unsafeDone(live.awaited.opened, Effect.succeed(job))
    const resting = { live, log: job }
    const disown = parts.owners.own(live)
    const isOver = () => {
      disown()
      over(parts, { parent, record }, live)
      done?.()
    }
    rest(parts, resting, yield* Surroundings.of(record), isOver)
    // Its parent may have ended since, or be about to.
    if (record.parentJobId !== undefined && parent?.live.takeChild(live) !== true)
      live.end(orphaned(parts.running))
    return resting
  })

/**
 * Returns a job of which nothing runs with a place among the running ones, for whoever ends it right then; `undefined` when
 * there is no such job. A job that runs is returned as it is. Fails when it has been left to the next process, or to another node.
 */
const rouse = (parts: JobParts, jobId: string): Effect.Effect<RunningJob | undefined, InternalError> =>
  Effect.gen(function* () {
    const { cluster, log, running, store, underway, unsettled, waits } = parts
    // Of the last process: it gets its place below its parent first.
    yield* unsettled.settled(jobId)
    yield* waits.lock(jobId)
    let isLocked = true
    const unlock = Effect.sync(() => {
      if (isLocked) waits.unlock(jobId)
      isLocked = false
    })
    const found = running.get(jobId)
    const stored =
      found === undefined ? yield* Effect.onError(Faults.storage(store.job(jobId)), () => unlock) : undefined
    const record = survivor(stored)
    const isRow = record !== undefined && dueAt(record) !== undefined
    if (!isRow || !isOurs(cluster, record)) {
      yield* unlock
      const isOpen = stored !== undefined && stored.endedAt === undefined
      return isOpen && (running.stopping || !isOurs(cluster, stored)) ? yield* Faults.left : found
    }
    const placed = Deferred.unsafeMake<RunningJob, InternalError>(FiberId.none)
    const ended = Deferred.unsafeMake<void>(FiberId.none)
    const held = log.holding(record, (job) =>
      Effect.flatMap(ownerOf(parts, record), (owner) =>
        place(parts, record, job, owner, () => Deferred.unsafeDone(ended, Effect.void))
      ).pipe(
        // It may take long to end, and is in memory by now.
        Effect.zipLeft(unlock),
        Effect.tap((resting) => Deferred.succeed(placed, resting)),
        Effect.zipRight(Deferred.await(ended))
      )
    )
    yield* underway.fork(
      held.pipe(
        Effect.catchAllCause((cause) => Deferred.failCause(placed, cause)),
        Effect.ensuring(unlock),
        Effect.uninterruptible
      )
    )
    return yield* Deferred.await(placed)
  })

/** Runs `use`, which ends it, with a job that runs or of which nothing runs; with `undefined` when it has ended. */
export const ending = <A, E>(
  parts: JobParts,
  jobId: string,
  use: (job: RunningJob | undefined) => Effect.Effect<A, E>
): Effect.Effect<A, E | InternalError> =>
  Effect.uninterruptible(
    Effect.suspend((): Effect.Effect<A, E | InternalError> => {
      const job = parts.running.get(jobId)
      return job === undefined ? Effect.flatMap(rouse(parts, jobId), use) : use(job)
    })
  )

/** Rows that are read at once. */
const page = 500

/**
 * Begins to end the jobs of this runtime that wait as rows, and of which `isMeant` is true. One that cannot be ended keeps no other; what
 * may succeed when it is tried again fails, when all have been tried.
 */
export const endRows = (
  parts: JobParts,
  isMeant: (record: JobRecord) => boolean,
  how: Ending
): Effect.Effect<void, InternalError> =>
  Effect.gen(function* () {
    let after: JobRecord | undefined
    let failed: InternalError | undefined
    const notEnded = (jobId: string) => (error: InternalError) => {
      if (error === Faults.left) return Effect.void
      if (Faults.isDamage(error))
        return Effect.logError(`${jobId} cannot be ended: what is stored of it is damaged`, error)
      failed = error
      return Effect.void
    }
    for (;;) {
      const records: ReadonlyArray<JobRecord> = yield* Faults.storage(
        parts.store.jobs({
          ...{ principals: "everyone", waiting: "rows", after, limit: page },
          damaged: "left out",
          node: parts.cluster?.node
        })
      )
      for (const { jobId } of records.filter(isMeant))
        yield* Effect.catchAll(
          ending(parts, jobId, (job) => Effect.sync(() => job?.live.end(how))),
          notEnded(jobId)
        )
      after = records.at(-1)
      if (after === undefined || records.length < page) break
      yield* parts.turn.next
    }
    if (failed !== undefined) return yield* failed
  })
