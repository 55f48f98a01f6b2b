/**
 * Files that say they are regular and yet wait for something to read, as a pipe does, and hold a thread meanwhile: those of
 * the kernel's own file systems, such as `/proc/kmsg` or `trace_pipe`. They are read by a descriptor that waits for nobody.
 */
import type { PlatformError } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

/** Kinds of file systems as Linux numbers them: procfs, tracefs, debugfs. */
const kinds = new Set([0x9fa0, 0x74726163, 0x64626720])

/** Says whether what a path leads to is of such a file system. Where that cannot be asked, nothing is. */
export const mayWait = ({ statfs }: typeof import("node:fs"), path: string): Effect.Effect<boolean> =>
  Effect.async((resume) =>
    statfs(path, (error, stats) => resume(Effect.succeed(error === null && kinds.has(stats.type))))
  )

/** Reads into a buffer from a position, or fails when there is nothing yet; gives the number of bytes. */
export type ReadNow = (buffer: Uint8Array, position: bigint) => Effect.Effect<number, PlatformError>

/** Returns the file, which is read as far as it is ready, from a position of its own. */
export const readNow = (file: FileSystem.File, read: ReadNow): FileSystem.File => {
  let position = 0n
  const advancing = (buffer: Uint8Array) =>
    Effect.suspend(() =>
      Effect.tap(read(buffer, position), (bytes) => {
        position += BigInt(bytes)
      })
    )
  return {
    [FileSystem.FileTypeId]: FileSystem.FileTypeId,
    fd: file.fd,
    stat: Effect.suspend(() => file.stat),
    sync: Effect.suspend(() => file.sync),
    seek: (offset, from) =>
      Effect.suspend(() => {
        const to = FileSystem.Size(offset)
        position = from === "start" ? to : position + to
        return file.seek(offset, from)
      }),
    read: (buffer) => Effect.map(advancing(buffer), FileSystem.Size),
    readAlloc: (size) =>
      Effect.suspend(() => {
        const buffer = new Uint8Array(Number(size))
        return Effect.map(advancing(buffer), (bytes) =>
          bytes === 0 ? Option.none() : Option.some(buffer.subarray(0, bytes))
        )
      }),
    truncate: (length) => file.truncate(length),
    write: (buffer) => file.write(buffer),
    writeAll: (buffer) => file.writeAll(buffer)
  }
}
