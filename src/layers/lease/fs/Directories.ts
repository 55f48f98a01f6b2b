/** Making directories. */
import type { PlatformError } from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import type { FsParts } from "./FsParts.js"
import { dirname } from "./Paths.js"
import { type AccessRequest, failure, io, isReason, settled, write } from "./Requests.js"

const makeOne = ({ open, places }: FsParts, request: AccessRequest, mode: number | undefined) =>
  settled(
    request,
    Effect.flatMap(places.place(request), (place) =>
      io(request, open.makeDirectory(place.at, mode === undefined ? {} : { mode }))
    )
  )

/** Fails where something else than a directory stands. */
const isDirectory = ({ files, places }: FsParts, request: AccessRequest) =>
  settled(
    request,
    Effect.gen(function* () {
      const found = yield* places.follow(request)
      if (found.exists && (yield* files.typeOf(request, found)) === "Directory") return
      return yield* failure(request, "AlreadyExists", "EEXIST: a file or a dangling link stands there")
    })
  )

/** Makes a directory and what is missing above it; each of them must be covered by the lease. */
const makeAll = (
  parts: FsParts,
  request: AccessRequest,
  mode: number | undefined
): Effect.Effect<void, PlatformError> =>
  makeOne(parts, request, mode).pipe(
    Effect.catchIf(
      (error) => isReason(error, "NotFound") && request.canonical !== "/",
      () =>
        parts.authority.admit(request.method, request.given, write, dirname(request.canonical)).pipe(
          Effect.flatMap((parent) => makeAll(parts, parent, mode)),
          Effect.zipRight(makeOne(parts, request, mode))
        )
    ),
    Effect.catchIf(
      (error) => isReason(error, "AlreadyExists"),
      () => isDirectory(parts, request)
    )
  )

/** Makes a directory; with `recursive` also those above it, and it may be there already. */
export const makeDirectory = (
  parts: FsParts,
  method: string,
  path: string,
  { mode, recursive }: FileSystem.MakeDirectoryOptions
): Effect.Effect<void, PlatformError> =>
  Effect.flatMap(parts.authority.admit(method, path, write), (request) =>
    (recursive ? makeAll : makeOne)(parts, request, mode)
  )
