/** What every way to wake a node has in common: it also looks by itself, as a wake can be lost. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { Signal } from "../../services/runtime/Signal.js"

/** How long after a node was woken for something it is woken for it again at the earliest. */
const apart = Duration.millis(10)

/** How a node is woken. */
export interface WakeOptions {
  /** How often a node looks without having been told: what a lost wake costs at most. Default: 1 s. */
  readonly look?: Duration.DurationInput | undefined
}

/** Calls back every so often for as long as the scope. */
export const lookingEvery = (
  look: Duration.DurationInput = Duration.seconds(1),
  onWake: (told: boolean) => void
): Effect.Effect<void, never, Scope.Scope> =>
  Effect.asVoid(
    Effect.forkScoped(
      Effect.forever(
        Effect.delay(
          Effect.sync(() => onWake(false)),
          look
        )
      )
    )
  )

/**
 * Gives what wakes: it calls back at once, and for all that is said shortly after it once more. So what a node pays for a busy
 * cluster, a look and a commit each time, does not grow with how often the others commit, and one event by itself is not late.
 */
export const wakingApart = (onWake: () => void): Effect.Effect<() => void, never, Scope.Scope> =>
  Effect.gen(function* () {
    const said = new Signal()
    yield* Effect.forkScoped(
      Effect.forever(Effect.zipRight(Effect.zipRight(said.wait, Effect.sync(onWake)), Effect.sleep(apart)))
    )
    return () => said.give()
  })
