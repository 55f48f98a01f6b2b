/** Keeps a quiet connection alive, and gives a dead one up (§6.4). */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { TransportError } from "../../services/transport/Transport.js"

/** When something was last sent and received, in milliseconds since the epoch. */
export interface Activity {
  sentAt: number
  receivedAt: number
}

/** Pings when nothing was sent, or nothing came, for an interval; fails when nothing came for two. */
export const heartbeat = (
  activity: Activity,
  options: { readonly intervalSec: number; readonly now: () => number; readonly ping: () => void }
): Effect.Effect<never, TransportError> =>
  Effect.gen(function* () {
    const interval = options.intervalSec * 1000
    let pingedAt = 0
    for (;;) {
      const now = options.now()
      const { sentAt, receivedAt } = activity
      if (now - receivedAt >= 2 * interval)
        return yield* new TransportError({ message: "nothing was received for two heartbeat intervals" })
      // One ping asks for an answer; more would not get it sooner.
      const ping = Math.min(sentAt, pingedAt > receivedAt ? Infinity : receivedAt) + interval
      const due = Math.min(ping, receivedAt + 2 * interval) - now
      if (due > 0) yield* Effect.sleep(Duration.millis(due))
      else {
        pingedAt = activity.sentAt = now
        options.ping()
      }
    }
  })
