/** What every way to wake a node has in common: it also looks by itself, as a wake can be lost. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

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
