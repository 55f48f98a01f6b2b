/** Amounts that a call is given, where a browser's bundle has no room for the 200 bytes of `Argument.ts` more. */
import * as Duration from "effect/Duration"
import { InvalidRequest } from "./Errors.js"

/** Says, after `call`, what the first of these options has to be that is no amount above 0. Effect takes what is no duration for 0. */
export const amiss = (call: string, options: object | undefined): InvalidRequest | undefined => {
  for (const [name, value] of Object.entries(Object(options))) {
    // A name means the same wherever it stands.
    const kind = /time|interval/i.test(name) ? "duration" : /events|bytes/i.test(name) && "count"
    let is = 0
    try {
      // A number of milliseconds is itself.
      if (Number.isInteger(value) || kind === "duration")
        is = Duration.toMillis(value as Duration.DurationInput)
    } catch {
      // No duration at all.
    }
    if (kind && value !== undefined && is <= 0)
      return new InvalidRequest({ message: `${call}${name} has to be a ${kind} above 0` })
  }
  return undefined
}
