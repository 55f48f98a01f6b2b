/**
 * Numbers a page of what a session has missed, in one transaction: what Sequencer.ts has read, and what was committed since that
 * was asked for.
 */
import { epochOf, type JobRecord, type LateEvent, Op, type StoredEvent } from "../../services/store/Store.js"
import type { JobState } from "./JobState.js"
import type { LiveLogs } from "./Live.js"
import type { Transaction } from "./Transaction.js"
import type { ViewState } from "./ViewState.js"

/** Events that are numbered at once: more than a commit has, so that a job which emits flat out is caught up with. */
export const pageSize = 2048

/** A job that a view is behind in. */
export interface Place {
  readonly job: JobState
  readonly record: JobRecord
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
    private readonly live: LiveLogs,
    /** From where it was asked what follows. */
    private readonly asked: ReadonlyMap<string, number>
  ) {
    this.cursors = new Map(view.behind)
  }

  private jobOf(jobId: string): JobState | undefined {
    return this.view.places.get(jobId)?.job ?? this.live.jobs.get(jobId)
  }

  /** Takes the next event, in the order of commits. */
  take(jobId: string, event: Pick<StoredEvent, "seq" | "type" | "kind" | "audience">, bytes: number): void {
    const cursor = this.cursors.get(jobId)
    const job = this.jobOf(jobId)
    // It was subscribed to meanwhile, or no longer is.
    if (this.isOver || cursor === undefined || job === undefined || event.seq <= cursor) return
    if (event.seq > cursor + 1) {
      // Its session has asked for the history meanwhile: what was read comes after that.
      if (cursor < (this.asked.get(jobId) ?? 0)) this.isOver = true
      else this.isBroken = true
      return
    }
    // It has ended since its record was read, and what is listed of it changes with the number of its end.
    if (event.type !== "job.event" && this.view.places.get(jobId)?.record.endedAt === undefined) {
      this.isOver = true
      return
    }
    this.cursors.set(jobId, event.seq)
    if (this.view.sees(job, event)) {
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
      if (last !== undefined && job.owner === sessionId) this.list(job, view.places.get(jobId)?.record, last)
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

/** Numbers a page for a view, and, when that is all there was, what was committed since it was `asked` for from these cursors on. */
export const numbering =
  (view: ViewState, live: LiveLogs, page: ReadonlyArray<LateEvent>, asked: ReadonlyMap<string, number>) =>
  (tx: Transaction): (() => void) | undefined => {
    if (view.dropped || view.lost) return undefined
    const before = new Map(view.behind)
    const watched = new Set(view.watched)
    const numbering = new Numbering(tx, view, live, asked)
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
