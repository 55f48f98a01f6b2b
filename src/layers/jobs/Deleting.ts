/**
 * Deleting jobs for good, because somebody wants to be forgotten: who may, what belongs to them, and ending what has not
 * ended. What drops them is the log's (`EventLog.forget`), as whatever drops jobs.
 */
import * as Effect from "effect/Effect"
import { type ArcpError, InternalError, InvalidRequest, JobNotFound } from "../../protocol/Errors.js"
import type { Identity } from "../../services/auth/Auth.js"
import { denied } from "../../services/auth/Policy.js"
import type { Deletion, Jobs } from "../../services/jobs/Jobs.js"
import type { FollowedJob } from "../../services/log/EventLog.js"
import type { JobRecord } from "../../services/store/Store.js"
import * as Finding from "../log/retention/finding.js"
import * as Resting from "./durable/Resting.js"
import * as Faults from "./Faults.js"
import type { JobParts } from "./JobParts.js"
import { deleted } from "./LiveJob.js"
import type { Lookup } from "./Lookup.js"
import * as Scheduler from "./scheduling/Scheduler.js"

/** How long jobs that are cancelled for this may take to end. */
const patience = "30 seconds"

/** Jobs that are cancelled at once: those of other nodes are waited for. */
const endsAtOnce = 16

const notFound = new JobNotFound({ message: "no such job" })

const whoMay = "; operators may, whom arcp serve --operator PRINCIPAL names"

/** Checks that the identity may, and returns what is meant as it is found in the store. */
const meant = (
  { policy }: JobParts,
  lookup: Pick<Lookup, "job" | "mayList">,
  identity: Identity,
  deletion: Deletion
): Effect.Effect<Finding.Whose, ArcpError> =>
  Effect.gen(function* () {
    const who = policy.deletable === undefined ? [] : yield* policy.deletable(identity)
    const may = (principal: string) => who === "everyone" || who.includes(principal)
    if ("principal" in deletion) {
      if (!may(deletion.principal))
        return yield* denied({ reason: `this token may not delete what is this principal's${whoMay}` })
      return { principal: deletion.principal }
    }
    const { jobId } = deletion
    const record = yield* lookup.job(jobId, { settled: true })
    if (record === undefined) return yield* notFound
    if (may(record.principal)) return { jobIds: [jobId] }
    return yield* (yield* lookup.mayList({ identity }, record))
      ? denied({ reason: `this token may not delete jobs${whoMay}` })
      : notFound
  })

const found = ({ store }: JobParts, whose: Finding.Whose): Effect.Effect<Finding.Found, ArcpError> =>
  Finding.find(store, whose).pipe(
    // It has gone since, or is part of something that goes on.
    Effect.catchTag(
      "NotForgotten",
      ({ isGone, message }): Effect.Effect<never, ArcpError> =>
        isGone === true ? notFound : new InvalidRequest({ message, details: { reason: "not_ended" } })
    ),
    Effect.catchTag("StoreError", (error) => Faults.storage(Effect.fail(error)))
  )

/** Cancels a job, wherever it is; whatever it has delegated to ends before it. */
const end = (parts: JobParts, principal: string, record: JobRecord): Effect.Effect<void, ArcpError> =>
  Effect.flatMap(
    parts.asking.ask(record, { kind: "cancel", reason: deleted.reason }, principal),
    (outcome): Effect.Effect<void, InternalError> => {
      if (outcome === "done") return Effect.void
      const { jobId } = record
      return Effect.flatMap(Scheduler.end(parts, jobId, deleted), (waited) =>
        waited
          ? Effect.void
          : Resting.ending(parts, jobId, (job) => Effect.sync(() => job?.live.end(deleted)))
      )
    }
  )

const toEnd = (job: FollowedJob, after: number): Effect.Effect<void, ArcpError> =>
  job.read(after).pipe(
    Effect.flatMap(({ ended, through }) => (ended ? Effect.void : toEnd(job, through))),
    Effect.catchTags({
      // Somebody else has had it deleted.
      JobNotFound: () => Effect.void,
      ResumeWindowExpired: ({ details }) => toEnd(job, Number(details?.["next"]) - 1)
    })
  )

/** Returns when the end of a job is stored. */
const ended = ({ log }: JobParts, record: JobRecord): Effect.Effect<void, ArcpError> =>
  Effect.scoped(
    Effect.flatMap(log.follow(record), (job) =>
      Effect.flatMap(job.bounds, (bounds) => (bounds.ended ? Effect.void : toEnd(job, bounds.last)))
    )
  )

const unended = ([first, ...others]: readonly [JobRecord, ...ReadonlyArray<JobRecord>]) =>
  new InvalidRequest({
    message:
      `${first.jobId}${others.length === 0 ? " has" : ` and ${others.length} more have`} not ended; ` +
      "cancel first, or ask for that (cancel=true)",
    details: { reason: "not_ended", job_ids: [first, ...others].slice(0, 100).map(({ jobId }) => jobId) }
  })

const late = () =>
  new InternalError({
    message: "jobs that were cancelled have not ended in time; nothing is deleted yet, ask again",
    details: { reason: "timeout" }
  })

/** Returns what has ended of what is found: what was submitted since somebody wanted to be forgotten is not meant. */
const endedOf = ({ jobs, unfinished }: Finding.Found): ReadonlyArray<Finding.FoundJob> => {
  const left = new Set(unfinished.map(({ jobId }) => jobId))
  // Parents come last.
  for (const { jobId, parentJobId } of [...jobs].reverse())
    if (parentJobId !== undefined && left.has(parentJobId)) left.add(jobId)
  return jobs.filter(({ jobId }) => !left.has(jobId))
}

/** Returns what is meant when it has ended: what has not is ended, or refused. */
const settled = (
  parts: JobParts,
  principal: string,
  whose: Finding.Whose,
  cancel: boolean
): Effect.Effect<ReadonlyArray<Finding.FoundJob>, ArcpError> =>
  Effect.gen(function* () {
    const { jobs, unfinished } = yield* found(parts, whose)
    const [first, ...others] = unfinished
    if (first === undefined) return jobs
    if (!cancel) return yield* unended([first, ...others])
    yield* Effect.forEach(unfinished, (record) => end(parts, principal, record), {
      concurrency: endsAtOnce,
      discard: true
    })
    yield* Effect.timeoutFail(
      Effect.forEach(unfinished, (record) => ended(parts, record), { discard: true }),
      { duration: patience, onTimeout: late }
    )
    // They have delegated until they ended.
    return endedOf(yield* found(parts, whose))
  })

/** Returns what deletes jobs. */
export const make =
  (parts: JobParts, lookup: Pick<Lookup, "job" | "mayList">): Jobs["Type"]["delete"] =>
  (identity, deletion) =>
    Effect.gen(function* () {
      const whose = yield* meant(parts, lookup, identity, deletion)
      const jobs = yield* settled(parts, identity.principal, whose, deletion.cancel)
      const jobIds = jobs.map(({ jobId }) => jobId)
      yield* Effect.logInfo("jobs are deleted").pipe(
        Effect.annotateLogs({ by: identity.principal, jobs: jobIds.length })
      )
      yield* Effect.uninterruptible(Effect.map(parts.log.forget(jobs), () => parts.hooks.forget(jobIds)))
      return jobIds
    })
