/**
 * A session while it is in memory, and the connection that is attached to it, if any. Three lifetimes meet
 * here: jobs hold the session, the session holds the connection, and neither waits for the one below.
 */
import type * as Effect from "effect/Effect"
import { encode, type Version } from "../../protocol/Codec.js"
import type { Feature } from "../../protocol/Features.js"
import type { Identity } from "../../services/auth/Auth.js"
import type { JobSession, Outgoing } from "../../services/jobs/Jobs.js"
import type { View } from "../../services/log/EventLog.js"

/** The connection's side that a session knows. */
export interface Attached {
  readonly outbox: Outbox
  readonly close: (code: number, reason: string) => Effect.Effect<void>
}

/** Frames without an `event_seq`, waiting for the writer; and the writer's alarm. */
export class Outbox {
  private frames: Array<string> = []
  private waiter: (() => void) | undefined
  private roomWaiters: Array<() => void> = []
  private rung = false
  /** Set to have the writer close the connection, after the answers, and after all events when `drained`. */
  farewell: Farewell | undefined

  push(frame: string): void {
    this.frames.push(frame)
    this.wake()
  }
  /** There is something to send, or to read from the log. */
  readonly wake = (): void => {
    const waiter = this.waiter
    if (waiter === undefined) this.rung = true
    else {
      this.waiter = undefined
      waiter()
    }
  }
  take(): ReadonlyArray<string> {
    const frames = this.frames
    if (frames.length === 0) return frames
    this.frames = []
    const waiters = this.roomWaiters
    this.roomWaiters = []
    for (const resume of waiters) resume()
    return frames
  }
  /** Calls back at the next `wake`, at once when it was missed. Only the writer waits. */
  onWake(waiter: () => void): void {
    if (this.rung) {
      this.rung = false
      waiter()
    } else this.waiter = waiter
  }
  get length(): number {
    return this.frames.length
  }
  close(farewell: Farewell): void {
    this.farewell = farewell
    this.wake()
  }
  onRoom(resume: () => void): void {
    this.roomWaiters.push(resume)
  }
}

/** How a connection ends from our side. */
export interface Farewell {
  readonly code: number
  readonly reason: string
  /** Only once every event has been sent. */
  readonly drained: boolean
  /** The last frame. */
  readonly frame?: string
}

/** Messages without an `event_seq` that have their place between events, kept while a resume may want them. */
export class Announcements {
  private static readonly max = 1024
  /** Ascending in both. */
  private entries: Array<{ readonly after: number; readonly serial: number; readonly message: Outgoing }> = []
  private next = 1

  add(message: Outgoing, view: View): void {
    const oldest = Math.max(view.first - 1, view.acked)
    if (this.entries.length >= Announcements.max || (this.entries[0]?.after ?? oldest) < oldest)
      this.entries = this.entries.filter(({ after }) => after >= oldest).slice(1 - Announcements.max)
    this.entries.push({ after: view.last, serial: this.next++, message })
  }
  /** Where a connection that has everything up to `cursor` begins; what stands right behind it may have been lost. */
  startAt(cursor: number): number {
    return this.entries.find(({ after }) => after >= cursor)?.serial ?? this.next
  }
  /** The events behind `cursor` with what has its place among them and was not given out to this connection. */
  weave(
    events: ReadonlyArray<string>,
    cursor: number,
    given: { serial: number },
    frame: (message: Outgoing) => string
  ): ReadonlyArray<string> {
    if (given.serial === this.next) return events
    const to = cursor + events.length
    const due = this.entries.filter(({ after, serial }) => serial >= given.serial && after <= to)
    const woven: Array<string> = []
    let next = 0
    for (const { after, serial, message } of due) {
      while (next < after - cursor) woven.push(events[next++] as string)
      woven.push(frame(message))
      given.serial = serial + 1
    }
    return next === 0 && woven.length === 0 ? events : [...woven, ...events.slice(next)]
  }
}

export class Session implements JobSession {
  attached: Attached | undefined
  readonly announcements = new Announcements()

  constructor(
    readonly sessionId: string,
    readonly version: Version,
    readonly view: View,
    public identity: Identity,
    public features: ReadonlyArray<Feature>,
    private readonly nextId: () => string
  ) {}

  has(feature: Feature): boolean {
    return this.features.includes(feature)
  }
  frame(message: Outgoing): string {
    return encode({
      arcp: this.version,
      id: this.nextId(),
      type: message.type,
      session_id: this.sessionId,
      job_id: message.jobId,
      trace_id: message.traceId,
      payload: message.payload
    })
  }
  readonly send = (message: Outgoing): void => {
    this.attached?.outbox.push(this.frame(message))
  }
  readonly announce = (message: Outgoing): void => {
    this.announcements.add(message, this.view)
    this.attached?.outbox.wake()
  }
  readonly sendFrame = (frame: string): void => {
    this.attached?.outbox.push(frame)
  }
}
