/**
 * What is in memory of jobs that only wait: which of those that are loaded do nothing else, since when; which are being
 * loaded, unloaded or ended right now; how many wait unloaded, and when the next of them is due. Of a job that is unloaded there
 * is nothing here.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import { identity } from "effect/Function"
import type { InternalError } from "../../../protocol/Errors.js"
import { Signal } from "../../../services/runtime/Signal.js"
import { never } from "../../../services/store/dueAt.js"
import { CountByKey } from "../CountByKey.js"
import type { TerminalMessage } from "../LiveJob.js"
import type { RunningJob } from "../RunningJobs.js"
import { DamagedRows } from "./DamagedRows.js"
import { Parked } from "./Parked.js"

/** Milliseconds between two tries to unload the same job, at the least. */
const betweenTries = 1_000

/** Keeps what is known of jobs that only wait. */
export class Waits {
  private readonly locks = new Map<string, Deferred.Deferred<void>>()
  /** Jobs that are loaded and do nothing but wait, and since when, longest first. */
  private readonly idle = new Map<string, number>()
  /** Those of them that could not be unloaded, and when that was tried, longest ago first. */
  private readonly putOffs = new Map<string, number>()
  private readonly counts = new CountByKey()
  /**
   * Opens a job of which nothing runs, and that is ending, for what undoes what it has done; returns whether it
   * is, and ends there. Loading.ts says how.
   */
  undo: (job: RunningJob, terminal: TerminalMessage) => Effect.Effect<boolean, InternalError> = () =>
    Effect.succeed(false)
  /** Given when a job begins to only wait, or there is no room for those that are due. */
  readonly idling = new Signal()
  /** Given when a job is due earlier than was known. */
  readonly waking = new Signal()
  /** What is due and cannot be loaded. */
  readonly damaged = new DamagedRows()
  /** What is parked. */
  readonly parked = new Parked()
  private next = 0
  /** Jobs that were due and are loaded. */
  private woken = 0
  private crowded = false
  /** Who waits for room for another. */
  private readonly queue = new Set<() => void>()

  constructor(
    /** Milliseconds that only go forward. */
    private readonly elapsed: () => number,
    private readonly maxWoken: number
  ) {}

  /**
   * Waits until nobody else changes where a job is, or whose: who begins, loads, unloads, places, concludes, adopts or answers it does
   * so under its lock, until {@link unlock}. Nobody keeps it for as long as a job runs, or is undone.
   */
  lock(
    jobId: string,
    waiting: (free: Effect.Effect<void>) => Effect.Effect<void> = identity
  ): Effect.Effect<void> {
    return Effect.suspend(() => {
      const other = this.locks.get(jobId)
      if (other !== undefined)
        return Effect.zipRight(waiting(Deferred.await(other)), this.lock(jobId, waiting))
      this.take(jobId)
      return Effect.void
    })
  }
  isLocked(jobId: string): boolean {
    return this.locks.has(jobId)
  }
  /** Locks a job that is not. */
  take(jobId: string): void {
    this.locks.set(jobId, Deferred.unsafeMake(FiberId.none))
  }
  unlock(jobId: string): void {
    const lock = this.locks.get(jobId)
    this.locks.delete(jobId)
    if (lock !== undefined) Deferred.unsafeDone(lock, Effect.void)
  }
  /** Runs `use` with a job locked. Who waits for the lock may be interrupted. */
  locked<A, E>(jobId: string, use: Effect.Effect<A, E>): Effect.Effect<A, E> {
    const unlock = Effect.sync(() => this.unlock(jobId))
    return Effect.uninterruptibleMask((restore) =>
      Effect.zipRight(this.lock(jobId, restore), Effect.ensuring(restore(use), unlock))
    )
  }

  /** A job that is loaded begins to only wait, or does something else again. */
  idles(jobId: string, isIdle: boolean): void {
    this.idle.delete(jobId)
    this.putOffs.delete(jobId)
    if (!isIdle) return
    this.idle.set(jobId, this.elapsed())
    this.idling.give()
  }
  /** A job that only waits cannot be unloaded now: that is tried again later, also when room is wanted. */
  putOff(jobId: string): void {
    this.idle.delete(jobId)
    this.putOffs.delete(jobId)
    this.putOffs.set(jobId, this.elapsed())
  }
  /**
   * Returns the job that is to be unloaded next, and in how many milliseconds: when it has only waited for `after` ms, at once when
   * room is wanted.
   */
  nextToUnload(after: number): { readonly jobId: string; readonly inMs: number } | undefined {
    const now = this.elapsed()
    let next: { readonly jobId: string; readonly inMs: number } | undefined
    for (const [jobId, since] of this.idle) {
      next = { jobId, inMs: this.crowded ? 0 : since + after - now }
      break
    }
    for (const [jobId, since] of this.putOffs) {
      const inMs = since + Math.max(after, betweenTries) - now
      if (next === undefined || inMs < next.inMs) next = { jobId, inMs }
      break
    }
    return next
  }
  get allIdle(): ReadonlyArray<string> {
    return [...this.idle.keys(), ...this.putOffs.keys()]
  }

  /** Counts jobs that wait unloaded, as they are stored. */
  begin(counts: ReadonlyMap<string, number>): void {
    for (const [principal, count] of counts) this.counts.add(principal, count)
  }
  /** How many jobs of a principal wait unloaded. */
  countOf(principal: string): number {
    return this.counts.get(principal)
  }
  /** A job waits unloaded. */
  rests(principal: string, dueAt: number): void {
    this.counts.add(principal, 1)
    this.due(dueAt)
  }
  /** A job that has waited unloaded is loaded, or has ended. */
  over(principal: string): void {
    this.counts.add(principal, -1)
  }
  /** Something is to be done with a job at this time. */
  due(at: number): void {
    if (at >= this.next) return
    this.next = at
    this.waking.give()
  }
  /** Epoch ms at which the next job may be due. */
  get nextDue(): number {
    return this.next
  }
  /** Whoever attends to what is due begins to look: what is told from here on counts beside what is found. */
  looking(): void {
    this.next = never
    this.crowded = this.queue.size > 0
  }
  /** Whoever looked has found that there is nothing to do before this time. */
  found(at: number): void {
    this.next = Math.min(this.next, at)
  }

  /** Takes a place among the jobs that were due and are loaded; returns whether there was one. */
  enter(): boolean {
    if (this.woken < this.maxWoken) {
      this.woken++
      return true
    }
    this.crowded = true
    this.idling.give()
    return false
  }
  /** Gives such a place back. */
  leave(): void {
    this.woken--
    if (this.crowded) this.due(0)
    for (const wake of [...this.queue]) wake()
  }
  /** Takes such a place, or waits for one. */
  readonly place: Effect.Effect<void> = Effect.suspend(() =>
    this.enter() ? Effect.void : Effect.zipRight(this.left, this.place)
  )
  private readonly left: Effect.Effect<void> = Effect.async<void>((resume) => {
    // One may have been left since there was none.
    if (this.woken < this.maxWoken) return resume(Effect.void)
    const wake = () => {
      this.queue.delete(wake)
      resume(Effect.void)
    }
    this.queue.add(wake)
    return Effect.sync(() => this.queue.delete(wake))
  })
  /** Whether jobs are due for which there is no room: those that only wait are to make it at once. */
  get isCrowded(): boolean {
    return this.crowded
  }
}
