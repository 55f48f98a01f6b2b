/** The outbound side of whatever connection there is, and its pulse. */
import * as Effect from "effect/Effect"
import { type Connection, closeCode, type TransportError } from "../../services/transport/Transport.js"
import { type Activity, heartbeat } from "./heartbeat.js"

export class Line {
  private out: Array<string> = []
  private ring: (() => void) | undefined
  private readonly activity: Activity = { sentAt: 0, receivedAt: 0 }

  constructor(private readonly now: () => number) {}

  /** A new connection; `first` goes out before anything else. */
  open(first: ReadonlyArray<string>): void {
    this.out = [...first]
    this.activity.sentAt = this.activity.receivedAt = this.now()
  }
  push(frame: string): void {
    this.out.push(frame)
    const ring = this.ring
    this.ring = undefined
    ring?.()
  }
  received(): void {
    this.activity.receivedAt = this.now()
  }

  /** What the writer has not come to goes now, behind what it is sending; nobody waits for room. */
  flush(connection: Connection): Effect.Effect<void> {
    return Effect.suspend(() => {
      const frames = this.out
      this.out = []
      return frames.length === 0
        ? Effect.void
        : // A finalizer may be what closes, and sending is not to be as uninterruptible as that.
          Effect.zipRight(Effect.forkDaemon(Effect.interruptible(connection.send(frames))), Effect.yieldNow())
    })
  }

  write(connection: Connection): Effect.Effect<never> {
    return Effect.forever(
      Effect.suspend(() => {
        if (this.out.length === 0)
          return Effect.async<void>((resume) => {
            this.ring = () => resume(Effect.void)
          })
        const frames = this.out
        this.out = []
        this.activity.sentAt = this.now()
        return connection.send(frames)
      })
    )
  }

  /** Pings where the runtime asked for it, and gives a dead connection up. */
  beat(
    connection: Connection,
    intervalSec: number | undefined,
    ping: () => void
  ): Effect.Effect<never, TransportError> {
    if (intervalSec === undefined) return Effect.never
    return heartbeat(this.activity, { intervalSec, now: this.now, ping }).pipe(
      Effect.tapError(() => Effect.forkDaemon(connection.close(closeCode.heartbeatLost, "HEARTBEAT_LOST")))
    )
  }
}
