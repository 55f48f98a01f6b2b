/**
 * Cancelling (§5.4 of the protocol page). The handler is interrupted at once; the wish is stored before it is
 * acknowledged, so that an acknowledged cancel ends the job in `CANCELLED` also when the process dies right after it.
 */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { type ArcpError, type InternalError, JobNotFound } from "../../protocol/Errors.js"
import { type Decision, denied } from "../../services/auth/Policy.js"
import type { CancelRequest, JobSession } from "../../services/jobs/Jobs.js"
import type { JobRecord } from "../../services/store/Store.js"
import * as Checks from "./Checks.js"
import * as Resting from "./durable/Resting.js"
import * as Elsewhere from "./elsewhere.js"
import type { JobParts } from "./JobParts.js"
import type { Lookup } from "./Lookup.js"
import type { Ownership } from "./Ownership.js"
import type { RunningJob } from "./RunningJobs.js"
import type { QueuedJob } from "./scheduling/Queue.js"
import * as Scheduler from "./scheduling/Scheduler.js"
import * as Terminal from "./Terminal.js"

/** Cancels of one job that may wait for the store to take the wish. */
const maxWaiting = 64

/** Returns what cancels jobs (§7.4). */
export const make = (parts: JobParts, ownership: Ownership, lookup: Lookup) => {
  const { log, now, policy, running, underway } = parts

  const decide = (session: JobSession, record: JobRecord): Effect.Effect<Decision, InternalError> =>
    Effect.gen(function* () {
      if (record.sessionId === session.sessionId) return true
      const decision = yield* policy.mayCancel(session.identity, record)
      return decision === true || (yield* ownership.inheritable(session, record)) || decision
    })

  const acknowledge = (session: JobSession, { id, reason }: CancelRequest, record: JobRecord) =>
    session.send({
      type: "job.cancelled",
      jobId: record.jobId,
      traceId: record.traceId,
      payload: { request_id: id, ...(reason === undefined ? {} : { reason }) }
    })

  /** Stores the wish, as often as it takes, and then gives every answer that waits for it. */
  const storeWish = ({ live, log: job }: RunningJob): Effect.Effect<void> =>
    Terminal.untilStored(
      Effect.suspend(() =>
        log.amend(job, live.record, () => {
          for (const answer of live.cancelAnswers.splice(0)) answer()
        })
      ),
      running
    ).pipe(Effect.ignore)

  const cancelRunning = (session: JobSession, request: CancelRequest, job: RunningJob) =>
    Effect.gen(function* () {
      const { live } = job
      if (live.cancelAnswers.length >= maxWaiting) return yield* Checks.atLimit("cancels_waiting", maxWaiting)
      const { reason } = request
      live.cancelAnswers.push(() => acknowledge(session, request, live.record))
      if (live.cancelAnswers.length > 1) return
      live.record = {
        ...live.record,
        cancelRequested: { ...(reason === undefined ? {} : { reason }), at: now() }
      }
      // Queued before the handler hears of it, so the answer comes before what its finalizers emit.
      live.cancelStored = Fiber.await(yield* underway.fork(storeWish(job)))
      live.cancel(reason)
    }).pipe(Effect.uninterruptible)

  /** Of one that has not begun the end is stored at once, and acknowledges the cancel. */
  const cancelQueued = (session: JobSession, request: CancelRequest, job: QueuedJob) =>
    Effect.gen(function* () {
      if ((job.ending?.length ?? 0) >= maxWaiting) return yield* Checks.atLimit("cancels_waiting", maxWaiting)
      const { reason } = request
      const answer = () => acknowledge(session, request, job.record)
      yield* underway.fork(Scheduler.end(parts, job, { _tag: "Cancel", reason }, [answer]))
    }).pipe(Effect.uninterruptible)

  return {
    cancel: (session: JobSession, request: CancelRequest): Effect.Effect<void, ArcpError> =>
      Effect.gen(function* () {
        const record = yield* lookup.job(request.jobId, { settled: true })
        if (record === undefined) return yield* notFound
        const decision = yield* decide(session, record)
        if (decision !== true)
          return yield* (yield* lookup.mayList(session, record))
            ? denied(decision, "only the session that submitted a job may cancel it")
            : notFound
        yield* Elsewhere.isHere(parts, record)
        const queued = running.queue.get(request.jobId)
        if (queued !== undefined) return yield* cancelQueued(session, request, queued)
        yield* Resting.ending(parts, request.jobId, (job) =>
          job === undefined
            ? Effect.sync(() => acknowledge(session, request, record))
            : cancelRunning(session, request, job)
        )
      }),
    cancelAll: (sessionId: string, reason: string): Effect.Effect<void> =>
      Effect.suspend(() => {
        const ending = { _tag: "Cancel", reason } as const
        const isMeant = (record: JobRecord) => record.sessionId === sessionId
        for (const { live } of running.all) if (live.owner.sessionId === sessionId) live.end(ending)
        return Effect.zipRight(
          underway.fork(Scheduler.endAll(parts, ending, ({ record }) => isMeant(record))),
          Effect.ignoreLogged(Resting.endRows(parts, isMeant, ending))
        )
      })
  }
}

const notFound = new JobNotFound({ message: "no such job" })
