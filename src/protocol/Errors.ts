/**
 * The protocol's errors, one class per wire code (§12), and the one function
 * each way between them and the wire payload.
 */
import * as Schema from "effect/Schema"

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

/** Any JSON object, kept as it is: rebuilding one would turn a `__proto__` key into a prototype. */
export const JsonObject: Schema.Schema<Readonly<Record<string, unknown>>> = Schema.declare(
  (u): u is Readonly<Record<string, unknown>> => typeof u === "object" && u !== null && !Array.isArray(u),
  { identifier: "JsonObject", description: "an object" }
)

const fields = {
  message: Schema.String,
  details: Schema.optional(JsonObject)
}

/** Lease or policy refuses. */
export class PermissionDenied extends Schema.TaggedError<PermissionDenied>()("PermissionDenied", fields) {
  readonly code = "PERMISSION_DENIED"
}
/** A delegation would widen authority. */
export class LeaseSubsetViolation extends Schema.TaggedError<LeaseSubsetViolation>()(
  "LeaseSubsetViolation",
  fields
) {
  readonly code = "LEASE_SUBSET_VIOLATION"
}
/** Unknown job, or one that this principal may not see. */
export class JobNotFound extends Schema.TaggedError<JobNotFound>()("JobNotFound", fields) {
  readonly code = "JOB_NOT_FOUND"
}
/** An idempotency key was used before with other parameters. */
export class DuplicateKey extends Schema.TaggedError<DuplicateKey>()("DuplicateKey", fields) {
  readonly code = "DUPLICATE_KEY"
}
/** No agent of that name. */
export class AgentNotAvailable extends Schema.TaggedError<AgentNotAvailable>()("AgentNotAvailable", fields) {
  readonly code = "AGENT_NOT_AVAILABLE"
}
/** The agent exists, this version of it does not; `details.available` lists those that do. */
export class AgentVersionNotAvailable extends Schema.TaggedError<AgentVersionNotAvailable>()(
  "AgentVersionNotAvailable",
  fields
) {
  readonly code = "AGENT_VERSION_NOT_AVAILABLE"
}
/** The job was ended by cancellation. */
export class Cancelled extends Schema.TaggedError<Cancelled>()("Cancelled", fields) {
  readonly code = "CANCELLED"
}
/** `max_runtime_sec` exceeded. */
export class Timeout extends Schema.TaggedError<Timeout>()("Timeout", fields) {
  readonly code = "TIMEOUT"
}
/** The session, its token or its backlog is gone. */
export class ResumeWindowExpired extends Schema.TaggedError<ResumeWindowExpired>()(
  "ResumeWindowExpired",
  fields
) {
  readonly code = "RESUME_WINDOW_EXPIRED"
}
/** The peer was silent for two heartbeat intervals. */
export class HeartbeatLost extends Schema.TaggedError<HeartbeatLost>()("HeartbeatLost", fields) {
  readonly code = "HEARTBEAT_LOST"
}
/** The lease is over. */
export class LeaseExpired extends Schema.TaggedError<LeaseExpired>()("LeaseExpired", fields) {
  readonly code = "LEASE_EXPIRED"
}
/** A budget counter reached zero. */
export class BudgetExhausted extends Schema.TaggedError<BudgetExhausted>()("BudgetExhausted", fields) {
  readonly code = "BUDGET_EXHAUSTED"
}
/** Malformed, or a feature that was not negotiated. */
export class InvalidRequest extends Schema.TaggedError<InvalidRequest>()("InvalidRequest", fields) {
  readonly code = "INVALID_REQUEST"
}
/** Missing, unknown or expired credentials. */
export class Unauthenticated extends Schema.TaggedError<Unauthenticated>()("Unauthenticated", fields) {
  readonly code = "UNAUTHENTICATED"
}
/** Runtime fault, or a resource limit (`details.limit` names the cap). */
export class InternalError extends Schema.TaggedError<InternalError>()("InternalError", fields) {
  readonly code = "INTERNAL_ERROR"
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
  u._tag === classes[u.code as ErrorCode]._tag

/** The error payload of §12 as it stands on the wire. */
export const ErrorPayload = Schema.Struct({
  code: Schema.String,
  message: Schema.String,
  retryable: Schema.Boolean,
  details: Schema.optional(JsonObject)
})
export interface ErrorPayload extends Schema.Schema.Type<typeof ErrorPayload> {}

/** `message` cut to what the wire allows. */
export const truncateMessage = (message: string): string =>
  message.length <= maxMessageLength ? message : `${message.slice(0, maxMessageLength - 1)}…`

/** An error as its wire payload; `details` are merged over the error's own. */
export const toPayload = (error: ArcpError, details?: Record<string, unknown>): ErrorPayload => ({
  code: error.code,
  message: truncateMessage(error.message),
  retryable: retryable[error.code],
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
