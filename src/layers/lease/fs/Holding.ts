/**
 * Directories, held so that nobody can exchange them: a directory is opened, `/proc/self/fd/N` says what was opened, and
 * operations name an entry below that descriptor.
 */
import { type PlatformError, SystemError } from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { join } from "./Paths.js"
import { codeOf, isReason } from "./Requests.js"

/** A directory, as long as the scope lasts in which it was opened. */
export interface Directory {
  /** Path for operations on it and below it. */
  readonly base: string
  /** Where it was when it was opened, without links. */
  readonly real: string
}

/** A name in a directory; what is there, if anything, may change at any time. */
export interface Place {
  readonly directory: Directory
  readonly name: string
  /** Path for operations that do not follow a link that is here. */
  readonly at: string
  readonly real: string
}

/** A place that is no link. */
export interface FoundPlace extends Place {
  readonly exists: boolean
}

/** What is at a place, without following it: the text of a link, nothing, or anything else. */
export type Content =
  | { readonly _tag: "Link"; readonly text: string }
  | { readonly _tag: "Missing" }
  | { readonly _tag: "There" }

/** Opens directories of an open file system, and looks at what is in them. Asks no lease. */
export interface Holding {
  /** Can directories be held? Otherwise races between check and use are narrowed, not closed. */
  readonly holds: Effect.Effect<boolean, PlatformError>
  readonly openDirectory: (path: string) => Effect.Effect<Directory, PlatformError, Scope.Scope>
  readonly contentOf: (path: string) => Effect.Effect<Content, PlatformError>
}

/** Returns the place of a name in a directory. */
export const placeIn = (directory: Directory, name: string): Place => ({
  directory,
  name,
  at: `${directory.base === "/" ? "" : directory.base}/${name}`,
  real: join(directory.real, name)
})

const descriptors = "/proc/self/fd"

/** Returns the path that leads to what a file is, whatever happened to its name. */
export const descriptorOf = (file: FileSystem.File): string => `${descriptors}/${file.fd}`

/** Of each open file system, whether it shows what its descriptors are. */
const held = new WeakMap<FileSystem.FileSystem, boolean>()

/** Only a missing /proc/self/fd says that there is none; any other failure must not weaken what follows. */
const detect = (open: FileSystem.FileSystem): Effect.Effect<boolean, PlatformError> =>
  Effect.scoped(
    Effect.flatMap(open.open(`${descriptors}/.`, { flag: "r" }), (file) => open.readLink(descriptorOf(file)))
  ).pipe(
    Effect.map((path) => /^\/proc\/\d+\/fd$/.test(path)),
    Effect.catchAll((error) => (isReason(error, "NotFound") ? Effect.succeed(false) : Effect.fail(error))),
    Effect.tap((answer) => {
      held.set(open, answer)
    })
  )

/** The dot makes a FIFO or a device an error: opening one could block, or do something. */
const holdDirectory = (
  open: FileSystem.FileSystem,
  path: string
): Effect.Effect<Directory, PlatformError, Scope.Scope> =>
  Effect.flatMap(open.open(path === "/" ? "/." : `${path}/.`, { flag: "r" }), (file) => {
    const base = descriptorOf(file)
    return Effect.map(open.readLink(base), (real) => ({ base, real }))
  })

/** Where nothing can be held: what the path leads to at this moment. */
const checkDirectory = (open: FileSystem.FileSystem, path: string): Effect.Effect<Directory, PlatformError> =>
  Effect.gen(function* () {
    const real = yield* open.realPath(path)
    if ((yield* open.stat(real)).type === "Directory") return { base: real, real }
    return yield* new SystemError({
      reason: "BadResource",
      module: "FileSystem",
      method: "open",
      description: "ENOTDIR: not a directory"
    })
  })

/** A `readlink` says what is there without following it, and nothing else here does. */
const readContent = (open: FileSystem.FileSystem, path: string): Effect.Effect<Content, PlatformError> =>
  Effect.matchEffect(open.readLink(path), {
    onSuccess: (text) => Effect.succeed<Content>({ _tag: "Link", text }),
    onFailure: (error) => {
      if (isReason(error, "NotFound")) return Effect.succeed<Content>({ _tag: "Missing" })
      const code = codeOf(error)
      const noLink =
        code === undefined
          ? error._tag === "SystemError" && error.reason !== "PermissionDenied"
          : code === "EINVAL" || code === "UNKNOWN"
      return noLink ? Effect.succeed<Content>({ _tag: "There" }) : Effect.fail(error)
    }
  })

/** Returns what holds the directories of an open file system; whether that can be is found out at the first use. */
export const make = (open: FileSystem.FileSystem): Holding => {
  const holds = Effect.suspend(() => {
    const known = held.get(open)
    return known === undefined ? detect(open) : Effect.succeed(known)
  })
  return {
    holds,
    openDirectory: (path) =>
      Effect.flatMap(
        holds,
        (can): Effect.Effect<Directory, PlatformError, Scope.Scope> =>
          can ? holdDirectory(open, path) : checkDirectory(open, path)
      ),
    contentOf: (path) => readContent(open, path)
  }
}
