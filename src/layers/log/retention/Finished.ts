/** Jobs that have ended: how many are kept, how long, and dropping them. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { InternalError } from "../../../protocol/Errors.js"
import { Op, type StoreError } from "../../../services/store/Store.js"
import type { JobState } from "../JobState.js"
import type { JobCaps } from "./Jobs.js"
import { batch, type RetentionParts } from "./Parts.js"
import type { ViewCaps } from "./Views.js"

/** A job that has ended, or a submit that was refused. */
export interface FinishedJob {
  readonly jobId: string
  readonly principal: string
}

type StoreWork<A = void> = Effect.Effect<A, InternalError | StoreError>

/** Forgets jobs that have ended. */
export interface FinishedJobs {
  /**
   * Drops jobs, with everything of them; views that still hold something of one begin after it. Returns how many: those
   * that somebody is about to observe stay, and those that a session needs unless `evenIfNeeded`.
   */
  readonly drop: (jobs: ReadonlyArray<FinishedJob>, evenIfNeeded?: boolean) => StoreWork<number>
  /** Drops jobs whose time has passed and that nobody needs any more. */
  readonly dropRetired: StoreWork
  /** Drops jobs over the cap of their principal, or of all: the oldest nobody needs, and only then the oldest. */
  readonly enforceCaps: StoreWork
  /** Counts a job; returns whether a cap is now exceeded. */
  readonly add: (job: FinishedJob) => boolean
  /**
   * The jobs that have ended and are kept, oldest end first, apart from those that were looked at and are needed; of a
   * store in memory only, which is the only one that has to find them in a hurry.
   */
  readonly kept: Map<string, FinishedJob>
  /** Counts what is stored; returns whether a cap is exceeded. */
  readonly count: Effect.Effect<boolean, StoreError>
}

/** How much a cap may be exceeded before it is enforced at once: a batch is dropped in one go, not each job by itself. */
const slackOf = (max: number): number => Math.min(batch, Math.floor(max / 64))

/** Returns what forgets jobs that have ended. */
export const make = (parts: RetentionParts, views: ViewCaps, jobs: JobCaps): FinishedJobs => {
  const { committer, dropped, live, options, store, tail } = parts
  const share = store.kind === "memory" ? 16 : 1
  const maxPerPrincipal = Math.ceil(options.maxRetainedJobs / share)
  const maxInAll = Math.ceil(options.maxRetainedJobsInAll / share)
  /** Per principal; what the store holds, kept in step with it. */
  let counts = new Map<string, number>()
  let inAll = 0
  const kept = new Map<string, FinishedJob>()

  const add = (principal: string, by: number) => {
    const next = (counts.get(principal) ?? 0) + by
    inAll += by
    if (next <= 0) counts.delete(principal)
    else counts.set(principal, next)
    return next > maxPerPrincipal + slackOf(maxPerPrincipal) || inAll > maxInAll + slackOf(maxInAll)
  }

  const dropTaken = (ended: ReadonlyArray<FinishedJob>) =>
    Effect.gen(function* () {
      const jobIds = ended.map(({ jobId }) => jobId)
      const viewers = yield* store.viewers(jobIds)
      yield* committer.change((tx) => {
        for (const { end, sessionId } of viewers) tx.ops.push(Op.TrimSession({ sessionId, eventSeq: end }))
        for (const jobId of jobIds) tx.ops.push(Op.DropJob({ jobId }))
        tx.onApply(() => {
          const gone = new Set<JobState>()
          for (const jobId of jobIds) {
            const job = live.jobs.get(jobId)
            if (job === undefined) continue
            job.dropped = true
            jobs.overdue.delete(job)
            gone.add(job)
          }
          if (gone.size > 0) tail.forget(gone)
          for (const { end, sessionId } of viewers) {
            const view = live.views.get(sessionId)
            view?.ledger.free(end)
            view?.forgetRuns(gone)
          }
          for (const { jobId, principal } of ended) {
            add(principal, -1)
            kept.delete(jobId)
          }
          dropped.give()
        })
      })
    })

  const isUnneeded = ({ jobId }: FinishedJob) => Effect.map(store.needed(jobId), (seq) => seq === undefined)

  const drop = (ended: ReadonlyArray<FinishedJob>, evenIfNeeded = false) =>
    Effect.acquireUseRelease(
      Effect.sync(() => live.takeUnjoined(ended)),
      (taken) =>
        Effect.gen(function* () {
          // Asked again now that nobody can begin to observe them: somebody may have since they were found.
          const free = evenIfNeeded ? taken : yield* Effect.filter(taken, isUnneeded)
          if (free.length > 0) yield* dropTaken(free)
          return free.length
        }),
      (taken) => Effect.sync(() => live.giveBack(taken))
    ).pipe(Effect.zipLeft(parts.turn.next))

  const dropRetired = Effect.gen(function* () {
    const endedBefore = parts.now() - Duration.toMillis(options.jobRetention)
    yield* views.storeNeeds(live.views.keys())
    for (;;) {
      const old = yield* store.retired({ endedBefore, limit: batch })
      if (old.length === 0) return
      // What somebody is about to observe is for the next time.
      if ((yield* drop(yield* principalsOf(old))) === 0) return
    }
  })

  const principalsOf = (jobIds: ReadonlyArray<string>) =>
    Effect.forEach(jobIds, (jobId) =>
      Effect.map(store.job(jobId), (record) => ({ jobId, principal: record?.principal ?? "" }))
    )

  const dropSurplus = (principal: string, surplus: number) =>
    Effect.gen(function* () {
      let left = surplus
      for (const needed of [false, true])
        while (left > 0) {
          const some = yield* store.surplus({ principal, limit: Math.min(batch, left), needed })
          if (some.length === 0) break
          yield* drop(
            some.map((jobId) => ({ jobId, principal })),
            needed
          )
          left -= some.length
        }
    })

  const enforceCaps = Effect.gen(function* () {
    const over = [...counts].filter(([, n]) => n > maxPerPrincipal)
    if (over.length === 0 && inAll <= maxInAll) return
    yield* views.storeNeeds(live.views.keys())
    for (const [principal, n] of over) yield* dropSurplus(principal, n - maxPerPrincipal)
    while (inAll > maxInAll) {
      const [principal, n] = [...counts].reduce((a, b) => (b[1] > a[1] ? b : a), ["", 0])
      const before = inAll
      yield* dropSurplus(principal, Math.min(n, inAll - maxInAll, batch))
      if (inAll === before) return
    }
  })

  return {
    drop,
    dropRetired,
    enforceCaps,
    add: (job) => {
      if (store.kind === "memory") kept.set(job.jobId, job)
      return add(job.principal, 1)
    },
    kept,
    count: Effect.map(store.endedCounts, (stored) => {
      counts = new Map(stored)
      inAll = [...counts.values()].reduce((a, b) => a + b, 0)
      return inAll > maxInAll || [...counts.values()].some((n) => n > maxPerPrincipal)
    })
  }
}
