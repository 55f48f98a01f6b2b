/**
 * What may be forgotten (§4.5), and nothing else decides it.
 *
 * - A view has a floor, which is stored. What is above the floor and needed stays; over the session's cap an absent
 *   session loses the oldest of its own view, and nobody else loses anything by it.
 * - A job's events go when they are over the job's own cap and no view needs them, or when the job's retention has
 *   passed and no view needs it. Who needs what is asked of the store, which knows every session, also those that
 *   this process has not loaded: so the answer is the same after a restart.
 * - Everything is done in batches by fibers of their own. An emitter that gets ahead of them waits (`room`).
 *
 * If the process dies anywhere in here, a floor or a job was dropped whole or not at all; the next pass goes on.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { InternalError } from "../../protocol/Errors.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"
import type { TurnService } from "../../services/runtime/Turn.js"
import { Op, type StoreError, type StoreService } from "../../services/store/Store.js"
import type { Committer } from "./Committer.js"
import type { JobState } from "./JobState.js"
import type { Ledger, Limits } from "./Ledger.js"
import type { Live } from "./Live.js"
import type { Tail } from "./Tail.js"
import { patienceMs, type ViewState } from "./ViewState.js"

/** Jobs dropped, or looked at, in one go. */
const batch = 256

/** Rows waiting to be freed on disk at which emitters over their job's cap wait for the freeing. */
const maxFreeing = 200_000

export const make = (parts: {
  readonly store: StoreService
  readonly committer: Committer
  readonly live: Live
  readonly tail: Tail
  readonly options: Options
  readonly turn: TurnService
  /** Epoch ms. */
  readonly now: () => number
  /** Milliseconds of a clock that only goes forward. */
  readonly monotonic: () => number
}) => {
  const { committer, live, monotonic, options, store, tail } = parts
  const { granularity, limits } = live
  const share = store.kind === "memory" ? 16 : 1
  const windowMs = Duration.toMillis(options.resumeWindow)
  const maxPerPrincipal = Math.ceil(options.maxRetainedJobs / share)
  const maxInAll = Math.ceil(options.maxRetainedJobsInAll / share)
  const slack: Limits = { events: Math.ceil(limits.events / 8), bytes: Math.ceil(limits.bytes / 8) }
  const maxHeld = options.maxMemoryLogBytes

  /** What is to be looked at in the next pass. */
  const views = new Set<ViewState>()
  const jobs = new Set<JobState>()
  /** Jobs that have ended over their cap because views need them. */
  const overdue = new Set<JobState>()
  /** Jobs that have ended, oldest end first: only of a store in memory, which is the only one with a limit. */
  let finished: Array<{ readonly jobId: string; readonly principal: string }> = []
  const waiting = new Set<() => void>()
  let wake: (() => void) | undefined
  let awake = false
  let counts = new Map<string, number>()
  let inAll = 0

  const signal = () => {
    awake = true
    wake?.()
  }
  const signalled = Effect.async<void>((resume) => {
    wake = () => {
      wake = undefined
      resume(Effect.void)
    }
    if (awake) wake()
    return Effect.sync(() => {
      wake = undefined
    })
  })

  const count = (principal: string, by: number) => {
    const next = (counts.get(principal) ?? 0) + by
    inAll += by
    if (next <= 0) counts.delete(principal)
    else counts.set(principal, next)
    return next
  }

  // Views

  const raise = (view: ViewState, to: number): Effect.Effect<void, InternalError> =>
    to <= view.first
      ? Effect.void
      : committer.change((tx) => {
          if (view.dropped) return
          tx.ops.push(Op.TrimSession({ sessionId: view.sessionId, eventSeq: to }))
          tx.onApply(() => view.ledger.free(to))
        })

  /** The floor of a view that is over its cap: what is not needed goes first; what is needed, unless it is being read. */
  const floorOf = (view: ViewState, evenIfRead: boolean): number => {
    const now = monotonic()
    const target = view.ledger.target(limits)
    if (target === undefined) return view.first
    const need = view.need(now, windowMs)
    return target <= need || evenIfRead || !view.reads(now) ? target : view.ledger.boundary(need)
  }

  const lookAtView = (view: ViewState) =>
    Effect.suspend(() => {
      if (view.dropped) return Effect.void
      const floor = floorOf(view, false)
      // What is read stays; it is looked at again when there is more of it.
      view.allowance = floor < floorOf(view, true) ? grown(view.ledger, limits, granularity) : limits
      return raise(view, floor)
    })

  // Jobs

  /** Stores what the sessions that are in memory need, so that the store can tell who needs what. */
  const storeNeeds = (sessionIds: Iterable<string>) =>
    committer.change((tx) => {
      for (const sessionId of new Set(sessionIds)) {
        const view = live.views.get(sessionId)
        if (view === undefined || view.dropped) continue
        const need = view.need(monotonic(), windowMs)
        if (need <= view.storedNeed) continue
        tx.ops.push(Op.Need({ sessionId, eventSeq: need }))
        tx.onApply(() => {
          view.storedNeed = Math.max(view.storedNeed, need)
        })
      }
    })

  const trim = (job: JobState, to: number) =>
    to <= job.ledger.first
      ? Effect.void
      : committer.change((tx) => {
          if (job.dropped) return
          tx.ops.push(Op.TrimJob({ jobId: job.jobId, seq: to }))
          tx.onApply(() => job.ledger.free(to))
        })

  /** Trims a job that is over its cap to what views need; readers over their own cap lose what is in the way. */
  const trimToNeed = (job: JobState, viewers: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      const target = job.ledger.target(limits)
      if (target === undefined) return
      let needed = (yield* store.needed(job.jobId)) ?? target
      if (needed < target) {
        for (const sessionId of viewers) {
          const view = live.views.get(sessionId)
          if (view?.ledger.exceedsAfter(view.need(monotonic(), windowMs) - 1, limits) === true)
            yield* raise(view, floorOf(view, true))
        }
        needed = (yield* store.needed(job.jobId)) ?? target
      }
      job.allowance = needed < target ? grown(job.ledger, limits, granularity) : limits
      yield* trim(job, Math.min(target, needed, job.last))
    })

  const lookAtJobs = (some: ReadonlyArray<JobState>) =>
    Effect.gen(function* () {
      const viewers = yield* store.viewers(some.map(({ jobId }) => jobId))
      yield* storeNeeds(viewers.map(({ sessionId }) => sessionId))
      for (const job of some) {
        if (job.dropped) continue
        yield* trimToNeed(
          job,
          viewers.filter(({ jobId }) => jobId === job.jobId).map(({ sessionId }) => sessionId)
        )
        if (job.closed && job.ledger.exceeds(limits)) overdue.add(job)
        else overdue.delete(job)
      }
    })

  /** Drops jobs that have ended, with everything of them; views that still hold something of one begin after it. */
  const drop = (ended: ReadonlyArray<{ readonly jobId: string; readonly principal: string }>) =>
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
            overdue.delete(job)
            gone.add(job)
          }
          if (gone.size > 0) tail.forget(gone)
          for (const { end, sessionId } of viewers) {
            const view = live.views.get(sessionId)
            view?.ledger.free(end)
            view?.forgetRuns(gone)
          }
          for (const { principal } of ended) count(principal, -1)
        })
      })
      yield* parts.turn.next
    })

  /** Finished jobs whose time has passed and that nobody needs any more. */
  const dropRetired = Effect.gen(function* () {
    const endedBefore = parts.now() - Duration.toMillis(options.jobRetention)
    yield* storeNeeds(live.views.keys())
    for (;;) {
      const old = yield* store.retired({ endedBefore, limit: batch })
      if (old.length === 0) return
      yield* drop(yield* principalsOf(old))
    }
  })

  const principalsOf = (jobIds: ReadonlyArray<string>) =>
    Effect.forEach(jobIds, (jobId) =>
      Effect.map(store.job(jobId), (record) => ({ jobId, principal: record?.principal ?? "" }))
    )

  /** Finished jobs over the cap of a principal, or of all: the oldest nobody needs, and only then the oldest. */
  const dropSurplus = (principal: string, surplus: number) =>
    Effect.gen(function* () {
      let left = surplus
      for (const needed of [false, true])
        while (left > 0) {
          const some = yield* store.surplus({ principal, limit: Math.min(batch, left), needed })
          if (some.length === 0) break
          yield* drop(some.map((jobId) => ({ jobId, principal })))
          left -= some.length
        }
    })

  const enforceCounts = Effect.gen(function* () {
    const over = [...counts].filter(([, n]) => n > maxPerPrincipal)
    if (over.length === 0 && inAll <= maxInAll) return
    yield* storeNeeds(live.views.keys())
    for (const [principal, n] of over) yield* dropSurplus(principal, n - maxPerPrincipal)
    while (inAll > maxInAll) {
      const [principal, n] = [...counts].reduce((a, b) => (b[1] > a[1] ? b : a), ["", 0])
      if (n === 0) return
      yield* dropSurplus(principal, Math.min(n, inAll - maxInAll, batch))
    }
  })

  // Memory: one limit for all jobs and views of a store that is in memory.

  /** Forgets finished jobs that nobody needs, oldest first. Returns whether there was one. */
  const forgetFinished = Effect.gen(function* () {
    const unneeded: typeof finished = []
    const kept: typeof finished = []
    let i = 0
    for (; i < finished.length && unneeded.length < 16; i++) {
      const job = finished[i] as (typeof finished)[number]
      if ((yield* store.job(job.jobId)) === undefined) continue
      if ((yield* store.needed(job.jobId)) === undefined) unneeded.push(job)
      else kept.push(job)
    }
    finished = [...kept, ...finished.slice(i)]
    if (unneeded.length > 0) yield* drop(unneeded)
    return unneeded.length > 0
  })

  /** Trims running jobs to what views need. Returns whether anything went. */
  const trimLive = Effect.gen(function* () {
    const before = store.held()
    for (const job of live.jobs.values()) {
      if (job.dropped || job.ledger.events <= 1) continue
      const needed = yield* store.needed(job.jobId)
      yield* trim(job, Math.min(needed ?? job.last, job.last))
    }
    return store.held() < before
  })

  /** The largest view that is not being read loses its oldest part. Returns whether there was one. */
  const shrinkLargest = Effect.suspend(() => {
    const now = monotonic()
    let largest: ViewState | undefined
    for (const view of live.views.values())
      if (!view.reads(now) && view.ledger.bytes > (largest?.ledger.bytes ?? 0)) largest = view
    if (largest === undefined) return Effect.succeed(false)
    const { ledger } = largest
    const excess = Math.max(store.held() - maxHeld, ledger.bytes / 8)
    const to =
      ledger.target({ events: limits.events, bytes: Math.max(0, ledger.bytes - excess) }) ?? ledger.last + 1
    return Effect.as(raise(largest, Math.max(to, largest.first + 1)), true)
  })

  const relieveMemory = Effect.gen(function* () {
    if (store.held() <= maxHeld) return
    yield* storeNeeds(live.views.keys())
    while (store.held() > maxHeld) {
      const freed = (yield* forgetFinished) || (yield* trimLive) || (yield* shrinkLargest)
      if (!freed) return
      yield* parts.turn.next
    }
  })

  // Passes

  const freed = Effect.gen(function* () {
    while ((yield* store.freeing) > maxFreeing && (yield* store.vacuum)) yield* parts.turn.next
  })

  const pass = Effect.gen(function* () {
    const someViews = [...views]
    const someJobs = [...jobs]
    views.clear()
    jobs.clear()
    for (const view of someViews) yield* lookAtView(view)
    for (let i = 0; i < someJobs.length; i += batch) yield* lookAtJobs(someJobs.slice(i, i + batch))
    if (someJobs.length > 0) yield* freed
    yield* relieveMemory
    yield* enforceCounts
  }).pipe(
    Effect.ensuring(
      Effect.sync(() => {
        for (const resume of [...waiting]) resume()
      })
    )
  )

  /** A pass or sweep that fails is tried again: what it would have forgotten is still there. */
  const trying = <A>(what: string, effect: Effect.Effect<A, InternalError | StoreError>) =>
    Effect.catchAllCause(effect, (cause) =>
      Effect.zipRight(
        Effect.logWarning(`${what} did not succeed; it will be tried again`, cause),
        Effect.sleep("1 second")
      )
    )

  const retain = Effect.gen(function* () {
    yield* signalled
    awake = false
    // What is emitted in one turn is looked at in one pass.
    yield* parts.turn.next
    yield* trying("giving up old events", pass)
  }).pipe(Effect.forever)

  const every = Duration.millis(
    Math.min(30_000, Math.max(100, Math.min(windowMs, Duration.toMillis(options.jobRetention)) / 4))
  )

  const sweep = Effect.gen(function* () {
    for (const job of overdue) jobs.add(job)
    if (jobs.size > 0) signal()
    yield* trying("dropping old jobs", dropRetired)
  }).pipe(Effect.delay(every), Effect.forever)

  const freeing = Effect.gen(function* () {
    while (yield* store.vacuum) yield* Effect.sleep("5 millis")
  }).pipe((free) => trying("freeing what was dropped", free), Effect.delay("250 millis"), Effect.forever)

  const isBlocked = (job: JobState): boolean =>
    job.ledger.events > job.allowance.events + slack.events ||
    job.ledger.bytes > job.allowance.bytes + slack.bytes ||
    store.held() > maxHeld + maxHeld / 8

  return {
    /** Looks at what a commit has touched. */
    published: (touched: {
      readonly views: Iterable<ViewState>
      readonly jobs: Iterable<JobState>
    }): void => {
      for (const view of touched.views) if (view.ledger.exceeds(view.allowance)) views.add(view)
      for (const job of touched.jobs)
        if (job.ledger.exceeds(job.allowance) || (job.closed && job.ledger.exceeds(limits))) jobs.add(job)
      if (views.size > 0 || jobs.size > 0 || store.held() > maxHeld) signal()
    },
    /** Looks at a view that is not read any more. */
    detached: (view: ViewState): void => {
      if (!view.ledger.exceeds(limits)) return
      views.add(view)
      signal()
    },
    /** A job has ended, or was refused: it counts from now on. */
    ended: (jobId: string, principal: string): void => {
      if (store.kind === "memory") finished.push({ jobId, principal })
      if (count(principal, 1) > maxPerPrincipal || inAll > maxInAll) signal()
    },
    /** Returns whether an emitter of this job is ahead of the retention, and has to wait for `room`. */
    isBlocked,
    /** Waits until what was to be forgotten has been freed; no longer than `patience`, whatever goes wrong. */
    room: (job: JobState): Effect.Effect<void> => {
      const next = Effect.async<void>((resume) => {
        const go = () => {
          waiting.delete(go)
          resume(Effect.void)
        }
        waiting.add(go)
        jobs.add(job)
        signal()
        return Effect.sync(() => waiting.delete(go))
      })
      return Effect.whileLoop({ while: () => isBlocked(job), body: () => next, step: () => {} }).pipe(
        Effect.timeoutOption(Duration.millis(patienceMs)),
        Effect.asVoid
      )
    },
    /** Counts what is stored, and forks what retains, drops and frees, each in a fiber of its own. */
    start: Effect.gen(function* () {
      counts = new Map(yield* store.endedCounts)
      inAll = [...counts.values()].reduce((a, b) => a + b, 0)
      yield* Effect.forkScoped(retain)
      yield* Effect.forkScoped(sweep)
      yield* Effect.forkScoped(freeing)
      if (inAll > maxInAll || [...counts.values()].some((n) => n > maxPerPrincipal)) signal()
    })
  }
}

/** What something that could not be cut to its cap may grow to before it is looked at again. */
const grown = (ledger: Ledger, limits: Limits, step: Limits): Limits => ({
  events: Math.max(limits.events, ledger.events + step.events),
  bytes: Math.max(limits.bytes, ledger.bytes + step.bytes)
})
