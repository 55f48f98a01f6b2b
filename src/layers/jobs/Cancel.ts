/**
 * Cancelling (§5.4 of the protocol page). The handler is interrupted at once; that it is cancelled is stored before it is
 * acknowledged, so that an acknowledged cancel ends the job in `CANCELLED` also when the process dies right after it. A job of
 * another node is cancelled by that (`wishes/`).
 */
import type * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { type ArcpError, type InternalError, JobNotFound } from "../../protocol/Errors.js"
import { type Decision, denied } from "../../services/auth/Policy.js"
import type { CancelRequest, JobSession } from "../../services/jobs/Jobs.js"
import type { JobRecord } from "../../services/store/Store.js"
import * as Checks from "./Checks.js"
import * as Resting from "./durable/Resting.js"
import * as Faults from "./Faults.js"
import type { JobParts } from "./JobParts.js"
import type { CancelAnswer } from "./LiveJob.js"
import type { Lookup } from "./Lookup.js"
import type { Ownership } from "./Ownership.js"
import type { RunningJob } from "./RunningJobs.js"
import * as Scheduler from "./scheduling/Scheduler.js"
import * as Terminal from "./Terminal.js"
import type { CancelWant } from "./wishes/Want.js"

/** Cancels of one job that may wait to be stored. */
const maxWaiting = 64

/** Jobs that are read at once. */
const page = 500

/** Jobs of one session that other nodes are asked to cancel at once: a principal may have a few hundred asked for. */
const askedAtOnce = 16

/** Whose jobs are all cancelled. */
type CancelledSession = Pick<JobSession, "sessionId" | "identity">

const notCancelled = (cause: Cause.Cause<ArcpError>) =>
  Effect.logWarning("jobs of a session that said bye could not be cancelled", cause)

/** Returns what cancels jobs (§7.4). */
export const make = (parts: JobParts, ownership: Ownership, lookup: Lookup) => {
  const { asking, log, now, policy, running, store, underway } = parts

  const decide = (session: JobSession, record: JobRecord): Effect.Effect<Decision, InternalError> =>
    Effect.gen(function* () {
      if (record.sessionId === session.sessionId) return true
      const decision = yield* policy.mayCancel(session.identity, record)
      return decision === true || (yield* ownership.mayCancel(session, record)) || decision
    })

  /** Tells what the job is cancelled for: of several cancels that is the first, which its end says, too. */
  const acknowledge = (session: JobSession, request: CancelRequest, record: JobRecord) => {
    const { reason } = record.cancelRequested ?? request
    return session.send({
      type: "job.cancelled",
      jobId: record.jobId,
      traceId: record.traceId,
      payload: { request_id: request.id, ...(reason === undefined ? {} : { reason }) }
    })
  }

  /** Stores that the job is cancelled, as often as it takes, and then gives every answer that waits for it; refuses all when it cannot. */
  const storeCancel = ({ live, log: job }: RunningJob): Effect.Effect<void> => {
    const over = (refusal?: InternalError) => {
      live.storesCancel = false
      live.answerCancels(refusal)
    }
    return Terminal.untilStored(
      Effect.suspend(() => log.amend(job, live.record, () => over())),
      running
    ).pipe(Effect.catchAllCause(() => Effect.sync(() => over(Faults.left))))
  }

  const cancelRunning = (job: RunningJob, reason: string | undefined, answer: CancelAnswer) =>
    Effect.gen(function* () {
      const { live } = job
      if (live.cancelAnswers.length >= maxWaiting) return yield* Checks.atLimit("cancels_waiting", maxWaiting)
      if (live.ended) return answer.given(live.record)
      live.cancelAnswers.push(answer)
      // That it is cancelled must not be stored, nor acknowledged, of a job whose end is decided and says something else.
      if (live.concluded || live.storesCancel) return
      live.storesCancel = true
      live.record = {
        ...live.record,
        // A later one changes nothing: after a crash, too, the job ends with the reason that its handler was told.
        cancelRequested: live.record.cancelRequested ?? {
          ...(reason === undefined ? {} : { reason }),
          at: now()
        }
      }
      const begin = live.cancel(reason)
      // Queued before the handler hears of it, so the answer comes before what its finalizers emit.
      live.cancelStored = Fiber.await(yield* underway.fork(storeCancel(job)))
      begin()
    }).pipe(Effect.uninterruptible)

  /**
   * Cancels a job of this node; `answer` is given when that is stored, or at once when it has ended. Of one that has not begun
   * the end is stored at once, and acknowledges the cancel.
   */
  const cancelHere = (
    record: JobRecord,
    reason: string | undefined,
    answer: CancelAnswer
  ): Effect.Effect<void, InternalError> =>
    Effect.suspend(() => {
      const { jobId } = record
      if ((running.queue.get(jobId)?.ending?.length ?? 0) >= maxWaiting)
        return Checks.atLimit("cancels_waiting", maxWaiting)
      return Effect.flatMap(Scheduler.end(parts, jobId, { _tag: "Cancel", reason }, answer), (waited) =>
        waited
          ? Effect.void
          : Resting.ending(parts, jobId, (job) =>
              job === undefined ? Effect.sync(() => answer.given(record)) : cancelRunning(job, reason, answer)
            )
      )
    })

  /** Cancels a job, wherever it is; returns when that is stored. */
  const cancelAnywhere = (record: JobRecord, reason: string | undefined, principal: string) =>
    Effect.flatMap(asking.ask(record, { kind: "cancel", reason }, principal), (outcome) =>
      outcome === "done" ? Effect.succeed(record) : stored(record, reason)
    )

  /** Cancels a job of this node; returns when that is stored. */
  const stored = (record: JobRecord, reason: string | undefined) =>
    Effect.flatMap(Deferred.make<JobRecord, InternalError>(), (done) =>
      Effect.zipRight(
        cancelHere(record, reason, {
          given: (now) => Deferred.unsafeDone(done, Effect.succeed(now)),
          refused: (error) => Deferred.unsafeDone(done, error)
        }),
        Deferred.await(done)
      )
    )

  /** Tries as often as it takes, for as long as the runtime; what is damaged is so at every try. */
  const again = <A>(effect: Effect.Effect<A, ArcpError>): Effect.Effect<A, ArcpError> =>
    Effect.retry(effect, {
      schedule: Terminal.pauses,
      while: (error) => !running.abandoned && !Faults.isDamage(error)
    })

  /** Cancels a job of a session, whichever node has it by then; nothing when it has ended, or has another owner. */
  const cancelMeant = (jobId: string, isMeant: (record: JobRecord) => boolean, reason: string) =>
    Effect.gen(function* () {
      const record = yield* Faults.storage(store.job(jobId))
      if (record === undefined || record.endedAt !== undefined || !isMeant(record)) return
      yield* cancelAnywhere(record, reason, record.principal)
    })

  /** Cancels what a principal has on other nodes and is meant. What that has delegated to ends with it. */
  const cancelElsewhere = (principal: string, isMeant: (record: JobRecord) => boolean, reason: string) =>
    Effect.gen(function* () {
      for (let after: JobRecord | undefined; ; ) {
        const records: ReadonlyArray<JobRecord> = yield* again(
          Faults.storage(
            store.jobs({
              ...{ principals: [principal], status: ["pending", "running"], damaged: "left out" },
              ...{ after, limit: page }
            })
          )
        )
        const meant = records.filter(
          (record) => isMeant(record) && record.parentJobId === undefined && asking.isElsewhere(record)
        )
        yield* Effect.forEach(
          meant,
          ({ jobId }) => Effect.ignoreLogged(again(cancelMeant(jobId, isMeant, reason))),
          { concurrency: askedAtOnce, discard: true }
        )
        after = records.at(-1)
        if (after === undefined || records.length < page) return
      }
    })

  return {
    cancelAnywhere,
    /** Does what another node wants. */
    grant: (jobId: string, { reason }: CancelWant): Effect.Effect<void, ArcpError> =>
      Effect.flatMap(
        lookup.job(jobId),
        (record): Effect.Effect<void, ArcpError> =>
          record === undefined ? notFound : Effect.asVoid(stored(record, reason))
      ),
    cancel: (session: JobSession, request: CancelRequest): Effect.Effect<void, ArcpError> =>
      Effect.gen(function* () {
        const record = yield* lookup.job(request.jobId, { settled: true })
        if (record === undefined) return yield* notFound
        const decision = yield* decide(session, record)
        if (decision !== true)
          return yield* (yield* lookup.mayList(session, record))
            ? denied(
                decision,
                "only the session that submitted a job may cancel it while that exists; " +
                  "arcp serve --cancel principal lets every session of its principal, --operator PRINCIPAL whom it names"
              )
            : notFound
        const given = (now: JobRecord) => acknowledge(session, request, now)
        if (!asking.isElsewhere(record))
          return yield* cancelHere(record, request.reason, { given, refused: request.refused })
        asking.later(
          "a job of another node was cancelled",
          Effect.map(cancelAnywhere(record, request.reason, session.identity.principal), given),
          request.refused
        )
      }),
    cancelAll: ({ identity, sessionId }: CancelledSession, reason: string): Effect.Effect<void> =>
      Effect.suspend(() => {
        const ending = { _tag: "Cancel", reason } as const
        const at = now()
        // It may be resumed, and what it submits then is not meant.
        const isMeant = (record: JobRecord) => record.sessionId === sessionId && record.createdAt <= at
        const rows = again(Resting.endRows(parts, isMeant, ending))
        const elsewhere = cancelElsewhere(identity.principal, isMeant, reason)
        const doing = "the jobs of a session were cancelled"
        // What waits first: it is to take no place of those that end.
        return Effect.gen(function* () {
          yield* Scheduler.endAll(parts, ending, isMeant)
          // As when it asks for each: after a crash, too, they are cancelled.
          for (const job of [...running.all])
            if (job.live.owner.sessionId === sessionId)
              yield* Effect.catchAll(cancelRunning(job, reason, unanswered), () =>
                Effect.sync(() => job.live.end(ending))
              )
          for (const rest of parts.cluster === undefined ? [rows] : [rows, elsewhere])
            asking.later(doing, Effect.tapErrorCause(rest, notCancelled), () => {})
        })
      })
  }
}

/** Of a cancel that nobody waits for. */
const unanswered: CancelAnswer = { given: () => {}, refused: () => {} }

const notFound = new JobNotFound({ message: "no such job" })
