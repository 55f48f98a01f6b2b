/**
 * Who needs the log of a job as it is, and who wants it gone: the one does not begin while the other goes on. Whoever observes a job,
 * or reads it, keeps it in memory and from being dropped; whoever wants to observe one that is being trimmed waits until it
 * is known where it begins.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import { InternalError } from "../../protocol/Errors.js"
import type { JobState } from "./JobState.js"

/** Counts who needs the logs of jobs; what is dropped or trimmed is taken from nobody. */
export class Holds {
  /** Jobs whose logs are needed, and by how many: they are not dropped meanwhile. */
  private readonly joining = new Map<string, number>()
  /** Jobs that are only kept in memory, and for how many: what they have appended is of no concern to those. */
  private readonly pinned = new Map<string, number>()
  /** Jobs that are being dropped: nobody begins to observe them. */
  private readonly dropping = new Set<string>()
  /** Jobs that are being trimmed: whoever wants to observe one waits until it is known where it begins. */
  private readonly trimming = new Map<string, Deferred.Deferred<void>>()

  /** `free` is called with a job that nobody needs any more. */
  constructor(private readonly free: (job: JobState) => void) {}

  /** Returns whether somebody needs a job in memory. */
  isHeld(jobId: string): boolean {
    return this.joining.has(jobId) || this.pinned.has(jobId)
  }
  /** Keeps the log of a job in memory, and from being trimmed or dropped, until it is released. */
  keep({ jobId }: JobState): void {
    count(this.joining, jobId, 1)
  }
  release(job: JobState): void {
    if (count(this.joining, job.jobId, -1) === 0) this.free(job)
  }
  /** Keeps a job in memory, and nothing else of it, until it is unpinned: this may go on for as long as it runs. */
  pin({ jobId }: JobState): void {
    count(this.pinned, jobId, 1)
  }
  unpin(job: JobState): void {
    if (count(this.pinned, job.jobId, -1) === 0) this.free(job)
  }
  /** Runs `use` with the log of a job, which nothing takes out of memory meanwhile. */
  holding<A, E, E2>(
    load: Effect.Effect<JobState, E2>,
    use: (job: JobState) => Effect.Effect<A, E>
  ): Effect.Effect<A, E | E2> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(restore(load), (job) => {
        this.keep(job)
        return Effect.ensuring(
          restore(use(job)),
          Effect.sync(() => this.release(job))
        )
      })
    )
  }

  /** Runs `join` while the job is not dropped; fails when it has been, or is about to be. */
  joined<A, E>(job: JobState, join: Effect.Effect<A, E>): Effect.Effect<A, E | InternalError> {
    const { jobId } = job
    return Effect.suspend((): Effect.Effect<A, E | InternalError> => {
      const trimmed = this.trimming.get(jobId)
      if (trimmed !== undefined) return Effect.zipRight(Deferred.await(trimmed), this.joined(job, join))
      // Of a job that has ended at least the end is stored.
      const gone = job.dropped || (job.closed && job.last === 0)
      if (gone || this.dropping.has(jobId)) return droppedMeanwhile
      return Effect.acquireUseRelease(
        Effect.sync(() => this.keep(job)),
        () => join,
        () => Effect.sync(() => this.release(job))
      )
    })
  }
  /**
   * Runs `trim`, which finds out what may go of a job and lets it go, while nobody begins to observe it. Does nothing
   * when somebody is about to: there is another time.
   */
  trimmed<E>(jobId: string, trim: Effect.Effect<void, E>): Effect.Effect<void, E> {
    return Effect.suspend(() => {
      if (this.joining.has(jobId) || this.trimming.has(jobId)) return Effect.void
      const done = Deferred.unsafeMake<void>(FiberId.none)
      return Effect.acquireUseRelease(
        Effect.sync(() => this.trimming.set(jobId, done)),
        () => trim,
        () =>
          Effect.sync(() => {
            this.trimming.delete(jobId)
            Deferred.unsafeDone(done, Effect.void)
          })
      )
    })
  }
  /** Returns those of these jobs that nobody is about to observe, or drops; nobody does until they are given back. */
  takeUnjoined<A extends { readonly jobId: string }>(jobs: ReadonlyArray<A>): ReadonlyArray<A> {
    const free = jobs.filter(({ jobId }) => !this.joining.has(jobId) && !this.dropping.has(jobId))
    for (const { jobId } of free) this.dropping.add(jobId)
    return free
  }
  /** Returns whether a job is being dropped. */
  isDropping(jobId: string): boolean {
    return this.dropping.has(jobId)
  }
  giveBack(jobs: ReadonlyArray<{ readonly jobId: string }>): void {
    for (const { jobId } of jobs) this.dropping.delete(jobId)
  }
}

/** Counts one more, or less, who needs a job; returns how many do. */
const count = (needed: Map<string, number>, jobId: string, by: 1 | -1): number => {
  const now = (needed.get(jobId) ?? 0) + by
  if (now > 0) needed.set(jobId, now)
  else needed.delete(jobId)
  return Math.max(0, now)
}

const droppedMeanwhile = new InternalError({ message: "the job was dropped meanwhile; ask again" })
