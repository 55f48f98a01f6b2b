/** What a leased file system asks its lease, and the errors with which it refuses. */
import { BadArgument, type PlatformError, SystemError, type SystemErrorReason } from "@effect/platform/Error"
import type * as FileSystem from "@effect/platform/FileSystem"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import { PermissionDenied } from "../../../protocol/Errors.js"
import { covers } from "../../../protocol/Pattern.js"
import * as Target from "../../../protocol/Target.js"
import type { LeaseError, LeaseService } from "../../../services/lease/Lease.js"
import type { Capability } from "./Aliases.js"
import * as Aliases from "./Aliases.js"

export type { Capability }
export const read: ReadonlyArray<Capability> = ["fs.read"]
export const write: ReadonlyArray<Capability> = ["fs.write"]
export const both: ReadonlyArray<Capability> = ["fs.read", "fs.write"]

/** One operation on one path that the lease admits as far as its canonical form goes. */
export interface AccessRequest {
  readonly method: string
  /** The path as the caller wrote it: the only form that errors show as the path of the operation. */
  readonly given: string
  readonly needs: ReadonlyArray<Capability>
  readonly canonical: string
}

/** Something was swapped between two steps: nothing was done, and the operation starts again. */
export class Changed extends Data.TaggedError("Changed") {}

export interface Authority {
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
  readonly permits: (capability: Capability, path: string) => boolean
  /** Is everything below this directory provably covered? */
  readonly coversBelow: (capability: Capability, directory: string) => boolean
  /** Does the lease grant any of it at all? */
  readonly grants: (capability: Capability) => boolean
}

const shown = (path: string): string => (path.length > 200 ? `${path.slice(0, 199)}…` : path)

export const denied = (request: AccessRequest, error: LeaseError): SystemError =>
  new SystemError({
    reason: "PermissionDenied",
    module: "FileSystem",
    method: request.method,
    pathOrDescriptor: request.given,
    description: error.message,
    cause: error
  })

/** A refusal that the lease's patterns do not word themselves. */
export const refuse = (request: AccessRequest, capability: Capability, why: string): SystemError =>
  denied(
    request,
    new PermissionDenied({
      message: `${capability} refused: ${why}`,
      details: { capability, target: shown(request.canonical) }
    })
  )

export const failure = (
  request: AccessRequest,
  reason: SystemErrorReason,
  description: string
): SystemError =>
  new SystemError({
    reason,
    module: "FileSystem",
    method: request.method,
    pathOrDescriptor: request.given,
    description
  })

export const notFound = (request: AccessRequest): SystemError =>
  failure(request, "NotFound", "ENOENT: no such file or directory")

/** The errno of a failure, where the platform gives one. */
export const codeOf = (error: PlatformError): string | undefined => {
  const { cause } = error
  return typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "string"
    ? cause.code
    : undefined
}

/** A failure of the open file system, told of the path that the caller knows: the other one is ours. */
export const translate = (request: AccessRequest, error: PlatformError): PlatformError => {
  if (error._tag === "BadArgument")
    return new BadArgument({
      module: "FileSystem",
      method: request.method,
      description: error.description ?? "an argument is not one that this operation takes",
      cause: error.cause
    })
  const code = codeOf(error)
  const text = /^E[A-Z0-9_]+: [^,/]+/.exec(error.description ?? "")?.[0]
  const description = text ?? code ?? `the operation failed (${error.reason})`
  return new SystemError({
    reason: error.reason,
    module: "FileSystem",
    method: request.method,
    pathOrDescriptor: request.given,
    description,
    ...(error.syscall === undefined ? {} : { syscall: error.syscall }),
    ...(code === undefined ? {} : { cause: Object.assign(new Error(description), { code }) })
  })
}

/** Runs an operation of the open file system for a request. */
export const io = <A, R>(
  request: AccessRequest,
  operation: Effect.Effect<A, PlatformError, R>
): Effect.Effect<A, PlatformError, R> => Effect.mapError(operation, (error) => translate(request, error))

export const isReason = (error: { readonly _tag: string }, reason: SystemErrorReason): boolean =>
  error._tag === "SystemError" && "reason" in error && error.reason === reason

const maxAttempts = 16

/** Starts an attempt again while something changes under it; what it opened stays open in its scope. */
export const retried = <A, R>(
  request: AccessRequest,
  attempt: Effect.Effect<A, PlatformError | Changed, R>
): Effect.Effect<A, PlatformError, R> =>
  attempt.pipe(
    Effect.retry({ times: maxAttempts, while: (error) => error._tag === "Changed" }),
    Effect.catchTag("Changed", () =>
      Effect.fail(failure(request, "Busy", "the path keeps changing while it is looked at; try again"))
    )
  )

/** The same, and closes what each attempt opened. */
export const settled = <A>(
  request: AccessRequest,
  attempt: Effect.Effect<A, PlatformError | Changed, Scope.Scope>
): Effect.Effect<A, PlatformError> => retried(request, Effect.scoped(attempt))

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
    const verdict = lease.check(capability, path)
    if (Either.isRight(verdict) || aliases === undefined || aliases[capability].length === 0) return verdict
    const canonical = Target.canonical("path", path)
    if (Either.isLeft(canonical)) return verdict
    return Aliases.namesOf(aliases, capability, canonical.right).some((name) =>
      Either.isRight(lease.check(capability, name))
    )
      ? Either.right(canonical.right)
      : verdict
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
        return Effect.zipRight(
          verdicts.prepared,
          Effect.flatMap(absolute, (from) =>
            Effect.tap(decide(verdicts, method, given, needs, from), (request) =>
              needs.includes("fs.write")
                ? Effect.mapError(lease.flushed, (error) => denied(request, error))
                : Effect.void
            )
          )
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
    check: (capability, target) =>
      Either.orElse(lease.check(capability, target), (error) =>
        error._tag === "PermissionDenied" ? Either.left(error) : Either.right(target)
      )
  })
