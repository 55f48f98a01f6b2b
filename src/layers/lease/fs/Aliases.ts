/**
 * What the paths of a lease really are. Where a pattern begins behind a link (`/tmp` of macOS, a workspace that is
 * linked to), it means what is there: the links of its literal beginning are followed once, when the job first uses its
 * files, and those below it never are.
 *
 * Somebody who can put a link where a pattern begins would decide what it means. So only the beginnings of what the
 * lease was taken from count (a ceiling, the lease of the job that delegated), or what leads to where that reaches
 * anyway; and no link counts that stands where `fs.write` of that reaches.
 */
import type { PlatformError } from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Pattern from "../../../protocol/Pattern.js"
import type { LeaseService } from "../../../services/lease/Lease.js"
import { maxLinks, segments } from "./Paths.js"

/** What a lease can grant of files. */
export type Capability = "fs.read" | "fs.write"

/** A place as patterns name it, and where it really is. */
interface Alias {
  readonly written: string
  readonly real: string
}

/** The other names of places, by the capability whose patterns begin with them. */
export type Aliases = Readonly<Record<Capability, ReadonlyArray<Alias>>>

export const none: Aliases = { "fs.read": [], "fs.write": [] }

/** Links of the kernel's own, which lead elsewhere for each process and at each moment: another's root, an open file. */
const kernels = /^\/(proc|dev)\//

/** The directory that a pattern begins with; nothing when it begins with a wildcard or at the root. */
const beginning = (source: string): string | undefined => {
  const { canonical } = Pattern.compile("path", source)
  if (canonical === undefined || !canonical.startsWith("/")) return undefined
  const names = canonical.split("/").slice(1)
  const wild = names.findIndex((name) => name.includes("*"))
  const literal = names.slice(0, wild < 0 ? -1 : wild)
  return literal.length === 0 ? undefined : `/${literal.join("/")}`
}

/** Where a path leads, as far as it exists; nothing when a link on the way does not count. */
const follow = (
  open: FileSystem.FileSystem,
  path: string,
  counts: (link: string) => boolean
): Effect.Effect<string | undefined, PlatformError> =>
  Effect.gen(function* () {
    let at = ""
    let rest = segments(path)
    let links = 0
    for (let name = rest[0]; name !== undefined; name = rest[0]) {
      const after = rest.slice(1)
      const next = name === ".." ? at.slice(0, Math.max(0, at.lastIndexOf("/"))) : `${at}/${name}`
      const text = yield* Effect.option(open.readLink(next === "" ? "/" : next))
      rest = after
      if (text._tag === "None") at = next
      else {
        links += 1
        if (links > maxLinks || !counts(next)) return undefined
        if (text.value.startsWith("/")) at = ""
        rest = [...segments(text.value), ...after]
      }
    }
    return at === "" ? "/" : at
  })

/** Returns the other names of what a lease names. */
export const of = (
  open: FileSystem.FileSystem,
  { bounds, terms }: LeaseService
): Effect.Effect<Aliases, PlatformError> =>
  Effect.gen(function* () {
    const writing = (bounds["fs.write"] ?? []).map((source) => ({
      pattern: Pattern.compile("path", source),
      begins: beginning(source)
    }))
    // What a pattern begins with is the operator's to put there, although `/a/**` covers `/a` too.
    const counts = (link: string) =>
      !kernels.test(link) && !writing.some(({ begins, pattern }) => begins !== link && pattern.matches(link))
    const ofCapability = (capability: Capability) =>
      Effect.gen(function* () {
        const roots = new Set((bounds[capability] ?? []).flatMap((source) => beginning(source) ?? []))
        const reaches = (real: string) =>
          (bounds[capability] ?? []).some((source) => Pattern.covers("path", source, `${real}/**`))
        const found: Array<Alias> = []
        for (const path of new Set([
          ...roots,
          ...(terms[capability] ?? []).flatMap((source) => beginning(source) ?? [])
        ])) {
          const real = yield* follow(open, path, counts)
          if (real !== undefined && real !== path && (roots.has(path) || reaches(real)))
            found.push({ written: path, real })
        }
        return found
      })
    return { "fs.read": yield* ofCapability("fs.read"), "fs.write": yield* ofCapability("fs.write") }
  })

/** Returns the names that a canonical path has in the patterns of a capability, beside itself. */
export const namesOf = (aliases: Aliases, capability: Capability, path: string): ReadonlyArray<string> =>
  aliases[capability].flatMap(({ real, written }) =>
    path === real
      ? [written]
      : path.startsWith(real === "/" ? "/" : `${real}/`)
        ? [renamed(written, real, path)]
        : []
  )

const renamed = (written: string, real: string, path: string): string =>
  `${written}/${path.slice(real === "/" ? 1 : real.length + 1)}`
