/** Jobs that have ended: how many are kept, how long, and dropping them. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import type { StoreError, StoreService } from "../../../services/store/Store.js"
import type { JobState } from "../JobState.js"
import { dropping } from "./dropping.js"
import { EndedCounts } from "./EndedCounts.js"
import type { JobCaps } from "./Jobs.js"
import { batch, type RetentionParts, type StoreWork } from "./Parts.js"
import type { ViewCaps } from "./Views.js"

/** A job that has ended, or a submit that was refused. */
export interface FinishedJob {
  readonly jobId: string
  readonly principal: string
}

/** What keeps a job from being dropped: that anybody needs it, that a session does, or nothing. */
export type Keeping = "needed" | "needed by a session" | "nothing"

/** Forgets jobs that have ended. */
export interface FinishedJobs {
  /**
   * Drops jobs, with everything of them; views that still hold something of one begin after it. Returns how many: those
   * that somebody is about to observe stay, and those that `keeping` says.
   */
  readonly drop: (jobs: ReadonlyArray<FinishedJob>, keeping: Keeping) => StoreWork<number>
  /**
   * Drops jobs because somebody wants it, with the calls of hooks that are owed for them, whoever needs them. Waits for those
   * that are about to be observed. Those that are not stored any more are passed over.
   */
  readonly forget: (jobs: ReadonlyArray<FinishedJob>) => StoreWork
  /** Drops jobs whose time has passed and that nobody needs any more. Returns how many. */
  readonly dropRetired: StoreWork<number>
  /** Drops jobs over the cap of their principal, or of all: the oldest nobody needs, and only then the oldest. */
  readonly enforceCaps: StoreWork
  /** Counts a job; returns whether a cap is now exceeded. */
  readonly add: (job: FinishedJob) => boolean
  /**
   * The jobs that have ended and are kept, oldest end first, apart from those that were looked at and are needed; of a
   * store in memory only, which is the only one that has to find them in a hurry.
   */
  readonly kept: Map<string, FinishedJob>
  /** How many there are, and whether that is more than a cap. */
  readonly counts: Pick<EndedCounts, "inAll" | "isOver">
  /** Counts what is stored; returns whether a cap is exceeded. */
  readonly count: Effect.Effect<boolean, StoreError>
}

/** What dropping jobs works on. */
interface Dropping {
  readonly parts: RetentionParts
  readonly views: ViewCaps
  readonly jobs: JobCaps
  readonly counts: EndedCounts
  readonly kept: Map<string, FinishedJob>
}

/** Drops jobs that nobody can begin to observe any more. */
const dropTaken = (
  { counts, jobs, kept, parts }: Dropping,
  ended: ReadonlyArray<FinishedJob>,
  hooks: "keep" | "drop" = "keep"
) =>
  Effect.gen(function* () {
    const { committer, dropped, live, store, tail } = parts
    const jobIds = ended.map(({ jobId }) => jobId)
    const { ops, viewers } = yield* dropping(store, jobIds, hooks)
    const stored = yield* store.jobPlaces(jobIds)
    const sessions = yield* store.sessionPlaces([...new Set(viewers.map(({ sessionId }) => sessionId))])
    yield* committer.change((tx) => {
      // As they are stored: what somebody takes, or drops, meanwhile is looked at again.
      for (const [job, { epoch }] of stored) tx.owns({ job, epoch })
      for (const [session, { epoch }] of sessions) tx.owns({ session, epoch })
      for (const op of ops) tx.ops.push(op)
      tx.onApply(() => {
        const gone = new Set<JobState>()
        for (const jobId of jobIds) {
          // One that is over its cap is known there, also when memory has no other use for it.
          for (const job of [live.jobs.get(jobId), jobs.overdue.get(jobId)]) {
            if (job === undefined) continue
            job.dropped = true
            job.wake()
            gone.add(job)
          }
          jobs.overdue.delete(jobId)
        }
        if (gone.size > 0) tail.forget(gone)
        for (const { end, sessionId } of viewers) {
          const view = live.views.get(sessionId)
          view?.ledger.free(end)
          view?.forgetRuns(gone)
        }
        for (const { jobId, principal } of ended) {
          counts.add(principal, -1)
          kept.delete(jobId)
        }
        dropped.give()
      })
    })
  })

/** Returns whether a job stays, as somebody needs it. */
export const isKept = (
  store: StoreService,
  jobId: string,
  keeping: Keeping
): Effect.Effect<boolean, StoreError> =>
  keeping === "nothing"
    ? Effect.succeed(false)
    : Effect.flatMap(store.needed(jobId), (seq) =>
        seq !== undefined || keeping === "needed by a session"
          ? Effect.succeed(seq !== undefined)
          : store.neededAbove(jobId)
      )

const drop =
  (all: Dropping) =>
  (ended: ReadonlyArray<FinishedJob>, keeping: Keeping): StoreWork<number> => {
    const { live, store, turn } = all.parts
    return Effect.acquireUseRelease(
      Effect.sync(() => live.holds.takeUnjoined(ended)),
      (taken) =>
        Effect.gen(function* () {
          // Asked again now that nobody can begin to observe them: somebody may have since they were found.
          const free = yield* Effect.filter(taken, ({ jobId }) =>
            Effect.negate(isKept(store, jobId, keeping))
          )
          if (free.length > 0) yield* dropTaken(all, free)
          return free.length
        }),
      (taken) => Effect.sync(() => live.holds.giveBack(taken))
    ).pipe(Effect.zipLeft(turn.next))
  }

/** Before jobs are looked at again that somebody was about to observe. */
const joinAgain = Duration.millis(10)

/** Drops jobs that somebody wants to be dropped. */
const forget =
  (all: Dropping) =>
  (jobs: ReadonlyArray<FinishedJob>): StoreWork =>
    Effect.gen(function* () {
      const { live, store, turn } = all.parts
      for (let left = jobs; left.length > 0; ) {
        const some = left.slice(0, batch)
        const gone = yield* Effect.acquireUseRelease(
          Effect.sync(() => live.holds.takeUnjoined(some)),
          (taken) =>
            Effect.gen(function* () {
              const stored = yield* Effect.filter(taken, ({ jobId }) =>
                Effect.map(store.job(jobId), (record) => record !== undefined)
              )
              if (stored.length > 0) yield* dropTaken(all, stored, "drop")
              return new Set(taken)
            }),
          (taken) => Effect.sync(() => live.holds.giveBack([...taken]))
        )
        left = left.filter((job) => !gone.has(job))
        yield* gone.size === 0 ? Effect.sleep(joinAgain) : turn.next
      }
    })

/** Drops jobs whose time has passed and that nobody needs any more. Returns how many. */
const dropRetired = (all: Dropping): StoreWork<number> => {
  const { live, now, options, store } = all.parts
  const withPrincipals = (jobIds: ReadonlyArray<string>) =>
    Effect.forEach(jobIds, (jobId) =>
      Effect.map(store.job(jobId), (record) => ({ jobId, principal: record?.principal ?? "" }))
    )
  return Effect.gen(function* () {
    const endedBefore = now() - Duration.toMillis(options.jobRetention)
    yield* all.views.storeNeeds(live.views.keys())
    let gone = 0
    for (;;) {
      const old = yield* store.retired({ endedBefore, limit: batch })
      if (old.length === 0) return gone
      const dropped = yield* drop(all)(yield* withPrincipals(old), "needed")
      // What somebody is about to observe is for the next time.
      if (dropped === 0) return gone
      gone += dropped
    }
  })
}

/** Drops so many jobs of a principal: those that nobody needs, and only then others, the oldest first. */
const dropSurplus = (all: Dropping, principal: string, surplus: number): StoreWork =>
  Effect.gen(function* () {
    let left = surplus
    for (const needed of [false, true])
      while (left > 0) {
        const some = yield* all.parts.store.surplus({ principal, limit: Math.min(batch, left), needed })
        if (some.length === 0) break
        yield* drop(all)(
          some.map((jobId) => ({ jobId, principal })),
          needed ? "nothing" : "needed"
        )
        left -= some.length
      }
  })

/** Drops jobs until each principal is within its cap, and then of whoever has most until all together are. */
const enforceCaps = (all: Dropping): StoreWork =>
  Effect.gen(function* () {
    const { counts, parts, views } = all
    const over = counts.surplus()
    if (over.length === 0 && counts.surplusInAll <= 0) return
    yield* views.storeNeeds(parts.live.views.keys())
    for (const [principal, surplus] of over) yield* dropSurplus(all, principal, surplus)
    while (counts.surplusInAll > 0) {
      const [principal, n] = counts.most()
      const before = counts.surplusInAll
      yield* dropSurplus(all, principal, Math.min(n, before, batch))
      if (counts.surplusInAll === before) return
    }
  })

/** Returns what forgets jobs that have ended. */
export const make = (parts: RetentionParts, views: ViewCaps, jobs: JobCaps): FinishedJobs => {
  const { options, store } = parts
  const share = store.kind === "memory" ? 16 : 1
  const counts = new EndedCounts(
    Math.ceil(options.maxRetainedJobs / share),
    Math.ceil(options.maxRetainedJobsInAll / share)
  )
  const kept = new Map<string, FinishedJob>()
  const all: Dropping = { parts, views, jobs, counts, kept }
  /** What is over a cap by what is counted here may not be by what is stored. */
  const recount = Effect.suspend(() =>
    counts.isOver ? Effect.map(store.endedCounts, (stored) => counts.begin(stored)) : Effect.void
  )
  // What one has found to be dropped is there when it drops it.
  const alone = Effect.unsafeMakeSemaphore(1).withPermits(1)
  return {
    drop: drop(all),
    forget: (jobs) => alone((store.erasing ?? identity)(forget(all)(jobs))),
    dropRetired: alone(dropRetired(all)),
    enforceCaps: alone(
      parts.keeps === undefined ? enforceCaps(all) : Effect.zipRight(recount, enforceCaps(all))
    ),
    add: (job) => {
      if (store.kind === "memory") kept.set(job.jobId, job)
      return counts.add(job.principal, 1)
    },
    kept,
    counts,
    count: Effect.map(store.endedCounts, (stored) => counts.begin(stored))
  }
}
