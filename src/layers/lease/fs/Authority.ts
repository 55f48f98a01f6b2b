/** What a leased file system asks its lease. */
import { BadArgument, type PlatformError, type SystemError } from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { covers } from "../../../protocol/Pattern.js"
import * as Target from "../../../protocol/Target.js"
import type { LeaseError, LeaseService } from "../../../services/lease/Lease.js"
import type { Capability } from "./Aliases.js"
import * as Aliases from "./Aliases.js"
import { type AccessRequest, denied, notFound, refuse, shown } from "./Requests.js"

/** Decides, by the lease of one job, which operations on paths may go on. */
export interface Authority {
  /** Admits an operation as far as the canonical form of its path goes. */
  readonly admit: (
    method: string,
    given: string,
    needs: ReadonlyArray<Capability>,
    /** The path that it means, when that is not what the caller wrote. */
    path?: string
  ) => Effect.Effect<AccessRequest, PlatformError>
  /** Why a path that the canonical one has become, by links, is refused. Its text appears in no error. */
  readonly refusal: (request: AccessRequest, real: string) => SystemError | undefined
  /** The same for something inside of the directory that the request is about. */
  readonly refusalBelow: (request: AccessRequest, real: string) => SystemError | undefined
  /** Expiry and budget again, for what goes on after it was admitted. */
  readonly recheck: (request: AccessRequest) => Effect.Effect<void, PlatformError>
  /** Is a real path covered? */
  readonly permits: (capability: Capability, path: string) => boolean
  /** Is everything below this directory provably covered? */
  readonly coversBelow: (capability: Capability, directory: string) => boolean
  /** Does the lease grant any of it at all? */
  readonly grants: (capability: Capability) => boolean
}

/** Where relative paths start, of each open file system: a workspace is what it was at the first of them. */
const starts = new WeakMap<FileSystem.FileSystem, Map<string, string>>()

const startOf = (open: FileSystem.FileSystem, workspace: string): Effect.Effect<string, PlatformError> => {
  const known = starts.get(open) ?? new Map<string, string>()
  starts.set(open, known)
  const start = known.get(workspace)
  return start !== undefined
    ? Effect.succeed(start)
    : Effect.tap(open.realPath(workspace), (path) => {
        known.set(workspace, path)
      })
}

/** What a lease says of paths, by whichever of their names its patterns have. */
interface Verdicts {
  /** Finds the other names; once, before the job can have done anything to its files. */
  readonly prepared: Effect.Effect<void, PlatformError>
  /** The canonical path, or why the lease refuses it. */
  readonly on: (capability: Capability, path: string) => Either.Either<string, LeaseError>
  readonly permits: Authority["permits"]
  readonly coversBelow: Authority["coversBelow"]
}

const verdictsOf = (open: FileSystem.FileSystem, lease: LeaseService): Verdicts => {
  let aliases: Aliases.Aliases | undefined

  const on: Verdicts["on"] = (capability, path) => {
    if (aliases === undefined || aliases[capability].length === 0) return lease.check(capability, path)
    const verdict = lease.check(capability, path, false)
    if (Either.isRight(verdict)) return verdict
    const canonical = Target.canonical("path", path)
    if (Either.isLeft(canonical)) return verdict
    return Aliases.namesOf(aliases, capability, canonical.right).some((name) =>
      Either.isRight(lease.check(capability, name, false))
    )
      ? Either.right(canonical.right)
      : lease.check(capability, path)
  }

  return {
    prepared: Effect.suspend(() =>
      aliases !== undefined
        ? Effect.void
        : Effect.map(Aliases.of(open, lease), (found) => {
            aliases = found
          })
    ),
    on,
    permits: (capability, path) => !unreadable(path) && Either.isRight(on(capability, path)),
    coversBelow: (capability, directory) =>
      [directory, ...Aliases.namesOf(aliases ?? Aliases.none, capability, directory)].some((name) =>
        (lease.terms[capability] ?? []).some((pattern) =>
          covers("path", pattern, name === "/" ? "/**" : `${name}/**`)
        )
      )
  }
}

/** Real paths with what is no UTF-8 in them have lost what they were: two of them may look the same. */
const unreadable = (path: string): boolean => !path.startsWith("/") || path.includes("\uFFFD")

/** Admits an operation on an absolute path when the lease allows all that it needs. */
const decide = (
  verdicts: Verdicts,
  method: string,
  given: string,
  needs: ReadonlyArray<Capability>,
  absolute: string
): Effect.Effect<AccessRequest, PlatformError> => {
  let canonical = absolute
  for (const capability of needs) {
    const verdict = verdicts.on(capability, absolute)
    if (Either.isLeft(verdict))
      return Effect.fail(denied({ method, given, needs, canonical: absolute }, verdict.left))
    canonical = verdict.right
  }
  return Effect.succeed({ method, given, needs, canonical })
}

/** Returns the refusal of a real path that a request has led to; `why` does not name it. */
const refusing = (
  verdicts: Verdicts,
  request: AccessRequest,
  real: string,
  why: (request: AccessRequest) => string
): SystemError | undefined => {
  if (real === request.canonical) return undefined
  for (const capability of request.needs) {
    if (verdicts.permits(capability, real)) continue
    // The lease's own words could name the place, which is not the agent's to know.
    const own = verdicts.on(capability, request.canonical)
    return Either.isLeft(own) ? denied(request, own.left) : refuse(request, capability, why(request))
  }
  return undefined
}

const whyLinked = (request: AccessRequest): string =>
  `${shown(request.canonical)} is, or passes through, a symbolic link to where the lease does not ` +
  "reach; use the real path, and a lease that names it"

const whyBelow = (request: AccessRequest): string =>
  `${shown(request.canonical)} holds something that the lease does not cover; name the entries one by ` +
  "one, or use a lease that covers all of it"

/** Returns what a leased file system asks: a lease's verdicts, on paths of the open file system. */
export const make = (open: FileSystem.FileSystem, lease: LeaseService): Authority => {
  const verdicts = verdictsOf(open, lease)
  const start = Effect.suspend(() => startOf(open, lease.workspace ?? "."))
  return {
    admit: (method, given, needs, path = given) =>
      Effect.suspend((): Effect.Effect<AccessRequest, PlatformError> => {
        if (typeof path !== "string")
          return Effect.fail(new BadArgument({ module: "FileSystem", method, description: "a path is text" }))
        if (path === "") return Effect.fail(notFound({ method, given, needs, canonical: "" }))
        const absolute = path.startsWith("/")
          ? Effect.succeed(path)
          : Effect.map(start, (base) => `${base}/${path}`)
        const flushed = needs.includes("fs.write")
          ? Effect.mapError(lease.flushed, (error) =>
              denied({ method, given, needs, canonical: path }, error)
            )
          : Effect.void
        // All that waits comes before what is decided.
        return Effect.zipRight(verdicts.prepared, absolute).pipe(
          Effect.zipLeft(flushed),
          Effect.flatMap((from) => decide(verdicts, method, given, needs, from))
        )
      }),
    refusal: (request, real) => refusing(verdicts, request, real, whyLinked),
    refusalBelow: (request, real) => refusing(verdicts, request, real, whyBelow),
    recheck: (request) =>
      Effect.suspend(() => {
        for (const capability of request.needs) {
          const verdict = verdicts.on(capability, request.canonical)
          if (Either.isLeft(verdict)) return Effect.fail(denied(request, verdict.left))
        }
        return Effect.void
      }),
    permits: verdicts.permits,
    coversBelow: verdicts.coversBelow,
    grants: (capability) => (lease.terms[capability] ?? []).length > 0
  }
}

/**
 * Returns the authority to clean up what was made with it: patterns still hold, but not expiry and budget, or nothing
 * temporary would go away with the job that ran out of them.
 */
export const forCleaningUp = (open: FileSystem.FileSystem, lease: LeaseService): Authority =>
  make(open, {
    ...lease,
    flushed: Effect.void,
    check: (capability, target, isAttempt) =>
      Either.orElse(lease.check(capability, target, isAttempt), (error) =>
        error._tag === "PermissionDenied" ? Either.left(error) : Either.right(target)
      )
  })
