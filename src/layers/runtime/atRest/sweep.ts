/**
 * What a runtime would forget now of what is stored, and forgetting it: the parts of its own retention (`layers/log/retention`)
 * and what is left of sessions (`layers/session/surviving.ts`), over a store that no runtime has, or on which it is only tried
 * (`layers/store/care/trial.ts`). What a runtime has in memory, it knows better: a session that has read on needs less.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { InternalError } from "../../../protocol/Errors.js"
import type { RuntimeOptions } from "../../../services/runtime/RuntimeOptions.js"
import { Signal } from "../../../services/runtime/Signal.js"
import { Turn } from "../../../services/runtime/Turn.js"
import { type JobRecord, Op, type StoreError, type StoreService } from "../../../services/store/Store.js"
import { JobState } from "../../log/JobState.js"
import type { Limits } from "../../log/Ledger.js"
import { LiveLogs } from "../../log/Live.js"
import { keepers } from "../../log/Retention.js"
import { batch, retentionLimits, type StoreWork } from "../../log/retention/Parts.js"
import { countRetained } from "../../log/stored.js"
import { Tail } from "../../log/Tail.js"
import { Transaction } from "../../log/Transaction.js"
import { surviving } from "../../session/surviving.js"
import { commitUnowned } from "../../store/unowned.js"

type Options = RuntimeOptions["Type"]

/** A job that has ended and is dropped. */
export interface SweptJob {
  readonly jobId: string
  readonly principal: string
  /** Its time has passed, or its principal, or all together, have more than are kept. */
  readonly why: "jobRetention" | "maxRetainedJobs" | "maxRetainedJobsInAll"
}

/** The oldest events of a job, or of what a session can still be sent, that go. */
export interface Cut {
  readonly id: string
  readonly principal: string
  readonly events: number
  readonly why: "maxRetainedEvents" | "maxRetainedBytes"
}

/** What is forgotten, and what is not. */
export interface Swept {
  /** Sessions whose window has passed. */
  readonly sessions: ReadonlyArray<{ readonly sessionId: string; readonly principal: string }>
  readonly jobs: ReadonlyArray<SweptJob>
  /** Jobs over their cap. */
  readonly logs: ReadonlyArray<Cut>
  /** Sessions over theirs. */
  readonly views: ReadonlyArray<Cut>
  readonly kept: {
    /** Jobs that have not ended. */
    readonly unfinished: number
    /** Jobs that ended less than `jobRetention` ago. */
    readonly recent: number
    /** Jobs whose time has passed, and of which a session that can be resumed has not read everything. */
    readonly needed: number
    /** Jobs with more events than their cap, which a session that can be resumed has not read. */
    readonly over: number
    readonly sessions: number
  }
  /** When the next job is due, in epoch ms. */
  readonly nextAt: number | undefined
}

const every = Number.MAX_SAFE_INTEGER

const nothingIsSpent = (): never => {
  throw new Error("nothing is spent by what is forgotten")
}

/** Commits each change by itself, and keeps the records of jobs that are dropped: nobody else writes here. */
const committing = (store: StoreService, tail: Tail, maxRun: Limits) => {
  const gone: Array<JobRecord> = []
  return {
    /** Returns the jobs that were dropped since it was asked last, in that order. */
    gone: () => gone.splice(0),
    committer: {
      change: (change: (tx: Transaction) => void): StoreWork =>
        Effect.gen(function* () {
          const tx = new Transaction(nothingIsSpent, maxRun)
          change(tx)
          const { ops } = tx.seal([])
          for (const op of ops) {
            const record = op._tag === "DropJob" ? yield* store.job(op.jobId) : undefined
            if (record !== undefined) gone.push(record)
          }
          yield* commitUnowned(store, ops)
          tx.apply(tail)
        })
    }
  }
}

/** What sweeps one store. */
const makeSweeper = (store: StoreService, options: Options, at: number) =>
  Effect.map(Turn, (turn) => {
    const limits = retentionLimits(store.kind, options)
    const tail = new Tail(0, () => {})
    const live = new LiveLogs(store, limits, tail)
    const { committer, gone } = committing(store, tail, live.granularity)
    const parts = {
      store,
      committer,
      live,
      tail,
      options,
      turn,
      now: () => at,
      // Nothing is read or sent here.
      monotonic: () => 0,
      windowMs: Duration.toMillis(options.resumeWindow),
      dropped: new Signal()
    }
    return { store, options, at, limits, live, gone, ...keepers(parts) }
  })

type Sweeper = Effect.Effect.Success<ReturnType<typeof makeSweeper>>

const whyOver = (events: number, limits: Limits): Cut["why"] =>
  events > limits.events ? "maxRetainedEvents" : "maxRetainedBytes"

/** Drops the sessions whose window has passed. */
const dropSessions = ({ at, options: { resumeWindow }, store }: Sweeper) =>
  Effect.gen(function* () {
    const aliveAt = yield* store.aliveAt
    const sessions = yield* store.sessions
    const isOver = new Set(
      sessions.filter((record) => surviving(record, { aliveAt, at, resumeWindow }).left <= 0)
    )
    const over = [...isOver]
    for (let i = 0; i < over.length; i += batch)
      yield* commitUnowned(
        store,
        over.slice(i, i + batch).map(({ sessionId }) => Op.DropSession({ sessionId }))
      )
    return { over, left: sessions.filter((record) => !isOver.has(record)) }
  })

/** Cuts what the sessions that are left can be sent to their caps. */
const cutViews = (
  { limits, live, views }: Sweeper,
  left: Effect.Effect.Success<ReturnType<typeof dropSessions>>["left"]
) =>
  Effect.gen(function* () {
    const cuts: Array<Cut> = []
    for (const record of left) {
      const view = yield* live.loadView(record)
      const { events, first } = view.ledger
      yield* views.lookAt(view)
      // Of one that does not acknowledge, the store knows better what was sent.
      if (view.measuresLag) yield* views.storeNeeds([view.sessionId])
      const { principal, sessionId: id } = record
      if (view.first > first)
        cuts.push({ id, principal, events: view.first - first, why: whyOver(events, limits) })
      live.endView(id)
    }
    return cuts
  })

/** Drops jobs that have ended: those whose time has passed, and those over the caps. */
const dropJobs = ({ finished, gone, options, store }: Sweeper) =>
  Effect.gen(function* () {
    yield* finished.count
    yield* finished.dropRetired
    const jobs = gone().map(({ jobId, principal }): SweptJob => ({ jobId, principal, why: "jobRetention" }))
    // Each principal is brought within its cap first, and then all together.
    const counts = new Map(yield* store.endedCounts)
    yield* finished.enforceCaps
    for (const { jobId, principal } of gone()) {
      const count = counts.get(principal) ?? 0
      counts.set(principal, count - 1)
      const why = count > options.maxRetainedJobs ? "maxRetainedJobs" : "maxRetainedJobsInAll"
      jobs.push({ jobId, principal, why })
    }
    return jobs
  })

/** Returns a page of jobs with what is retained of them. */
const pageOfLogs = (
  store: StoreService,
  after: { readonly createdAt: number; readonly jobId: string } | undefined
) =>
  Effect.gen(function* () {
    const records = yield* store.jobs({ principals: "everyone", limit: batch, after })
    const bounds = yield* store.boundsOf(records.map(({ jobId }) => jobId))
    return { records, bounds }
  })

/** Cuts the logs of jobs to their caps, as far as sessions allow. */
const cutLogs = ({ jobs, limits, live, store }: Sweeper) =>
  Effect.gen(function* () {
    const cuts: Array<Cut> = []
    let over = 0
    for (let after: JobRecord | undefined; ; ) {
      const { bounds, records } = yield* pageOfLogs(store, after)
      for (const record of records) {
        const of = bounds.get(record.jobId)
        if (of === undefined || (of.last - of.first < limits.events && of.bytes <= limits.bytes)) continue
        const start = { ...of, lastEventSeq: record.lastEventSeq, ended: record.endedAt !== undefined }
        const job = new JobState(record, start, { granularity: live.granularity, allowance: limits })
        yield* countRetained(store, job, of)
        const { events, first } = job.ledger
        yield* jobs.lookAt([job])
        if (job.ledger.first > first)
          cuts.push({
            id: record.jobId,
            principal: record.principal,
            events: job.ledger.first - first,
            why: whyOver(events, limits)
          })
        if (job.ledger.exceeds(limits) && (yield* store.needed(record.jobId)) !== undefined) over++
      }
      after = records.at(-1)
      if (after === undefined || records.length < batch) return { cuts, over }
    }
  })

const endOf = (store: StoreService, jobId: string): Effect.Effect<number, StoreError> =>
  Effect.map(store.job(jobId), (job) => job?.endedAt ?? every)

/** Counts the ended jobs of a principal that are left: whose time has passed, whose has not, and when the next end was. */
const leftOf = (store: StoreService, principal: string, before: number) =>
  Effect.gen(function* () {
    const ids = yield* store.surplus({ principal, limit: every, needed: true })
    let [low, high] = [0, ids.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((yield* endOf(store, ids[middle] ?? "")) < before) low = middle + 1
      else high = middle
    }
    const next = ids[low]
    return {
      needed: low,
      recent: ids.length - low,
      nextEnd: next === undefined ? every : yield* endOf(store, next)
    }
  })

const unfinished = ["pending", "running"] as const

/** Looks at what is left. */
const look = ({ at, options, store }: Sweeper) =>
  Effect.gen(function* () {
    const retention = Duration.toMillis(options.jobRetention)
    const principals = [...(yield* store.endedCounts).keys()]
    const left = yield* Effect.forEach(principals, (principal) => leftOf(store, principal, at - retention))
    const running = yield* store.jobs({ principals: "everyone", status: unfinished, limit: every })
    const nextEnd = left.reduce((least, of) => Math.min(least, of.nextEnd), every)
    return {
      unfinished: running.length,
      recent: left.reduce((sum, of) => sum + of.recent, 0),
      needed: left.reduce((sum, of) => sum + of.needed, 0),
      nextAt: nextEnd === every ? undefined : nextEnd + retention
    }
  })

/**
 * Forgets what a runtime with these options would forget at a time (epoch ms), and returns what that was. What was dropped is
 * then to be freed (`Store.vacuum`).
 */
export const sweep = (
  store: StoreService,
  options: Options,
  at: number
): Effect.Effect<Swept, StoreError | InternalError> =>
  Effect.gen(function* () {
    const sweeper = yield* makeSweeper(store, options, at)
    const sessions = yield* dropSessions(sweeper)
    const views = yield* cutViews(sweeper, sessions.left)
    const jobs = yield* dropJobs(sweeper)
    const logs = yield* cutLogs(sweeper)
    const { nextAt, ...kept } = yield* look(sweeper)
    return {
      sessions: sessions.over,
      jobs,
      views,
      logs: logs.cuts,
      kept: { ...kept, over: logs.over, sessions: sessions.left.length },
      nextAt
    }
  })
