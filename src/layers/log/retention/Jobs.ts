/** What a job's log may lose: over the job's cap, the oldest that no view needs. */
import * as Effect from "effect/Effect"
import { isTaken } from "../../../services/log/taken.js"
import { Op } from "../../../services/store/Store.js"
import type { JobState } from "../JobState.js"
import { grown, type RetentionParts, type StoreWork } from "./Parts.js"
import type { ViewCaps } from "./Views.js"

/** Keeps the logs of jobs to their caps. */
export interface JobCaps {
  /** Cuts jobs to their caps, as far as views allow. */
  readonly lookAt: (jobs: ReadonlyArray<JobState>) => StoreWork
  /** Cuts all running jobs to what views need, whatever their caps. */
  readonly trimAll: StoreWork
  /** Jobs that have ended over their cap because views need them: also those that memory has no other use for. */
  readonly overdue: Map<string, JobState>
}

/** Returns what keeps the logs of jobs to their caps. */
export const make = ({ committer, dropped, live, store }: RetentionParts, views: ViewCaps): JobCaps => {
  const { granularity, limits } = live
  const overdue = new Map<string, JobState>()

  const trim = (job: JobState, to: number) =>
    to <= job.ledger.first
      ? Effect.void
      : committer.change((tx) => {
          if (job.dropped || job.superseded) return
          tx.ownsJob(job)
          tx.ops.push(Op.TrimJob({ jobId: job.jobId, seq: to }))
          tx.onApply(() => {
            job.ledger.free(to)
            dropped.give()
          })
        })

  /** A session that has not numbered more than its own cap loses it, whoever would number that. */
  const loseOver = (sessionId: string) =>
    Effect.gen(function* () {
      const observed = yield* store.observed(sessionId)
      const events = observed.reduce((sum, { cursor, last }) => sum + last - cursor, 0)
      const bytes = observed.reduce((sum, each) => sum + each.bytes, 0)
      if (events <= limits.events && bytes <= limits.bytes) return
      const place = (yield* store.sessionPlaces([sessionId])).get(sessionId)
      if (place === undefined) return
      yield* committer.change((tx) => {
        tx.owns({ session: sessionId, epoch: place.epoch })
        tx.ops.push(Op.Lose({ sessionId }))
        tx.onApply(() => live.views.get(sessionId)?.lose())
      })
    })

  /** Trims a job that is over its cap to what views need; readers over their own cap lose what is in the way. */
  const trimToNeed = (job: JobState, viewers: ReadonlyArray<string>) =>
    live.holds.trimmed(
      job.jobId,
      Effect.gen(function* () {
        const target = job.ledger.target(limits)
        if (target === undefined) return
        let needed = (yield* store.needed(job.jobId)) ?? target
        if (needed < target) {
          for (const sessionId of viewers) {
            const view = live.views.get(sessionId)
            if (view !== undefined && views.isOver(view)) yield* views.raise(view, views.floorOf(view, true))
          }
          for (const sessionId of yield* store.lagging(job.jobId)) yield* loseOver(sessionId)
          needed = (yield* store.needed(job.jobId)) ?? target
        }
        job.allowance = limits
        yield* trim(job, Math.min(target, needed, job.last))
        // What is needed stays; it is looked at again when there is more of it. Counted now: what went does not count.
        if (needed < target) job.allowance = grown(job.ledger, limits, granularity)
      })
    )

  const lookAt = (some: ReadonlyArray<JobState>) =>
    Effect.gen(function* () {
      const viewers = yield* store.viewers(some.map(({ jobId }) => jobId))
      yield* views.storeNeeds(viewers.map(({ sessionId }) => sessionId))
      for (const job of some) {
        const { jobId } = job
        const isOurs =
          !job.dropped &&
          job.foreignTo === undefined &&
          (yield* trimToNeed(
            job,
            viewers.filter((viewer) => viewer.jobId === jobId).map(({ sessionId }) => sessionId)
          ).pipe(
            Effect.as(true),
            // It is another process's, or gone: those after it are looked at all the same.
            Effect.catchIf(
              (error) => error._tag === "InternalError" && isTaken(error),
              () => Effect.succeed(false)
            )
          ))
        if (isOurs && job.closed && job.ledger.exceeds(limits)) overdue.set(jobId, job)
        else overdue.delete(jobId)
      }
    })

  const trimAll = Effect.gen(function* () {
    for (const job of [...live.jobs.values()]) {
      if (
        job.dropped ||
        live.jobs.get(job.jobId) !== job ||
        job.foreignTo !== undefined ||
        job.ledger.events <= 1
      )
        continue
      yield* live.holds.trimmed(
        job.jobId,
        Effect.flatMap(store.needed(job.jobId), (needed) => trim(job, Math.min(needed ?? job.last, job.last)))
      )
    }
  })

  return { lookAt, trimAll, overdue }
}
