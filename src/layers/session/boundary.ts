/**
 * Where a defect stops: whatever throws while one request is decided (a schema, a policy, a verifier, a registry) is
 * `INTERNAL_ERROR` to that request and logged whole, and the session goes on.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { InternalError } from "../../protocol/Errors.js"

const failed = () => new InternalError({ message: "the runtime failed at this request; its log says why" })

/** Runs `recover` in place of a defect, which is logged with its whole cause. Failures and interruptions pass. */
export const onDefect = <A, E, R, B, F, S>(
  effect: Effect.Effect<A, E, R>,
  what: string,
  recover: (error: InternalError) => Effect.Effect<B, F, S>
): Effect.Effect<A | B, E | F, R | S> =>
  Effect.catchAllCause(
    effect,
    (cause): Effect.Effect<B, E | F, S> =>
      Cause.isDie(cause)
        ? Effect.zipRight(
            Effect.logError(`${what} failed`, cause),
            Effect.suspend(() => recover(failed()))
          )
        : Effect.failCause(cause)
  )

/** Turns a defect into `InternalError`. */
export const sound = <A, E, R>(effect: Effect.Effect<A, E, R>, what: string) =>
  onDefect(effect, what, (error) => Effect.fail(error))
