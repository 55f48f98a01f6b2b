/**
 * What waits for the one writer of a connection: frames without an `event_seq`, counted in bytes until they have been
 * handed to the transport, and the writer's alarm. Events are not here: they wait in the log.
 */
import * as Effect from "effect/Effect"
import { byteLength } from "../../protocol/Utf8.js"

/** How a connection ends from our side. */
export interface Farewell {
  readonly code: number
  readonly reason: string
  /** Only once every event has been sent. */
  readonly drained: boolean
  /** The last frame. */
  readonly frame?: string | undefined
}

/** Frames that one `take` gives, and what they count for. */
export interface Batch {
  readonly frames: ReadonlyArray<string>
  readonly bytes: number
}

/** Why a writer that has waited goes on: there is something to write, or it has waited for long and is to end. */
export type Awakened = "again" | "rest"

/** Bytes of frames in one batch, beyond which the next begins. */
const batchBytes = 256 * 1024

/** Holds what waits to be sent on one connection, events apart. Who fills it is not read from until it has room. */
export class Outbox {
  private frames: Array<{ readonly text: string; readonly bytes: number }> = []
  private taken = 0
  private held = 0
  private waiter: ((next: Awakened) => void) | undefined
  private rung = false
  private waits = 0
  /** Set by whoever writes: called when nobody does and there is something to write. */
  begin: (() => void) | undefined
  /** Whether there is a writer. */
  private attended = false
  private released = false
  private roomWaiters: Array<() => void> = []
  /** Has the writer close the connection, after the answers, and after all events when `drained`. */
  farewell: Farewell | undefined
  /** Set by whoever sees to it that the connection closes also when the writer does not come to that: called once. */
  onFarewell: (() => void) | undefined

  /** `maxBytes`: what may wait before {@link room} does. */
  constructor(private readonly maxBytes: number) {}

  push(frame: string): void {
    const bytes = byteLength(frame)
    this.frames.push({ text: frame, bytes })
    this.held += bytes
    this.wake()
  }
  /** Wakes the writer, or has one begin: there is something to send, or to read from the log. */
  readonly wake = (): void => {
    if (this.waiter !== undefined) return this.resume("again")
    this.rung = true
    if (this.attended || this.released || this.begin === undefined) return
    this.attended = true
    this.begin()
  }
  /** The writer looks at what there is, and need not be woken for what has come until now. */
  heard(): void {
    this.rung = false
  }
  /** Waits for the next `wake`, which may have come already, or for `rest`. Only the writer waits, and is woken or over. */
  get awaken(): Effect.Effect<Awakened> {
    return Effect.async<Awakened>((resume) => {
      this.waits++
      this.waiter = (next) => resume(Effect.succeed(next))
      if (this.rung) this.resume("again")
    })
  }
  private resume(next: Awakened): void {
    const { waiter } = this
    this.waiter = undefined
    this.rung = false
    waiter?.(next)
  }
  /** Returns how often the writer has waited, when it does now. */
  get waiting(): number | undefined {
    return this.waiter === undefined ? undefined : this.waits
  }
  /** Ends a writer that waits. */
  rest(): void {
    if (this.waiter !== undefined) this.resume("rest")
  }
  /** The writer has rested, and is no more. */
  rested(): void {
    this.attended = false
    if (this.rung) this.wake()
  }
  /** Takes all that waits now, in batches. */
  take(): ReadonlyArray<Batch> {
    if (this.frames.length === 0) return []
    const batches: Array<{ frames: Array<string>; bytes: number }> = []
    let batch: { frames: Array<string>; bytes: number } | undefined
    for (const { bytes, text } of this.frames) {
      if (batch === undefined || batch.bytes + bytes > batchBytes) {
        batch = { frames: [], bytes: 0 }
        batches.push(batch)
      }
      batch.frames.push(text)
      batch.bytes += bytes
    }
    this.taken += this.held
    this.held = 0
    this.frames = []
    return batches
  }
  /** Counts a batch as sent: it was handed to the transport, which has room again. */
  sent({ bytes }: Batch): void {
    this.taken -= bytes
    if (!this.full) this.makeRoom()
  }
  private makeRoom(): void {
    const waiting = this.roomWaiters
    this.roomWaiters = []
    for (const resume of waiting) resume()
  }
  /** Nothing waits, and nothing is being sent. */
  get idle(): boolean {
    return this.held + this.taken === 0
  }
  get full(): boolean {
    return this.held + this.taken > this.maxBytes && !this.released
  }
  /** Ends the outbox with its writer: nothing is sent any more, and nobody waits. */
  release(): void {
    this.released = true
    this.makeRoom()
  }
  /** Waits while too much waits. */
  get room(): Effect.Effect<void> {
    return Effect.suspend(() => (this.full ? this.madeRoom : Effect.void))
  }
  private get madeRoom(): Effect.Effect<void> {
    return Effect.async<void>((resume) => {
      const done = () => resume(Effect.void)
      // It may have been made since there was none.
      if (!this.full) return done()
      this.roomWaiters.push(done)
      return Effect.sync(() => {
        this.roomWaiters = this.roomWaiters.filter((waiter) => waiter !== done)
      })
    })
  }
  /** The first farewell counts, but for one that was to wait until every event is sent, and need not any more. */
  close(farewell: Farewell): void {
    const before = this.farewell
    if (before !== undefined && (!before.drained || farewell.drained)) return
    this.farewell = farewell
    if (before === undefined) this.onFarewell?.()
    this.wake()
  }
}
