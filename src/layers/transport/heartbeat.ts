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
  sentAt: number
  /** When the peer was heard last, as far as this side was listening. */
  heardAt: number
  /** The reader waits for frames: silence is the peer's. */
  listening = true

  readonly #now: () => number

  constructor(now: () => number) {
    this.#now = now
    this.sentAt = this.heardAt = now()
  }

  /** Frames were handed to the transport. */
  sending(): void {
    this.sentAt = this.#now()
  }
  /** Frames were taken: what the peer sends stays unread until the reader is `listening` again, from when silence is its. */
  heard(listening: boolean): void {
    this.heardAt = this.#now()
    this.listening = listening
  }
}

/**
 * Turns of the event loop that are given to what has arrived before a peer is judged: after a stall of this process the
 * timer comes first, and the frames that came meanwhile are still in the socket.
 */
const turnsToRead = 4

/** Pings as `pulse` demands; returns when nothing was heard for two intervals. */
export const heartbeat = (
  pulse: Pulse,
  options: {
    readonly connection: Pick<Connection, "mayFallSilent">
    /** Milliseconds. */
    readonly interval: number
    readonly now: () => number
    readonly turn: TurnService
    readonly ping: () => void
  }
): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { interval, now, turn } = options
    yield* options.connection.mayFallSilent ?? Effect.void
    pulse.sentAt = pulse.heardAt = now()
    let pingedAt = -Infinity
    for (;;) {
      const { sentAt, heardAt } = pulse
      // One ping asks for an answer; more would not get it sooner.
      const ping = Math.min(sentAt, pingedAt > heardAt ? Infinity : heardAt) + interval
      const lost = pulse.listening ? heardAt + 2 * interval : Infinity
      const due = Math.min(ping, lost) - now()
      if (due > 0) {
        // Never shorter than a timer can be, or a fraction of a millisecond would be waited for in a loop.
        yield* Effect.sleep(Math.max(1, Math.ceil(due)))
        continue
      }
      if (now() >= lost) {
        for (let i = 0; i < turnsToRead; i++) yield* turn.next
        if (pulse.listening && pulse.heardAt === heardAt) return
        continue
      }
      pulse.sending()
      pingedAt = pulse.sentAt
      options.ping()
    }
  })
