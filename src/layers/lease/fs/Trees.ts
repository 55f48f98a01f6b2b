/** What goes through whole directories: listing, removing and copying. Links in them are never followed. */
import type { PlatformError } from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import {
  type AccessRequest,
  type Authority,
  type Changed,
  codeOf,
  failure,
  io,
  isReason,
  notFound,
  read,
  settled,
  write
} from "./Authority.js"
import { type Files, isOpenable } from "./Files.js"
import { type Directory, dirname, join, leadsTo, type Place, type Places, placeIn } from "./Places.js"

const byteLength = (text: string): number => new TextEncoder().encode(text).length
/** The longest path that Linux takes, in bytes. */
const maxPath = 4095

/**
 * A path so long that there is none below it. `rm` of Node looks at a name, and again, and reads the directory
 * that it may have become meanwhile, or the one that a link put there leads to, and removes what it finds. With
 * this path it can remove the entry itself and nothing else.
 */
const alone = (place: Place): string => {
  const room = maxPath - byteLength(place.at)
  return `${place.directory.base}${"/.".repeat(Math.max(0, Math.floor(room / 2)))}/${place.name}`
}

/** Removes the entry of a directory: a file, a link, or a directory that is empty. */
const unlink = (open: FileSystem.FileSystem, request: AccessRequest, place: Place, recursive: boolean) =>
  io(
    request,
    open.remove(place.directory.base.startsWith("/proc/") ? alone(place) : place.at, { recursive })
  ).pipe(
    Effect.mapError((error) =>
      codeOf(error) === "ENAMETOOLONG"
        ? failure(request, "Unknown", "ENOTEMPTY: something was put there meanwhile; try again")
        : error
    )
  )

export interface Trees {
  readonly list: (
    request: AccessRequest,
    recursive: boolean
  ) => Effect.Effect<Array<string>, PlatformError | Changed, Scope.Scope>
  readonly remove: (
    authority: Authority,
    request: AccessRequest,
    place: Place,
    options: FileSystem.RemoveOptions
  ) => Effect.Effect<void, PlatformError | Changed>
  readonly copyFile: (
    from: string,
    to: string,
    options: CopyFileOptions
  ) => Effect.Effect<void, PlatformError>
  readonly copy: (
    from: string,
    to: string,
    options: FileSystem.CopyOptions
  ) => Effect.Effect<void, PlatformError>
}

interface CopyFileOptions {
  readonly method: string
  /** Fails where there is something. */
  readonly exclusive: boolean
  readonly preserveTimestamps: boolean
}

/** The single steps that copying takes, each of them held to the lease. */
export interface CopySteps {
  readonly makeDirectory: (
    path: string,
    options: FileSystem.MakeDirectoryOptions
  ) => Effect.Effect<void, PlatformError>
  /** A refusal shows `from`, not where the link leads. */
  readonly symlink: (target: string, path: string, from: string) => Effect.Effect<void, PlatformError>
  readonly remove: (path: string) => Effect.Effect<void, PlatformError>
}

const permissions = (info: FileSystem.File.Info): number => info.mode & 0o7777

export const make = (
  open: FileSystem.FileSystem,
  authority: Authority,
  places: Places,
  files: Files,
  steps: CopySteps
): Trees => {
  const walk = (
    request: AccessRequest,
    directory: Directory,
    prefix: string,
    names: Array<string>
  ): Effect.Effect<void, PlatformError | Changed> =>
    Effect.gen(function* () {
      yield* authority.recheck(request)
      for (const name of yield* io(request, open.readDirectory(directory.base))) {
        names.push(prefix + name)
        const place = placeIn(directory, name)
        if (!authority.permits("fs.read", place.real)) continue
        yield* Effect.scoped(
          Effect.flatMap(
            places.enter(request, place),
            Option.match({
              onNone: () => Effect.void,
              onSome: (below) => walk(request, below, `${prefix}${name}/`, names)
            })
          )
        )
      }
    })

  const list: Trees["list"] = (request, recursive) =>
    Effect.gen(function* () {
      const opened = yield* files.open(request, yield* places.follow(request), "r")
      if (!recursive) return yield* io(request, open.readDirectory(opened.path))
      const names: Array<string> = []
      yield* walk(request, { base: opened.path, real: opened.real }, "", names)
      return names
    })

  /** Depth first, each directory held while its entries go; the first that may not go ends it. */
  const removeTree = (
    held: Authority,
    request: AccessRequest,
    place: Place
  ): Effect.Effect<void, PlatformError | Changed> =>
    Effect.scoped(
      Effect.gen(function* () {
        const directory = yield* places.enter(request, place)
        if (Option.isNone(directory)) return yield* unlink(open, request, place, false)
        for (const name of yield* io(request, open.readDirectory(directory.value.base))) {
          const below = placeIn(directory.value, name)
          const refused = held.refusalBelow(request, below.real)
          if (refused !== undefined) return yield* refused
          yield* held.recheck(request)
          yield* ignoringGone(removeTree(held, request, below))
        }
        yield* unlink(open, request, place, true)
      })
    )

  const remove: Trees["remove"] = (held, request, place, options) => {
    const removing = options.recursive
      ? Effect.flatMap(places.look(request, place), (entry) =>
          entry._tag === "Missing" ? notFound(request) : removeTree(held, request, place)
        )
      : unlink(open, request, place, false)
    return options.force ? ignoringGone(removing) : removing
  }

  const copyFile: Trees["copyFile"] = (from, to, options) =>
    Effect.gen(function* () {
      const source = yield* authority.admit(options.method, from, read)
      const target = yield* authority.admit(options.method, to, write)
      const attempt = Effect.gen(function* () {
        const reading = yield* files.openAs(source, "r", undefined)
        const info = yield* io(source, reading.file.stat)
        if (info.type !== "File") return yield* failure(source, "BadResource", "EISDIR: not a file")
        const flag = options.exclusive ? "wx" : "w"
        const writing = yield* files.openAs(target, flag, permissions(info), "keep")
        const before = yield* io(target, writing.file.stat)
        // A file onto itself: emptying it first would lose it.
        if (before.dev === info.dev && Option.getOrUndefined(before.ino) === Option.getOrUndefined(info.ino))
          return
        yield* io(target, writing.file.truncate(0))
        const input = files.guarded(source, reading, "r")
        const output = files.guarded(target, writing, "w")
        for (
          let part = yield* input.readAlloc(block);
          Option.isSome(part);
          part = yield* input.readAlloc(block)
        )
          yield* output.writeAll(part.value)
        yield* io(target, open.chmod(writing.path, permissions(info)))
        if (options.preserveTimestamps && Option.isSome(info.atime) && Option.isSome(info.mtime))
          yield* io(target, open.utimes(writing.path, info.atime.value, info.mtime.value))
      })
      yield* settled(source, attempt)
    })

  /** What stands at a path to copy, without following it. */
  const inspect = (request: AccessRequest) =>
    settled(
      request,
      Effect.gen(function* () {
        const place = yield* places.place(request)
        const entry = yield* places.look(request, place)
        if (entry._tag === "Missing") return yield* notFound(request)
        if (entry._tag === "Link")
          return { _tag: "Link" as const, text: entry.text, directory: place.directory.real }
        const found = { ...place, exists: true }
        const type = yield* files.typeOf(request, found)
        if (type === "File") return { _tag: "File" as const }
        if (!isOpenable(type))
          return yield* failure(request, "BadResource", "neither a file nor a directory; leave it out")
        const opened = yield* files.open(request, found, "r")
        return {
          _tag: "Directory" as const,
          real: opened.real,
          mode: permissions(yield* io(request, opened.file.stat)),
          names: yield* io(request, open.readDirectory(opened.path))
        }
      })
    )

  const copyLink = (from: string, target: string, to: string, overwrite: boolean) => {
    const place = steps.symlink(target, to, from)
    return Effect.catchIf(
      place,
      (error) => isReason(error, "AlreadyExists"),
      () => (overwrite ? Effect.zipRight(steps.remove(to), place) : Effect.void)
    )
  }

  const copyDirectory = (to: string, mode: number) =>
    Effect.gen(function* () {
      const target = yield* authority.admit("copy", to, write)
      const created = yield* steps.makeDirectory(to, {}).pipe(
        Effect.as(true),
        Effect.catchIf(
          (error) => isReason(error, "AlreadyExists"),
          () => Effect.succeed(false)
        )
      )
      const enter = Effect.gen(function* () {
        const opened = yield* files.open(target, yield* places.follow(target), "r")
        if ((yield* io(target, opened.file.stat)).type !== "Directory")
          return yield* failure(target, "AlreadyExists", "EEXIST: a file stands where a directory is to be")
        return opened.path
      })
      yield* settled(target, enter)
      // Afterwards, because a directory may be one that cannot be written to.
      return created
        ? settled(
            target,
            Effect.flatMap(enter, (path) => io(target, open.chmod(path, mode)))
          )
        : Effect.void
    })

  const copyEntry = (
    from: string,
    to: string,
    options: FileSystem.CopyOptions
  ): Effect.Effect<void, PlatformError> =>
    Effect.gen(function* () {
      const source = yield* authority.admit("copy", from, read)
      const entry = yield* inspect(source)
      const overwrite = options.overwrite ?? false
      if (entry._tag === "Link")
        return yield* copyLink(from, leadsTo(entry.directory, entry.text) ?? entry.text, to, overwrite)
      if (entry._tag === "File")
        return yield* copyFile(from, to, {
          method: "copy",
          exclusive: !overwrite,
          preserveTimestamps: options.preserveTimestamps ?? false
        }).pipe(
          Effect.catchIf(
            (error) => !overwrite && isReason(error, "AlreadyExists"),
            () => Effect.void
          )
        )
      const finish = yield* copyDirectory(to, entry.mode)
      for (const name of entry.names) yield* copyEntry(join(from, name), join(to, name), options)
      yield* finish
    })

  const copy: Trees["copy"] = (from, to, options) =>
    Effect.gen(function* () {
      const source = yield* authority.admit("copy", from, read)
      const target = yield* authority.admit("copy", to, write)
      const entry = yield* inspect(source)
      const whereTo = settled(
        target,
        Effect.map(places.follow(target), (found) => found.real)
      )
      const real = yield* Effect.catchIf(
        whereTo,
        (error) => isReason(error, "NotFound"),
        () => Effect.zipRight(steps.makeDirectory(dirname(target.canonical), { recursive: true }), whereTo)
      )
      if (entry._tag === "Directory" && `${real}/`.startsWith(entry.real === "/" ? "/" : `${entry.real}/`))
        return yield* failure(target, "BadResource", "EINVAL: a directory cannot be copied into itself")
      yield* copyEntry(source.canonical, target.canonical, options)
    })

  return { list, remove, copyFile, copy }
}

const block = 256 * 1024

const ignoringGone = <A, E extends { readonly _tag: string }, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<void, E, R> =>
  Effect.catchIf(
    Effect.asVoid(effect),
    (error) => isReason(error as { readonly _tag: string }, "NotFound"),
    () => Effect.void
  )
