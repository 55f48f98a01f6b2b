/** Where a fault of the runtime's own, or of what it was given, becomes an answer (§10). */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { type ArcpError, InternalError } from "../../protocol/Errors.js"
import { isOwnInterruption } from "../../services/runtime/interruption.js"
import { StoreError, toInternalError } from "../../services/store/Store.js"

export { isAway } from "../../services/store/Store.js"

/** Turns a failure to read the store into an answer. */
export const storage = <A>(effect: Effect.Effect<A, StoreError>): Effect.Effect<A, InternalError> =>
  Effect.mapError(effect, toInternalError("the store could not be read"))

/** Tells whether what was read is damaged, and will be however often it is read again. */
export const isDamage = (error: unknown): boolean =>
  error instanceof StoreError
    ? error.damaged !== undefined
    : error instanceof InternalError && error.details?.["reason"] === "damaged"

/**
 * Runs `recover` in place of a fault of what was run, which is logged whole as `said`: a defect, or an interruption that
 * was not meant for this fiber. Code that joins a fiber which somebody else has interrupted gives one, and it would end
 * whoever runs this without a word. Failures, and interruptions of this fiber, pass.
 */
export const onFault = <A, E, R, B, F, S>(
  effect: Effect.Effect<A, E, R>,
  said: string,
  recover: Effect.Effect<B, F, S>
): Effect.Effect<A | B, E | F, R | S> =>
  Effect.catchAllCause(effect, (cause) =>
    Effect.flatMap(
      isOwnInterruption(cause),
      (isOwn): Effect.Effect<B, E | F, S> =>
        Cause.isDie(cause) || (Cause.isInterruptedOnly(cause) && !isOwn)
          ? Effect.zipRight(Effect.logError(said, cause), recover)
          : Effect.failCause(cause)
    )
  )

/**
 * Turns a fault (of a policy, a registry, an input schema or a provisioner) into `InternalError`, and logs it whole. The
 * client is told what was done when it happened and nothing of the cause, which may hold anything.
 */
export const contained =
  (doing: string) =>
  <A, E extends ArcpError, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E | InternalError, R> =>
    onFault(
      effect,
      `a fault while ${doing}`,
      Effect.suspend(
        () => new InternalError({ message: `the runtime met a fault of its own while ${doing}` })
      )
    )

/** Makes the error of a limit that is reached, by its name. */
export const limited = (limit: string, message: string): InternalError =>
  new InternalError({ message, details: { limit } })

/** A job has been left to the next process, or to another node: what is wanted of it is for whoever goes on with it. */
export const left = new InternalError({
  message: "the job goes on elsewhere, or when this runtime is back; ask again",
  details: { reason: "shutdown" }
})

const ours = new WeakSet<object>()

/** Remembers that this very error is a fault of the runtime's: what it ends, the runtime has ended (§5.2). */
export const blame = (error: object): void => {
  ours.add(Cause.originalError(error))
}

/** The same, as an effect. */
export const blamed = (error: object): Effect.Effect<void> => Effect.sync(() => blame(error))

/** Was this very error the runtime's fault? By identity: what an error says can be written by an agent. */
export const isOurs = (error: unknown): boolean =>
  typeof error === "object" && error !== null && ours.has(Cause.originalError(error))
