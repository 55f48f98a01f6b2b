/** Real time, also under a clock that stands still: bounds for what a shutdown waits for, and pauses between tries. */
import * as Clock from "effect/Clock"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

const realClock = Clock.make()

/** Runs an effect on the real clock, whatever clock the fiber has. */
export const inRealTime = Effect.withClock(realClock)

/** Waits for `effect`, but not longer than this in real time. What takes longer is interrupted and not waited for. */
export const within = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  duration: Duration.DurationInput
): Effect.Effect<void, E, R> =>
  Effect.clockWith((clock) =>
    Effect.withClock(effect, clock).pipe(
      Effect.disconnect,
      // Around all of it: a finalizer runs uninterruptibly, and a time-out could not end the wait.
      Effect.interruptible,
      Effect.timeoutOption(duration),
      Effect.withClock(realClock),
      Effect.asVoid
    )
  )
