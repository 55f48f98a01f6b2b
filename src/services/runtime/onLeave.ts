/** What is done when a scope is left. */
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"

/**
 * Does it when the scope is left, by whoever leaves it. `Effect.addFinalizer`, which also passes context on, would be 70 bytes
 * more in a browser.
 */
export const onLeave = (done: Effect.Effect<unknown>): Effect.Effect<void, never, Scope.Scope> =>
  Effect.flatMap(Effect.scope, (scope) => Scope.addFinalizer(scope, done))
