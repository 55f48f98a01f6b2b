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
import * as Stream from "effect/Stream"
import { type Authority, type Changed, io, isReason, read, retried, translate } from "./Authority.js"
import type { Files } from "./Files.js"
import { basename, type Directory, join, type Place, type Places, placeIn } from "./Places.js"

type Watch = FileSystem.FileSystem["watch"]

/** Events that a slow reader leaves here before the next ones wait. */
const capacity = 1024

/** The name below a directory that an event is about; backends give it relative or whole. */
const nameBelow = (directory: Directory, path: string): string | undefined => {
  const prefix = [directory.base, directory.real].find((base) =>
    path.startsWith(base === "/" ? "/" : `${base}/`)
  )
  const name = prefix === undefined ? path : path.slice(prefix === "/" ? 1 : prefix.length + 1)
  const names = name.split("/").filter((part) => part !== "" && part !== ".")
  return name.startsWith("/") || names.length === 0 || names.includes("..") ? undefined : names.join("/")
}

export const make =
  (open: FileSystem.FileSystem, authority: Authority, places: Places, files: Files): Watch =>
  (path, options) =>
    Stream.unwrapScoped(
      Effect.gen(function* () {
        const request = yield* authority.admit("watch", path, read)
        const events = yield* Mailbox.make<FileSystem.WatchEvent, PlatformError>(capacity)
        const watched = yield* FiberMap.make<string>()
        const found = yield* retried(
          request,
          Effect.flatMap(places.follow(request), (at) =>
            Effect.map(files.open(request, at, "r"), (opened) => ({ at, ...opened }))
          )
        )

        /**
         * What the backend says of a name is not passed on as it is: Node looks for it in the directory that
         * the process runs in, to tell a creation from a removal.
         */
        const tell = (event: FileSystem.WatchEvent, place: Place, name: string) =>
          Effect.gen(function* () {
            yield* authority.recheck(request)
            if (!authority.permits("fs.read", place.real)) return undefined
            if (event._tag === "Update") return FileSystem.WatchEventUpdate({ path: name })
            const entry = yield* places.look(request, place)
            return entry._tag === "Missing"
              ? FileSystem.WatchEventRemove({ path: name })
              : FileSystem.WatchEventCreate({ path: name })
          }).pipe(Effect.tap((told) => (told === undefined ? Effect.void : events.offer(told))))

        const watchOpen = (path: string) =>
          Stream.mapError(open.watch(path), (error) => translate(request, error))

        const watchFile = Stream.runForEach(watchOpen(found.path), (event) =>
          tell(event, found.at, basename(request.canonical))
        )

        const watchBelow = (directory: Directory, prefix: string, name: string) => {
          const watching = Effect.scoped(
            Effect.flatMap(
              places.enter(request, placeIn(directory, name)),
              Option.match({
                onNone: () => Effect.void,
                onSome: (below) => watchDirectory(below, `${prefix}${name}/`)
              })
            )
          ).pipe(
            // Gone again, or exchanged: its parent tells of it.
            Effect.catchAll((error) =>
              error._tag === "Changed" || isReason(error, "NotFound") ? Effect.void : events.fail(error)
            )
          )
          return authority.permits("fs.read", join(directory.real, name))
            ? FiberMap.run(watched, prefix + name, watching)
            : Effect.void
        }

        const watchDirectory = (
          directory: Directory,
          prefix: string
        ): Effect.Effect<void, PlatformError | Changed> =>
          Effect.gen(function* () {
            if (options?.recursive)
              for (const name of yield* io(request, open.readDirectory(directory.base)))
                yield* watchBelow(directory, prefix, name)
            yield* Stream.runForEach(watchOpen(`${directory.base}/.`), (event) =>
              Effect.gen(function* () {
                const name = nameBelow(directory, event.path)
                if (name === undefined) return
                const told = yield* tell(event, placeIn(directory, name), prefix + name)
                if (!options?.recursive || told === undefined || told._tag === "Update") return
                if (told._tag === "Remove") return yield* FiberMap.remove(watched, prefix + name)
                yield* watchBelow(directory, prefix, name)
              })
            )
          })

        const info = yield* io(request, found.file.stat)
        const root =
          info.type === "Directory" ? watchDirectory({ base: found.path, real: found.real }, "") : watchFile
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
