/** Text that is piped into a command. */
import * as Effect from "effect/Effect"
import { UsageError } from "./UsageError.js"

/** Bytes of a file, or of a pipe, that are read into memory: far more than a frame can carry. */
export const mostRead = 128 * 1024 * 1024

/** Said of more. */
export const tooMuch = `it has more than ${mostRead / 1024 / 1024} MiB`

/** Returns all of stdin; `flag` is what asked for it. */
export const readStdin = (flag: string): Effect.Effect<string, UsageError> =>
  Effect.tryPromise({
    try: async () => {
      const parts: Array<Buffer> = []
      let bytes = 0
      for await (const part of process.stdin as AsyncIterable<Buffer>) {
        bytes += part.length
        if (bytes > mostRead) throw new UsageError({ message: `${flag}: ${tooMuch}` })
        parts.push(part)
      }
      return Buffer.concat(parts).toString()
    },
    catch: (error) =>
      error instanceof UsageError ? error : new UsageError({ message: `${flag}: stdin could not be read` })
  })
