/** What goes through whole directories: listing and removing. Links in them are never followed. */
import type { PlatformError } from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { Authority } from "./Authority.js"
import type { FsParts } from "./FsParts.js"
import { type Directory, type Place, placeIn } from "./Holding.js"
import {
  type AccessRequest,
  type Changed,
  codeOf,
  failure,
  io,
  isReason,
  notFound,
  read,
  settled,
  write
} from "./Requests.js"

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

const ignoringGone = <E extends PlatformError | Changed, R>(
  effect: Effect.Effect<void, E, R>
): Effect.Effect<void, E, R> =>
  Effect.catchIf(
    effect,
    (error) => isReason(error, "NotFound"),
    () => Effect.void
  )

/** Adds to `names` what is in a directory, and what is below it as far as the lease covers it. */
const listBelow = (
  parts: FsParts,
  request: AccessRequest,
  directory: Directory,
  prefix: string,
  names: Array<string>
): Effect.Effect<void, PlatformError | Changed> =>
  Effect.gen(function* () {
    const { authority, open, places } = parts
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
            onSome: (below) => listBelow(parts, request, below, `${prefix}${name}/`, names)
          })
        )
      )
    }
  })

/** Lists a directory, as one attempt. */
const listed = (
  parts: FsParts,
  request: AccessRequest,
  recursive: boolean
): Effect.Effect<Array<string>, PlatformError | Changed, Scope.Scope> =>
  Effect.gen(function* () {
    const { files, open, places } = parts
    const opened = yield* files.open(request, yield* places.follow(request), "r")
    if (!recursive) return yield* io(request, open.readDirectory(opened.path))
    const names: Array<string> = []
    yield* listBelow(parts, request, { base: opened.path, real: opened.real }, "", names)
    return names
  })

/** Lists a directory; with `recursive` also what is below it, of directories that the lease covers and that are no links. */
export const list = (
  parts: FsParts,
  path: string,
  { recursive = false }: FileSystem.ReadDirectoryOptions
): Effect.Effect<Array<string>, PlatformError> =>
  Effect.flatMap(parts.authority.admit("readDirectory", path, read), (request) =>
    settled(request, listed(parts, request, recursive))
  )

/** Removes depth first, each directory held while its entries go; the first that may not go ends it. */
const removeTree = (
  parts: FsParts,
  held: Authority,
  request: AccessRequest,
  place: Place
): Effect.Effect<void, PlatformError | Changed> =>
  Effect.scoped(
    Effect.gen(function* () {
      const { open, places } = parts
      const directory = yield* places.enter(request, place)
      if (Option.isNone(directory)) return yield* unlink(open, request, place, false)
      for (const name of yield* io(request, open.readDirectory(directory.value.base))) {
        const below = placeIn(directory.value, name)
        const refused = held.refusalBelow(request, below.real)
        if (refused !== undefined) return yield* refused
        yield* held.recheck(request)
        yield* ignoringGone(removeTree(parts, held, request, below))
      }
      yield* unlink(open, request, place, true)
    })
  )

/** Removes what is at a place, by the authority `held`. */
export const removeAt = (
  parts: FsParts,
  held: Authority,
  request: AccessRequest,
  place: Place,
  options: FileSystem.RemoveOptions
): Effect.Effect<void, PlatformError | Changed> => {
  const removing = options.recursive
    ? Effect.flatMap(parts.places.look(request, place), (entry) =>
        entry._tag === "Missing" ? notFound(request) : removeTree(parts, held, request, place)
      )
    : unlink(parts.open, request, place, false)
  return options.force ? ignoringGone(removing) : removing
}

/** Removes what a path names; of a link, the link. */
export const remove = (
  parts: FsParts,
  method: string,
  path: string,
  options: FileSystem.RemoveOptions
): Effect.Effect<void, PlatformError> => {
  const { authority, places } = parts
  return Effect.flatMap(authority.admit(method, path, write), (request) => {
    const attempt = Effect.flatMap(places.place(request), (place) =>
      removeAt(parts, authority, request, place, options)
    )
    const removing = settled(request, attempt)
    return options.force ? ignoringGone(removing) : removing
  })
}
