/**
 * The sequencer of a session: numbers for it what was committed in the jobs that it observes while nobody held its view, and
 * then lets the view follow them, so that what they append is numbered in the append's own transaction (Transaction.ts).
 *
 * A view is held from hello or resume until its session's scope closes. What it has not come to it is *behind* in; that is
 * numbered a page at a time, in the order in which it was committed, with the features of the hello that took the session.
 * No job of them is followed before all are caught up with: what a job commits comes after what it delegated to has before.
 *
 * A job of another node is never followed: what that commits is looked at whenever the node is woken, and once a second, from where
 * the view has come to. What such a job delegates to begins there too, and is found in what the session observes.
 *
 * If the process dies anywhere in here, each page was numbered whole or not at all, and the next resume goes on from there.
 */
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import type * as Scope from "effect/Scope"
import type { InternalError } from "../../protocol/Errors.js"
import {
  epochOf,
  type JobRecord,
  type LateEvent,
  type Observed,
  Op,
  type SessionRecord,
  type StoredEvent,
  type StoreError,
  type StoreService
} from "../../services/store/Store.js"
import type { Committer } from "./Committer.js"
import type { JobState } from "./JobState.js"
import type { LiveLogs } from "./Live.js"
import type { Transaction } from "./Transaction.js"
import type { ViewState } from "./ViewState.js"

/** Events that are numbered at once: more than a commit has, so that a job which emits flat out is caught up with. */
const pageSize = 2048

/** A job that a view is behind in. */
interface Place {
  readonly job: JobState
  readonly record: JobRecord
}

/** What a sequencer works on. */
interface Parts {
  readonly store: StoreService
  readonly committer: Committer
  readonly live: LiveLogs
  /** A view has begun to look at jobs of a node. */
  readonly tell: (node: string) => void
}

/** Takes sessions whose views nobody has held, and numbers what they have missed. */
export interface Sequencer {
  /** Returns the view of a stored session, which is held from now on, and begins to number what that is behind in. */
  readonly hold: (session: SessionRecord) => Effect.Effect<ViewState, StoreError | InternalError>
  /** A view has begun to observe a job of another node. */
  readonly watch: (view: ViewState) => void
  /** Looks at what the views that are held here observe on other nodes. */
  readonly look: () => void
}

/** One page, and what was committed since it was asked for, as they are numbered in a transaction. */
class Numbering {
  private readonly cursors: Map<string, number>
  private readonly numbered = new Map<string, number>()
  private readonly passed = new Set<string>()
  private readonly ended = new Set<string>()
  /** An event that follows a cursor is gone. */
  isBroken = false
  /** What follows is for the next page. */
  isOver = false

  constructor(
    private readonly tx: Transaction,
    private readonly view: ViewState,
    private readonly places: ReadonlyMap<string, Place>,
    private readonly live: LiveLogs
  ) {
    this.cursors = new Map(view.behind)
  }

  private jobOf(jobId: string): JobState | undefined {
    return this.places.get(jobId)?.job ?? this.live.jobs.get(jobId)
  }

  /** Takes the next event, in the order of commits. */
  take(jobId: string, event: Pick<StoredEvent, "seq" | "type" | "kind" | "audience">, bytes: number): void {
    const cursor = this.cursors.get(jobId)
    const job = this.jobOf(jobId)
    // It was subscribed to meanwhile, or no longer is.
    if (this.isOver || cursor === undefined || job === undefined || event.seq <= cursor) return
    if (event.seq > cursor + 1) {
      this.isBroken = true
      return
    }
    // It has ended since its record was read, and what is listed of it changes with the number of its end.
    if (event.type !== "job.event" && this.places.get(jobId)?.record.endedAt === undefined) {
      this.isOver = true
      return
    }
    this.cursors.set(jobId, event.seq)
    if (this.view.sees(event)) {
      this.numbered.set(jobId, this.tx.number(this.view, job, event.seq, bytes))
      this.passed.delete(jobId)
    } else this.passed.add(jobId)
    if (event.type !== "job.event") this.ended.add(jobId)
  }

  /**
   * Takes what was noted. Of a job that it observed no longer for a moment (that could not be committed) some was not: the next
   * page has that.
   */
  takeNoted(jobId: string, event: StoredEvent): void {
    if (event.seq <= (this.cursors.get(jobId) ?? 0) + 1) this.take(jobId, event, event.payload.length)
  }

  /** Returns whether the view has come to the end of all that it is behind in. */
  isThrough(): boolean {
    for (const [jobId, cursor] of this.cursors) {
      if (this.view.watched.has(jobId)) continue
      const job = this.jobOf(jobId)
      if (!this.ended.has(jobId) && (job === undefined || this.tx.lastSeqOf(job) !== cursor)) return false
    }
    return true
  }

  /** Puts into the transaction how far the view has come; lets it follow what it is through with, and returns that. */
  settle(): ReadonlyArray<JobState> {
    const { tx, view } = this
    const { sessionId } = view
    const follows = this.isThrough()
    const followed: Array<JobState> = []
    tx.ownsView(view)
    for (const [jobId, cursor] of this.cursors) {
      const job = this.jobOf(jobId)
      if (job === undefined) continue
      const last = this.numbered.get(jobId)
      if (last !== undefined && job.owner === sessionId) this.list(job, this.places.get(jobId)?.record, last)
      if (this.ended.has(jobId)) {
        tx.ops.push(Op.Unobserve({ sessionId, jobId }))
        view.unwatch(jobId)
      } else {
        if (this.passed.has(jobId)) tx.ops.push(Op.Observe({ sessionId, jobId, cursor }))
        if (follows && !view.watched.has(jobId)) {
          view.behind.delete(jobId)
          job.addObserver(view)
          followed.push(job)
        } else view.behind.set(jobId, cursor)
      }
    }
    return followed
  }

  /** Has a job listed by its newest number. */
  private list(job: JobState, record: JobRecord | undefined, last: number): void {
    const { tx } = this
    tx.onApply(() => {
      job.lastEventSeq = Math.max(job.lastEventSeq, last)
    })
    // What is stored of one that had ended before is what listings say of it.
    if (record?.endedAt === undefined) return
    tx.owns({ job: record.jobId, epoch: epochOf(record) })
    tx.ops.push(Op.PutJob({ job: { ...record, lastEventSeq: last } }))
  }
}

/** Numbers a page for a view, and, when that is all there was, what was committed since it was asked for. */
const numbering =
  (view: ViewState, live: LiveLogs, places: ReadonlyMap<string, Place>, page: ReadonlyArray<LateEvent>) =>
  (tx: Transaction): (() => void) | undefined => {
    if (view.dropped || view.lost) return undefined
    const before = new Map(view.behind)
    const watched = new Set(view.watched)
    const numbering = new Numbering(tx, view, places, live)
    for (const event of page) numbering.take(event.jobId, event, event.bytes)
    if (page.length < pageSize && view.noted !== undefined) {
      for (const { events, job } of view.noted)
        for (const event of events) numbering.takeNoted(job.jobId, event)
    }
    if (numbering.isBroken) {
      tx.ownsView(view)
      tx.ops.push(Op.Lose({ sessionId: view.sessionId }))
      tx.onApply(() => view.lose())
      return undefined
    }
    // What it has not taken of watched jobs nobody else reminds it of.
    if (numbering.isOver) view.isDue = true
    const followed = numbering.settle()
    return () => {
      for (const [jobId, cursor] of before) {
        view.behind.set(jobId, cursor)
        if (watched.has(jobId)) view.watched.add(jobId)
      }
      for (const job of followed) job.removeObserver(view)
    }
  }

/** Makes the sequencer of all sessions of a log; what it has begun ends with the scope. */
export const make = (parts: Parts): Effect.Effect<Sequencer, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { committer, live, store, tell } = parts
    const run = yield* FiberSet.makeRuntime<never>()
    /** The logs of what views are behind in: those of jobs of other nodes from one look to the next. */
    const places = new Map<ViewState, Map<string, Place>>()

    /**
     * Loads the log of a job that a view is behind in. Of one that is being opened, or dropped, it is known in a later round
     * what became of it; what is not stored any more the view cannot come to.
     */
    const load = (view: ViewState, places: Map<string, Place>, jobId: string) =>
      Effect.gen(function* () {
        const known = places.get(jobId)
        if (known !== undefined && known.job.closed === (known.record.endedAt !== undefined)) return
        const record = yield* store.job(jobId)
        if (known !== undefined) {
          if (record !== undefined) places.set(jobId, { job: known.job, record })
          return
        }
        if (record === undefined) {
          if (view.watched.has(jobId)) view.unwatch(jobId)
          else if (live.jobs.get(jobId)?.dropped !== false && view.behind.has(jobId)) view.lose()
          return
        }
        const job = yield* live.loadJob(record)
        if (live.isDropping(jobId)) return
        live.keep(job)
        places.set(jobId, { job, record })
        if (job.foreignTo === undefined) {
          // It has ended since, or is this node's by now.
          view.watched.delete(jobId)
          return
        }
        if (!view.behind.has(jobId)) return
        view.watched.add(jobId)
        live.watching.add(view)
      })

    const loadAll = (view: ViewState, places: Map<string, Place>) =>
      Effect.forEach([...view.behind.keys()], (jobId) => load(view, places, jobId), { discard: true })

    /**
     * Finds what the session observes on other nodes: what the jobs there have delegated to, and what is there no more. Returns
     * whether there is something new in what it looks at, and whether it looks at something that it did not.
     */
    const discover = (view: ViewState) =>
      Effect.gen(function* () {
        const observed = yield* store.observed(view.sessionId)
        const followed = new Set(Array.from(view.observed, ({ jobId }) => jobId))
        const found = { isNew: false, isMore: false }
        for (const { cursor, jobId, last } of observed) {
          if (cursor >= last || followed.has(jobId)) continue
          if (!view.behind.has(jobId)) {
            const record = yield* store.job(jobId)
            if (record === undefined || view.behind.has(jobId)) continue
            // Of this node's own it is told as they append.
            if (record.node === undefined || live.isOwn(record)) continue
            view.watch(jobId, cursor)
            found.isMore = true
          }
          found.isNew = true
        }
        const stored = new Set(observed.map(({ jobId }) => jobId))
        for (const jobId of view.watched)
          if (!stored.has(jobId) && (yield* store.job(jobId)) === undefined) view.unwatch(jobId)
        return found
      })

    const round = (
      view: ViewState,
      places: Map<string, Place>
    ): Effect.Effect<void, StoreError | InternalError> =>
      Effect.gen(function* () {
        view.isDue = false
        yield* loadAll(view, places)
        if (view.lost) return
        const watches = view.watched.size > 0
        if (watches && !(yield* discover(view)).isNew && !view.isLate) return
        yield* loadAll(view, places)
        if (view.lost) return
        view.note()
        // One that is being opened may be stored by now; of one that is being dropped nothing may be numbered.
        const after = Array.from(view.behind, ([jobId, seq]) => ({ jobId, seq })).filter(
          ({ jobId }) => places.has(jobId) || !live.isDropping(jobId)
        )
        const page = yield* store.backlog(after, pageSize)
        // What a job has delegated to since comes before what it has said since: again, with both.
        if (watches && page.length > 0 && (yield* discover(view)).isMore) return
        if (page.length === 0 && !view.isLate) return
        arrived(places, page)
        yield* committer.change(numbering(view, live, places, page))
        if (page.length >= pageSize) view.isDue = true
        // What another node has dropped meanwhile does not come any more, and the store says so.
        if (page.length === 0 && !live.isAlone && (yield* store.hasLost(view.sessionId))) view.lose()
      }).pipe(
        // Whatever comes of it, it is looked at again.
        Effect.tapErrorCause(() =>
          Effect.sync(() => {
            view.isDue = true
          })
        )
      )

    /** Notes how far jobs of other nodes have come. */
    const arrived = (places: ReadonlyMap<string, Place>, page: ReadonlyArray<LateEvent>) => {
      for (const { jobId, seq, type } of page) {
        const job = places.get(jobId)?.job
        if (job?.foreignTo !== undefined) live.advance(job, seq, type !== "job.event")
      }
    }

    const isWanted = (view: ViewState) => !view.dropped && !view.lost && committer.over() === undefined

    /** Lets go of what a view has no need of any more. */
    const settle = (view: ViewState, own: Map<string, Place>) => {
      live.catchingUp.delete(view)
      view.noted = undefined
      const stays = isWanted(view) && view.watched.size > 0
      for (const [jobId, { job }] of own) {
        if (stays && view.watched.has(jobId)) continue
        own.delete(jobId)
        live.release(job)
      }
      if (stays) return
      live.watching.delete(view)
      places.delete(view)
    }

    /** Goes on until the view is through, or nobody wants it any more. A store that fails is asked again. */
    const catchUp = (view: ViewState) =>
      Effect.suspend(() => {
        const own = places.get(view) ?? new Map<string, Place>()
        places.set(view, own)
        return Effect.whileLoop({
          while: () => (view.isLate || view.isDue) && isWanted(view),
          body: () =>
            Effect.catchAllCause(round(view, own), (cause) =>
              Effect.zipRight(
                Effect.logWarning("a session's events could not be numbered; it will be tried again", cause),
                Effect.sleep("1 second")
              )
            ),
          step: () => {}
        }).pipe(Effect.ensuring(Effect.sync(() => settle(view, own))))
      })

    const know = (view: ViewState): Effect.Effect<void, StoreError | InternalError> =>
      Effect.gen(function* () {
        // Jobs may be opened for it in a commit that began before the view was here: what that stores is read.
        if (!committer.isIdle()) yield* committer.change(() => undefined)
        const appended = new Set<string>()
        live.learning.add(appended)
        const [observed, lost, foreign] = yield* Effect.gen(function* () {
          const observed = yield* store.observed(view.sessionId)
          return [observed, yield* store.hasLost(view.sessionId), yield* foreignOf(observed)] as const
        }).pipe(Effect.ensuring(Effect.sync(() => live.learning.delete(appended))))
        // Somebody else may have asked meanwhile; from here on nothing waits.
        if (view.isKnown) return
        view.know(observed, lost, (jobId) => live.jobs.has(jobId) || appended.has(jobId))
        for (const { cursor, jobId, node } of foreign) {
          view.watch(jobId, view.behind.get(jobId) ?? cursor)
          tell(node)
        }
      })

    /** Returns which of what a session observes is other nodes'. */
    const foreignOf = (observed: ReadonlyArray<Observed>) =>
      live.isAlone
        ? Effect.succeed([])
        : Effect.gen(function* () {
            const foreign: Array<Observed & { readonly node: string }> = []
            for (const each of observed) {
              const record = yield* store.job(each.jobId)
              if (record?.node !== undefined && live.isForeign(record))
                foreign.push({ ...each, node: record.node })
            }
            return foreign
          })

    const begin = (view: ViewState): void => {
      if (!view.isLate && !view.isDue) return
      if (view.watched.size > 0) live.watching.add(view)
      if (live.catchingUp.has(view)) return
      live.catchingUp.add(view)
      run(catchUp(view))
    }

    return {
      hold: (session) =>
        Effect.tap(live.loadView(session), (view) =>
          view.isKnown ? Effect.void : Effect.map(know(view), () => begin(view))
        ),
      watch: (view) => {
        for (const jobId of view.watched) {
          const node = live.jobs.get(jobId)?.foreignTo
          if (node !== undefined) tell(node)
        }
        begin(view)
      },
      look: () => {
        for (const view of live.watching) {
          view.isDue = true
          begin(view)
        }
        for (const job of live.jobs.values())
          if (job.foreignTo !== undefined && job.isFollowed) run(Effect.ignoreLogged(live.refresh(job)))
      }
    }
  })
