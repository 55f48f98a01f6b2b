/** What is stored of a job so that it can be run again, how its attempts count, and how a shutdown leaves it. */
import * as Duration from "effect/Duration"
import { InternalError } from "../../../protocol/Errors.js"
import type { Restart } from "../../../services/agents/Contract.js"
import type { Identity } from "../../../services/auth/Auth.js"
import type { Options } from "../../../services/runtime/RuntimeOptions.js"
import type { JobRecord, Survival } from "../../../services/store/Store.js"
import type { Submitter } from "../Candidate.js"
import type { JobParts } from "../JobParts.js"
import type { LiveJob } from "../LiveJob.js"

/** Returns what is stored with a job of an agent whose jobs survive; nothing of any other. */
export const begun = (
  restart: Restart | undefined,
  { features, identity }: Pick<Submitter, "features"> & { readonly identity: Partial<Identity> },
  now: number,
  maxRuntimeSec?: number
): Survival | undefined => {
  if (restart === undefined) return undefined
  const { principal: _, ...claims } = identity
  return {
    restart,
    identity: claims,
    features,
    ...(maxRuntimeSec === undefined ? {} : { deadline: now + maxRuntimeSec * 1000 }),
    attempt: 1,
    deaths: 0,
    progress: 0
  }
}

/** Returns who submitted a job, as it is stored with it. */
export const submitter = (
  { principal }: Pick<JobRecord, "principal">,
  { features, identity }: Pick<Survival, "features" | "identity">
): Submitter => ({ features, identity: { ...identity, principal } })

/** Returns the survival of a job whose handler is begun again, now that it has come as far as `progress`. */
export const again = (
  { left: _, parked: __, waiting: ___, ...before }: Survival,
  progress: number,
  died: boolean
): Survival => ({
  ...before,
  attempt: before.attempt + 1,
  deaths: !died ? before.deaths : progress > before.progress ? 1 : before.deaths + 1,
  progress
})

/** Returns the survival of a job that was unloaded, and is loaded again: that is no attempt. */
export const loaded = (
  { left: _, parked: __, waiting: ___, ...before }: Survival,
  progress: number
): Survival => ({
  ...before,
  deaths: progress > before.progress ? 0 : before.deaths,
  progress
})

/** Returns the record of a job that waits unloaded, and is to be loaded now. */
export const dueNow = (record: JobRecord): JobRecord => {
  const { survival } = record
  return survival?.waiting === undefined
    ? record
    : { ...record, survival: { ...survival, waiting: { ...survival.waiting, dueAt: 0 } } }
}

const longestPause = Duration.minutes(1)

/** Returns how long a job waits before its handler is begun again. */
export const pauseBefore = (
  { deaths }: Survival,
  { attemptPause }: Pick<Options, "attemptPause">
): Duration.Duration =>
  deaths < 2 ? Duration.zero : Duration.min(longestPause, Duration.times(attemptPause, 2 ** (deaths - 2)))

/** Returns why a job is not begun again, when its process has died in it too often. */
export const crashLoop = (
  { deaths }: Survival,
  { maxAttempts }: Pick<Options, "maxAttempts">
): InternalError | undefined =>
  deaths < maxAttempts
    ? undefined
    : new InternalError({
        message: `the process died ${deaths} times while this job ran, which got no further`,
        details: { reason: "crash_loop" }
      })

/** Returns whether a job goes on with the next process: nothing has ended it. One that is being unloaded only waits. */
const goesOn = ({ ending, exit, survives, undoing }: LiveJob): boolean =>
  survives && (undoing || ((ending === undefined || ending._tag === "Unload") && exit === undefined))

/**
 * Ends what runs when the runtime shuts down. A job that is run again is left as it is: its log is closed first, so that
 * nothing of what its finalizers do is in it.
 */
export const endAll = ({ log, running, store }: JobParts): void => {
  const jobs = [...running.all]
  const left = new Set(store.kind === "durable" ? jobs.filter(({ live }) => goesOn(live)) : [])
  for (const job of left) log.leaveJob(job.log)
  for (const job of jobs) job.live.end({ _tag: left.has(job) ? "Leave" : "Shutdown" })
}

/** Returns a job with all that was delegated below it. */
const familyOf = (live: LiveJob): ReadonlyArray<LiveJob> => [live, ...[...live.children].flatMap(familyOf)]

/**
 * Leaves what others go on with: each job that is run again with all that was delegated below it. Returns those that are left, of
 * which nothing is written any more.
 */
export const leaveAll = ({ log, running }: JobParts): ReadonlyArray<LiveJob> => {
  const roots = [...running.all].filter(({ live }) => live.parent === undefined)
  const left = roots
    .map(({ live }) => familyOf(live))
    .filter((family) => family.every(goesOn))
    .flat()
  for (const live of left) {
    const job = running.get(live.record.jobId)
    if (job === undefined) continue
    log.leaveJob(job.log)
    live.end({ _tag: "Leave" })
  }
  return left
}

/** Tells which of the jobs that were open when the last process ended are run again. */
export const survivorsOf = (open: ReadonlyMap<string, JobRecord>): ReadonlySet<string> => {
  const decided = new Map<string, boolean>()
  const survives = (record: JobRecord): boolean => {
    const known = decided.get(record.jobId)
    if (known !== undefined) return known
    const { cancelRequested, parentJobId, survival } = record
    const parent = parentJobId === undefined ? undefined : open.get(parentJobId)
    const verdict =
      survival !== undefined &&
      survival.ended === undefined &&
      cancelRequested === undefined &&
      (parentJobId === undefined || (parent !== undefined && survives(parent)))
    decided.set(record.jobId, verdict)
    return verdict
  }
  return new Set([...open.values()].filter(survives).map(({ jobId }) => jobId))
}
