/**
 * Jobs that were open when the last process ended are ended by this one, or run again, when they are of durable agents
 * (§5.3 and §12.1 of the protocol page), in the background while the runtime serves already. What makes that safe: which jobs they are is known before the first request is
 * taken; each end goes into its job's log, and the views of the sessions that still watch it, by the one committer, so a
 * session that resumes meanwhile gets it once and in order like any other event; and whoever needs to know how such a
 * job has ended (the same idempotency key, a cancel, an adoption) waits for that job with `settled`. Until its end is
 * stored a listing shows the job as it was.
 */
import * as Arr from "effect/Array"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import type { Scope } from "effect/Scope"
import type { InternalError } from "../../protocol/Errors.js"
import type { JobLog } from "../../services/log/EventLog.js"
import { dueAt, type JobFilter, type JobRecord } from "../../services/store/Store.js"
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

/** Ends the jobs that the last process left. */
export interface Recovery {
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

/** Jobs that are open in the store, oldest first; without those that wait as rows, and for which nobody waits. */
const openJobs = (parts: JobParts): Effect.Effect<ReadonlyArray<JobRecord>, InternalError> =>
  Effect.gen(function* () {
    const found = new Map<string, JobRecord>()
    for (let after: JobFilter["after"]; ; ) {
      const records = yield* Faults.storage(
        parts.store.jobs({
          principals: "everyone",
          status: ["pending", "running"],
          waiting: "held",
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
  return [...records].reverse().sort((a, b) => (depths.get(b) as number) - (depths.get(a) as number))
}

const above = (byId: ReadonlyMap<string, JobRecord>, { parentJobId }: JobRecord) =>
  parentJobId === undefined ? undefined : byId.get(parentJobId)

/** How a job that was left open ends: as was acknowledged, or was about to be. */
const endingOf = (record: JobRecord, byId: ReadonlyMap<string, JobRecord>): Ending => {
  const { cancelRequested } = record
  if (cancelRequested !== undefined) return { _tag: "Cancel", reason: cancelRequested.reason }
  for (let up = above(byId, record); up !== undefined; up = above(byId, up))
    if (up.cancelRequested !== undefined) return parentEnded
  return { _tag: "Restart" }
}

/** Returns the jobs that are run again, those of the newest sessions first, and parents before their children. */
const newestFirst = (
  left: ReadonlyArray<JobRecord>,
  survivors: ReadonlySet<string>
): ReadonlyArray<Resting.Survivor> =>
  [...leavesFirst(left)]
    .reverse()
    .flatMap(({ survival, ...record }) =>
      survival !== undefined && survivors.has(record.jobId) ? [{ ...record, survival }] : []
    )
    // Ids of sessions ascend in time, and the order of families is kept.
    .sort((a, b) => (a.sessionId < b.sessionId ? 1 : a.sessionId > b.sessionId ? -1 : 0))

/**
 * Starts to end the jobs that the last process left, in batches, and to run those again that survive it; returns as soon as
 * that goes on in the background.
 */
export const make = (parts: JobParts, reopen: Reopen): Effect.Effect<Recovery, InternalError, Scope> =>
  Effect.gen(function* () {
    const { log, now } = parts
    const rerun = yield* Deferred.make<void>()
    const left: Array<JobRecord> = []
    for (const { queued, ...record } of yield* openJobs(parts)) {
      // What has not begun has done nothing, and begins when its turn comes.
      if (queued === undefined) left.push(record)
      else yield* Scheduler.restore(parts, { ...record, queued })
    }
    const byId = new Map(left.map((record) => [record.jobId, record]))
    const survivors = Survival.survivorsOf(byId)
    const childrenOf = new Map<string, Array<string>>()
    for (const { jobId, parentJobId } of left) {
      if (parentJobId === undefined) continue
      const children = childrenOf.get(parentJobId)
      if (children === undefined) childrenOf.set(parentJobId, [jobId])
      else children.push(jobId)
    }
    const { unsettled } = parts
    for (const { jobId } of left) unsettled.add(jobId)

    /** Of one that was a row, and waits no more. */
    const over = (record: JobRecord) => {
      if (dueAt(record) !== undefined) parts.waits.over(record.principal)
    }
    const recovered = (outcome: string) =>
      parts.metrics === undefined ? identity : Measuring.recovered(outcome)

    const end = (record: JobRecord, job: JobLog) =>
      Effect.suspend(() => {
        const at = now()
        const terminal = Terminal.ended(
          endingOf(record, byId),
          record,
          at,
          parts.options.maxOutboundFrameBytes
        )
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
            over(record)
            unsettled.settle(record.jobId)
          })
        )
      }).pipe(recovered("ended"))

    /** Loads first, so that the ends of a page are queued together and in order: one commit. */
    const endAll = (records: ReadonlyArray<JobRecord>) =>
      Effect.gen(function* () {
        const logs = yield* log.loadJobs(records)
        yield* Effect.forEach(Arr.zip(records, logs), ([record, job]) => end(record, job), {
          concurrency: "unbounded",
          discard: true
        })
      })

    const endInTurns = (ordered: ReadonlyArray<JobRecord>) =>
      Effect.gen(function* () {
        for (let from = 0; from < ordered.length; from += endsAtOnce) {
          const records = ordered.slice(from, from + endsAtOnce)
          yield* Terminal.untilStored(endAll(records), parts.running)
        }
      })
    const lost = leavesFirst(left.filter(({ jobId }) => !survivors.has(jobId)))
    const recover = (settling: ReadonlyMap<string, Settling.Settling>) => {
      const waiting = Settling.above(settling, byId)
      const [ends, later] = Arr.partition(
        lost.filter(({ jobId }) => !settling.has(jobId)),
        ({ jobId }) => waiting.has(jobId)
      )
      return Effect.zipRight(
        endInTurns(ends),
        later.length === 0 ? Effect.void : Effect.zipRight(Settling.over(settling), endInTurns(later))
      )
    }
    /** Their logs are loaded together; one that cannot be run again is logged, and stays for the next start. */
    const runAgain = (settling: ReadonlyMap<string, Settling.Settling>) =>
      Effect.gen(function* () {
        const ordered = newestFirst(left, new Set([...survivors, ...settling.keys()]))
        for (let from = 0; from < ordered.length; from += rerunsAtOnce) {
          const records = ordered.slice(from, from + rerunsAtOnce)
          yield* Terminal.untilStored(log.loadJobs(records), parts.running)
          for (const record of records) {
            const { jobId } = record
            const settled = settling.get(jobId)
            const isRun = settled !== undefined || dueAt(record) === undefined
            yield* Terminal.untilStored(
              isRun
                ? Rerun.rerun(parts, reopen, record, childrenOf.get(jobId) ?? [], {
                    settling: settled,
                    loaded: { resting: undefined, keep: () => over(record) }
                  })
                : Effect.flatMap(log.loadJob(record), (job) => Resting.place(parts, record, job)),
              parts.running
            ).pipe(
              recovered("rerun"),
              Effect.catchAllCause((cause) =>
                Effect.zipRight(
                  settled === undefined ? Effect.void : Deferred.succeed(settled.over, undefined),
                  Effect.logError(`${jobId} could not be run again`, cause)
                )
              ),
              Effect.ensuring(Effect.sync(() => unsettled.settle(jobId)))
            )
          }
          yield* parts.turn.next
        }
      }).pipe(Effect.ensuring(Deferred.succeed(rerun, undefined)))

    if (left.length > 0)
      yield* Terminal.untilStored(
        Settling.of(parts, lost, (record) => endingOf(record, byId)),
        parts.running
      ).pipe(
        Effect.flatMap((settling) =>
          Effect.all([recover(settling), runAgain(settling)], { concurrency: "unbounded", discard: true })
        ),
        Effect.tapErrorCause((cause) =>
          Effect.logError("jobs of the last process could not be ended, or run again", cause)
        ),
        // Whatever happened, nobody waits for ever.
        Effect.ensuring(Effect.sync(() => unsettled.settleAll())),
        Effect.forkScoped
      )
    else yield* Deferred.succeed(rerun, undefined)

    return { settled: (jobId) => unsettled.settled(jobId), rerun: Deferred.await(rerun) }
  })
