/**
 * The newest events of all jobs together, bounded in the bytes that they hold: a queue of which job to take how
 * many of its oldest tail events from.
 */
import type { StoredEvent } from "../../services/store/Store.js"
import type { JobState } from "./JobState.js"

/** Bytes that an event takes in memory beyond what is counted on disk, and a job apart from its events: objects, maps. */
const eventObjects = 128
const jobObjects = 2048

/** Jobs that do not run and of which events are in memory all the same, at the most. */
const maxReleased = 64

interface QueuedEvents {
  readonly job: JobState
  readonly count: number
  readonly bytes: number
}

/** Keeps the newest events of all jobs in memory, up to a number of bytes. */
export class Tail {
  private queue: Array<QueuedEvents | undefined> = []
  private head = 0
  private held = 0
  /** Jobs that are forgotten together, since each time everything is looked through. */
  private readonly released = new Set<JobState>()

  constructor(
    private readonly maxBytes: number,
    /** Called when nothing of a job is in memory any more. */
    private readonly onEmpty: (job: JobState) => void
  ) {}

  /** Returns the bytes held. */
  get bytes(): number {
    return this.held
  }
  push(job: JobState, events: ReadonlyArray<StoredEvent>, bytes: number): void {
    // A job that holds anything is itself held.
    const all = bytes + events.length * eventObjects + (job.tailLength === 0 ? jobObjects : 0)
    job.push(events)
    this.queue.push({ job, count: events.length, bytes: all })
    this.held += all
    while (this.held > this.maxBytes && this.head < this.queue.length - 1) this.shift()
    this.compact()
  }
  private shift(): void {
    const oldest = this.queue[this.head]
    this.queue[this.head++] = undefined
    if (oldest === undefined) return
    this.held -= oldest.bytes
    oldest.job.shift(oldest.count)
    if (oldest.job.tailLength === 0) this.onEmpty(oldest.job)
  }
  /** Forgets a job sooner or later: with others. */
  release(job: JobState): void {
    if (job.tailLength === 0) return
    this.released.add(job)
    if (this.released.size < maxReleased) return
    const jobs = new Set([...this.released].filter((one) => !one.loaded))
    this.released.clear()
    this.forget(jobs)
  }
  /** Forgets jobs that were dropped. */
  forget(jobs: ReadonlySet<JobState>): void {
    for (let i = this.head; i < this.queue.length; i++) {
      const entry = this.queue[i]
      if (entry === undefined || !jobs.has(entry.job)) continue
      this.queue[i] = undefined
      this.held -= entry.bytes
    }
    for (const job of jobs) {
      job.shift(job.tailLength)
      this.onEmpty(job)
    }
    this.queue = this.queue.slice(this.head).filter((entry) => entry !== undefined)
    this.head = 0
  }
  private compact(): void {
    if (this.head <= 1024 || this.head * 2 <= this.queue.length) return
    this.queue = this.queue.slice(this.head)
    this.head = 0
  }
}
