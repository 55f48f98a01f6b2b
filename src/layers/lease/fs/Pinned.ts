/**
 * Opening what may have been exchanged for anything. A FIFO holds up whoever opens it until somebody opens its other
 * end, and with it one of the few threads that a process has for files; opening a device or a socket can do something.
 * So what is at a path is pinned first, by an open that waits for nobody and does nothing to it, looked at, and only
 * then opened by its descriptor.
 *
 * On Linux `O_PATH` pins. Elsewhere `O_NONBLOCK` has to do, and `/dev/fd` leads to what was opened. A file system that
 * is not this process's own has no descriptors to pin with; there a path is opened as it is.
 */
import type { Stats } from "node:fs"
import { type PlatformError, SystemError, type SystemErrorReason } from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import { Changed } from "./Requests.js"
import { mayWait, type ReadNow, readNow } from "./Waiting.js"

type NodeFs = typeof import("node:fs")

/** Node's own file system where there is one: this module is loaded in browsers too. */
const nodeFs = (): NodeFs | undefined => globalThis.process?.getBuiltinModule?.("node:fs")

export type OpenPinned = (
  path: string,
  flag: FileSystem.OpenFlag
) => Effect.Effect<FileSystem.File, PlatformError | Changed, Scope.Scope>

/** How things are pinned: where their descriptors are found, and with which flags of `open`. */
interface Pinning {
  readonly node: NodeFs
  readonly descriptors: string
  readonly flags: (flag: FileSystem.OpenFlag) => number
}

/** `O_PATH` of Linux, which Node does not name. */
const O_PATH = 0o10000000

/** Flags that give the descriptor what the one that is made from it will have. */
const flagsOf =
  ({ O_APPEND, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY }: NodeFs["constants"]) =>
  (flag: FileSystem.OpenFlag): number =>
    (flag === "r" ? O_RDONLY : flag.includes("+") ? O_RDWR : O_WRONLY) |
    (flag.startsWith("a") ? O_APPEND : 0) |
    O_NONBLOCK

const reasons: Readonly<Record<string, SystemErrorReason>> = {
  ENOENT: "NotFound",
  EACCES: "PermissionDenied",
  EBUSY: "Busy",
  EAGAIN: "Busy",
  EISDIR: "BadResource",
  ELOOP: "BadResource",
  ENOTDIR: "BadResource"
}

const failed = (path: string, error: NodeJS.ErrnoException, method = "open"): SystemError =>
  new SystemError({
    reason: reasons[error.code ?? ""] ?? "Unknown",
    module: "FileSystem",
    method,
    pathOrDescriptor: path,
    syscall: error.syscall,
    description: error.message,
    cause: error
  })

const openDescriptor = ({ node }: Pinning, path: string, flags: number) =>
  Effect.async<number, PlatformError>((resume) =>
    node.open(path, flags, (error, fd) =>
      resume(error === null ? Effect.succeed(fd) : Effect.fail(failed(path, error)))
    )
  )

const statOf = ({ node }: Pinning, path: string, fd: number) =>
  Effect.async<Stats, PlatformError>((resume) =>
    node.fstat(fd, (error, stats) =>
      resume(error === null ? Effect.succeed(stats) : Effect.fail(failed(path, error)))
    )
  )

const closeDescriptor = ({ node }: Pinning, fd: number) =>
  Effect.async<void>((resume) => node.close(fd, () => resume(Effect.void)))

/** Reads by a descriptor of its own, as long as the scope lasts. */
const reading = (pinning: Pinning, path: string): Effect.Effect<ReadNow, PlatformError, Scope.Scope> => {
  const { O_NONBLOCK, O_RDONLY } = pinning.node.constants
  return Effect.map(
    Effect.acquireRelease(openDescriptor(pinning, path, O_RDONLY | O_NONBLOCK), (fd) =>
      closeDescriptor(pinning, fd)
    ),
    (fd): ReadNow =>
      (buffer, position) =>
        Effect.async((resume) =>
          pinning.node.read(fd, buffer, 0, buffer.length, position, (error, bytes) =>
            resume(error === null ? Effect.succeed(bytes) : Effect.fail(failed(path, error, "read")))
          )
        )
  )
}

/** Is it this process that has the descriptors of the file system, and do paths lead to them? */
const detect = (open: FileSystem.FileSystem, node: NodeFs, pinning: Pinning) =>
  Effect.gen(function* () {
    const file = yield* open.open("/.", { flag: "r" })
    const info = yield* file.stat
    const again = yield* Effect.flatMap(
      open.open(`${pinning.descriptors}/${file.fd}`, { flag: "r" }),
      (reopened) => reopened.stat
    )
    const own = yield* Effect.try(() => node.fstatSync(file.fd))
    const ino = Option.getOrUndefined(info.ino)
    return ino !== undefined && own.ino === ino && own.dev === info.dev && again.ino._tag === "Some"
      ? again.ino.value === ino
      : false
  }).pipe(
    Effect.scoped,
    Effect.orElseSucceed(() => false)
  )

/** Of each open file system, how things on it are pinned, if they can be. */
const known = new WeakMap<FileSystem.FileSystem, Option.Option<Pinning>>()

const pinningOf = (
  open: FileSystem.FileSystem,
  holds: Effect.Effect<boolean, PlatformError>
): Effect.Effect<Option.Option<Pinning>, PlatformError> =>
  Effect.suspend(() => {
    const found = known.get(open)
    if (found !== undefined) return Effect.succeed(found)
    const node = nodeFs()
    if (node === undefined) return Effect.succeed(Option.none())
    return Effect.flatMap(holds, (held): Effect.Effect<Option.Option<Pinning>> => {
      const pinning: Pinning = held
        ? { node, descriptors: "/proc/self/fd", flags: () => O_PATH }
        : { node, descriptors: "/dev/fd", flags: flagsOf(node.constants) }
      return Effect.map(detect(open, node, pinning), (can) => (can ? Option.some(pinning) : Option.none()))
    }).pipe(Effect.tap((pinning) => Effect.sync(() => known.set(open, pinning))))
  })

/**
 * Returns how files and directories that exist are opened, with the flags of `open`. What is at the path by then and is
 * neither fails with `Changed`: the caller has looked before.
 */
export const make = (
  open: FileSystem.FileSystem,
  holds: Effect.Effect<boolean, PlatformError>
): OpenPinned => {
  const reopen = (pinning: Pinning, path: string, fd: number, flag: FileSystem.OpenFlag) =>
    Effect.gen(function* () {
      const stats = yield* statOf(pinning, path, fd)
      if (!stats.isFile() && !stats.isDirectory()) return yield* new Changed()
      const pinned = `${pinning.descriptors}/${fd}`
      const file = yield* open.open(pinned, { flag })
      // What may wait says that it is empty.
      const isRead = stats.isFile() && stats.size === 0 && (flag === "r" || flag.includes("+"))
      return isRead && (yield* mayWait(pinning.node, pinned))
        ? readNow(file, yield* reading(pinning, pinned))
        : file
    })

  return (path, flag) =>
    Effect.flatMap(
      pinningOf(open, holds),
      Option.match({
        onNone: () => open.open(path, { flag }),
        onSome: (pinning) =>
          Effect.acquireUseRelease(
            openDescriptor(pinning, path, pinning.flags(flag)),
            (fd) => reopen(pinning, path, fd, flag),
            (fd) => closeDescriptor(pinning, fd)
          )
      })
    )
}
