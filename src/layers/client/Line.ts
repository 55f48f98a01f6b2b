/** The outbound side of whatever connection there is, and its pulse. */
import * as Effect from "effect/Effect"
import { called } from "../../services/runtime/called.js"
import { Turn } from "../../services/runtime/Turn.js"
import { type Connection, closeCode, TransportError } from "../../services/transport/Transport.js"
import { heartbeat, Pulse } from "../transport/heartbeat.js"
import { never } from "./first.js"

/** Says whether a frame is still to be sent; asked when it is handed over. */
type IsWanted = () => boolean

/** What is sent on one connection of the client, and its heartbeat. */
export class Line {
  #out: Array<readonly [string, IsWanted]> = []
  #ring: (() => void) | undefined
  /** When this connection was last used; the reader says when it takes frames, and when it waits. */
  declare pulse: Pulse

  /** `now` is in milliseconds and only goes forward. */
  readonly #now: () => number

  constructor(now: () => number) {
    this.#now = now
  }

  /** A new connection. */
  open(): void {
    this.#out = []
    this.pulse = new Pulse(this.#now)
  }
  /** How many frames the writer has not come to. */
  get waiting(): number {
    return this.#out.length
  }
  push(frame: string, isWanted: IsWanted = () => true): void {
    this.#out.push([frame, isWanted])
    const ring = this.#ring
    this.#ring = undefined
    ring?.()
  }

  /** Takes what is to be sent now. */
  #take(): ReadonlyArray<string> {
    const out = this.#out
    this.#out = []
    return out.filter(([, isWanted]) => isWanted()).map(([frame]) => frame)
  }

  /** Sends what the writer has not come to, after what it is sending; nobody waits for room. */
  flush(connection: Connection): Effect.Effect<void> {
    return Effect.suspend(() => {
      const frames = this.#take()
      return frames.length === 0
        ? Effect.void
        : // A finalizer may be what closes, and sending is not to be as uninterruptible as that.
          Effect.zipRight(Effect.forkDaemon(Effect.interruptible(connection.send(frames))), Effect.yieldNow())
    })
  }

  write(connection: Connection): Effect.Effect<never> {
    return Effect.gen(this, function* () {
      for (;;) {
        const frames = this.#take()
        if (frames.length > 0) {
          this.pulse.sending()
          yield* connection.send(frames)
        } else
          yield* called((back) => {
            this.#ring = back
          })
      }
    })
  }

  /** Pings where the runtime asked for it, and gives a dead connection up. */
  beat(
    connection: Connection,
    intervalSec: number | undefined,
    ping: () => void
  ): Effect.Effect<never, TransportError> {
    if (!intervalSec) return never
    return Effect.gen(this, function* () {
      yield* heartbeat(this.pulse, {
        connection,
        interval: intervalSec * 1000,
        turn: yield* Turn,
        ping
      })
      yield* Effect.forkDaemon(connection.close(closeCode.heartbeatLost, "HEARTBEAT_LOST"))
      return yield* new TransportError({ message: "no answer in time" })
    })
  }
}
