/**
 * Watching for a lease. Every directory is watched on its own and while it is held: a recursive watch of the
 * platform would go by path, into whatever stands there by then.
 */
import type { PlatformError } from "@effect/platform/Error"
import * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as FiberMap from "effect/FiberMap"
import * as Mailbox from "effect/Mailbox"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { FsParts } from "./FsParts.js"
import { type Directory, type FoundPlace, type Place, placeIn } from "./Holding.js"
import { basename, join } from "./Paths.js"
import type { OpenedFile } from "./Places.js"
import { type AccessRequest, type Changed, io, isReason, read, retried, translate } from "./Requests.js"

/** Events that a slow reader leaves here before the next ones wait. */
const capacity = 1024

/** One watch that somebody reads. */
interface Watching {
  readonly parts: FsParts
  readonly request: AccessRequest
  readonly recursive: boolean
  readonly events: Mailbox.Mailbox<FileSystem.WatchEvent, PlatformError>
  /** One fiber per directory, by its name below the first, which has the empty one. */
  readonly watched: FiberMap.FiberMap<string>
}

/** Returns the name below a directory that an event is about; backends give it relative or whole. */
const nameBelow = (directory: Directory, path: string): string | undefined => {
  const prefix = [directory.base, directory.real].find((base) =>
    path.startsWith(base === "/" ? "/" : `${base}/`)
  )
  const name = prefix === undefined ? path : path.slice(prefix === "/" ? 1 : prefix.length + 1)
  const names = name.split("/").filter((part) => part !== "" && part !== ".")
  return name.startsWith("/") || names.length === 0 || names.includes("..") ? undefined : names.join("/")
}

/**
 * Passes on that something happened to a name, and gives what was passed on. What the backend says of it is not taken as
 * it is: Node looks for it in the directory that the process runs in, to tell a creation from a removal.
 */
const tell = (
  { events, parts, request }: Watching,
  event: FileSystem.WatchEvent,
  place: Place,
  name: string
): Effect.Effect<FileSystem.WatchEvent | undefined, PlatformError> =>
  Effect.gen(function* () {
    const { authority, places } = parts
    yield* authority.recheck(request)
    if (!authority.permits("fs.read", place.real)) return undefined
    if (event._tag === "Update") return FileSystem.WatchEventUpdate({ path: name })
    const entry = yield* places.look(request, place)
    return entry._tag === "Missing"
      ? FileSystem.WatchEventRemove({ path: name })
      : FileSystem.WatchEventCreate({ path: name })
  }).pipe(Effect.tap((told) => (told === undefined ? Effect.void : events.offer(told))))

/** The events of the open file system at a path. */
const eventsAt = ({ parts, request }: Watching, path: string) =>
  Stream.mapError(parts.open.watch(path), (error) => translate(request, error))

const watchFile = (watching: Watching, at: Place, opened: OpenedFile) =>
  Stream.runForEach(eventsAt(watching, opened.path), (event) =>
    tell(watching, event, at, basename(watching.request.canonical))
  )

/** Watches a directory in another in a fiber of its own, if it is one that the lease covers. */
const watchBelow = (watching: Watching, directory: Directory, prefix: string, name: string) => {
  const { events, parts, request, watched } = watching
  const inside = Effect.scoped(
    Effect.flatMap(
      parts.places.enter(request, placeIn(directory, name)),
      Option.match({
        onNone: () => Effect.void,
        onSome: (below) => watchDirectory(watching, below, `${prefix}${name}/`)
      })
    )
  ).pipe(
    // Gone again, or exchanged: its parent tells of it.
    Effect.catchAll((error) =>
      error._tag === "Changed" || isReason(error, "NotFound") ? Effect.void : events.fail(error)
    )
  )
  return parts.authority.permits("fs.read", join(directory.real, name))
    ? FiberMap.run(watched, prefix + name, inside)
    : Effect.void
}

/** Watches a directory, and with `recursive` those in it, also when they come later. */
const watchDirectory = (
  watching: Watching,
  directory: Directory,
  prefix: string
): Effect.Effect<void, PlatformError | Changed> =>
  Effect.gen(function* () {
    const { parts, recursive, request, watched } = watching
    if (recursive)
      for (const name of yield* io(request, parts.open.readDirectory(directory.base)))
        yield* watchBelow(watching, directory, prefix, name)
    yield* Stream.runForEach(eventsAt(watching, `${directory.base}/.`), (event) =>
      Effect.gen(function* () {
        const name = nameBelow(directory, event.path)
        if (name === undefined) return
        const told = yield* tell(watching, event, placeIn(directory, name), prefix + name)
        if (!recursive || told === undefined || told._tag === "Update") return
        if (told._tag === "Remove") return yield* FiberMap.remove(watched, prefix + name)
        yield* watchBelow(watching, directory, prefix, name)
      })
    )
  })

/** Opens what is to be watched. */
const openWatched = (
  { files, places }: FsParts,
  request: AccessRequest
): Effect.Effect<{ readonly at: FoundPlace; readonly opened: OpenedFile }, PlatformError, Scope.Scope> =>
  retried(
    request,
    Effect.flatMap(places.follow(request), (at) =>
      Effect.map(files.open(request, at, "r"), (opened) => ({ at, opened }))
    )
  )

/** Returns the events of a file or a directory, as far as the lease covers what they are about. */
export const watch = (
  parts: FsParts,
  path: string,
  options?: FileSystem.WatchOptions
): Stream.Stream<FileSystem.WatchEvent, PlatformError> =>
  Stream.unwrapScoped(
    Effect.gen(function* () {
      const request = yield* parts.authority.admit("watch", path, read)
      const events = yield* Mailbox.make<FileSystem.WatchEvent, PlatformError>(capacity)
      const watched = yield* FiberMap.make<string>()
      const { at, opened } = yield* openWatched(parts, request)
      const recursive = options?.recursive ?? false
      const watching: Watching = { parts, request, recursive, events, watched }
      const info = yield* io(request, opened.file.stat)
      const root =
        info.type === "Directory"
          ? watchDirectory(watching, { base: opened.path, real: opened.real }, "")
          : watchFile(watching, at, opened)
      yield* FiberMap.run(
        watched,
        "",
        root.pipe(
          Effect.matchEffect({
            onFailure: (error) => (error._tag === "Changed" ? events.end : events.fail(error)),
            onSuccess: () => events.end
          })
        )
      )
      return Mailbox.toStream(events)
    })
  )
