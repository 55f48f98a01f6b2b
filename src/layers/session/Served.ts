/** One transport of an open session: what the reader, the writer and the keeper of it share, and how it is given up. */
import type * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { type ArcpError, InvalidRequest, toPayload } from "../../protocol/Errors.js"
import type { TurnService } from "../../services/runtime/Turn.js"
import { type Connection, closeCode, type Inbound } from "../../services/transport/Transport.js"
import { Pulse } from "../transport/heartbeat.js"
import type { Kept } from "./Keeper.js"
import type { Farewell } from "./Outbox.js"
import type { AttachedSession } from "./Resume.js"
import type { Attachment, Session } from "./Session.js"
import type { SubmitQueue } from "./SubmitQueue.js"

/** Where a connection begins. */
export interface Start {
  readonly resumed: boolean
  /** Frames that came with the hello. */
  readonly frames: Chunk.Chunk<Inbound>
}

/** Milliseconds for which a peer may take nothing of what is there for it: a minute, or two heartbeat intervals if that is longer. */
export const patience = (interval: number): number => Math.max(60_000, 2 * interval)

/** Returns the close code with which an error ends a connection. */
export const closeCodeOf = (error: ArcpError): number => {
  switch (error._tag) {
    case "InternalError":
      return closeCode.tryLater
    case "InvalidRequest":
      return closeCode.protocolError
    default:
      return closeCode.policy
  }
}

/** Returns what a peer is told of a frame that it may not send (§4), where no close code can say it. */
export const frameTooBig = (message: string): ArcpError =>
  new InvalidRequest({ message, details: { limit: "frame_bytes" } })

/** One transport while it serves a session: what its fibers share. */
export class Served {
  readonly pulse: Pulse
  /** The welcome has been sent. */
  greeted = false
  /** Resumed, and nothing was received yet: the token before this one still holds. */
  unconfirmed: boolean
  /** The transport is to be read no more. */
  over = false
  /** No more can come over it, and nobody can come back on another: the peer only reads, perhaps much later. */
  inputEnded = false
  /** Frames that came with the hello, until they are handled. */
  first: Chunk.Chunk<Inbound> | undefined
  submits: SubmitQueue | undefined
  /** When frames came that were malformed, within the window. */
  malformed: ReadonlyArray<number> = []
  /** What runs beside the reader, and ends with it. */
  private readonly beside = new Set<Fiber.RuntimeFiber<unknown>>()
  /** How writing has ended, and who waits for that. */
  private written: Exit.Exit<void> | undefined
  private onWritten: ((exit: Exit.Exit<void>) => void) | undefined
  /** How often the writer has sent, and whether it does now. */
  private sends = 0
  private sending = false
  /** What the keeper looks at, as long as it serves. */
  readonly kept: Array<Kept> = []

  constructor(
    readonly connection: Connection,
    readonly held: AttachedSession,
    readonly attachment: Attachment,
    start: Start,
    elapsed: () => number
  ) {
    this.first = start.frames
    this.pulse = new Pulse(elapsed)
    this.unconfirmed = start.resumed
  }

  get session(): Session {
    return this.held.session
  }
  /** A fiber runs beside the reader, until it ends or {@link stop}. */
  runs(fiber: Fiber.RuntimeFiber<unknown>): void {
    this.beside.add(fiber)
    fiber.addObserver(() => this.beside.delete(fiber))
  }
  /** Ends what runs beside the reader. */
  get stop(): Effect.Effect<void> {
    return Effect.suspend(() => Fiber.interruptAll([...this.beside]))
  }
  /** Nothing is written any more. */
  wrote(exit: Exit.Exit<void>): void {
    this.written ??= exit
    this.onWritten?.(exit)
  }
  /** Hands frames over, and waits until there is room for more. */
  send(frames: ReadonlyArray<string>): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.sends++
      this.sending = true
      return Effect.map(this.connection.send(frames), () => {
        this.sending = false
      })
    })
  }
  /**
   * How far the peer has got with what it is sent: twice the same when it has taken nothing in between. It is `undefined` while the
   * writer does not wait for the peer, but for the store or for something to say: that is no fault of the peer's.
   */
  get progress(): string | undefined {
    return this.sending ? `${this.sends} ${this.connection.progress()}` : undefined
  }
  /** Waits until nothing is written any more. */
  get allWritten(): Effect.Effect<void> {
    return Effect.async<void>((resume) => {
      if (this.written !== undefined) return resume(this.written)
      this.onWritten = resume
    })
  }
}

/** Says the last, and closes. The writer may be stuck on this very peer, so it is not asked. */
export const cutOff = (
  turn: TurnService,
  { connection }: Served,
  { code, frame, reason }: Omit<Farewell, "drained">
): Effect.Effect<void> =>
  Effect.zipRight(
    frame === undefined ? Effect.void : Effect.raceFirst(connection.send([frame]), turn.next),
    connection.close(code, reason)
  )

/** Says why, and closes, without the writer. */
export const giveUp = (
  turn: TurnService,
  served: Served,
  error: ArcpError,
  code: number
): Effect.Effect<void> => {
  const frame = served.session.frame({ type: "session.error", payload: toPayload(error) })
  return cutOff(turn, served, { code, reason: error.code, frame })
}
