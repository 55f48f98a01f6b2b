/** Where canonical paths really are, and what stands there, as far as a lease admits it. */
import type { PlatformError } from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { Authority } from "./Authority.js"
import type { Content, Directory, FoundPlace, Place } from "./Holding.js"
import * as Holding from "./Holding.js"
import { type AccessRequest, Changed, io, isReason } from "./Requests.js"
import * as Walk from "./Walk.js"

/** A file that was opened, and what it turned out to be. */
export interface OpenedFile {
  readonly file: FileSystem.File
  readonly real: string
  /** Path that leads to what was opened, whatever happened to its name. */
  readonly path: string
}

/** Finds places for a lease, and tells what came to them meanwhile. */
export interface Places {
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

/** Identifies a file without descriptors: it must be the same inode as what is at the checked path now. */
const compare = (open: FileSystem.FileSystem, request: AccessRequest, place: Place, file: FileSystem.File) =>
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

/** Returns what finds places on an open file system for a lease. */
export const make = (open: FileSystem.FileSystem, authority: Authority): Places => {
  const holding = Holding.make(open)
  const ground: Walk.Ground = { holding, authority }

  const look: Places["look"] = (request, place) => io(request, holding.contentOf(place.at))

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

  return {
    holds: holding.holds,
    look,
    enter: (request, place) =>
      Effect.gen(function* () {
        const entry = yield* look(request, place)
        if (entry._tag !== "There") return Option.none<Directory>()
        const opened = yield* Effect.either(holding.openDirectory(place.at))
        if (Either.isRight(opened))
          return opened.right.real === place.real ? Option.some(opened.right) : yield* new Changed()
        if (isReason(opened.left, "BadResource")) return Option.none<Directory>()
        return yield* steady(request, place, io(request, Effect.fail(opened.left)))
      }),
    steady,
    place: (request) => Walk.follow(ground, request, "stay"),
    follow: (request) => Walk.follow(ground, request, "follow"),
    identify: (request, place, file) =>
      Effect.gen(function* () {
        const path = Holding.descriptorOf(file)
        const opened = (yield* holding.holds)
          ? { file, real: yield* io(request, open.readLink(path)), path }
          : yield* compare(open, request, place, file)
        // Not yet a refusal: the next attempt reads the link that somebody put here, and words it.
        if (authority.refusal(request, opened.real) !== undefined) return yield* new Changed()
        return opened
      })
  }
}
