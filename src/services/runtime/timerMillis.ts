/** Times that timers of the platform wait. */
import * as Duration from "effect/Duration"

/** Milliseconds for a timer of the platform, which waits for 24 days at most: longer ones would be over at once. */
export const timerMillis = (duration: Duration.DurationInput): number =>
  Math.min(Duration.toMillis(duration), 2 ** 31 - 1)
