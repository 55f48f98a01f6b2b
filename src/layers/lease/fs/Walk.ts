/**
 * From a canonical path to the place that it means. Links are followed by reading them, and each path that a walk
 * becomes on the way must be covered by the lease before anything is asked of the file system about it, so what fails
 * there tells nothing of outside.
 */
import type { PlatformError, SystemError } from "@effect/platform/Error"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { Authority } from "./Authority.js"
import { type Directory, type FoundPlace, type Holding, placeIn } from "./Holding.js"
import { basename, dirname, join, maxLinks, segments } from "./Paths.js"
import { type AccessRequest, Changed, failure, io, notFound } from "./Requests.js"

/** What walks follow, and what they ask. */
export interface Ground {
  readonly holding: Holding
  readonly authority: Authority
}

/** One walk, and how far it has come. */
interface Walk extends Ground {
  readonly request: AccessRequest
  /** A directory without links in its path. */
  at: string
  /** The names that are still to be taken from there. */
  rest: ReadonlyArray<string>
  /** How many links were followed. */
  links: number
}

/**
 * Turns a walk to where the text of a link leads from the directory `from`, and from there to the names `after` the link.
 * Returns why it may not go there.
 */
const turn = (
  walk: Walk,
  from: string,
  text: string,
  after: ReadonlyArray<string>
): SystemError | undefined => {
  const { authority, request } = walk
  walk.links += 1
  if (walk.links > maxLinks)
    return failure(request, "BadResource", "ELOOP: too many symbolic links; remove the loop")
  const at = text.startsWith("/") ? "/" : from
  const rest = [...segments(text), ...after]
  walk.at = at
  walk.rest = rest
  // Before a `..` goes back from a name, the lease must cover that name too.
  const first = rest.findIndex((name) => name !== "..")
  for (let i = first + 1; first >= 0 && i < rest.length; i++) {
    if (rest[i] !== "..") continue
    const refused = authority.refusal(request, join(at, rest.slice(0, i).join("/")))
    if (refused !== undefined) return refused
  }
  return authority.refusal(request, join(at, rest.join("/")))
}

/** Opens the directory of the last name at once: usually there are no links, and what opens is what was asked for. */
const straight = ({ at, holding, rest }: Walk) => {
  if (rest.includes("..")) return Effect.succeed(Option.none<Directory>())
  const path = join(at, rest.slice(0, -1).join("/"))
  return Effect.option(holding.openDirectory(path)).pipe(
    Effect.map(Option.filter((directory) => directory.real === path))
  )
}

/** Fails as it did below `at`, unless a link came there meanwhile: then it is about where that leads. */
const failing = ({ at, holding, request }: Walk, error: PlatformError) =>
  Effect.gen(function* () {
    for (let path = at; path !== "/"; path = dirname(path)) {
      const entry = yield* Effect.option(holding.contentOf(path))
      if (Option.isNone(entry) || entry.value._tag !== "There") return yield* new Changed()
    }
    return yield* io(request, Effect.fail(error))
  })

/** Goes name by name, until the last one is left. Gives false when a link turned the walk. */
const descend = (walk: Walk) =>
  Effect.gen(function* () {
    const { holding, request } = walk
    for (
      let name = walk.rest[0];
      name !== undefined && (walk.rest.length > 1 || name === "..");
      name = walk.rest[0]
    ) {
      const after = walk.rest.slice(1)
      if (name === "..") {
        walk.at = dirname(walk.at)
        walk.rest = after
        continue
      }
      const path = join(walk.at, name)
      const entry = yield* Effect.catchAll(holding.contentOf(path), (error) => failing(walk, error))
      if (entry._tag === "Missing") return yield* failing(walk, notFound(request))
      if (entry._tag === "Link") {
        const refused = turn(walk, walk.at, entry.text, after)
        if (refused !== undefined) return yield* refused
        return false
      }
      walk.at = path
      walk.rest = after
    }
    if (walk.rest.length === 0 && walk.at !== "/") {
      walk.rest = [basename(walk.at)]
      walk.at = dirname(walk.at)
    }
    return true
  })

/** Opens the directory in which the last name of a walk stands; nothing when a link turned the walk. */
const openLast = (walk: Walk) =>
  Effect.gen(function* () {
    const directory = yield* straight(walk)
    if (Option.isSome(directory) || !(yield* descend(walk))) return directory
    const opening = walk.holding.openDirectory(walk.at)
    return Option.some(yield* Effect.catchAll(opening, (error) => failing(walk, error)))
  })

/** Returns the place to which a path leads; with `stay`, the one that it names, and a link there stays unread. */
export const follow = (
  { authority, holding }: Ground,
  request: AccessRequest,
  last: "follow" | "stay"
): Effect.Effect<FoundPlace, PlatformError | Changed, Scope.Scope> =>
  Effect.gen(function* () {
    const walk: Walk = { holding, authority, request, at: "/", rest: segments(request.canonical), links: 0 }
    while (true) {
      const directory = yield* openLast(walk)
      if (Option.isNone(directory)) continue
      const place = placeIn(directory.value, walk.rest.at(-1) ?? ".")
      const refused = authority.refusal(request, place.real)
      if (refused !== undefined) return yield* refused
      if (last === "stay") return { ...place, exists: false }
      const entry = yield* io(request, holding.contentOf(place.at))
      if (entry._tag !== "Link") return { ...place, exists: entry._tag === "There" }
      const turned = turn(walk, directory.value.real, entry.text, [])
      if (turned !== undefined) return yield* turned
    }
  })
