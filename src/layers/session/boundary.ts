/**
 * Where a fault stops: whatever throws while one request is decided (a schema, a policy, a verifier, a registry), or is
 * interrupted by others, is `INTERNAL_ERROR` to that request and logged whole, and the session goes on.
 */
import * as Effect from "effect/Effect"
import { InternalError } from "../../protocol/Errors.js"
import * as Faults from "../jobs/Faults.js"

const failed = () => new InternalError({ message: "the runtime failed at this request; its log says why" })

/** Runs `recover` in place of a fault, which is logged with its whole cause. Failures, and interruptions of this fiber, pass. */
export const onFault = <A, E, R, B, F, S>(
  effect: Effect.Effect<A, E, R>,
  what: string,
  recover: (error: InternalError) => Effect.Effect<B, F, S>
): Effect.Effect<A | B, E | F, R | S> =>
  Faults.onFault(
    effect,
    `${what} failed`,
    Effect.suspend(() => recover(failed()))
  )

/** Turns a fault into `InternalError`. */
export const sound = <A, E, R>(effect: Effect.Effect<A, E, R>, what: string) =>
  onFault(effect, what, (error) => Effect.fail(error))
