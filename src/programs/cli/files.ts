/**
 * The file system of the commands: as Node's, but what a user names to be read cannot hold a command up, nor fill its memory.
 * Opening a FIFO waits for its writer, and reading one for what is written, each on a thread that Node then waits for when it is
 * to leave.
 */
import * as fs from "node:fs"
import { Socket } from "node:net"
import { type PlatformError, SystemError, type SystemErrorReason } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { mostRead, tooMuch } from "./stdin.js"

const reasons: Readonly<Record<string, SystemErrorReason>> = {
  ENOENT: "NotFound",
  EACCES: "PermissionDenied",
  EPERM: "PermissionDenied"
}

const failed = (path: string, error: NodeJS.ErrnoException): SystemError =>
  new SystemError({
    reason: reasons[error.code ?? ""] ?? "BadResource",
    module: "FileSystem",
    method: "readFile",
    pathOrDescriptor: path,
    syscall: error.syscall,
    description: error.message,
    cause: error
  })

/** Runs what tells its end by a callback. */
const called = <A>(
  path: string,
  run: (callback: (error: NodeJS.ErrnoException | null, value: A) => void) => void
): Effect.Effect<A, PlatformError> =>
  Effect.async((resume) =>
    run((error, value) => resume(error === null ? Effect.succeed(value) : Effect.fail(failed(path, error))))
  )

/** All that comes through a pipe. The event loop waits for it, and not a thread; its descriptor is closed with it. */
const drained = (path: string, fd: number): Effect.Effect<Uint8Array, PlatformError> =>
  Effect.async((resume) => {
    const pipe = new Socket({ fd, readable: true, writable: false })
    const parts: Array<Buffer> = []
    let bytes = 0
    pipe.on("data", (part: Buffer) => {
      bytes += part.length
      if (bytes <= mostRead) return parts.push(part)
      pipe.destroy()
      return resume(Effect.fail(failed(path, new Error(tooMuch))))
    })
    pipe.once("error", (error) => resume(Effect.fail(failed(path, error))))
    pipe.once("end", () => resume(Effect.succeed(Buffer.concat(parts))))
    return Effect.sync(() => pipe.destroy())
  })

const close = (fd: number) => Effect.async<void>((resume) => fs.close(fd, () => resume(Effect.void)))

/** Why what was opened, and is no pipe, is not read. */
const unreadable = (stats: fs.Stats): string | undefined => {
  if (stats.isFile()) return stats.size > mostRead ? tooMuch : undefined
  return stats.isDirectory() ? "it is a directory" : "neither a file nor a pipe"
}

const readFile = (path: string): Effect.Effect<Uint8Array, PlatformError> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const flags = fs.constants.O_RDONLY | (fs.constants.O_NONBLOCK ?? 0)
      const fd = yield* called<number>(path, (callback) => fs.open(path, flags, callback))
      const stats = yield* called<fs.Stats>(path, (callback) => fs.fstat(fd, callback)).pipe(
        Effect.onError(() => close(fd))
      )
      if (stats.isFIFO()) return yield* restore(drained(path, fd))
      const problem = unreadable(stats)
      const content =
        problem === undefined
          ? called<Uint8Array>(path, (callback) => fs.readFile(fd, callback))
          : Effect.fail(failed(path, new Error(problem)))
      return yield* Effect.ensuring(content, close(fd))
    })
  )

export const layer: Layer.Layer<FileSystem.FileSystem> = Layer.map(NodeFileSystem.layer, (context) =>
  Context.add(
    context,
    FileSystem.FileSystem,
    FileSystem.make({ ...Context.get(context, FileSystem.FileSystem), readFile })
  )
)
