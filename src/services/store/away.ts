/**
 * Errors of a store that was away: what it could not do it may do the next time. Known by identity, since what an error says of
 * itself is also said where trying again is of no use, and can be written by anybody.
 */
import * as Cause from "effect/Cause"

const passing = new WeakSet<object>()

/** Remembers that what this very error tells of may pass. */
export const markAway = <E extends object>(error: E): E => {
  passing.add(error)
  return error
}

/** Tells whether this very error is that of a store which was away. */
export const isAway = (error: unknown): boolean =>
  typeof error === "object" && error !== null && passing.has(Cause.originalError(error))
