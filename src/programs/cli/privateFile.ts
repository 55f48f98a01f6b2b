/** Files of the user's that hold what is secret: in a folder of 0700, of 0600 themselves, written whole or not at all. */
import { randomUUID } from "node:crypto"
import type { PlatformError } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Path from "@effect/platform/Path"
import * as Effect from "effect/Effect"

/** Writes a file that its owner only can read. */
export const writePrivately = (
  name: string,
  text: string
): Effect.Effect<void, PlatformError, FileSystem.FileSystem | Path.Path> =>
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const path = yield* Path.Path
    const folder = path.dirname(name)
    yield* fs.makeDirectory(folder, { recursive: true, mode: 0o700 })
    // It may be from before, with other permissions.
    yield* fs.chmod(folder, 0o700)
    // A file of its own that takes the name: what has the name already lends it neither permissions nor where it leads.
    const fresh = `${name}.${randomUUID()}`
    yield* Effect.onError(
      Effect.zipRight(fs.writeFileString(fresh, text, { flag: "wx", mode: 0o600 }), fs.rename(fresh, name)),
      () => Effect.ignore(fs.remove(fresh))
    )
  })
