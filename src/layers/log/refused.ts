/** Why a batch was not written, and what follows from that. */
import * as Cause from "effect/Cause"
import type { InternalError } from "../../protocol/Errors.js"
import { type Fenced, type StoreError, toInternalError } from "../../services/store/Store.js"

/** Returns what of a batch another process has taken, if that is why it was not written. */
export const fencedOf = (cause: Cause.Cause<StoreError | Fenced>): Fenced | undefined => {
  const failure = Cause.failureOption(cause)
  return failure._tag === "Some" && failure.value._tag === "Fenced" ? failure.value : undefined
}

/** Returns what the store has failed with; nothing when it was a defect. */
const failureOf = (cause: Cause.Cause<StoreError | Fenced>): StoreError | undefined => {
  const failure = Cause.failureOption(cause)
  return failure._tag === "Some" && failure.value._tag === "StoreError" ? failure.value : undefined
}

/** Returns whether it is the fault of what was to be written, and not of the store: a defect or a misuse. */
export const isMistake = (cause: Cause.Cause<StoreError | Fenced>): boolean => {
  const failure = failureOf(cause)
  return failure === undefined || failure.misuse === true
}

/** Returns whether another store has taken this one's place. */
export const isFenced = (cause: Cause.Cause<StoreError | Fenced>): boolean =>
  failureOf(cause)?.fenced === true

/** Returns what whoever waits is told of a batch that was not written. */
export const undone = (cause: Cause.Cause<StoreError | Fenced>): InternalError =>
  toInternalError("the log could not commit")(Cause.squash(cause))
