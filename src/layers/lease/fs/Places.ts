/**
 * From a canonical path to where it really is, held so that nobody can exchange it: the parent directory is
 * opened, `/proc/self/fd/N` says what was opened, and the operation names the entry below that descriptor.
 */
import { type PlatformError, SystemError } from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import {
  type AccessRequest,
  type Authority,
  Changed,
  codeOf,
  failure,
  io,
  isReason,
  notFound
} from "./Authority.js"

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

/** What is at a place, without following it: the text of a link, nothing, or anything else. */
export type Content =
  | { readonly _tag: "Link"; readonly text: string }
  | { readonly _tag: "Missing" }
  | { readonly _tag: "There" }

/** A place that is no link. */
export interface FoundPlace extends Place {
  readonly exists: boolean
}

export interface OpenedFile {
  readonly file: FileSystem.File
  readonly real: string
  /** Path that leads to what was opened, whatever happened to its name. */
  readonly path: string
}

export interface Places {
  readonly openDirectory: (path: string) => Effect.Effect<Directory, PlatformError, Scope.Scope>
  /** Enters a directory by its name, unless there is a link or something else. */
  readonly enter: (
    request: AccessRequest,
    place: Place
  ) => Effect.Effect<Option.Option<Directory>, PlatformError | Changed, Scope.Scope>
  readonly look: (request: AccessRequest, place: Place) => Effect.Effect<Content, PlatformError>
  /** The place that a path names; a link there stays unread. */
  readonly place: (request: AccessRequest) => Effect.Effect<Place, PlatformError | Changed, Scope.Scope>
  /** The place to which a path leads. */
  readonly follow: (request: AccessRequest) => Effect.Effect<FoundPlace, PlatformError | Changed, Scope.Scope>
  /** What an open file turned out to be; `Changed` when it is not what the lease admits. */
  readonly identify: (
    request: AccessRequest,
    place: Place,
    file: FileSystem.File
  ) => Effect.Effect<OpenedFile, PlatformError | Changed>
  /**
   * For an operation that would follow a link if one came to this place, where there was none: fails as it did
   * only when that was not because of a link, or the failure would tell of where it leads.
   */
  readonly steady: <A, R>(
    request: AccessRequest,
    place: Place,
    operation: Effect.Effect<A, PlatformError | Changed, R>
  ) => Effect.Effect<A, PlatformError | Changed, R>
  /** Can directories be held? Otherwise races between check and use are narrowed, not closed. */
  readonly holds: Effect.Effect<boolean, PlatformError>
}

const maxLinks = 40

export const join = (directory: string, name: string): string =>
  name === "." || name === "" ? directory : directory === "/" ? `/${name}` : `${directory}/${name}`

export const dirname = (path: string): string => path.slice(0, Math.max(1, path.lastIndexOf("/")))
export const basename = (path: string): string => path.slice(path.lastIndexOf("/") + 1)

const segments = (path: string): Array<string> =>
  path.split("/").filter((name) => name !== "" && name !== ".")

/**
 * Where a link's text leads from its real directory, as far as the text tells. Nothing when a `..` stands
 * after a name: where that leads depends on what the name is.
 */
export const leadsTo = (directory: string, text: string): string | undefined => {
  const names = segments(text)
  const path = text.startsWith("/") ? [] : segments(directory)
  while (names[0] === "..") {
    names.shift()
    path.pop()
  }
  return names.includes("..") ? undefined : `/${[...path, ...names].join("/")}`
}

export const placeIn = (directory: Directory, name: string): Place => ({
  directory,
  name,
  at: `${directory.base === "/" ? "" : directory.base}/${name}`,
  real: join(directory.real, name)
})

const descriptors = "/proc/self/fd"

/** Of each open file system, whether it shows what its descriptors are. */
const held = new WeakMap<FileSystem.FileSystem, boolean>()

/** Only a missing /proc/self/fd says that there is none; any other failure must not weaken what follows. */
const detect = (open: FileSystem.FileSystem): Effect.Effect<boolean, PlatformError> =>
  Effect.scoped(
    Effect.flatMap(open.open(`${descriptors}/.`, { flag: "r" }), (file) =>
      open.readLink(`${descriptors}/${file.fd}`)
    )
  ).pipe(
    Effect.map((path) => /^\/proc\/\d+\/fd$/.test(path)),
    Effect.catchAll((error) => (isReason(error, "NotFound") ? Effect.succeed(false) : Effect.fail(error))),
    Effect.tap((answer) => {
      held.set(open, answer)
    })
  )

export const make = (open: FileSystem.FileSystem, authority: Authority): Places => {
  const holds = Effect.suspend(() => {
    const known = held.get(open)
    return known === undefined ? detect(open) : Effect.succeed(known)
  })

  /** The dot makes a FIFO or a device an error: opening one could block, or do something. */
  const holdDirectory = (path: string): Effect.Effect<Directory, PlatformError, Scope.Scope> =>
    Effect.flatMap(open.open(path === "/" ? "/." : `${path}/.`, { flag: "r" }), (file) => {
      const base = `${descriptors}/${file.fd}`
      return Effect.map(open.readLink(base), (real) => ({ base, real }))
    })

  const checkDirectory = (path: string): Effect.Effect<Directory, PlatformError> =>
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

  const openDirectory = (path: string) =>
    Effect.flatMap(
      holds,
      (can): Effect.Effect<Directory, PlatformError, Scope.Scope> =>
        can ? holdDirectory(path) : checkDirectory(path)
    )

  /** A `readlink` says what is there without following it, and nothing else here does. */
  const entryAt = (path: string): Effect.Effect<Content, PlatformError> =>
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

  const look = (request: AccessRequest, place: Place) => io(request, entryAt(place.at))

  const steady: Places["steady"] = (request, place, operation) =>
    Effect.catchAll(
      operation,
      (error): Effect.Effect<never, PlatformError | Changed> =>
        error._tag === "Changed" || isReason(error, "NotFound")
          ? new Changed()
          : Effect.flatMap(
              look(request, place),
              (entry): Effect.Effect<never, PlatformError | Changed> =>
                entry._tag === "There" ? Effect.fail(error) : new Changed()
            )
    )

  /**
   * Follows the links of a path by reading them. Each path that it becomes on the way must be covered by the
   * lease before anything is asked of the file system about it, so what fails there tells nothing of outside.
   */
  const walk = (request: AccessRequest, last: "follow" | "stay") =>
    Effect.gen(function* () {
      // `at` is a directory without links in its path, `rest` what is to be done from there.
      let at = "/"
      let rest = segments(request.canonical)
      let links = 0

      const turn = (from: string, text: string, after: ReadonlyArray<string>) => {
        links += 1
        if (links > maxLinks)
          return failure(request, "BadResource", "ELOOP: too many symbolic links; remove the loop")
        at = text.startsWith("/") ? "/" : from
        rest = [...segments(text), ...after]
        const first = rest.findIndex((name) => name !== "..")
        for (let i = first + 1; first >= 0 && i < rest.length; i++) {
          if (rest[i] !== "..") continue
          const refused = authority.refusal(request, join(at, rest.slice(0, i).join("/")))
          if (refused !== undefined) return refused
        }
        return authority.refusal(request, join(at, rest.join("/")))
      }

      /** Usually there are no links, and what opens is what was asked for. */
      const straight = Effect.suspend(() => {
        if (rest.includes("..")) return Effect.succeed(Option.none<Directory>())
        const path = join(at, rest.slice(0, -1).join("/"))
        return Effect.option(openDirectory(path)).pipe(
          Effect.map(Option.filter((directory) => directory.real === path))
        )
      })

      /** A failure below `at`, unless a link came there meanwhile: then it is about where that leads. */
      const failing = (error: PlatformError) =>
        Effect.gen(function* () {
          for (let path = at; path !== "/"; path = dirname(path)) {
            const entry = yield* Effect.option(entryAt(path))
            if (Option.isNone(entry) || entry.value._tag !== "There") return yield* new Changed()
          }
          return yield* io(request, Effect.fail(error))
        })

      /** Name by name, until `rest` is the last one; false when a link turned the path. */
      const descend = Effect.gen(function* () {
        while (rest.length > 1 || rest[0] === "..") {
          const [name, ...after] = rest as [string, ...Array<string>]
          if (name === "..") {
            at = dirname(at)
            rest = after
            continue
          }
          const entry = yield* Effect.catchAll(entryAt(join(at, name)), failing)
          if (entry._tag === "Missing") return yield* failing(notFound(request))
          if (entry._tag === "Link") {
            const refused = turn(at, entry.text, after)
            if (refused !== undefined) return yield* refused
            return false
          }
          at = join(at, name)
          rest = after
        }
        if (rest.length === 0 && at !== "/") {
          rest = [basename(at)]
          at = dirname(at)
        }
        return true
      })

      while (true) {
        let directory = Option.getOrUndefined(yield* straight)
        if (directory === undefined) {
          if (!(yield* descend)) continue
          directory = yield* Effect.catchAll(openDirectory(at), failing)
        }
        const place = placeIn(directory, rest.at(-1) ?? ".")
        const refused = authority.refusal(request, place.real)
        if (refused !== undefined) return yield* refused
        if (last === "stay") return { ...place, exists: false }
        const entry = yield* look(request, place)
        if (entry._tag !== "Link") return { ...place, exists: entry._tag === "There" }
        const turned = turn(directory.real, entry.text, [])
        if (turned !== undefined) return yield* turned
      }
    })

  /** Without descriptors: the same inode as what is at the checked path now. */
  const compare = (request: AccessRequest, place: Place, file: FileSystem.File) =>
    Effect.gen(function* () {
      const real = yield* open.realPath(place.at)
      const there = yield* open.stat(real)
      const opened = yield* file.stat
      const same =
        there.dev === opened.dev &&
        Option.isSome(there.ino) &&
        Option.getOrUndefined(opened.ino) === there.ino.value
      return same ? { file, real, path: real } : yield* new Changed()
    }).pipe(
      Effect.catchIf(
        (error) => isReason(error, "NotFound"),
        () => new Changed()
      ),
      Effect.catchTags({
        SystemError: (error) => io(request, Effect.fail(error)),
        BadArgument: (error) => io(request, Effect.fail(error))
      })
    )

  return {
    holds,
    openDirectory,
    look,
    enter: (request, place) =>
      Effect.gen(function* () {
        const entry = yield* look(request, place)
        if (entry._tag !== "There") return Option.none<Directory>()
        const opened = yield* Effect.either(openDirectory(place.at))
        if (Either.isRight(opened))
          return opened.right.real === place.real ? Option.some(opened.right) : yield* new Changed()
        if (isReason(opened.left, "BadResource")) return Option.none<Directory>()
        return yield* steady(request, place, io(request, Effect.fail(opened.left)))
      }),
    steady,
    place: (request) => walk(request, "stay"),
    follow: (request) => walk(request, "follow"),
    identify: (request, place, file) =>
      Effect.gen(function* () {
        const path = `${descriptors}/${file.fd}`
        const opened = (yield* holds)
          ? { file, real: yield* io(request, open.readLink(path)), path }
          : yield* compare(request, place, file)
        // Not yet a refusal: the next attempt reads the link that somebody put here, and words it.
        if (authority.refusal(request, opened.real) !== undefined) return yield* new Changed()
        return opened
      })
  }
}
