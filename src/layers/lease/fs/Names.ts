/**
 * Operations that give something another name. What the lease closes under one name must not open under the
 * other, and a link must not lead others to where its maker may not go.
 */
import type { PlatformError } from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import {
  type AccessRequest,
  type Authority,
  both,
  io,
  notFound,
  read,
  refuse,
  settled,
  write
} from "./Authority.js"
import { leadsTo, type Place, type Places } from "./Places.js"

export interface Names {
  readonly link: FileSystem.FileSystem["link"]
  readonly rename: FileSystem.FileSystem["rename"]
  /** `given` is what a refusal shows in place of the target, which is not always the caller's to know. */
  readonly symlink: (
    method: string,
    target: string,
    path: string,
    given?: string
  ) => Effect.Effect<void, PlatformError>
}

export const make = (open: FileSystem.FileSystem, authority: Authority, places: Places): Names => {
  const link: Names["link"] = (from, to) =>
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

  /** May a link be here that says this? */
  const mayName = (
    request: AccessRequest,
    place: Place,
    text: string
  ): Effect.Effect<void, PlatformError> => {
    const path = leadsTo(place.directory.real, text)
    if (path === undefined)
      return Effect.fail(
        refuse(
          request,
          "fs.read",
          'a link with ".." behind a name can lead anywhere; write its target without'
        )
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

  const symlink: Names["symlink"] = (method, text, path, given = text) =>
    Effect.gen(function* () {
      const request = yield* authority.admit(method, path, write)
      const attempt = Effect.gen(function* () {
        const place = yield* places.place(request)
        yield* mayName({ ...request, given }, place, text)
        yield* io(request, open.symlink(text, place.at))
      })
      yield* settled(request, attempt)
    })

  /** What moves takes all that is below with it, and takes it out of the patterns that held it. */
  const mayMove = (source: AccessRequest, from: Place, to: Place, isDirectory: boolean) => {
    if (isDirectory) {
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
    if (!authority.permits("fs.read", to.real)) return Effect.void
    const asRead: AccessRequest = { ...source, needs: read }
    const refused = authority.refusal(asRead, from.real)
    return refused === undefined ? authority.recheck(asRead) : Effect.fail(refused)
  }

  const rename: Names["rename"] = (from, to) =>
    Effect.gen(function* () {
      const source = yield* authority.admit("rename", from, write)
      const target = yield* authority.admit("rename", to, write)
      const attempt = Effect.gen(function* () {
        const old = yield* places.place(source)
        const entry = yield* places.look(source, old)
        if (entry._tag === "Missing") return yield* notFound(source)
        const place = yield* places.place(target)
        const isDirectory = Option.isSome(yield* places.enter(source, old))
        yield* mayMove(source, old, place, isDirectory)
        if (entry._tag === "Link" && !entry.text.startsWith("/")) yield* mayName(source, place, entry.text)
        yield* io(source, open.rename(old.at, place.at))
      })
      yield* settled(source, attempt)
    })

  return { link, rename, symlink }
}
