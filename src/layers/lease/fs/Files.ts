/** Opening files for a lease: what was opened is identified before a byte of it is read or changed. */
import { type PlatformError, SystemError } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type { Capability } from "./Aliases.js"
import type { Authority } from "./Authority.js"
import { descriptorOf, type FoundPlace, type Place } from "./Holding.js"
import * as Pinned from "./Pinned.js"
import type { OpenedFile, Places } from "./Places.js"
import {
  type AccessRequest,
  both,
  Changed,
  failure,
  io,
  isReason,
  notFound,
  read,
  retried,
  translate,
  write
} from "./Requests.js"

/** What the flags of `open` need of the lease. */
export const needsOf = (flag: FileSystem.OpenFlag): ReadonlyArray<Capability> =>
  flag === "r" ? read : flag.includes("+") ? both : write

export interface Files {
  /** What a found place holds, when it is a file or a directory. Nothing else is ever opened. */
  readonly open: (
    request: AccessRequest,
    found: FoundPlace,
    flag: "r" | "r+"
  ) => Effect.Effect<OpenedFile, PlatformError | Changed, Scope.Scope>
  /**
   * As `open` of the platform, with every flag. The file belongs to the scope of this effect, everything else
   * is closed before. With `keep`, what is there is not emptied.
   */
  readonly openAs: (
    request: AccessRequest,
    flag: FileSystem.OpenFlag,
    mode: number | undefined,
    keep?: "keep"
  ) => Effect.Effect<OpenedFile, PlatformError | Changed, Scope.Scope>
  /** The leased file for one who asked with these flags. */
  readonly guarded: (request: AccessRequest, opened: OpenedFile, flag: FileSystem.OpenFlag) => FileSystem.File
  /** A guarded file that fails like any other operation. */
  readonly file: (
    request: AccessRequest,
    flag: FileSystem.OpenFlag,
    mode: number | undefined
  ) => Effect.Effect<FileSystem.File, PlatformError, Scope.Scope>
  /** `stat` of a found place. */
  readonly info: (
    request: AccessRequest,
    found: FoundPlace
  ) => Effect.Effect<FileSystem.File.Info, PlatformError | Changed, Scope.Scope>
  /** Asks about something that cannot be opened; a link that comes and stays there is noticed. */
  readonly unopened: <A>(
    request: AccessRequest,
    found: Place,
    ask: Effect.Effect<A, PlatformError>
  ) => Effect.Effect<A, PlatformError | Changed>
  readonly typeOf: (
    request: AccessRequest,
    found: FoundPlace
  ) => Effect.Effect<FileSystem.File.Type, PlatformError | Changed>
}

export const isOpenable = (type: FileSystem.File.Type): boolean => type === "File" || type === "Directory"

/** A name that was there is gone: it was swapped, or removed. What comes next tells which. */
const goneIsChanged = <A, R>(
  effect: Effect.Effect<A, PlatformError | Changed, R>
): Effect.Effect<A, PlatformError | Changed, R> =>
  Effect.catchIf(
    effect,
    (error) => isReason(error, "NotFound"),
    () => new Changed()
  )

const existsIsChanged = <A, R>(
  effect: Effect.Effect<A, PlatformError, R>
): Effect.Effect<A, PlatformError | Changed, R> =>
  Effect.catchIf(
    effect,
    (error) => isReason(error, "AlreadyExists"),
    () => new Changed()
  )

/** The flag that creates what it opens, for those that may also open what is there. */
const creating: ReadonlyMap<FileSystem.OpenFlag, FileSystem.OpenFlag> = new Map([
  ["w", "wx"],
  ["w+", "wx+"],
  ["a", "ax"],
  ["a+", "ax+"]
])

/** Opens what exists, and asks about it. */
interface Existing extends Pick<Files, "open" | "info" | "unopened" | "typeOf"> {
  /** Opens once more the very file that was identified, for a descriptor of another kind. */
  readonly reopen: (
    request: AccessRequest,
    found: Place,
    first: OpenedFile,
    flag: FileSystem.OpenFlag
  ) => Effect.Effect<OpenedFile, PlatformError | Changed, Scope.Scope>
}

const existing = (open: FileSystem.FileSystem, places: Places): Existing => {
  const openPinned = Pinned.make(open, places.holds)

  /** For a request; `Changed` is not a failure to be worded. */
  const openAt = (request: AccessRequest, path: string, flag: FileSystem.OpenFlag) =>
    Effect.mapError(openPinned(path, flag), (error) =>
      error._tag === "Changed" ? error : translate(request, error)
    )

  const openKnown = (request: AccessRequest, found: Place, flag: "r" | "r+") =>
    places
      .steady(request, found, openAt(request, found.at, flag))
      .pipe(Effect.flatMap((file) => places.identify(request, found, file)))

  const typeOf: Files["typeOf"] = (request, found) =>
    Effect.map(places.steady(request, found, io(request, open.stat(found.at))), (info) => info.type)

  const unopened: Files["unopened"] = (request, found, ask) =>
    Effect.gen(function* () {
      const answer = yield* places.steady(request, found, io(request, ask))
      return (yield* places.look(request, found))._tag === "There" ? answer : yield* new Changed()
    })

  return {
    typeOf,
    unopened,
    open: (request, found, flag) =>
      Effect.gen(function* () {
        if (!found.exists) return yield* notFound(request)
        // What it is by now is looked at again when it is opened; here a refusal gets its words.
        if (isOpenable(yield* typeOf(request, found))) return yield* openKnown(request, found, flag)
        return yield* failure(
          request,
          "BadResource",
          "neither a file nor a directory; a job may open no other"
        )
      }),
    reopen: (request, found, first, flag) =>
      goneIsChanged(openAt(request, first.path, flag)).pipe(
        Effect.flatMap((file) => places.identify(request, found, file))
      ),
    info: (request, found) =>
      Effect.gen(function* () {
        if (!found.exists) return yield* notFound(request)
        if (isOpenable(yield* typeOf(request, found)))
          return yield* io(request, (yield* openKnown(request, found, "r")).file.stat)
        return yield* unopened(request, found, open.stat(found.at)).pipe(
          // What can be opened is opened; so here it was swapped in between.
          Effect.filterOrFail(
            (info) => !isOpenable(info.type),
            () => new Changed()
          )
        )
      })
  }
}

/** Runs with a scope of its own for the file, which lasts as long as the caller's when all went well. */
const keeping = <A>(
  attempt: (own: Scope.Scope) => Effect.Effect<A, PlatformError | Changed, Scope.Scope>
): Effect.Effect<A, PlatformError | Changed, Scope.Scope> =>
  Effect.flatMap(Effect.scope, (outer) =>
    Effect.flatMap(Scope.fork(outer, ExecutionStrategy.sequential), (own) =>
      Effect.scoped(attempt(own)).pipe(
        Effect.tapErrorCause((cause) => Scope.close(own, Exit.failCause(cause)))
      )
    )
  )

/** Creates a file where there is none: an exclusive creation follows no link, so it is where its directory is. */
const create = (
  open: FileSystem.FileSystem,
  places: Places,
  request: AccessRequest,
  place: Place,
  options: FileSystem.OpenFileOptions
) =>
  Effect.gen(function* () {
    const file = yield* io(request, open.open(place.at, options))
    return { file, real: place.real, path: (yield* places.holds) ? descriptorOf(file) : place.at }
  })

/** Opens with every flag, what exists and what does not. */
const opening =
  (open: FileSystem.FileSystem, places: Places, existing: Existing): Files["openAs"] =>
  (request, flag, mode, keep) => {
    const created = (place: Place, flag: FileSystem.OpenFlag) =>
      create(open, places, request, place, mode === undefined ? { flag } : { flag, mode })
    return keeping((own) =>
      Effect.gen(function* () {
        if (flag.includes("x")) return yield* Scope.extend(created(yield* places.place(request), flag), own)
        const found = yield* places.follow(request)
        if (!found.exists) {
          const exclusive = creating.get(flag)
          if (exclusive === undefined) return yield* notFound(request)
          return yield* existsIsChanged(Scope.extend(created(found, exclusive), own))
        }
        if (flag.startsWith("a")) {
          // Append needs a descriptor of its own kind.
          const first = yield* existing.open(request, found, "r+")
          return yield* Scope.extend(existing.reopen(request, found, first, flag), own)
        }
        const opened = yield* Scope.extend(existing.open(request, found, flag === "r" ? "r" : "r+"), own)
        if (flag.startsWith("w") && keep === undefined) yield* io(request, opened.file.truncate(0))
        return opened
      })
    )
  }

/** Returns an open file that asks the lease again before each operation. */
const guardedBy =
  (authority: Authority): Files["guarded"] =>
  (request, { file, real }, flag) => {
    const admitted = (method: string) => authority.recheck({ ...request, method })
    const reading = <A>(method: string, effect: Effect.Effect<A, PlatformError>) =>
      Effect.zipRight(
        admitted(method),
        flag === "r" || flag.includes("+") ? effect : Effect.fail(writeOnly(request, method))
      )
    const writing = <A>(method: string, effect: Effect.Effect<A, PlatformError>) =>
      Effect.zipRight(admitted(method), effect)
    /** Sizes and times are read, whatever the flags were. */
    const stat = Effect.suspend(() => {
      const asked: AccessRequest = { ...request, method: "stat", needs: read }
      const refused = authority.refusal(asked, real)
      return Effect.zipRight(
        authority.recheck(asked),
        refused === undefined ? file.stat : Effect.fail(refused)
      )
    })
    return {
      [FileSystem.FileTypeId]: FileSystem.FileTypeId,
      fd: file.fd,
      stat,
      seek: (offset, from) => file.seek(offset, from),
      sync: writing(
        "sync",
        Effect.suspend(() => file.sync)
      ),
      read: (buffer) => reading("read", file.read(buffer)),
      readAlloc: (size) => reading("readAlloc", file.readAlloc(size)),
      truncate: (length) => writing("truncate", file.truncate(length)),
      write: (buffer) => writing("write", file.write(buffer)),
      writeAll: (buffer) => writing("writeAll", file.writeAll(buffer))
    }
  }

const writeOnly = (request: AccessRequest, method: string): SystemError =>
  new SystemError({
    reason: "BadResource",
    module: "FileSystem",
    method,
    pathOrDescriptor: request.given,
    description: 'EBADF: the file is open for writing only; open it with "r+", "w+" or "a+"'
  })

/** Returns what opens files of an open file system for a lease. */
export const make = (open: FileSystem.FileSystem, authority: Authority, places: Places): Files => {
  const found = existing(open, places)
  const openAs = opening(open, places, found)
  const guarded = guardedBy(authority)
  return {
    open: found.open,
    info: found.info,
    typeOf: found.typeOf,
    unopened: found.unopened,
    openAs,
    guarded,
    file: (request, flag, mode) =>
      Effect.map(retried(request, openAs(request, flag, mode)), (opened) => guarded(request, opened, flag))
  }
}

const chunk = 64 * 1024
const maxChunk = 4 * 1024 * 1024

/** All of a file from where it stands. The size that it says is only a hint. */
export const readAll = (file: FileSystem.File): Effect.Effect<Uint8Array, PlatformError> =>
  Effect.gen(function* () {
    const size = Number((yield* file.stat).size)
    const parts: Array<Uint8Array> = []
    let total = 0
    while (true) {
      const next = total < size ? Math.min(size - total, maxChunk) : chunk
      const part = yield* file.readAlloc(next)
      if (Option.isNone(part)) break
      parts.push(part.value)
      total += part.value.length
    }
    if (parts.length === 1 && parts[0] !== undefined) return parts[0]
    const all = new Uint8Array(total)
    let at = 0
    for (const part of parts) {
      all.set(part, at)
      at += part.length
    }
    return all
  })
