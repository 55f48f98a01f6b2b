/** Waiting to be called. */
import * as Effect from "effect/Effect"

/** Waits until what it registers is called; what that returns is called when it is interrupted. */
export const called = (register: (back: () => void) => (() => void) | void): Effect.Effect<void> =>
  Effect.async((resume) => {
    const cancel = register(() => resume(Effect.void))
    return cancel && Effect.sync(cancel)
  })
