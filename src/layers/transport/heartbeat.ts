/**
 * The heartbeat of both sides (§6.4). A side that has sent nothing, or heard nothing, for an interval pings; one that has
 * heard nothing for two gives the connection up. Silence is the peer's only while this side was listening.
 */
import * as Effect from "effect/Effect"
import type { TurnService } from "../../services/runtime/Turn.js"
import type { Connection } from "../../services/transport/Transport.js"

/** When one connection was last used, in milliseconds of a clock that only goes forward. */
export class Pulse {
  /** When frames were handed to the transport last. */
  sentAt = 0
  /** When the peer was heard last, as far as this side was listening. */
  heardAt = 0
  /** The reader waits for frames: silence is the peer's. */
  listening = true
  /** A ping has asked for an answer since; more would not get it sooner. */
  #asked = false

  readonly #now: () => number

  constructor(now: () => number) {
    this.#now = now
    this.begin()
  }

  /** From now on the peer may be silent. */
  begin(): void {
    this.sentAt = this.heardAt = this.#now()
  }
  /** Frames were handed to the transport. */
  sending(): void {
    this.sentAt = this.#now()
  }
  /** Frames were taken: what the peer sends stays unread until the reader is `listening` again, from when silence is its. */
  heard(listening: boolean): void {
    this.heardAt = this.#now()
    this.listening = listening
    this.#asked = false
  }
  /**
   * Pings if that is due. Returns the milliseconds until something can be due next; 0 or less when nothing was heard
   * for two intervals.
   */
  look(interval: number, ping: () => void): number {
    const now = this.#now()
    const lost = this.listening ? this.heardAt + 2 * interval - now : Infinity
    let next = (this.#asked ? this.sentAt : Math.min(this.sentAt, this.heardAt)) + interval - now
    if (next <= 0 && lost > 0) {
      next = interval
      this.sentAt = now
      this.#asked = true
      ping()
    }
    return Math.min(lost, next)
  }
}

/**
 * Turns of the event loop that are given to what has arrived before a peer is judged: after a stall of this process the
 * timer comes first, and the frames that came meanwhile are still in the socket.
 */
const turnsToRead = 4

/** Returns, after what has arrived was read, whether a peer that was silent for two intervals still is. */
export const isSilent = (pulse: Pulse, turn: TurnService): Effect.Effect<boolean> =>
  Effect.gen(function* () {
    const { heardAt } = pulse
    for (let i = 0; i < turnsToRead; i++) yield* turn.next
    return pulse.heardAt === heardAt
  })

/** Pings as `pulse` demands; returns when nothing was heard for two intervals. */
export const heartbeat = (
  pulse: Pulse,
  options: {
    readonly connection: Pick<Connection, "mayFallSilent">
    /** Milliseconds. */
    readonly interval: number
    readonly turn: TurnService
    readonly ping: () => void
  }
): Effect.Effect<void> =>
  Effect.gen(function* () {
    yield* options.connection.mayFallSilent ?? Effect.void
    pulse.begin()
    for (;;) {
      const left = pulse.look(options.interval, options.ping)
      // Never shorter than a timer can be, or a fraction of a millisecond would be waited for in a loop.
      if (left > 0) yield* Effect.sleep(Math.ceil(left))
      else if (yield* isSilent(pulse, options.turn)) return
    }
  })
