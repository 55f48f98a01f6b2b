/** Durations and counts that a call is given, where a browser's bundle has no room for the 200 bytes of `Argument.ts` more. */
import * as Duration from "effect/Duration"
import { InvalidRequest } from "./Errors.js"

/** Says, by call and name, what the first of these has to be that is not above 0. Effect takes what is no duration for 0. */
export const amiss = (
  call: string,
  durations: Readonly<Record<string, Duration.DurationInput>>,
  counts: Readonly<Record<string, number>> = {}
): InvalidRequest | undefined => {
  for (const [name, value] of Object.entries({ ...durations, ...counts })) {
    let is = 0
    try {
      is = name in durations ? Duration.toMillis(value) : Number.isInteger(value) ? (value as number) : 0
    } catch {
      // No duration at all.
    }
    if (is <= 0)
      return new InvalidRequest({
        message: `${call}: ${name} has to be a ${name in durations ? "duration" : "whole number"} above 0`
      })
  }
  return undefined
}
