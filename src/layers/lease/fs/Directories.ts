/** Making directories, and what is temporary: it lies in the workspace, not where the system puts such things. */
import { BadArgument, type PlatformError } from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import {
  type AccessRequest,
  type Authority,
  Changed,
  failure,
  io,
  isReason,
  retried,
  settled,
  write
} from "./Authority.js"
import type { Files } from "./Files.js"
import { dirname, type Place, type Places } from "./Places.js"
import type { Trees } from "./Trees.js"

export interface Directories {
  readonly makeDirectory: (method: string) => FileSystem.FileSystem["makeDirectory"]
  readonly makeTempDirectory: FileSystem.FileSystem["makeTempDirectory"]
  readonly makeTempDirectoryScoped: FileSystem.FileSystem["makeTempDirectoryScoped"]
  readonly makeTempFile: FileSystem.FileSystem["makeTempFile"]
  readonly makeTempFileScoped: FileSystem.FileSystem["makeTempFileScoped"]
}

interface Temporary {
  readonly path: string
  readonly request: AccessRequest
  /** Held: what is removed in the end is below the directory in which it was made. */
  readonly place: Place
}

const random = Effect.sync(() =>
  Array.from(globalThis.crypto.getRandomValues(new Uint8Array(8)), (byte) =>
    byte.toString(16).padStart(2, "0")
  ).join("")
)

export const make = (
  open: FileSystem.FileSystem,
  authority: Authority,
  cleaning: Authority,
  places: Places,
  files: Files,
  trees: Trees["remove"]
): Directories => {
  const makeOne = (request: AccessRequest, mode: number | undefined) =>
    settled(
      request,
      Effect.flatMap(places.place(request), (place) =>
        io(request, open.makeDirectory(place.at, mode === undefined ? {} : { mode }))
      )
    )

  const isDirectory = (request: AccessRequest) =>
    settled(
      request,
      Effect.gen(function* () {
        const found = yield* places.follow(request)
        if (found.exists && (yield* files.typeOf(request, found)) === "Directory") return
        return yield* failure(request, "AlreadyExists", "EEXIST: a file or a dangling link stands there")
      })
    )

  const makeAll = (request: AccessRequest, mode: number | undefined): Effect.Effect<void, PlatformError> =>
    makeOne(request, mode).pipe(
      Effect.catchIf(
        (error) => isReason(error, "NotFound") && request.canonical !== "/",
        () =>
          authority.admit(request.method, request.given, write, dirname(request.canonical)).pipe(
            Effect.flatMap((parent) => makeAll(parent, mode)),
            Effect.zipRight(makeOne(request, mode))
          )
      ),
      Effect.catchIf(
        (error) => isReason(error, "AlreadyExists"),
        () => isDirectory(request)
      )
    )

  const isName = (part: string | undefined): boolean => part === undefined || !/[/\0]/.test(part)

  const makeTemporary = (
    method: string,
    options: FileSystem.MakeTempFileOptions | undefined
  ): Effect.Effect<Temporary, PlatformError, Scope.Scope> => {
    const directory = options?.directory || "."
    if (!isName(options?.prefix) || !isName(options?.suffix))
      return Effect.fail(
        new BadArgument({
          module: "FileSystem",
          method,
          description: 'prefix and suffix are parts of a name; they hold no "/" and no NUL'
        })
      )
    const attempt = Effect.gen(function* () {
      const name = `${options?.prefix ?? ""}${yield* random}`
      const request = yield* authority.admit(method, directory, write, `${directory}/${name}`)
      const place = yield* places.place(request)
      yield* io(request, open.makeDirectory(place.at, { mode: 0o700 })).pipe(
        Effect.catchIf(
          (error) => isReason(error, "AlreadyExists"),
          () => new Changed()
        )
      )
      return { path: request.canonical, request, place }
    })
    return retried({ method, given: directory, needs: write, canonical: directory }, attempt)
  }

  /** It may be gone already, or hold what was put there by others and is not the job's to remove. */
  const discard = ({ request, place }: Temporary) =>
    retried(request, trees(cleaning, request, place, { recursive: true, force: true })).pipe(
      Effect.catchAll((error) =>
        Effect.logWarning(`a temporary directory stays: ${error.message}`).pipe(
          Effect.annotateLogs({ path: request.canonical })
        )
      )
    )

  const makeFileIn = (temporary: Temporary, suffix: string | undefined) =>
    Effect.gen(function* () {
      const name = `${yield* random}${suffix ?? ""}`
      const { method, given } = temporary.request
      const request = yield* authority.admit(method, given, write, `${temporary.path}/${name}`)
      yield* Effect.scoped(files.file(request, "wx", undefined))
      return request.canonical
    })

  const kept = (method: string, options: FileSystem.MakeTempFileOptions | undefined) =>
    Effect.map(makeTemporary(method, options), ({ path }) => path)

  const scoped = (method: string, options: FileSystem.MakeTempFileOptions | undefined) =>
    Effect.acquireRelease(makeTemporary(method, options), discard)

  return {
    makeDirectory: (method) => (path, options) =>
      Effect.flatMap(authority.admit(method, path, write), (request) =>
        (options?.recursive ? makeAll : makeOne)(request, options?.mode)
      ),
    makeTempDirectory: (options) => Effect.scoped(kept("makeTempDirectory", options)),
    makeTempDirectoryScoped: (options) =>
      Effect.map(scoped("makeTempDirectoryScoped", options), ({ path }) => path),
    makeTempFile: (options) =>
      Effect.scoped(
        Effect.flatMap(makeTemporary("makeTempFile", options), (temporary) =>
          Effect.onError(makeFileIn(temporary, options?.suffix), () => discard(temporary))
        )
      ),
    makeTempFileScoped: (options) =>
      Effect.flatMap(scoped("makeTempFileScoped", options), (temporary) =>
        makeFileIn(temporary, options?.suffix)
      )
  }
}
