/**
 * Whose an interruption is. Code that joins a fiber which somebody else has interrupted ends as if it had been interrupted itself;
 * to whoever runs it that is a fault, as a defect is, and nothing that was asked of them.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as FiberRef from "effect/FiberRef"

/** Tells whether a cause is this fiber's own interruption, and nothing else. */
export const isOwnInterruption = (cause: Cause.Cause<unknown>): Effect.Effect<boolean> =>
  Effect.map(
    FiberRef.get(FiberRef.interruptedCause),
    (own) => Cause.isInterruptedOnly(cause) && !Cause.isEmpty(own)
  )
