/**
 * The protocol's errors, one class per wire code (§12), and the one function
 * each way between them and the wire payload. Not schemas, so that a client in a browser does without
 * `effect/Schema`; the schema of the payload is in Message.ts.
 */
import * as Data from "effect/Data"

/** The 15 wire codes, each with whether a client may retry the same request. */
export const retryable = {
  PERMISSION_DENIED: false,
  LEASE_SUBSET_VIOLATION: false,
  JOB_NOT_FOUND: false,
  DUPLICATE_KEY: false,
  AGENT_NOT_AVAILABLE: false,
  AGENT_VERSION_NOT_AVAILABLE: false,
  CANCELLED: false,
  TIMEOUT: true,
  RESUME_WINDOW_EXPIRED: false,
  HEARTBEAT_LOST: true,
  LEASE_EXPIRED: false,
  BUDGET_EXHAUSTED: false,
  INVALID_REQUEST: false,
  UNAUTHENTICATED: false,
  INTERNAL_ERROR: true
} as const

export type ErrorCode = keyof typeof retryable

/** Longest error message on the wire, in characters. */
export const maxMessageLength = 512

/** What every error of the protocol carries. `details` are the wire's. */
interface ErrorFields {
  readonly message: string
  readonly details?: Readonly<Record<string, unknown>> | undefined
}

/** Lease or policy refuses. */
export class PermissionDenied extends Data.TaggedError("PermissionDenied")<ErrorFields> {
  readonly code = "PERMISSION_DENIED"
  readonly retryable = retryable.PERMISSION_DENIED
}
/** A delegation would widen authority. */
export class LeaseSubsetViolation extends Data.TaggedError("LeaseSubsetViolation")<ErrorFields> {
  readonly code = "LEASE_SUBSET_VIOLATION"
  readonly retryable = retryable.LEASE_SUBSET_VIOLATION
}
/** Unknown job, or one that this principal may not see. */
export class JobNotFound extends Data.TaggedError("JobNotFound")<ErrorFields> {
  readonly code = "JOB_NOT_FOUND"
  readonly retryable = retryable.JOB_NOT_FOUND
}
/** An idempotency key was used before with other parameters. */
export class DuplicateKey extends Data.TaggedError("DuplicateKey")<ErrorFields> {
  readonly code = "DUPLICATE_KEY"
  readonly retryable = retryable.DUPLICATE_KEY
}
/** No agent of that name. */
export class AgentNotAvailable extends Data.TaggedError("AgentNotAvailable")<ErrorFields> {
  readonly code = "AGENT_NOT_AVAILABLE"
  readonly retryable = retryable.AGENT_NOT_AVAILABLE
}
/** The agent exists, this version of it does not; `details.available` lists those that do. */
export class AgentVersionNotAvailable extends Data.TaggedError("AgentVersionNotAvailable")<ErrorFields> {
  readonly code = "AGENT_VERSION_NOT_AVAILABLE"
  readonly retryable = retryable.AGENT_VERSION_NOT_AVAILABLE
}
/** The job was ended by cancellation. */
export class Cancelled extends Data.TaggedError("Cancelled")<ErrorFields> {
  readonly code = "CANCELLED"
  readonly retryable = retryable.CANCELLED
}
/** `max_runtime_sec` exceeded. */
export class Timeout extends Data.TaggedError("Timeout")<ErrorFields> {
  readonly code = "TIMEOUT"
  readonly retryable = retryable.TIMEOUT
}
/** The session, its token or its backlog is gone. */
export class ResumeWindowExpired extends Data.TaggedError("ResumeWindowExpired")<ErrorFields> {
  readonly code = "RESUME_WINDOW_EXPIRED"
  readonly retryable = retryable.RESUME_WINDOW_EXPIRED
}
/** The peer was silent for two heartbeat intervals. */
export class HeartbeatLost extends Data.TaggedError("HeartbeatLost")<ErrorFields> {
  readonly code = "HEARTBEAT_LOST"
  readonly retryable = retryable.HEARTBEAT_LOST
}
/** The lease is over. */
export class LeaseExpired extends Data.TaggedError("LeaseExpired")<ErrorFields> {
  readonly code = "LEASE_EXPIRED"
  readonly retryable = retryable.LEASE_EXPIRED
}
/** A budget counter reached zero. */
export class BudgetExhausted extends Data.TaggedError("BudgetExhausted")<ErrorFields> {
  readonly code = "BUDGET_EXHAUSTED"
  readonly retryable = retryable.BUDGET_EXHAUSTED
}
/** Malformed, or a feature that was not negotiated. */
export class InvalidRequest extends Data.TaggedError("InvalidRequest")<ErrorFields> {
  readonly code = "INVALID_REQUEST"
  readonly retryable = retryable.INVALID_REQUEST
}
/** Missing, unknown or expired credentials. */
export class Unauthenticated extends Data.TaggedError("Unauthenticated")<ErrorFields> {
  readonly code = "UNAUTHENTICATED"
  readonly retryable = retryable.UNAUTHENTICATED
}
/** A failure that an agent or a tool declares (`details.error`) comes again, unless it says that it may be retried. */
const mayRetry = (details: ErrorFields["details"]): boolean => {
  const declared = details?.["error"] as { readonly retryable?: unknown } | null | undefined
  return declared === undefined || declared?.retryable === true
}
/** Runtime fault, a resource limit (`details.limit` names the cap), or a failure that an agent declares (`details.error`). */
export class InternalError extends Data.TaggedError("InternalError")<ErrorFields> {
  readonly code = "INTERNAL_ERROR"
  readonly retryable: boolean = mayRetry(this.details)
}

const classes = {
  PERMISSION_DENIED: PermissionDenied,
  LEASE_SUBSET_VIOLATION: LeaseSubsetViolation,
  JOB_NOT_FOUND: JobNotFound,
  DUPLICATE_KEY: DuplicateKey,
  AGENT_NOT_AVAILABLE: AgentNotAvailable,
  AGENT_VERSION_NOT_AVAILABLE: AgentVersionNotAvailable,
  CANCELLED: Cancelled,
  TIMEOUT: Timeout,
  RESUME_WINDOW_EXPIRED: ResumeWindowExpired,
  HEARTBEAT_LOST: HeartbeatLost,
  LEASE_EXPIRED: LeaseExpired,
  BUDGET_EXHAUSTED: BudgetExhausted,
  INVALID_REQUEST: InvalidRequest,
  UNAUTHENTICATED: Unauthenticated,
  INTERNAL_ERROR: InternalError
} as const satisfies Record<ErrorCode, unknown>

/** Any protocol error. */
export type ArcpError = InstanceType<(typeof classes)[ErrorCode]>

/** `PermissionDenied` of `PERMISSION_DENIED`. */
const tagOf = (code: string) =>
  code.toLowerCase().replace(/(?:^|_)(.)/g, (_, initial: string) => initial.toUpperCase())

/**
 * Is this value one of the 15 protocol errors? By its tag as well as its code: system errors have codes
 * too, and an agent's module may bring its own copy of these classes.
 */
export const isArcpError = (u: unknown): u is ArcpError =>
  u instanceof Error &&
  "code" in u &&
  typeof u.code === "string" &&
  Object.hasOwn(classes, u.code) &&
  "_tag" in u &&
  u._tag === tagOf(u.code)

/** The error payload of §12 as it stands on the wire. */
export interface ErrorPayload {
  readonly code: string
  readonly message: string
  readonly retryable: boolean
  readonly details?: Readonly<Record<string, unknown>> | undefined
}

/** May the request that got this error be repeated as it is (§12)? */
export const isRetryable = (error: ArcpError): boolean => error.retryable

/** `message` cut to what the wire allows. */
export const truncateMessage = (message: string): string =>
  message.length <= maxMessageLength ? message : `${message.slice(0, maxMessageLength - 1)}…`

/** An error as its wire payload; `details` are merged over the error's own. */
export const toPayload = (error: ArcpError, details?: Record<string, unknown>): ErrorPayload => ({
  code: error.code,
  message: truncateMessage(error.message),
  retryable: error.retryable,
  ...(error.details !== undefined || details !== undefined
    ? { details: { ...error.details, ...details } }
    : {})
})

/** A wire payload as an error. An unknown code becomes `InternalError` with `details.code`. */
export const fromPayload = (payload: ErrorPayload): ArcpError => {
  const known = Object.hasOwn(classes, payload.code)
  const Class = known ? classes[payload.code as ErrorCode] : InternalError
  const details = known ? payload.details : { ...payload.details, code: payload.code }
  return new Class({ message: payload.message, ...(details === undefined ? {} : { details }) })
}
