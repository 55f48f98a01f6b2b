/**
 * Operations that give something another name. What the lease closes under one name must not open under the
 * other, and a link must not lead others to where its maker may not go.
 */
import type { PlatformError } from "@effect/platform/Error"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Authority } from "./Authority.js"
import type { FsParts } from "./FsParts.js"
import type { Place } from "./Holding.js"
import { leadsTo } from "./Paths.js"
import { type AccessRequest, both, io, notFound, read, refuse, settled, write } from "./Requests.js"

/** Gives a file another name (a hard link). */
export const link = (
  { authority, open, places }: FsParts,
  from: string,
  to: string
): Effect.Effect<void, PlatformError> =>
  Effect.gen(function* () {
    const source = yield* authority.admit("link", from, both)
    const target = yield* authority.admit("link", to, write)
    const attempt = Effect.gen(function* () {
      const existing = yield* places.follow(source)
      if (!existing.exists) return yield* notFound(source)
      const place = yield* places.place(target)
      yield* io(target, open.link(existing.at, place.at))
    })
    yield* settled(source, attempt)
  })

/** Fails unless a link may be at a place that says this. */
const mayName = (
  authority: Authority,
  request: AccessRequest,
  place: Place,
  text: string
): Effect.Effect<void, PlatformError> => {
  const path = leadsTo(place.directory.real, text)
  if (path === undefined)
    return Effect.fail(
      refuse(request, "fs.read", 'a link with ".." after a name can lead anywhere; write its target without')
    )
  return authority.permits("fs.read", path) || authority.permits("fs.write", path)
    ? Effect.void
    : Effect.fail(
        refuse(
          request,
          "fs.read",
          "the link would lead to where the lease does not reach; link to what the lease covers"
        )
      )
}

/**
 * Makes a symbolic link. `given` is what a refusal shows in place of the target, which is not always the caller's to
 * know.
 */
export const symlink = (
  { authority, open, places }: FsParts,
  method: string,
  target: string,
  path: string,
  given = target
): Effect.Effect<void, PlatformError> =>
  Effect.gen(function* () {
    const request = yield* authority.admit(method, path, write)
    const attempt = Effect.gen(function* () {
      const place = yield* places.place(request)
      yield* mayName(authority, { ...request, given }, place, target)
      yield* io(request, open.symlink(target, place.at))
    })
    yield* settled(request, attempt)
  })

/** Fails unless a directory may move: it takes all that is below with it, out of the patterns that held it. */
const mayMoveDirectory = (authority: Authority, source: AccessRequest, from: Place, to: Place) => {
  const needs = authority.grants("fs.read") ? both : write
  const lacking =
    needs.find((capability) => !authority.coversBelow(capability, from.real)) ??
    write.find((capability) => !authority.coversBelow(capability, to.real))
  return lacking === undefined
    ? Effect.void
    : Effect.fail(
        refuse(
          source,
          lacking,
          'a directory moves with all that is in it; use a lease that covers both names with "/**", or move ' +
            "its files one by one"
        )
      )
}

/** Fails unless a file may move: where the lease reads the new name, it must read the old one too. */
const mayMoveFile = (authority: Authority, source: AccessRequest, from: Place, to: Place) => {
  if (!authority.permits("fs.read", to.real)) return Effect.void
  const asRead: AccessRequest = { ...source, needs: read }
  const refused = authority.refusal(asRead, from.real)
  return refused === undefined ? authority.recheck(asRead) : Effect.fail(refused)
}

/** Moves what a path names to another; of a link, the link. */
export const rename = (
  { authority, open, places }: FsParts,
  from: string,
  to: string
): Effect.Effect<void, PlatformError> =>
  Effect.gen(function* () {
    const source = yield* authority.admit("rename", from, write)
    const target = yield* authority.admit("rename", to, write)
    const attempt = Effect.gen(function* () {
      const old = yield* places.place(source)
      const entry = yield* places.look(source, old)
      if (entry._tag === "Missing") return yield* notFound(source)
      const place = yield* places.place(target)
      const isDirectory = Option.isSome(yield* places.enter(source, old))
      yield* (isDirectory ? mayMoveDirectory : mayMoveFile)(authority, source, old, place)
      if (entry._tag === "Link" && !entry.text.startsWith("/"))
        yield* mayName(authority, source, place, entry.text)
      yield* io(source, open.rename(old.at, place.at))
    })
    yield* settled(source, attempt)
  })
