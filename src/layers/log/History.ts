/**
 * A job's past: for a view that begins to observe it (what is retained first, then what comes, without gap or
 * duplicate at the join), and for whoever follows the job itself.
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { InternalError } from "../../protocol/Errors.js"
import {
  Op,
  type StoredEvent,
  type StoreError,
  type StoreService,
  toInternalError
} from "../../services/store/Store.js"
import { onward } from "../store/onward.js"
import { untilDamage } from "../store/untilDamage.js"
import type { Committer } from "./Committer.js"
import type { JobState } from "./JobState.js"
import type { ViewState } from "./ViewState.js"

/** How many events are read at once when a job's past is looked through or followed. */
const scanPage = 256

/** A range of events of a job, from and to, both included. */
type Range = readonly [from: number, to: number]

/** A session that begins to observe a job, and what it wants of its history. */
export interface Join {
  readonly history: boolean
  /** The session has submitted it, and has not asked to observe it: one that observes nothing of its own does not from here on either. */
  readonly isOwn?: boolean | undefined
  /** Events up to this one, in the owner's numbering, are left out. */
  readonly fromEventSeq?: number | undefined
  /** Asked in the commit: when it says so nothing is joined, and nobody is told. */
  readonly unless?: (() => boolean) | undefined
  /** Stored in the same commit. */
  readonly ops?: ReadonlyArray<Op> | undefined
  /** Gets the view's newest `event_seq` before the join, at the commit. */
  readonly onCommit: (subscribedFrom: number, observed: boolean) => void
}

/** What a job's past is read from. */
interface Past {
  readonly store: StoreService
  readonly committer: Committer
}

/** Returns at most `limit` events from `seq` on. */
export const eventsFrom = (store: StoreService, job: JobState, seq: number, limit: number) => {
  const held = job.fromTail(seq, limit)
  return held === undefined ? store.events(job.jobId, seq, limit) : Effect.succeed(held)
}

/**
 * Returns the first `seq` that its owner has numbered higher than `eventSeq`. What it never had numbered counts as the last that
 * was before it, but for what comes after all that it has: that nobody can have seen by its numbers.
 */
const firstAfter = (store: StoreService, job: JobState, eventSeq: number) =>
  Effect.map(store.numbering(job.owner, job.jobId, eventSeq), ({ next, through }) => next ?? through + 1)

/** Returns which of a job's events `from` … `to` a view gets, as ascending ranges. */
const visible = (store: StoreService, view: ViewState, job: JobState, from: number, to: number) =>
  Effect.gen(function* () {
    const ranges: Array<Range> = []
    for (let seq = from; seq <= to; ) {
      const read = yield* eventsFrom(store, job, seq, Math.min(scanPage, to - seq + 1)).pipe(
        untilDamage(store, job.jobId, seq),
        Effect.map((events) => ({ events, damage: undefined })),
        Effect.catchIf(
          ({ damaged }) => damaged?.seq === seq,
          (damage) => Effect.succeed({ events: [], damage })
        )
      )
      // Everybody is told in its place that it is damaged.
      if (read.damage !== undefined) {
        ranges.push([seq, seq++])
        continue
      }
      const { events } = read
      const last = events[events.length - 1]
      if (last === undefined) break
      ranges.push(...seen(view, job, events))
      seq = onward(seq, last.seq + 1)
    }
    return ranges
  })

/**
 * Returns where a view begins with a job: at the newest event, or at what it asked for; with a job that has ended no
 * later than at its end.
 */
const startOf = (store: StoreService, job: JobState, { fromEventSeq, history }: Join) => {
  if (!history) return Effect.succeed(job.closed ? job.last : job.last + 1)
  if (fromEventSeq !== undefined) return firstAfter(store, job, fromEventSeq)
  // What is in memory of a job that has ended may be older than what the store has of it.
  return job.closed
    ? Effect.map(store.boundsOf([job.jobId]), (bounds) => bounds.get(job.jobId)?.first ?? job.last)
    : Effect.succeed(job.ledger.first)
}

/** What of a job's past a view gets: `ranges` of what has been looked through, which is all up to `to`. */
interface Looked {
  readonly ranges: ReadonlyArray<Range>
  readonly to: number
}

/** Looks through what was committed of a job since `before`, up to its newest event: what is stored does not change. */
const look = (store: StoreService, view: ViewState, job: JobState, before: Looked, last: number) => {
  const to = Math.max(before.to, last)
  // As long as nothing of a job is for some only, everybody gets all of it.
  const found: Effect.Effect<ReadonlyArray<Range>, StoreError> = job.selective
    ? visible(store, view, job, before.to + 1, to)
    : Effect.succeed(before.to < to ? [[before.to + 1, to]] : [])
  return Effect.map(found, (ranges): Looked => ({ ranges: [...before.ranges, ...ranges], to }))
}

/**
 * Returns what a view gets of the events from `start` on of a job: of what was committed since that was looked through the tail
 * says so. `undefined` when there was too much of it for the tail.
 */
const historyOf = (
  view: ViewState,
  job: JobState,
  { ranges, to }: Looked,
  start: number,
  { closed, last }: { readonly closed: boolean; readonly last: number }
): ReadonlyArray<Range> | undefined => {
  if (!job.selective || start > last || (closed && start === last)) return [[start, last]]
  const rest = Math.max(start, to + 1)
  const events = rest > last ? [] : job.fromTail(rest, last - rest + 1)
  if (events === undefined) return undefined
  const end: ReadonlyArray<Range> = closed ? [[last, last]] : []
  return coalesce([...ranges, ...seen(view, job, events), ...end])
}

/** Lets a view observe a job, with what it wants of its history, in one commit. */
const observe =
  ({ committer, store }: Past) =>
  (view: ViewState, job: JobState, join: Join): Effect.Effect<void, StoreError | InternalError> =>
    Effect.gen(function* () {
      // Of another node's it is as the store had it here: nothing of it is in memory.
      const foreign = job.foreignTo === undefined ? undefined : { last: job.last, closed: job.closed }
      const from = yield* startOf(store, job, join)
      let looked: Looked = { ranges: [], to: from - 1 }
      for (let isOver = false; !isOver; ) {
        if (join.history) looked = yield* look(store, view, job, looked, foreign?.last ?? job.last)
        yield* committer.change((tx) => {
          isOver = true
          if (join.unless?.() === true) return
          const before = tx.lastOf(view)
          const behind = view.behind.get(job.jobId)
          const last = foreign?.last ?? tx.lastSeqOf(job)
          const closed = foreign?.closed ?? job.closed
          // What is committed together with the join comes after it; of a job that has ended at least its end does.
          const start = Math.min(join.history ? from : last + 1, closed ? last : last + 1)
          const observed = behind !== undefined || view.observed.has(job) || view.watched.has(job.jobId)
          // Its session has ended, or is another process's by now; or it observes the job, and gets what it has not come to; or is not to.
          const isNothing =
            view.dropped ||
            (behind !== undefined && !join.history) ||
            (join.isOwn === true && !view.observesOwn && !observed)
          const ranges = isNothing ? [] : historyOf(view, job, looked, start, { last, closed })
          if (ranges === undefined) {
            isOver = false
            return
          }
          tx.onApply(() => join.onCommit(before, observed))
          if (view.dropped) return
          if (isNothing) return tx.add(join.ops ?? [])
          const observing = view.observed.has(job)
          for (const [a, b] of ranges) tx.replay(view, job, a, b)
          if (!closed) {
            if (foreign !== undefined) view.watch(job.jobId, last)
            else {
              if (!observing) job.addObserver(view)
              view.behind.delete(job.jobId)
            }
            tx.ownsView(view)
            tx.ops.push(Op.Observe({ sessionId: view.sessionId, jobId: job.jobId, cursor: last }))
          } else if (behind !== undefined) {
            // It has the end with this: nothing of the job is left to come to.
            view.unwatch(job.jobId)
            tx.ownsView(view)
            tx.ops.push(Op.Unobserve({ sessionId: view.sessionId, jobId: job.jobId }))
          }
          tx.add(join.ops ?? [])
          return () => {
            if (foreign !== undefined) view.unwatch(job.jobId)
            else if (!observing && !job.closed) job.removeObserver(view)
            if (behind === undefined) return
            if (foreign !== undefined) view.watch(job.jobId, behind)
            else view.behind.set(job.jobId, behind)
          }
        })
      }
    })

/** Waits until a job has an event after `after`, or has ended. */
export const appended = (job: JobState, after: number) =>
  Effect.async<void>((resume) => {
    // The fiber may have let others go first since it looked: what they appended wakes nobody any more.
    if (job.last > after || job.closed) return resume(Effect.void)
    const leave = job.follow(() => {
      leave()
      resume(Effect.void)
    })
    return Effect.sync(leave)
  })

/** Reads a job from its first retained event, a page at a time, and waits for more until it is closed. */
const follow =
  ({ store }: Past) =>
  (job: JobState): Stream.Stream<StoredEvent, InternalError> =>
    Stream.paginateChunkEffect(job.ledger.first, (from) =>
      Effect.gen(function* () {
        yield* appended(job, from - 1)
        const count = Math.min(scanPage, job.last - from + 1)
        const events = count <= 0 ? [] : yield* eventsFrom(store, job, from, count)
        const next = (events[events.length - 1]?.seq ?? from - 1) + 1
        const over = job.closed && (next > job.last || events.length === 0)
        return [
          Chunk.fromIterable(events.filter((event) => event.audience === undefined)),
          over ? Option.none() : Option.some(onward(from, next))
        ] as const
      }).pipe(Effect.mapError(toInternalError("the log could not be read")))
    )

/** Returns what lets sessions observe jobs with their history, and what follows a job itself. */
export const make = (past: Past) => ({ observe: observe(past), follow: follow(past) })

/** Returns the events that a view gets, as ascending ranges. */
const seen = (view: ViewState, job: JobState, events: ReadonlyArray<StoredEvent>): ReadonlyArray<Range> => {
  const ranges: Array<Range> = []
  for (const event of events) {
    if (!view.sees(job, event)) continue
    const newest = ranges[ranges.length - 1]
    if (newest !== undefined && newest[1] + 1 === event.seq)
      ranges[ranges.length - 1] = [newest[0], event.seq]
    else ranges.push([event.seq, event.seq])
  }
  return ranges
}

/** Returns ranges in ascending order, without what an earlier one covers. */
const coalesce = (ranges: ReadonlyArray<Range>): ReadonlyArray<Range> => {
  let last = 0
  return ranges.flatMap(([from, to]) => {
    const start = Math.max(from, last + 1)
    last = Math.max(last, to)
    return start <= to ? [[start, to] as const] : []
  })
}
