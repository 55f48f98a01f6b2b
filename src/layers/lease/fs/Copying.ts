/** Copying: each step is held to the lease by itself. Links are copied as links, and never followed. */
import type { PlatformError } from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { makeDirectory } from "./Directories.js"
import { isOpenable } from "./Files.js"
import type { FsParts } from "./FsParts.js"
import { symlink } from "./Names.js"
import { dirname, join, leadsTo } from "./Paths.js"
import { type AccessRequest, failure, io, isReason, notFound, read, settled, write } from "./Requests.js"
import { remove } from "./Trees.js"

interface CopyFileOptions {
  readonly method: string
  /** Fails where there is something. */
  readonly exclusive: boolean
  readonly preserveTimestamps: boolean
}

const permissions = (info: FileSystem.File.Info): number => info.mode & 0o7777

const block = 256 * 1024

/** Writes to one file what another holds. */
const pour = (from: FileSystem.File, to: FileSystem.File) =>
  Effect.gen(function* () {
    for (let part = yield* from.readAlloc(block); Option.isSome(part); part = yield* from.readAlloc(block))
      yield* to.writeAll(part.value)
  })

/** Copies a file onto another that has been admitted, as one attempt. */
const copyContents = (
  { files, open }: FsParts,
  source: AccessRequest,
  target: AccessRequest,
  { exclusive, preserveTimestamps }: CopyFileOptions
) =>
  Effect.gen(function* () {
    const reading = yield* files.openAs(source, "r", undefined)
    const info = yield* io(source, reading.file.stat)
    if (info.type !== "File") return yield* failure(source, "BadResource", "EISDIR: not a file")
    const flag = exclusive ? "wx" : "w"
    const writing = yield* files.openAs(target, flag, permissions(info), "keep")
    const before = yield* io(target, writing.file.stat)
    // A file onto itself: emptying it first would lose it.
    if (before.dev === info.dev && Option.getOrUndefined(before.ino) === Option.getOrUndefined(info.ino))
      return
    yield* io(target, writing.file.truncate(0))
    yield* pour(files.guarded(source, reading, "r"), files.guarded(target, writing, "w"))
    yield* io(target, open.chmod(writing.path, permissions(info)))
    if (preserveTimestamps && Option.isSome(info.atime) && Option.isSome(info.mtime))
      yield* io(target, open.utimes(writing.path, info.atime.value, info.mtime.value))
  })

/** Copies one file. */
export const copyFile = (
  parts: FsParts,
  from: string,
  to: string,
  options: CopyFileOptions
): Effect.Effect<void, PlatformError> =>
  Effect.gen(function* () {
    const source = yield* parts.authority.admit(options.method, from, read)
    const target = yield* parts.authority.admit(options.method, to, write)
    yield* settled(source, copyContents(parts, source, target, options))
  })

/** Returns what stands at a path to copy, without following it. */
const inspect = ({ files, open, places }: FsParts, request: AccessRequest) =>
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

/** Puts a link to `target` in the place of one that was found at `from`, which is what a refusal shows. */
const copyLink = (parts: FsParts, from: string, target: string, to: string, overwrite: boolean) => {
  const place = symlink(parts, "copy", target, to, from)
  return Effect.catchIf(
    place,
    (error) => isReason(error, "AlreadyExists"),
    () => (overwrite ? Effect.zipRight(remove(parts, "copy", to, {}), place) : Effect.void)
  )
}

/** Makes a directory, unless there is one. Gives what remains to be done once it has been filled. */
const copyDirectory = (parts: FsParts, to: string, mode: number) =>
  Effect.gen(function* () {
    const { authority, files, open, places } = parts
    const target = yield* authority.admit("copy", to, write)
    const created = yield* makeDirectory(parts, "copy", to, {}).pipe(
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

/** Copies what is at a path, and all that is below it. */
const copyEntry = (
  parts: FsParts,
  from: string,
  to: string,
  options: FileSystem.CopyOptions
): Effect.Effect<void, PlatformError> =>
  Effect.gen(function* () {
    const source = yield* parts.authority.admit("copy", from, read)
    const entry = yield* inspect(parts, source)
    const overwrite = options.overwrite ?? false
    if (entry._tag === "Link") {
      const target = leadsTo(entry.directory, entry.text) ?? entry.text
      return yield* copyLink(parts, from, target, to, overwrite)
    }
    if (entry._tag === "File")
      return yield* copyFile(parts, from, to, {
        method: "copy",
        exclusive: !overwrite,
        preserveTimestamps: options.preserveTimestamps ?? false
      }).pipe(
        Effect.catchIf(
          (error) => !overwrite && isReason(error, "AlreadyExists"),
          () => Effect.void
        )
      )
    const finish = yield* copyDirectory(parts, to, entry.mode)
    for (const name of entry.names) yield* copyEntry(parts, join(from, name), join(to, name), options)
    yield* finish
  })

/** Copies a file, a link, or a directory with all that is in it, and makes the directories above what it becomes. */
export const copy = (
  parts: FsParts,
  from: string,
  to: string,
  options: FileSystem.CopyOptions
): Effect.Effect<void, PlatformError> =>
  Effect.gen(function* () {
    const { authority, places } = parts
    const source = yield* authority.admit("copy", from, read)
    const target = yield* authority.admit("copy", to, write)
    const entry = yield* inspect(parts, source)
    const whereTo = settled(
      target,
      Effect.map(places.follow(target), (found) => found.real)
    )
    const real = yield* Effect.catchIf(
      whereTo,
      (error) => isReason(error, "NotFound"),
      () => {
        const above = dirname(target.canonical)
        return Effect.zipRight(makeDirectory(parts, "copy", above, { recursive: true }), whereTo)
      }
    )
    if (entry._tag === "Directory" && `${real}/`.startsWith(entry.real === "/" ? "/" : `${entry.real}/`))
      return yield* failure(target, "BadResource", "EINVAL: a directory cannot be copied into itself")
    yield* copyEntry(parts, source.canonical, target.canonical, options)
  })
