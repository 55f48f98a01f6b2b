/**
 * A job's past: for a view that begins to observe it (what is retained first, then what comes, without gap or
 * duplicate at the join), and for whoever follows the job itself.
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { InternalError } from "../../protocol/Errors.js"
import { takenAway } from "../../services/log/taken.js"
import { Turn } from "../../services/runtime/Turn.js"
import {
  eventOverhead,
  type LateEvent,
  Op,
  type StoredEvent,
  StoreError,
  type StoreService,
  toInternalError
} from "../../services/store/Store.js"
import { onward } from "../store/onward.js"
import type { Committer } from "./Committer.js"
import type { JobState } from "./JobState.js"
import { pageSize } from "./lateNumbering.js"
import type { Sequencer } from "./Sequencer.js"
import type { Transaction } from "./Transaction.js"
import type { ViewState } from "./ViewState.js"

const unread = toInternalError("the log could not be read")

/** How many events are read at once when a job is followed. */
const scanPage = 256

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
  readonly sequencer: Pick<Sequencer, "watch">
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

/** Returns the first `seq` that is retained. What is in memory of a job that has ended may be older than what the store has of it. */
const firstOf = (store: StoreService, job: JobState) =>
  job.closed
    ? Effect.map(store.boundsOf([job.jobId]), (bounds) => bounds.get(job.jobId)?.first ?? job.last)
    : Effect.succeed(job.ledger.first)

/**
 * Returns where a view begins with a job: at the newest event, or at what it asked for, as far as that is retained; with a job
 * that has ended no later than at its end.
 */
const startOf = (store: StoreService, job: JobState, { fromEventSeq, history }: Join) => {
  if (!history) return Effect.succeed(job.closed ? job.last : job.last + 1)
  const first = firstOf(store, job)
  return fromEventSeq === undefined
    ? first
    : Effect.zipWith(firstAfter(store, job, fromEventSeq), first, Math.max)
}

/** The first page of a job's past, which is all of that up to `to`. */
interface Looked {
  readonly events: ReadonlyArray<LateEvent>
  readonly to: number
}

/** Looks at the first page from `from` on: what is stored does not change. Not where everybody gets all, or the tail has it. */
const look = (
  store: StoreService,
  job: JobState,
  { history }: Join,
  from: number,
  last: number
): Effect.Effect<Looked, StoreError> => {
  const isHere = last - from < pageSize && job.fromTail(from, last - from + 1) !== undefined
  if (!history || !job.selective || isHere) return Effect.succeed({ events: [], to: from - 1 })
  return Effect.flatMap(store.backlog([{ jobId: job.jobId, seq: from - 1 }], pageSize), (events) => {
    // That a page is short says nothing of where the log ends: whoever were taken to its end would never get the rest.
    const to = events.at(-1)?.seq ?? from - 1
    const isWhole = to >= last || events.length >= pageSize
    // Nothing of it goes while somebody begins to observe it, but of another node's job.
    return isWhole || job.foreignTo !== undefined
      ? Effect.succeed({ events, to })
      : new StoreError({ message: `the events of ${job.jobId} from ${to + 1} to ${last} are missing` })
  })
}

/**
 * Numbers for a view what it gets of a job from `start` on: at most a page of what has been looked at, and what the tail has of what
 * was committed since. Returns up to where that is.
 */
const numberFrom = (
  tx: Transaction,
  view: ViewState,
  job: JobState,
  { events, to }: Looked,
  start: number,
  { closed, last }: { readonly closed: boolean; readonly last: number }
): number => {
  // As long as nothing of a job is for some only, everybody gets all of it, in few runs.
  if (!job.selective || start > last || (closed && start === last)) {
    tx.replay(view, job, start, last)
    return last
  }
  for (const event of events)
    if (event.seq >= start && event.seq <= last && view.sees(job, event))
      tx.number(view, job, event.seq, event.bytes)
  const through = Math.max(start - 1, Math.min(to, last))
  const rest = last - through > pageSize ? undefined : job.fromTail(through + 1, last - through)
  if (rest === undefined) return through
  for (const event of rest)
    if (view.sees(job, event)) tx.number(view, job, event.seq, event.payload.length + eventOverhead)
  return last
}

/**
 * Lets a view observe a job, with what it wants of its history: in one commit, as far as that is a page. What is more the view is
 * behind in, and is numbered for it as what a session has missed (Sequencer.ts): also if the process dies meanwhile. Returns whether it
 * has: another log may have the place of this one by then.
 */
const observe =
  ({ committer, sequencer, store }: Past) =>
  (view: ViewState, job: JobState, join: Join): Effect.Effect<boolean, StoreError | InternalError> =>
    Effect.gen(function* () {
      // Of another node's it is as the store had it here: nothing of it is in memory.
      const foreign = job.foreignTo === undefined ? undefined : { last: job.last, closed: job.closed }
      const from = yield* startOf(store, job, join)
      const looked = yield* look(store, job, join, from, foreign?.last ?? job.last)
      let isSuperseded = false
      yield* committer.change((tx) => {
        isSuperseded = job.superseded
        if (isSuperseded || join.unless?.() === true) return
        const { jobId } = job
        const { sessionId } = view
        const before = tx.lastOf(view)
        const behind = view.behind.get(jobId)
        const last = foreign?.last ?? tx.lastSeqOf(job)
        const closed = foreign?.closed ?? job.closed
        const observing = view.observed.has(job)
        const observed = behind !== undefined || observing || view.watched.has(jobId)
        tx.onApply(() => join.onCommit(before, observed))
        // Its session has ended, or is another process's by now.
        if (view.dropped) return
        tx.add(join.ops ?? [])
        // It observes the job, and gets what it has not come to; or it is not to.
        if (behind !== undefined && !join.history) return
        if (join.isOwn === true && !view.observesOwn && !observed) return
        // What is committed together with the join comes after it; of a job that has ended at least its end does.
        const start = Math.min(join.history ? from : last + 1, closed ? last : last + 1)
        const through = numberFrom(tx, view, job, looked, start, { last, closed })
        const isBehind = through < last
        if (isBehind || (foreign !== undefined && !closed)) {
          if (observing) job.removeObserver(view)
          if (!closed && job.owner !== sessionId) view.joining.add(jobId)
          if (foreign === undefined) view.behind.set(jobId, through)
          else view.watch(jobId, through)
          tx.onApply(() => sequencer.watch(view))
        } else {
          view.unwatch(jobId)
          if (!closed) job.addObserver(view)
        }
        tx.ownsView(view)
        // What it comes to once more it has not come to.
        if (observed && (closed || isBehind)) tx.ops.push(Op.Unobserve({ sessionId, jobId }))
        if (!closed || isBehind) tx.ops.push(Op.Observe({ sessionId, jobId, cursor: through }))
        return () => {
          view.unwatch(jobId)
          if (foreign === undefined && !job.closed) {
            if (observing) job.addObserver(view)
            else job.removeObserver(view)
          }
          if (behind === undefined) return
          if (foreign !== undefined) view.watch(jobId, behind)
          else view.behind.set(jobId, behind)
        }
      })
      return !isSuperseded
    })

/** Waits until a job has an event after `after`, or has ended, or until another log has its place. */
export const appended = (job: JobState, after: number) =>
  Effect.async<void>((resume) => {
    // The fiber may have let others go first since it looked: what they appended wakes nobody any more.
    if (job.last > after || job.closed || job.superseded) return resume(Effect.void)
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
        if (job.superseded && from > job.last) return yield* takenAway
        const count = Math.min(scanPage, job.last - from + 1)
        const events = count <= 0 ? [] : yield* eventsFrom(store, job, from, count)
        const next = (events[events.length - 1]?.seq ?? from - 1) + 1
        const over = job.closed && (next > job.last || events.length === 0)
        // Of what is there already there may be very much.
        if (!over && next <= job.last) yield* (yield* Turn).next
        return [
          Chunk.fromIterable(events.filter((event) => event.audience === undefined)),
          over ? Option.none() : Option.some(onward(from, next))
        ] as const
      }).pipe(Effect.catchTag("StoreError", unread))
    )

/** Returns what lets sessions observe jobs with their history, and what follows a job itself. */
export const make = (past: Past) => ({ observe: observe(past), follow: follow(past) })
