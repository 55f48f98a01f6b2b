/** What is temporary: it lies in the workspace, not where the system puts such things. */
import { BadArgument, type PlatformError } from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { FsParts } from "./FsParts.js"
import type { Place } from "./Holding.js"
import { type AccessRequest, Changed, io, isReason, retried, write } from "./Requests.js"
import { removeAt } from "./Trees.js"

/** A directory of a random name, in which nothing else is. */
interface Temporary {
  readonly path: string
  readonly request: AccessRequest
  /** Held: what is removed in the end is below the directory in which it was made. */
  readonly place: Place
}

type TempOptions = FileSystem.MakeTempFileOptions | undefined

const random = Effect.sync(() =>
  Array.from(globalThis.crypto.getRandomValues(new Uint8Array(8)), (byte) =>
    byte.toString(16).padStart(2, "0")
  ).join("")
)

const isName = (part: string | undefined): boolean => part === undefined || !/[/\0]/.test(part)

/** Makes a temporary directory, and holds its place for as long as the scope lasts. */
const makeHeld = (
  { authority, open, places }: FsParts,
  method: string,
  options: TempOptions
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

/** Removes it. It may be gone already, or hold what was put there by others and is not the job's to remove. */
const discard = (parts: FsParts, { request, place }: Temporary) =>
  retried(request, removeAt(parts, parts.cleaning, request, place, { recursive: true, force: true })).pipe(
    Effect.catchAll((error) =>
      Effect.logWarning(`a temporary directory stays: ${error.message}`).pipe(
        Effect.annotateLogs({ path: request.canonical })
      )
    )
  )

const makeScoped = (parts: FsParts, method: string, options: TempOptions) =>
  Effect.acquireRelease(makeHeld(parts, method, options), (temporary) => discard(parts, temporary))

/** Makes an empty file in a temporary directory. */
const makeFileIn = ({ authority, files }: FsParts, temporary: Temporary, suffix: string | undefined) =>
  Effect.gen(function* () {
    const name = `${yield* random}${suffix ?? ""}`
    const { method, given } = temporary.request
    const request = yield* authority.admit(method, given, write, `${temporary.path}/${name}`)
    yield* Effect.scoped(files.file(request, "wx", undefined))
    return request.canonical
  })

/** Makes a temporary directory that stays. */
export const makeTempDirectory = (
  parts: FsParts,
  options: TempOptions
): Effect.Effect<string, PlatformError> =>
  Effect.scoped(Effect.map(makeHeld(parts, "makeTempDirectory", options), ({ path }) => path))

/** Makes a temporary directory that goes with the scope. */
export const makeTempDirectoryScoped = (
  parts: FsParts,
  options: TempOptions
): Effect.Effect<string, PlatformError, Scope.Scope> =>
  Effect.map(makeScoped(parts, "makeTempDirectoryScoped", options), ({ path }) => path)

/** Makes a temporary file that stays, in a directory of its own. */
export const makeTempFile = (parts: FsParts, options: TempOptions): Effect.Effect<string, PlatformError> =>
  Effect.scoped(
    Effect.flatMap(makeHeld(parts, "makeTempFile", options), (temporary) =>
      Effect.onError(makeFileIn(parts, temporary, options?.suffix), () => discard(parts, temporary))
    )
  )

/** Makes a temporary file that goes with the scope, and its directory too. */
export const makeTempFileScoped = (
  parts: FsParts,
  options: TempOptions
): Effect.Effect<string, PlatformError, Scope.Scope> =>
  Effect.flatMap(makeScoped(parts, "makeTempFileScoped", options), (temporary) =>
    makeFileIn(parts, temporary, options?.suffix)
  )
