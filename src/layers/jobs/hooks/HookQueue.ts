/**
 * The calls of hooks that are owed, in memory: those of the store, and whatever is committed from then on. It decides which
 * one is next: of each job the oldest, when its pause is over.
 */
import type { StoredCall } from "../../../services/jobs/StoredCall.js"
import type { HookEvent } from "../../../services/store/Store.js"

/** A call that is owed. */
export interface OwedCall extends Omit<HookEvent, "text"> {
  readonly stored: StoredCall
  tries: number
}

/** The calls of one job, oldest first. */
interface JobCalls {
  readonly jobId: string
  readonly calls: Array<OwedCall>
  /** Monotonic ms from which on its oldest may be tried. */
  dueAt: number
  busy: boolean
}

/** Holds what is owed, within a bound. */
export class HookQueue {
  private readonly lanes = new Map<string, JobCalls>()
  /** Lanes whose oldest may be tried now, longest first. */
  private readonly ready = new Set<JobCalls>()
  /** Lanes that pause. */
  private readonly pausing = new Set<JobCalls>()
  /** The earliest end of a pause, or earlier. */
  private nextDue = Number.POSITIVE_INFINITY
  private count = 0

  constructor(private readonly max: number) {}

  /** How many calls are owed. */
  get size(): number {
    return this.count
  }

  /** Adds a call, unless it is there; returns those that are given up for it, the oldest. */
  add(call: OwedCall): ReadonlyArray<OwedCall> {
    let lane = this.lanes.get(call.jobId)
    if (lane === undefined) {
      lane = { jobId: call.jobId, calls: [], dueAt: 0, busy: false }
      this.lanes.set(call.jobId, lane)
    }
    const { calls } = lane
    let at = calls.length
    while (at > 0 && (calls[at - 1] as OwedCall).seq > call.seq) at--
    if (calls[at - 1]?.seq === call.seq) return []
    calls.splice(at, 0, call)
    this.count++
    if (!lane.busy && !this.pausing.has(lane)) this.ready.add(lane)
    return this.overflow()
  }
  /** What is being tried is not given up. */
  private overflow(): ReadonlyArray<OwedCall> {
    const lost: Array<OwedCall> = []
    for (const lane of this.lanes.values()) {
      if (this.count <= this.max) break
      if (lane.busy) continue
      const [oldest] = lane.calls
      if (oldest === undefined) continue
      lost.push(oldest)
      this.remove(lane, oldest)
    }
    return lost
  }
  private remove(lane: JobCalls, call: OwedCall): void {
    const at = lane.calls.indexOf(call)
    if (at < 0) return
    lane.calls.splice(at, 1)
    this.count--
    if (lane.calls.length > 0 || lane.busy) return
    this.lanes.delete(lane.jobId)
    this.ready.delete(lane)
    this.pausing.delete(lane)
  }

  /** Nobody is told of a job any more; what is being tried goes on. */
  forget(jobId: string): void {
    const lane = this.lanes.get(jobId)
    if (lane === undefined) return
    this.count -= lane.calls.length
    this.lanes.delete(jobId)
    this.ready.delete(lane)
    this.pausing.delete(lane)
  }

  /** Returns the call to be tried now, if there is one: until it is settled nothing else of its job is. */
  take(now: number): OwedCall | undefined {
    if (now >= this.nextDue) this.wake(now)
    for (const lane of this.ready) {
      this.ready.delete(lane)
      lane.busy = true
      return lane.calls[0]
    }
    return undefined
  }
  private wake(now: number): void {
    this.nextDue = Number.POSITIVE_INFINITY
    for (const lane of this.pausing)
      if (lane.dueAt <= now) {
        this.pausing.delete(lane)
        this.ready.add(lane)
      } else this.nextDue = Math.min(this.nextDue, lane.dueAt)
  }
  /** When the next pause ends, in monotonic ms. */
  get dueAt(): number {
    return this.nextDue
  }

  /** It was called, or is given up. */
  settle(call: OwedCall): void {
    const lane = this.lanes.get(call.jobId)
    if (lane === undefined) return
    lane.busy = false
    this.remove(lane, call)
    if (lane.calls.length > 0) this.ready.add(lane)
  }
  /** It is to be tried again, not before `dueAt`. */
  again(call: OwedCall, dueAt: number): void {
    const lane = this.lanes.get(call.jobId)
    if (lane === undefined) return
    lane.busy = false
    lane.dueAt = dueAt
    this.pausing.add(lane)
    this.nextDue = Math.min(this.nextDue, dueAt)
  }
}
