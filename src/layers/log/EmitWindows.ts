/**
 * What jobs have emitted that is not committed yet. An event has its place in the log when it is queued; whoever emits
 * goes on at once, unless its job, or all jobs together, have too much that waits. A job whose events cannot be committed
 * is broken, which is decided here and nowhere else: what it emits later is refused, so that its log never has a hole.
 */
import * as Effect from "effect/Effect"
import { InternalError } from "../../protocol/Errors.js"
import type { NewEvent } from "../../services/log/EventLog.js"
import { eventOverhead } from "../../services/store/Store.js"
import type { JobState } from "./JobState.js"

type Resume = (effect: Effect.Effect<void, InternalError>) => void

/** What one job has emitted that is not committed yet. */
export class EmitWindow {
  events = 0
  bytes = 0
  /** When the oldest of it may have come: when there was none before it. Milliseconds that only go forward. */
  since = 0
  /** Who waits until there is less. */
  readonly waiting = new Set<Resume>()
  /** Of what waits, events whose emitters were interrupted while they waited: they slow nobody down. */
  abandoned = 0
  abandonedBytes = 0
  /** Why nothing of the job is committed any more but its end. */
  broken: InternalError | undefined
  /** Called when it breaks. */
  onBroken: (error: InternalError) => void = nothing

  /** Lets go of who is called when it breaks, and with it of the job: its log outlives it while readers may want its tail. */
  close(): void {
    this.onBroken = nothing
  }
  /** Nothing of it is to be remembered. */
  get isIdle(): boolean {
    return this.events === 0 && this.broken === undefined
  }
}

const nothing = () => {}

/** How much may wait for a commit before emitters do. */
export interface WindowLimits {
  /** Of one job. */
  readonly events: number
  readonly bytes: number
  /** Of all jobs together. */
  readonly bytesInAll: number
  /** What all jobs together emit between two commits before the next is waited for: a turn of the event loop is over then. */
  readonly perCommit: { readonly events: number; readonly bytes: number }
}

const sizeOf = (event: NewEvent): number => event.payload.length + eventOverhead

/** The windows of all jobs of a log. */
export class EmitWindows {
  private bytes = 0
  /** Emitted since the last commit. */
  private newEvents = 0
  private newBytes = 0
  /** Windows with emitters that wait, in the order in which they began to. */
  private readonly crowded = new Set<EmitWindow>()

  constructor(
    private readonly limits: WindowLimits,
    /** Milliseconds that only go forward. */
    private readonly elapsed: () => number
  ) {}

  /** Bytes of all jobs that are emitted and not committed. */
  get uncommittedBytes(): number {
    return this.bytes
  }
  /** Jobs with emitters that wait. */
  get waiting(): number {
    return this.crowded.size
  }

  /** Counts an event that takes its place. */
  enter(job: JobState, event: NewEvent): void {
    job.window ??= new EmitWindow()
    const { window } = job
    const size = sizeOf(event)
    if (window.events++ === 0) window.since = this.elapsed()
    window.bytes += size
    this.bytes += size
    this.newEvents++
    this.newBytes += size
  }
  /** Counts an event that is committed, or never will be. */
  leave(job: JobState, event: NewEvent): void {
    const { window } = job
    const size = sizeOf(event)
    this.bytes -= size
    if (window === undefined) return
    window.bytes -= size
    if (--window.events === 0 && job.closed) job.window = undefined
  }

  /** Returns whether whoever has just emitted may go on. */
  isOpen(job: JobState): boolean {
    const { bytes, events } = this.limits.perCommit
    return this.newEvents < events && this.newBytes < bytes && !this.isFull(job.window)
  }
  /** Waits for a commit after which there is room for more of this job. Fails when the job breaks. */
  wait(job: JobState, event: NewEvent): Effect.Effect<void, InternalError> {
    return Effect.async((resume) => {
      job.window ??= new EmitWindow()
      const { window } = job
      if (window.broken !== undefined) return resume(window.broken)
      // The emitter's fiber may have yielded since it was asked: what it would wait for may be over, and not come again.
      if (this.isOpen(job)) return resume(Effect.void)
      window.waiting.add(resume)
      this.crowded.add(window)
      return Effect.sync(() => {
        if (window.waiting.delete(resume)) this.abandon(job, event)
      })
    })
  }
  /** Notes that the emitter of an event was interrupted while it waited. */
  abandon({ window }: JobState, event: NewEvent): void {
    if (window === undefined) return
    window.abandoned++
    window.abandonedBytes += sizeOf(event)
  }
  /** Returns why a job may not emit: it is broken, or as much as may wait was interrupted while it waited. */
  refusal(job: JobState): InternalError | undefined {
    const { window } = job
    if (window === undefined) return undefined
    if (window.broken !== undefined) return window.broken
    if (window.abandoned === 0) return undefined
    if (!this.isFull(window)) window.abandoned = window.abandonedBytes = 0
    const { bytes, events } = this.limits
    return window.abandoned > events || window.abandonedBytes > bytes ? tooManyAbandoned : undefined
  }
  /** Lets emitters go on for whom there is room. Called after each commit. */
  relieve(): void {
    this.newEvents = this.newBytes = 0
    if (this.bytes > this.limits.bytesInAll) return
    for (const window of this.crowded) {
      if (this.isFull(window)) continue
      this.crowded.delete(window)
      const waiting = [...window.waiting]
      window.waiting.clear()
      for (const resume of waiting) resume(Effect.void)
    }
  }
  /** Breaks a job, unless it is broken: whoever waits, or emits later, is told. */
  break(job: JobState, error: InternalError): void {
    job.window ??= new EmitWindow()
    const { window } = job
    if (window.broken !== undefined) return
    window.broken = error
    this.crowded.delete(window)
    for (const resume of window.waiting) resume(error)
    window.waiting.clear()
    window.onBroken(error)
  }

  private isFull(window: EmitWindow | undefined): boolean {
    return (
      this.bytes > this.limits.bytesInAll ||
      (window !== undefined && (window.events > this.limits.events || window.bytes > this.limits.bytes))
    )
  }
}

const tooManyAbandoned = new InternalError({
  message: "too many emits of this job were interrupted while they waited for the store",
  details: { limit: "uncommitted_events" }
})
