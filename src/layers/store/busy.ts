/** Waiting for the locks of other programs without holding up this one. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import { isBusy } from "./sqlError.js"

const firstPause = Duration.millis(5)

/** Pauses that grow to half a second. */
const pauses = Schedule.exponential(firstPause, 1.6).pipe(
  Schedule.modifyDelay((_, delay) => Duration.min(delay, Duration.millis(500)))
)

/** How long a lock is waited for unless told otherwise: longer than a backup copies a file of ours, shorter than a client waits. */
const usualPatience = Duration.seconds(30)

/**
 * Tries again, with pauses of up to half a second, while another program holds a lock. The effect must
 * have done nothing when it fails so, and must not wait for locks itself: that would block the process.
 */
export const whileBusy = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  patience: Duration.Duration = usualPatience
): Effect.Effect<A, E, R> =>
  Effect.catchIf(effect, isBusy, () =>
    Effect.retry(effect, {
      schedule: pauses.pipe(Schedule.intersect(Schedule.recurUpTo(patience))),
      while: isBusy
    }).pipe(Effect.delay(firstPause))
  )
