/** Text that is piped into a command. */
import * as Effect from "effect/Effect"
import { UsageError } from "./UsageError.js"

/** Returns all of stdin; `flag` is what asked for it. */
export const readStdin = (flag: string): Effect.Effect<string, UsageError> =>
  Effect.tryPromise({
    try: async () => {
      let text = ""
      for await (const chunk of process.stdin.setEncoding("utf8")) text += chunk
      return text
    },
    catch: () => new UsageError({ message: `${flag}: stdin could not be read` })
  })
