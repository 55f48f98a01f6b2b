/** One operation of a leased file system: the errors with which it fails, and its attempts. */
import { BadArgument, type PlatformError, SystemError, type SystemErrorReason } from "@effect/platform/Error"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { PermissionDenied } from "../../../protocol/Errors.js"
import { cut } from "../../../protocol/Text.js"
import type { LeaseError } from "../../../services/lease/Lease.js"
import type { Capability } from "./Aliases.js"

/** What reading a file needs of the lease. */
export const read: ReadonlyArray<Capability> = ["fs.read"]
/** What writing one needs. */
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

/** Returns a path as an error may show it. */
export const shown = (path: string): string => (path.length > 200 ? `${cut(path, 199)}…` : path)

/** Returns the failure of an operation that the lease refuses. */
export const denied = (request: AccessRequest, error: LeaseError): SystemError =>
  new SystemError({
    reason: "PermissionDenied",
    module: "FileSystem",
    method: request.method,
    pathOrDescriptor: request.given,
    description: error.message,
    cause: error
  })

/** Returns a refusal that the lease's patterns do not word themselves. */
export const refuse = (request: AccessRequest, capability: Capability, why: string): SystemError =>
  denied(
    request,
    new PermissionDenied({
      message: `${capability} refused: ${why}`,
      details: { capability, target: shown(request.canonical) }
    })
  )

/** Returns a failure that is worded here, not by the platform. */
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

/** Returns the failure of an operation on what is not there. */
export const notFound = (request: AccessRequest): SystemError =>
  failure(request, "NotFound", "ENOENT: no such file or directory")

/** Returns the errno of a failure, where the platform gives one. */
export const codeOf = (error: PlatformError): string | undefined => {
  const { cause } = error
  return typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "string"
    ? cause.code
    : undefined
}

/** Returns a failure of the open file system, told of the path that the caller knows: the other one is ours. */
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

/** Says whether a failure is one of the platform with this reason. */
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
