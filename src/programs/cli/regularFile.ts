/** Reading what a user names: a pipe that nobody writes to, or a device without an end, must not hang a command. */
import { constants } from "node:fs"
import { open } from "node:fs/promises"
import * as Effect from "effect/Effect"
import { codeOf, fileProblem } from "../../services/runtime/fileProblem.js"

/** Reads a regular file of at most `maxBytes`; fails with what is the matter, as the end of a sentence. */
export const readRegularFile = (name: string, maxBytes: number): Effect.Effect<string, string> =>
  Effect.tryPromise({
    try: async () => {
      // Opening a pipe would wait for its writer.
      const file = await open(name, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))
      try {
        const stat = await file.stat()
        if (!stat.isFile()) return { problem: "is no regular file" }
        if (stat.size > maxBytes) return { problem: `is larger than ${maxBytes} bytes` }
        return { text: await file.readFile("utf8") }
      } finally {
        await file.close()
      }
    },
    catch: (error) =>
      codeOf(error) === "ENOENT" ? "does not exist" : `cannot be read: ${fileProblem(error)}`
  }).pipe(
    Effect.flatMap(({ problem, text }) =>
      text === undefined ? Effect.fail(`${problem}`) : Effect.succeed(text)
    )
  )
