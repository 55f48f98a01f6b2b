/**
 * The sequencer of a session: numbers for it what was committed in the jobs that it observes while nobody held its view, and
 * then lets the view follow them, so that what they append is numbered in the append's own transaction (Transaction.ts).
 *
 * A view is held from hello or resume until its session's scope closes. What it has not come to it is *behind* in; that is
 * numbered a page at a time, in the order in which it was committed, with the features of the hello that took the session.
 * No job of them is followed before all are caught up with: what a job commits comes after what it delegated to has before.
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
}

/** Takes sessions whose views nobody has held, and numbers what they have missed. */
export interface Sequencer {
  /** Returns the view of a stored session, which is held from now on, and begins to number what that is behind in. */
  readonly hold: (session: SessionRecord) => Effect.Effect<ViewState, StoreError | InternalError>
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
  private isOver = false

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
        view.behind.delete(jobId)
      } else {
        if (this.passed.has(jobId)) tx.ops.push(Op.Observe({ sessionId, jobId, cursor }))
        if (follows) {
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
    const numbering = new Numbering(tx, view, places, live)
    for (const event of page) numbering.take(event.jobId, event, event.bytes)
    if (page.length < pageSize && view.noted !== undefined) {
      for (const { events, job } of view.noted)
        for (const event of events) numbering.takeNoted(job.jobId, event)
    }
    if (numbering.isBroken) {
      tx.ops.push(Op.Lose({ sessionId: view.sessionId }))
      tx.onApply(() => view.lose())
      return undefined
    }
    const followed = numbering.settle()
    return () => {
      for (const [jobId, cursor] of before) view.behind.set(jobId, cursor)
      for (const job of followed) job.removeObserver(view)
    }
  }

/** Makes the sequencer of all sessions of a log; what it has begun ends with the scope. */
export const make = (parts: Parts): Effect.Effect<Sequencer, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { committer, live, store } = parts
    const run = yield* FiberSet.makeRuntime<never>()

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
          const isGone = live.jobs.get(jobId)?.dropped !== false
          if (isGone && view.behind.has(jobId)) view.lose()
          return
        }
        const job = yield* live.loadJob(record)
        if (live.isDropping(jobId)) return
        live.keep(job)
        places.set(jobId, { job, record })
      })

    const round = (
      view: ViewState,
      places: Map<string, Place>
    ): Effect.Effect<void, StoreError | InternalError> =>
      Effect.gen(function* () {
        yield* Effect.forEach([...view.behind.keys()], (jobId) => load(view, places, jobId), {
          discard: true
        })
        if (view.lost) return
        view.note()
        // One that is being opened may be stored by now; of one that is being dropped nothing may be numbered.
        const after = Array.from(view.behind, ([jobId, seq]) => ({ jobId, seq })).filter(
          ({ jobId }) => places.has(jobId) || !live.isDropping(jobId)
        )
        const page = yield* store.backlog(after, pageSize)
        yield* committer.change(numbering(view, live, places, page))
      })

    /** Goes on until the view is through, or nobody wants it any more. A store that fails is asked again. */
    const catchUp = (view: ViewState) =>
      Effect.suspend(() => {
        const places = new Map<string, Place>()
        return Effect.whileLoop({
          while: () => view.behind.size > 0 && !view.dropped && !view.lost && committer.over() === undefined,
          body: () =>
            Effect.catchAllCause(round(view, places), (cause) =>
              Effect.zipRight(
                Effect.logWarning("a session's events could not be numbered; it will be tried again", cause),
                Effect.sleep("1 second")
              )
            ),
          step: () => {}
        }).pipe(
          Effect.ensuring(
            Effect.sync(() => {
              live.catchingUp.delete(view)
              view.noted = undefined
              for (const { job } of places.values()) live.release(job)
            })
          )
        )
      })

    const know = (view: ViewState): Effect.Effect<void, StoreError | InternalError> =>
      Effect.gen(function* () {
        // Jobs may be opened for it in a commit that began before the view was here: what that stores is read.
        yield* committer.change(() => undefined)
        const appended = new Set<string>()
        live.learning.add(appended)
        const [observed, lost] = yield* Effect.all([
          store.observed(view.sessionId),
          store.hasLost(view.sessionId)
        ]).pipe(Effect.ensuring(Effect.sync(() => live.learning.delete(appended))))
        // Somebody else may have asked meanwhile; from here on nothing waits.
        if (!view.isKnown) view.know(observed, lost, (jobId) => live.jobs.has(jobId) || appended.has(jobId))
      })

    const begin = (view: ViewState): void => {
      if (view.behind.size === 0 || view.lost || live.catchingUp.has(view)) return
      live.catchingUp.add(view)
      run(catchUp(view))
    }

    return {
      hold: (session) =>
        Effect.tap(live.loadView(session), (view) =>
          view.isKnown ? Effect.void : Effect.map(know(view), () => begin(view))
        )
    }
  })
