/** Writes a job's result to a file as it comes. */
import type { PlatformError } from "@effect/platform/Error"
import type { FileSystem } from "@effect/platform/FileSystem"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { InvalidRequest } from "../../protocol/Errors.js"
import type * as Message from "../../protocol/Message.js"
import type { ClientError, ResultFile } from "../../services/client/ArcpClient.js"
import type { JobInbox } from "./JobInbox.js"

/** The platform's own tag, by its key: a browser's bundle does without its module. */
const FileSystemTag = Context.GenericTag<FileSystem, FileSystem>("@effect/platform/FileSystem")

/** Writes a job's result to a file as it comes; the file, or link to one, that there was is replaced when it is whole. */
export const resultAsFile = (
  inbox: JobInbox,
  path: string
): Effect.Effect<ResultFile, ClientError | PlatformError, FileSystem> =>
  Effect.gen(function* () {
    const files = yield* FileSystemTag
    // A rename would put the file in the place of whatever it is.
    const { type } = yield* Effect.catchAll(files.stat(path), () => Effect.succeed({ type: "File" }))
    if (type !== "File") return yield* new InvalidRequest({ message: `${path} is a ${type}` })
    // Nobody can have put a link where nobody can know the name, and an exclusive open follows none.
    const partial = `${path}.${crypto.randomUUID()}`
    let result: Message.JobResult | undefined
    let size = 0
    yield* Effect.gen(function* () {
      const file = yield* files.open(partial, { flag: "wx" })
      const chunks = inbox.chunks((end) => {
        result = end
      })
      yield* Stream.runForEach(chunks, (bytes) => {
        size += bytes.length
        return file.writeAll(bytes)
      })
      yield* file.sync
    }).pipe(
      Effect.scoped,
      Effect.zipRight(files.rename(partial, path)),
      // Gone when it was moved.
      Effect.ensuring(Effect.ignore(files.remove(partial)))
    )
    return { path, size, summary: result?.summary }
  })
