/** Writes a job's result to a file as it comes. */
import type { PlatformError } from "@effect/platform/Error"
import type { FileSystem } from "@effect/platform/FileSystem"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { InvalidRequest } from "../../protocol/Errors.js"
import type { ClientError, ResultFile } from "../../services/client/ArcpClient.js"
import type { JobInbox } from "./JobInbox.js"

/** The platform's own tag, by its key: a browser's bundle does without its module. */
const FileSystemTag = Context.GenericTag<FileSystem, FileSystem>("@effect/platform/FileSystem")

/**
 * Bytes that are collected before they are written. They are decoded where they are written from, all but the chunk that does not
 * fit any more: memory of a chunk's own, while it waits for the disk, is moved to where the collector seldom looks, and grows
 * there to tens of megabytes.
 */
const bufferBytes = 1024 * 1024

/** Writes a job's result to a file as it comes; the file, or link to one, that there was is replaced when it is whole. */
export const resultAsFile = (
  inbox: JobInbox,
  path: string
): Effect.Effect<ResultFile, ClientError | PlatformError, FileSystem> =>
  Effect.gen(function* () {
    const files = yield* FileSystemTag
    // A rename would put the file in the place of whatever it is.
    const { type } = yield* Effect.catchAll(
      files.stat(path),
      (error): Effect.Effect<{ readonly type: string }, PlatformError> =>
        (error as { readonly reason?: unknown }).reason === "NotFound"
          ? Effect.succeed({ type: "File" })
          : error
    )
    if (type !== "File") return yield* new InvalidRequest({ message: `${path} is no file: ${type}` })
    // Nobody can have put a link where nobody can know the name, and an exclusive open follows none. In place of a long name, with
    // which it would be too long.
    const partial = `${path.replace(/[^/\\]{50,}$/, "")}.${crypto.randomUUID()}`
    let size = 0
    yield* Effect.gen(function* () {
      const file = yield* files.open(partial, { flag: "wx" })
      const buffer = new Uint8Array(bufferBytes)
      let at = 0
      const write = (bytes: Uint8Array) => (bytes.length > 0 ? file.writeAll(bytes) : Effect.void)
      const chunks = inbox.chunks((bytes) =>
        at + bytes > bufferBytes ? new Uint8Array(bytes) : buffer.subarray(at, at + bytes)
      )
      yield* Stream.runForEach(chunks, (bytes) => {
        size += bytes.length
        if (bytes.buffer === buffer.buffer) {
          at += bytes.length
          return Effect.void
        }
        const full = write(buffer.subarray(0, at))
        at = 0
        return Effect.zipRight(full, write(bytes))
      })
      yield* write(buffer.subarray(0, at))
      yield* file.sync
    }).pipe(
      Effect.scoped,
      Effect.zipRight(files.rename(partial, path)),
      // Gone when it was moved.
      Effect.ensuring(Effect.ignore(files.remove(partial)))
    )
    return { path, size, summary: inbox.summary }
  })
