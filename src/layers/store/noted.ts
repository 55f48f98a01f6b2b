/** Telling the operator that a store fails, and when it works again. */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../services/store/Store.js"

/** Says once that something fails, for the operator, and once that it works again. */
export const noted = (doing: string) => {
  let failing = false
  return <A>(effect: Effect.Effect<A, StoreError>): Effect.Effect<A, StoreError> =>
    Effect.matchEffect(effect, {
      onFailure: (error) => {
        const first = !failing
        failing = true
        const note = first ? Effect.logError(`${doing} failed: ${error.message}`) : Effect.void
        return Effect.zipRight(note, Effect.fail(error))
      },
      onSuccess: (result) => {
        if (!failing) return Effect.succeed(result)
        failing = false
        return Effect.as(Effect.logInfo(`${doing} works again`), result)
      }
    })
}
