/** Waiting for one of several things. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"

/** What does not end by itself. `Effect.never` would be 40 bytes more in a browser. */
export const never: Effect.Effect<never> = Effect.async(() => {})

/**
 * Returns how the first of them ends, which ends the others. Written out, since Effect's own races and timeouts would be
 * hundreds of bytes more in a browser.
 */
export const first = <A, E>(...parts: ReadonlyArray<Effect.Effect<A, E>>): Effect.Effect<A, E> =>
  Effect.gen(function* () {
    const ended = yield* Deferred.make<A, E>()
    for (const part of parts) yield* Effect.forkScoped(Effect.intoDeferred(part, ended))
    return yield* Deferred.await(ended)
  }).pipe(Effect.scoped)
