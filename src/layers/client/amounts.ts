/** Durations and numbers that the client is given. `protocol/Argument.ts` says more of them, and would be 200 bytes more in a browser. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { InvalidRequest } from "../../protocol/Errors.js"

/** Refuses, by its name, the first of these that is not more than 0, as a call has to have it. Effect takes what is no duration for 0. */
export const check = (
  call: string,
  amounts: Readonly<Record<string, Duration.DurationInput>>
): Effect.Effect<void, InvalidRequest> => {
  for (const name in amounts) {
    let is = 0
    try {
      is = Duration.toMillis(amounts[name] as Duration.DurationInput)
    } catch {
      // No duration at all.
    }
    if (is <= 0) return new InvalidRequest({ message: `${call}: ${name} is not above 0` })
  }
  return Effect.void
}
