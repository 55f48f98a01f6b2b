/**
 * Jobs that were open when the last process ended are ended by this one, or run again, when they are of durable agents
 * (§5.3 and §12.1 of the protocol page), in the background while the runtime serves already. What makes that safe: which jobs they are is known before the first request is
 * taken; each end goes into its job's log, and the views of the sessions that still watch it, by the one committer, so a
 * session that resumes meanwhile gets it once and in order like any other event; and whoever needs to know how such a
 * job has ended (the same idempotency key, a cancel, an adoption) waits for that job with `settled`. Until its end is
 * stored a listing shows the job as it was.
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import { identity } from "effect/Function"
import * as Option from "effect/Option"
import type { Scope } from "effect/Scope"
import type { InternalError } from "../../protocol/Errors.js"
import type { JobLog } from "../../services/log/EventLog.js"
import { isTaken, takenAway } from "../../services/log/taken.js"
import { dueAt, never } from "../../services/store/dueAt.js"
import { type JobFilter, type JobRecord, StoreError } from "../../services/store/Store.js"
import * as Inputs from "./durable/Inputs.js"
import type { Reopen } from "./durable/Reopening.js"
import * as Rerun from "./durable/Rerun.js"
import * as Resting from "./durable/Resting.js"
import * as Settling from "./durable/Settling.js"
import * as Survival from "./durable/Survival.js"
import * as Faults from "./Faults.js"
import type { JobParts } from "./JobParts.js"
import { type Ending, parentEnded } from "./LiveJob.js"
import * as Measuring from "./measuring.js"
import * as Scheduler from "./scheduling/Scheduler.js"
import * as Terminal from "./Terminal.js"

/** Ends the jobs that the last process left, or a node that is gone. */
export interface Recovery {
  /** Ends, or goes on with, jobs that this node has taken from one that is gone: in the background, for as long as the runtime. */
  readonly recover: (taken: ReadonlyArray<JobRecord>) => Effect.Effect<void, InternalError>
  /**
   * Waits until the end of a job is stored that the last process left open, or until it runs again; returns whether there
   * was one to wait for.
   */
  readonly settled: (jobId: string) => Effect.Effect<boolean>
  /** Returns when those that are run again have been begun. */
  readonly rerun: Effect.Effect<void>
}

/** Jobs that are read at once, before anything is served. */
const page = 500

/** Jobs that are ended at once, which is one commit and one turn of the event loop: others are served between two. */
const endsAtOnce = 128

/** Jobs that are run again between two turns of the event loop. */
const rerunsAtOnce = 32

/** Jobs of this runtime that are open in the store, oldest first; without those that wait as rows, and for which nobody waits. */
const openJobs = (parts: JobParts): Effect.Effect<ReadonlyArray<JobRecord>, InternalError> =>
  Effect.gen(function* () {
    const found = new Map<string, JobRecord>()
    for (let after: JobFilter["after"]; ; ) {
      const records = yield* Faults.storage(
        parts.store.jobs({
          principals: "everyone",
          status: ["pending", "running"],
          waiting: "held",
          node: parts.cluster?.node,
          after,
          limit: page
        })
      )
      const before = found.size
      for (const record of records) found.set(record.jobId, record)
      if (found.size < before + records.length)
        throw new Error("a page of open jobs repeats what came before it, and would be read for ever")
      if (records.length < page) return [...found.values()]
      yield* parts.turn.next
      after = records[records.length - 1]
    }
  })

/** Children before their parents, however their clocks stood: deeper ones first, younger ones first. */
export const leavesFirst = (records: ReadonlyArray<JobRecord>): ReadonlyArray<JobRecord> => {
  const byId = new Map(records.map((record) => [record.jobId, record]))
  const depths = new Map<JobRecord, number>()
  for (const record of records) {
    let depth = 0
    for (let up = above(byId, record); up !== undefined; up = above(byId, up)) depth++
    depths.set(record, depth)
  }
  return [...records].reverse().sort((a, b) => (depths.get(b) ?? 0) - (depths.get(a) ?? 0))
}

const above = (byId: ReadonlyMap<string, JobRecord>, { parentJobId }: JobRecord) =>
  parentJobId === undefined ? undefined : byId.get(parentJobId)

/** Fails when a job is above itself: no runtime has written that, and whoever goes up from it would never arrive. */
const refuseCircles = (byId: ReadonlyMap<string, JobRecord>): Effect.Effect<void, InternalError> => {
  const known = new Set<JobRecord>()
  for (const record of byId.values()) {
    const way = new Set<JobRecord>()
    for (let up: JobRecord | undefined = record; up !== undefined && !known.has(up); up = above(byId, up)) {
      if (way.has(up))
        return Faults.storage(
          new StoreError({
            message: "jobs are above themselves",
            publicMessage: `the record of ${up.jobId} is damaged (it is above itself); restore a backup`
          })
        )
      way.add(up)
    }
    for (const one of way) known.add(one)
  }
  return Effect.void
}

/** How a job that was left open ends: as was acknowledged, or was about to be. */
const endingOf = (record: JobRecord, byId: ReadonlyMap<string, JobRecord>): Ending => {
  const { cancelRequested } = record
  if (cancelRequested !== undefined) return { _tag: "Cancel", reason: cancelRequested.reason }
  for (let up = above(byId, record); up !== undefined; up = above(byId, up))
    if (up.cancelRequested !== undefined) return parentEnded
  return { _tag: "Restart" }
}

/** The jobs that the last process left open, and that had begun. */
interface Left {
  readonly records: ReadonlyArray<JobRecord>
  readonly byId: ReadonlyMap<string, JobRecord>
  /** Those that survive the process by themselves. */
  readonly survivors: ReadonlySet<string>
  readonly childrenOf: ReadonlyMap<string, ReadonlyArray<string>>
}

/** Those that undo what they have done before they end. */
type Settlings = ReadonlyMap<string, Settling.Settling>

/** Finds the jobs that were left open. What has not begun has done nothing, and begins when its turn comes. */
const findLeft = (parts: JobParts, open: ReadonlyArray<JobRecord>): Effect.Effect<Left, InternalError> =>
  Effect.gen(function* () {
    const records: Array<JobRecord> = []
    for (const { queued, ...record } of open)
      if (queued === undefined) records.push(record)
      else yield* Scheduler.restore(parts, { ...record, queued })
    const byId = new Map(records.map((record) => [record.jobId, record]))
    yield* refuseCircles(byId)
    const childrenOf = new Map<string, Array<string>>()
    for (const { jobId, parentJobId } of records) {
      if (parentJobId === undefined) continue
      const children = childrenOf.get(parentJobId)
      if (children === undefined) childrenOf.set(parentJobId, [jobId])
      else children.push(jobId)
    }
    return { records, byId, survivors: Survival.survivorsOf(byId), childrenOf }
  })

/** A job that was a row waits no more. */
const waitsNoMore = ({ waits }: JobParts, record: JobRecord): void => {
  if (dueAt(record) !== undefined) waits.over(record.principal)
}

const counted = ({ metrics }: JobParts, outcome: string) =>
  metrics === undefined ? identity : Measuring.recovered(outcome)

/** Ends a job, whose log is loaded. */
const end = (parts: JobParts, { byId }: Left, record: JobRecord, job: JobLog) =>
  Effect.suspend(() => {
    const at = parts.now()
    const terminal = Terminal.ended(endingOf(record, byId), record, at, parts.options.maxOutboundFrameBytes)
    const holder = { record }
    return Effect.ensuring(
      Effect.zipRight(
        Inputs.endStored(parts, job, holder),
        Effect.gen(() =>
          Terminal.write(
            parts,
            job,
            { send: () => {} },
            () => terminal,
            at,
            () => holder.record
          )
        )
      ),
      Effect.sync(() => {
        waitsNoMore(parts, record)
        parts.unsettled.settle(record.jobId)
      })
    )
  }).pipe(counted(parts, "ended"))

/** Loads logs together; where one is damaged, each by itself, and that one stays as it is until the next start. */
const loadAll = (parts: JobParts, records: ReadonlyArray<JobRecord>) => {
  const { log, running, unsettled } = parts
  type Loaded = ReadonlyArray<readonly [JobRecord, JobLog]>
  const loadOne = (record: JobRecord) =>
    Effect.map(Terminal.untilStored(log.loadJob(record), running), (job): Loaded => [[record, job]]).pipe(
      Effect.catchIf(Faults.isDamage, ({ message }) =>
        Effect.map(Effect.logError(`${record.jobId} could not be ended: ${message}`), (): Loaded => {
          unsettled.settle(record.jobId)
          return []
        })
      )
    )
  return Effect.map(
    Terminal.untilStored(log.loadJobs(records), running),
    (jobs): Loaded => Arr.zip(records, jobs)
  ).pipe(
    Effect.catchIf(Faults.isDamage, () =>
      Effect.map(Effect.forEach(records, loadOne), (loaded): Loaded => loaded.flat())
    )
  )
}

/** Ends jobs in batches. The logs of one are loaded first, so that its ends are queued together and in order: one commit. */
const endInTurns = (parts: JobParts, left: Left, ordered: ReadonlyArray<JobRecord>) =>
  Effect.gen(function* () {
    for (let from = 0; from < ordered.length; from += endsAtOnce) {
      const records = ordered.slice(from, from + endsAtOnce)
      const loaded = yield* loadAll(parts, records)
      yield* Effect.forEach(loaded, ([record, job]) => end(parts, left, record, job), {
        concurrency: "unbounded",
        discard: true
      })
    }
  })

/** Ends those that are lost; one that is above another which undoes first ends after those below it, or is left with them. */
const endLost = (parts: JobParts, left: Left, lost: ReadonlyArray<JobRecord>, settling: Settlings) => {
  const above = Settling.above(settling, left.byId)
  const [ends, later] = Arr.partition(
    lost.filter(({ jobId }) => !settling.has(jobId)),
    ({ jobId }) => above.has(jobId)
  )
  const over = new Map(later.map(({ jobId }) => [jobId, Deferred.unsafeMake<boolean>(FiberId.none)]))
  const isOver = (jobId: string): Effect.Effect<boolean> => {
    const waited = settling.get(jobId)?.over ?? over.get(jobId)
    return waited === undefined ? Effect.as(parts.unsettled.settled(jobId), true) : Deferred.await(waited)
  }
  const endAbove = (record: JobRecord) =>
    Effect.gen(function* () {
      const { jobId } = record
      const below = yield* Effect.forEach(left.childrenOf.get(jobId) ?? [], isOver)
      const ends = below.every(identity)
      if (ends) yield* endInTurns(parts, left, [record])
      const waited = over.get(jobId)
      if (waited !== undefined) yield* Deferred.succeed(waited, ends)
    })
  return Effect.zipRight(
    endInTurns(parts, left, ends),
    Effect.forEach(later, endAbove, { concurrency: "unbounded", discard: true })
  )
}

/** Returns the jobs that are run again, families of the newest sessions first, and parents before their children. */
const newestFirst = ({ records }: Left, survivors: ReadonlySet<string>): ReadonlyArray<Resting.Survivor> => {
  // Ids of sessions ascend in time. What is below a job may be of another session: an adoption need not get to all of a family.
  const sessions = new Map<string, string>()
  const parentsFirst = [...leavesFirst(records)].reverse()
  for (const { jobId, parentJobId, sessionId } of parentsFirst)
    sessions.set(jobId, (parentJobId === undefined ? undefined : sessions.get(parentJobId)) ?? sessionId)
  const sessionOf = ({ jobId }: JobRecord): string => sessions.get(jobId) ?? ""
  return parentsFirst
    .flatMap(({ survival, ...record }) =>
      survival !== undefined && survivors.has(record.jobId) ? [{ ...record, survival }] : []
    )
    .sort((a, b) => (sessionOf(a) < sessionOf(b) ? 1 : sessionOf(a) > sessionOf(b) ? -1 : 0))
}

/** Lets a job wait on of which nothing runs. */
const waitOn = (parts: JobParts, record: Resting.Survivor) =>
  Effect.flatMap(parts.log.loadJob(record), (job) =>
    job.isElsewhere
      ? takenAway
      : Effect.flatMap(Resting.ownerOf(parts, record), (owner) => Resting.place(parts, record, job, owner))
  )

/** Says why a job is not run again; one that another node has by now goes on there. */
const notRunAgain = (jobId: string, cause: Cause.Cause<InternalError>) =>
  Option.exists(Cause.failureOption(cause), isTaken)
    ? Effect.logInfo(`${jobId} is not run again here: another node has it`)
    : Effect.logError(`${jobId} could not be run again`, cause)

/**
 * Runs a job again, whose log is loaded, or lets it wait on; one that cannot be run again is logged, and stays for the next start. So does
 * what has not had its turn when the runtime stops: that is left to others then.
 */
const runAgain = (
  parts: JobParts,
  reopen: Reopen,
  { childrenOf }: Left,
  record: Resting.Survivor,
  settling: Settling.Settling | undefined
) => {
  const { jobId } = record
  if (parts.running.stopping)
    return Effect.zipRight(
      settling === undefined ? Effect.void : Deferred.succeed(settling.over, false),
      Effect.sync(() => parts.unsettled.settle(jobId))
    )
  const isRun = settling !== undefined || dueAt(record) === undefined
  return Terminal.untilStored(
    isRun
      ? Rerun.rerun(parts, reopen, record, childrenOf.get(jobId) ?? [], {
          settling,
          loaded: { resting: undefined, keep: () => waitsNoMore(parts, record) }
        })
      : waitOn(parts, record),
    parts.running
  ).pipe(
    counted(parts, "rerun"),
    Effect.catchAllCause((cause) =>
      Effect.zipRight(
        settling === undefined ? Effect.void : Deferred.succeed(settling.over, true),
        notRunAgain(jobId, cause)
      )
    ),
    Effect.ensuring(Effect.sync(() => parts.unsettled.settle(jobId)))
  )
}

/** Runs those again that survive, or undo what they have done; the logs of a batch are loaded together. */
const runAllAgain = (parts: JobParts, reopen: Reopen, left: Left, settling: Settlings) =>
  Effect.gen(function* () {
    const ordered = newestFirst(left, new Set([...left.survivors, ...settling.keys()]))
    for (let from = 0; from < ordered.length; from += rerunsAtOnce) {
      const records = ordered.slice(from, from + rerunsAtOnce)
      // A damaged one is named when its turn comes.
      if (!parts.running.stopping)
        yield* Terminal.untilStored(parts.log.loadJobs(records), parts.running).pipe(
          Effect.catchIf(Faults.isDamage, () => Effect.void)
        )
      for (const record of records)
        yield* Effect.suspend(() => runAgain(parts, reopen, left, record, settling.get(record.jobId)))
      yield* parts.turn.next
    }
  })

/** Ends what was left, and runs again what survives. `begun` is run when that has begun. */
const recoverAll = (parts: JobParts, reopen: Reopen, left: Left, begun: Effect.Effect<unknown>) => {
  const { unsettled } = parts
  const lost = leavesFirst(left.records.filter(({ jobId }) => !left.survivors.has(jobId)))
  return Settling.of(parts, lost, (record) => endingOf(record, left.byId)).pipe(
    (settlings) => Terminal.untilStored(settlings, parts.running),
    Effect.flatMap((settling) =>
      Effect.all(
        [
          endLost(parts, left, lost, settling),
          Effect.ensuring(runAllAgain(parts, reopen, left, settling), begun)
        ],
        { concurrency: "unbounded", discard: true }
      )
    ),
    Effect.tapErrorCause((cause) =>
      Effect.logError("jobs that were left open could not be ended, or run again", cause)
    ),
    // Whatever happened, nobody waits for ever.
    Effect.ensuring(
      Effect.sync(() => {
        for (const { jobId } of left.records) unsettled.settle(jobId)
      })
    ),
    Effect.ensuring(begun)
  )
}

/** Waits as a row, and nobody waits for it. */
const isRow = (record: JobRecord): boolean => dueAt(record) !== undefined && record.parentJobId === undefined

/**
 * Starts to end the jobs that the last process left, in batches, and to run those again that survive it; returns as soon as
 * that goes on in the background.
 */
export const make = (parts: JobParts, reopen: Reopen): Effect.Effect<Recovery, InternalError, Scope> =>
  Effect.gen(function* () {
    const { unsettled, waits } = parts
    const scope = yield* Effect.scope
    const rerun = yield* Deferred.make<void>()
    const recovering = (open: ReadonlyArray<JobRecord>, begun: Effect.Effect<unknown>) =>
      Effect.gen(function* () {
        const left = yield* findLeft(parts, open)
        // Of what has not begun, and of rows, it is known.
        for (const { jobId } of open) if (!left.byId.has(jobId)) unsettled.settle(jobId)
        for (const { jobId } of left.records) unsettled.add(jobId)
        if (left.records.length > 0) yield* Effect.forkIn(recoverAll(parts, reopen, left, begun), scope)
        else yield* begun
      })
    yield* recovering(yield* openJobs(parts), Deferred.succeed(rerun, undefined))
    return {
      settled: (jobId) => unsettled.settled(jobId),
      rerun: Deferred.await(rerun),
      recover: (taken) =>
        Effect.suspend(() => {
          const [held, rows] = Arr.partition(taken, isRow)
          for (const row of rows) {
            waits.rests(row.principal, dueAt(row) ?? never)
            unsettled.settle(row.jobId)
          }
          if (taken.some(({ survival }) => survival?.parked !== undefined)) waits.parked.came.give()
          return recovering(held, Effect.void)
        })
    }
  })
