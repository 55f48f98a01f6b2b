/** Telling the operator that a store fails, and when it works again. */
import * as Effect from "effect/Effect"
import type { Fenced, StoreError } from "../../services/store/Store.js"

/** Says once that something fails, for the operator, and once that it works again. */
export const noted = (doing: string) => {
  let failing = false
  return <A, E extends StoreError | Fenced>(effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.matchEffect(effect, {
      onFailure: (error) => {
        // Somebody else has what was to be written: the store is well.
        if (error._tag === "Fenced") return Effect.fail(error)
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
