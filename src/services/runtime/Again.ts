/** What is tried again until it succeeds: the log is told once that it does not. */
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"

const isAgain = FiberRef.unsafeMake(false)

/** Marks every run of an effect but the first, for what it says by {@link once}. To be made anew for each wait. */
export const marked = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => {
  let isFirst = true
  return Effect.suspend(() => {
    if (!isFirst) return Effect.locally(effect, isAgain, true)
    isFirst = false
    return effect
  })
}

/** Says something, unless it was said by the first try. */
export const once = (saying: Effect.Effect<void>): Effect.Effect<void> =>
  Effect.flatMap(FiberRef.get(isAgain), (is) => (is ? Effect.void : saying))
