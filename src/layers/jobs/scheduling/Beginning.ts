/**
 * Beginning a job that has waited, from what is stored of it: its log, its input, the identity that submitted it. It runs from
 * the commit that says so, so that a job that may not be run twice is not.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { InternalError } from "../../../protocol/Errors.js"
import type { Registered } from "../../../services/agents/Agent.js"
import type { JobLog } from "../../../services/log/EventLog.js"
import * as Tracing from "../../../services/runtime/Tracing.js"
import type { JobRecord } from "../../../services/store/Store.js"
import type { Candidate } from "../Candidate.js"
import { Journal } from "../durable/Journal.js"
import { absentOwner } from "../durable/Owners.js"
import type { Reopen } from "../durable/Reopening.js"
import * as Rerun from "../durable/Rerun.js"
import * as Survival from "../durable/Survival.js"
import * as Faults from "../Faults.js"
import type { JobParts } from "../JobParts.js"
import * as Runner from "../Runner.js"
import * as Terminal from "../Terminal.js"
import type { QueuedJob } from "./Queue.js"

/** Returns the record of a job that begins now: from here on it is like any other. */
const begun = (
  { queued, ...record }: QueuedJob["record"],
  { restart }: Registered,
  now: number
): JobRecord => ({
  ...record,
  status: "running",
  survival: Survival.begun(restart, queued, now, record.maxRuntimeSec)
})

/** Stores that a job runs, with its first event; fails when the runtime is gone before the store has taken it. */
const storeBegun = ({ log, now, running }: JobParts, job: JobLog): Effect.Effect<void, InternalError> =>
  Terminal.untilStored(
    Effect.suspend(() => {
      const live = running.get(job.jobId)?.live
      return live === undefined
        ? new InternalError({ message: "the job has ended" })
        : log.append(job, { ...Runner.running(now()), awaited: true, record: () => live.record })
    }),
    running
  )

/** Leaves a job whose agent is not here where it is, until the next start, or until a node has its agent. */
const park = (
  { cluster, log, running, waits }: JobParts,
  job: QueuedJob,
  reason: string
): Effect.Effect<void> =>
  Effect.gen(function* () {
    running.queue.places.release(job)
    const { record } = job
    if (cluster !== undefined && record.queued.parked === undefined) waits.parked.add(record.jobId)
    const queued = { ...record.queued, parked: reason }
    job.record = { ...record, queued }
    yield* log.holding(record, (opened) =>
      Effect.suspend(() => (job.gone ? Effect.void : log.amend(opened, job.record, () => {})))
    )
    yield* Effect.logWarning(`job parked: ${record.agent} is not here`)
  }).pipe(Effect.ignoreLogged, Effect.annotateLogs({ job: job.jobId }))

/** Begins a job from what is stored of it, and of what is in its record now. */
const fromStored = (parts: JobParts, reopen: Reopen, job: QueuedJob): Effect.Effect<void, InternalError> =>
  Effect.gen(function* () {
    const { log, now, options, registry, running, store, turn } = parts
    const { jobId } = job
    // Decided when its places are, since what comes between is as long as the store takes.
    if (!(yield* running.mayBegin(job))) return running.queue.places.narrow(job)
    const found = yield* Effect.either(Rerun.resolve(registry, job.agent))
    if (Either.isLeft(found)) return yield* park(parts, job, found.left.code.toLowerCase())
    const agent = found.right
    const input = yield* Faults.storage(store.input(jobId))
    const journal =
      agent.restart === undefined
        ? undefined
        : yield* Faults.storage(Journal.load(jobId, store, turn, options))
    const session = job.session ?? (yield* absentOwner(parts, job.record, job.record.queued))
    const opened = yield* log.reopenJob(job.record)
    const run: Candidate["run"] =
      input === undefined
        ? new InternalError({ message: "the input of the job is not stored" })
        : Effect.flatten(Effect.suspend(() => agent.prepare(JSON.parse(input))))
    yield* Effect.suspend(() => {
      const record = begun(job.record, agent, now())
      return reopen({
        candidate: {
          session: job.session ?? session,
          submitter: Survival.submitter(record, job.record.queued),
          record,
          run,
          agent,
          journal,
          forked: job.record.queued.forked,
          input: undefined,
          parentSpan: Tracing.submitter(record)
        },
        job: opened,
        runs: true,
        first: {
          enter: () => {
            if (job.gone || running.stopping) {
              running.queue.places.release(job)
              return false
            }
            running.queue.remove(job)
            running.queue.places.handOver(job)
            return true
          },
          stored: storeBegun(parts, opened)
        }
      })
    })
  })

/**
 * Begins a job that has its places; gives them back when it has been cancelled meanwhile, or the runtime stops. It does so under the
 * job's lock: whoever takes it over would store once more that it waits, and it would be begun again by the next process.
 */
export const begin = (parts: JobParts, reopen: Reopen, job: QueuedJob): Effect.Effect<void, InternalError> =>
  parts.waits.locked(job.jobId, fromStored(parts, reopen, job))
