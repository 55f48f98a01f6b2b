/** JSON that a person gives a job, as a runtime gets it. */
import * as Effect from "effect/Effect"
import { whereNoJson } from "../../protocol/Json.js"
import { UsageError } from "./UsageError.js"

/** Returns what a text says; throws of one that is no JSON, or says a number that JSON cannot: `1e400` would be sent as null. */
export const parseInput = (text: string): unknown =>
  JSON.parse(text, (_, value: unknown) => {
    if (value === Infinity || value === -Infinity) throw new RangeError("a number is too large")
    return value
  })

/** Returns what the text of a flag says; `example` is one that is JSON, as a shell takes it. */
export const inputOf = (flag: string, text: string, example: string): Effect.Effect<unknown, UsageError> =>
  Effect.try({
    try: () => parseInput(text),
    catch: (cause) =>
      new UsageError({
        message:
          cause instanceof RangeError
            ? `${flag}: ${cause.message}`
            : `${flag} is not JSON${whereNoJson(cause)}; give for example ${example}, and a text as '"text"'`
      })
  })
