/**
 * What a runtime would forget now of what is stored, and why not the rest: the questions of its retention
 * (`layers/log/retention`) and of its sessions (`layers/session/surviving.ts`), asked of a store that no runtime has, or of
 * one that is only read. What one has in memory, it knows better: a session that has read on needs less.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { RuntimeOptions } from "../../../services/runtime/RuntimeOptions.js"
import type { SessionRecord, StoreError, StoreService } from "../../../services/store/Store.js"
import { EndedCounts } from "../../log/retention/EndedCounts.js"
import { surviving } from "../../session/surviving.js"

/** A job that has ended and is to be dropped. */
export interface DueJob {
  readonly jobId: string
  readonly principal: string
  /** Its time has passed, or its principal, or all together, have more than are kept. */
  readonly why: "jobRetention" | "maxRetainedJobs" | "maxRetainedJobsInAll"
}

/** What would be forgotten, and what not. */
export interface Due {
  /** Sessions whose window has passed. */
  readonly sessions: ReadonlyArray<SessionRecord>
  readonly jobs: ReadonlyArray<DueJob>
  readonly kept: {
    /** Jobs that have not ended. */
    readonly unfinished: number
    /** Jobs that ended less than `jobRetention` ago. */
    readonly recent: number
    /** Jobs whose time has passed, and of which a session that can be resumed has not read everything. */
    readonly needed: number
    readonly sessions: number
  }
  /** When the next job is due, in epoch ms. */
  readonly nextAt: number | undefined
}

type Options = Pick<
  RuntimeOptions["Type"],
  "jobRetention" | "maxRetainedJobs" | "maxRetainedJobsInAll" | "resumeWindow"
>

/** Jobs that are asked about at once. */
const batch = 256

const every = Number.MAX_SAFE_INTEGER

/** The ended jobs of a principal, oldest end first. */
interface Ended {
  readonly principal: string
  /** Those whose time has passed, and those whose time has not. */
  readonly old: ReadonlyArray<string>
  readonly recent: ReadonlyArray<string>
  /** When the oldest of the recent ones has ended, in epoch ms. */
  readonly oldestRecent: number | undefined
}

const endOf = (store: StoreService, jobId: string): Effect.Effect<number, StoreError> =>
  Effect.map(store.job(jobId), (job) => job?.endedAt ?? every)

/** Splits jobs, which are in the order of their ends, where that is `before`. */
const split = (store: StoreService, principal: string, before: number): Effect.Effect<Ended, StoreError> =>
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
      principal,
      old: ids.slice(0, low),
      recent: ids.slice(low),
      oldestRecent: next === undefined ? undefined : yield* endOf(store, next)
    }
  })

/** Returns those of some jobs of which a session that stays needs something. */
const neededOf = (store: StoreService, jobIds: ReadonlyArray<string>, leaving: ReadonlySet<string>) =>
  Effect.gen(function* () {
    const needed = new Set<string>()
    for (let i = 0; i < jobIds.length; i += batch) {
      const viewers = yield* store.viewers(jobIds.slice(i, i + batch))
      const viewed = new Set(
        viewers.flatMap(({ jobId, sessionId }) => (leaving.has(sessionId) ? [] : [jobId]))
      )
      for (const jobId of viewed) if ((yield* store.needed(jobId)) !== undefined) needed.add(jobId)
    }
    return needed
  })

/** What is found over the caps, and counted. */
interface Chosen {
  readonly counts: EndedCounts
  readonly jobs: Array<DueJob>
}

/** Chooses jobs of a principal over a cap: those that nobody needs, and only then others, the oldest first. */
const choose = (
  store: StoreService,
  { counts, jobs }: Chosen,
  { old, principal, recent }: Ended,
  cap: { readonly surplus: number; readonly why: DueJob["why"]; readonly leaving: ReadonlySet<string> }
): Effect.Effect<void, StoreError> =>
  Effect.gen(function* () {
    const taken = new Set(jobs.map(({ jobId }) => jobId))
    const left = [...old, ...recent].filter((jobId) => !taken.has(jobId))
    const needed = yield* neededOf(store, left, cap.leaving)
    const inOrder = [
      ...left.filter((jobId) => !needed.has(jobId)),
      ...left.filter((jobId) => needed.has(jobId))
    ]
    for (const jobId of inOrder.slice(0, cap.surplus)) {
      jobs.push({ jobId, principal, why: cap.why })
      counts.add(principal, -1)
    }
  })

/** Chooses what is over the caps: that of each principal, and then that of all, of whoever has most. */
const chooseOverCaps = (
  store: StoreService,
  chosen: Chosen,
  ended: ReadonlyMap<string, Ended>,
  leaving: ReadonlySet<string>
): Effect.Effect<void, StoreError> =>
  Effect.gen(function* () {
    const { counts } = chosen
    for (const [principal, surplus] of counts.surplus()) {
      const of = ended.get(principal)
      if (of !== undefined) yield* choose(store, chosen, of, { surplus, why: "maxRetainedJobs", leaving })
    }
    while (counts.surplusInAll > 0) {
      const [principal, n] = counts.most()
      const [of, before] = [ended.get(principal), counts.surplusInAll]
      if (of === undefined) return
      yield* choose(store, chosen, of, {
        surplus: Math.min(n, before, batch),
        why: "maxRetainedJobsInAll",
        leaving
      })
      if (counts.surplusInAll === before) return
    }
  })

const unfinished = ["pending", "running"] as const

/** Returns what a runtime with these options would forget at a time (epoch ms), and what it would keep. */
export const due = (store: StoreService, options: Options, at: number): Effect.Effect<Due, StoreError> =>
  Effect.gen(function* () {
    const aliveAt = yield* store.aliveAt
    const sessions = yield* store.sessions
    const over = sessions.filter(
      (record) => surviving(record, { aliveAt, at, resumeWindow: options.resumeWindow }).left <= 0
    )
    const leaving = new Set(over.map(({ sessionId }) => sessionId))
    const stored = yield* store.endedCounts
    const retention = Duration.toMillis(options.jobRetention)
    const ended = new Map<string, Ended>()
    for (const principal of stored.keys())
      ended.set(principal, yield* split(store, principal, at - retention))
    const counts = new EndedCounts(options.maxRetainedJobs, options.maxRetainedJobsInAll)
    counts.begin(stored)
    const jobs: Array<DueJob> = []
    let needed = 0
    for (const { old, principal } of ended.values()) {
      const stays = yield* neededOf(store, old, leaving)
      for (const jobId of old) {
        if (stays.has(jobId)) continue
        jobs.push({ jobId, principal, why: "jobRetention" })
        counts.add(principal, -1)
      }
      needed += stays.size
    }
    yield* chooseOverCaps(store, { counts, jobs }, ended, leaving)
    const nexts = [...ended.values()].flatMap(({ oldestRecent: end }) =>
      end === undefined ? [] : [end + retention]
    )
    const running = yield* store.jobs({ principals: "everyone", status: unfinished, limit: every })
    return {
      sessions: over,
      jobs,
      kept: {
        unfinished: running.length,
        recent: [...ended.values()].reduce((sum, { recent }) => sum + recent.length, 0),
        needed,
        sessions: sessions.length - over.length
      },
      nextAt: nexts.length === 0 ? undefined : Math.min(...nexts)
    }
  })
