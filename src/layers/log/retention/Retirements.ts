/**
 * When jobs that have ended are to be looked at next: when the retention of the oldest has passed, and not before. Ends are
 * noted in steps of time, so that this is small however many there are.
 */
import { Signal } from "../../../services/runtime/Signal.js"

/** Jobs that ended within one step. */
interface Step {
  /** When the first of them ended. */
  readonly from: number
  jobs: number
}

/** Knows when the next job is due. Times are milliseconds of a clock that only goes forward. */
export class Retirements {
  private readonly steps: Array<Step> = []
  /** Jobs that were due and could not be dropped, and those that an earlier process has left: each step they are tried again. */
  private left = 0
  /** Given when something is due earlier than it was. */
  readonly changed = new Signal()

  constructor(
    /** Between two looks at what was due and could not be dropped; as late as this may a job be dropped. */
    private readonly step: number,
    private readonly retention: number
  ) {}

  /** Begins with jobs that ended nobody knows when. */
  begin(jobs: number): void {
    this.left = jobs
  }

  /** A job has ended. */
  ended(now: number): void {
    const newest = this.steps.at(-1)
    if (newest !== undefined && now - newest.from < this.step) newest.jobs++
    else this.steps.push({ from: now, jobs: 1 })
    if (this.steps.length === 1) this.changed.give()
  }

  /** Returns the milliseconds until jobs are to be looked at; nothing when no job will be due as things are. */
  next(now: number, unfinished: boolean): number | undefined {
    if (unfinished || this.left > 0) return this.step
    const [oldest] = this.steps
    return oldest && Math.max(1, this.dueAt(oldest) - now)
  }

  /** Those that were due have been looked at: so many were dropped, so many are kept in all. */
  passed(now: number, dropped: number, kept: number): void {
    let gone = dropped
    const take = (from: number) => {
      const taken = Math.min(gone, from)
      gone -= taken
      return from - taken
    }
    this.left = take(this.left)
    for (let oldest = this.steps[0]; oldest !== undefined; oldest = this.steps[0]) {
      oldest.jobs = take(oldest.jobs)
      const due = this.dueAt(oldest) <= now
      if (!due && oldest.jobs > 0) break
      this.left += oldest.jobs
      this.steps.shift()
    }
    this.left = Math.min(this.left, kept)
  }

  private dueAt({ from }: Step): number {
    return from + this.step + this.retention
  }
}
