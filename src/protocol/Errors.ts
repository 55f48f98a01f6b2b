/**
 * The protocol's errors, one class per wire code (§12), and the one function
 * each way between them and the wire payload. Not schemas, so that a client in a browser does without
 * `effect/Schema`; the schema of the payload is in Message.ts.
 */
import type { YieldableError } from "effect/Cause"
import * as Data from "effect/Data"
import { cut, wellFormed } from "./Text.js"

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

/** The 15 codes of the protocol's errors (§12). */
export type ErrorCode = keyof typeof retryable

/** Codes of what a lease, or the policy, does not allow. */
export const denials: ReadonlySet<string> = new Set<ErrorCode>([
  "PERMISSION_DENIED",
  "LEASE_SUBSET_VIOLATION",
  "LEASE_EXPIRED",
  "BUDGET_EXHAUSTED"
])

/** Longest error message on the wire, in characters. */
export const maxMessageLength = 512

/** What every error of the protocol carries. `details` are the wire's. */
export interface ErrorFields {
  readonly message: string
  readonly details?: Readonly<Record<string, unknown>> | undefined
  /** Why, for the log of whoever has made it: it does not go over the wire. */
  readonly cause?: unknown
}

/** `PermissionDenied` of `PERMISSION_DENIED`. */
type TagOf<Code extends string> = Code extends `${infer Word}_${infer Words}`
  ? `${Capitalize<Lowercase<Word>>}${TagOf<Words>}`
  : Capitalize<Lowercase<Code>>
const tagOf = <Code extends string>(code: Code) =>
  code.toLowerCase().replace(/(?:^|_)(.)/g, (_, initial: string) => initial.toUpperCase()) as TagOf<Code>

/** The class of the errors of one code, which say by themselves whether to retry. */
type ErrorOf<Code extends ErrorCode> = new (
  fields: ErrorFields
) => YieldableError &
  ErrorFields & {
    readonly _tag: TagOf<Code>
    readonly code: Code
    readonly retryable: Code extends "INTERNAL_ERROR" ? boolean : (typeof retryable)[Code]
  }

/**
 * A failure that an agent or a tool declares (`details.error`) comes again, unless it says that it may be retried. The wire
 * has one answer for each code all the same (§12).
 */
const mayRetry = (details: ErrorFields["details"]): boolean => {
  const declared = details?.["error"] as { readonly retryable?: unknown } | null | undefined
  return declared === undefined || declared?.retryable === true
}

const classes = Object.fromEntries(
  Object.entries(retryable).map(([code, always]) => [
    code,
    class extends Data.TaggedError(tagOf(code))<ErrorFields> {
      readonly code = code
      readonly retryable: boolean = code === "INTERNAL_ERROR" ? mayRetry(this.details) : always
    }
  ])
) as unknown as { readonly [Code in ErrorCode]: ErrorOf<Code> }

const isCode = (code: string): code is ErrorCode => Object.hasOwn(classes, code)

/** Lease or policy refuses. */
export const PermissionDenied = classes.PERMISSION_DENIED
export interface PermissionDenied extends InstanceType<typeof PermissionDenied> {}
/** A delegation would widen authority. */
export const LeaseSubsetViolation = classes.LEASE_SUBSET_VIOLATION
export interface LeaseSubsetViolation extends InstanceType<typeof LeaseSubsetViolation> {}
/** Unknown job, or one that this principal may not see. */
export const JobNotFound = classes.JOB_NOT_FOUND
export interface JobNotFound extends InstanceType<typeof JobNotFound> {}
/** An idempotency key was used before with other parameters. */
export const DuplicateKey = classes.DUPLICATE_KEY
export interface DuplicateKey extends InstanceType<typeof DuplicateKey> {}
/** No agent of that name. */
export const AgentNotAvailable = classes.AGENT_NOT_AVAILABLE
export interface AgentNotAvailable extends InstanceType<typeof AgentNotAvailable> {}
/** The agent exists, this version of it does not; `details.available` lists those that do. */
export const AgentVersionNotAvailable = classes.AGENT_VERSION_NOT_AVAILABLE
export interface AgentVersionNotAvailable extends InstanceType<typeof AgentVersionNotAvailable> {}
/** The job was ended by cancellation. */
export const Cancelled = classes.CANCELLED
export interface Cancelled extends InstanceType<typeof Cancelled> {}
/** `max_runtime_sec` exceeded. */
export const Timeout = classes.TIMEOUT
export interface Timeout extends InstanceType<typeof Timeout> {}
/** The session, its token or its backlog is gone. */
export const ResumeWindowExpired = classes.RESUME_WINDOW_EXPIRED
export interface ResumeWindowExpired extends InstanceType<typeof ResumeWindowExpired> {}
/** The peer was silent for two heartbeat intervals. */
export const HeartbeatLost = classes.HEARTBEAT_LOST
export interface HeartbeatLost extends InstanceType<typeof HeartbeatLost> {}
/** The lease is over. */
export const LeaseExpired = classes.LEASE_EXPIRED
export interface LeaseExpired extends InstanceType<typeof LeaseExpired> {}
/** A budget counter reached zero. */
export const BudgetExhausted = classes.BUDGET_EXHAUSTED
export interface BudgetExhausted extends InstanceType<typeof BudgetExhausted> {}
/** Malformed, or a feature that was not negotiated. */
export const InvalidRequest = classes.INVALID_REQUEST
export interface InvalidRequest extends InstanceType<typeof InvalidRequest> {}
/** Missing, unknown or expired credentials. */
export const Unauthenticated = classes.UNAUTHENTICATED
export interface Unauthenticated extends InstanceType<typeof Unauthenticated> {}
/** Runtime fault, a resource limit (`details.limit` names the cap), or a failure that an agent declares (`details.error`). */
export const InternalError = classes.INTERNAL_ERROR
export interface InternalError extends InstanceType<typeof InternalError> {}

/** Any protocol error. */
export type ArcpError =
  | PermissionDenied
  | LeaseSubsetViolation
  | JobNotFound
  | DuplicateKey
  | AgentNotAvailable
  | AgentVersionNotAvailable
  | Cancelled
  | Timeout
  | ResumeWindowExpired
  | HeartbeatLost
  | LeaseExpired
  | BudgetExhausted
  | InvalidRequest
  | Unauthenticated
  | InternalError

/**
 * Is this value one of the 15 protocol errors? By its tag as well as its code: system errors have codes
 * too, and an agent's module may bring its own copy of these classes.
 */
export const isArcpError = (u: unknown): u is ArcpError =>
  u instanceof Error &&
  "code" in u &&
  typeof u.code === "string" &&
  isCode(u.code) &&
  "_tag" in u &&
  u._tag === tagOf(u.code)

/** The error payload of §12 as it stands on the wire. */
export interface ErrorPayload {
  /** One of {@link ErrorCode}, or what a newer peer says. */
  readonly code: string
  /** For people; at most {@link maxMessageLength} characters of ours. */
  readonly message: string
  /** Whether the same request may succeed later. */
  readonly retryable: boolean
  readonly details?: Readonly<Record<string, unknown>> | undefined
}

/** May the request that got this error be repeated as it is? As §12 says, but for what an agent declares. */
export const isRetryable = (error: ArcpError): boolean => error.retryable

/** `message` cut to what the wire allows. */
export const truncateMessage = (message: string): string =>
  message.length <= maxMessageLength ? message : `${cut(message, maxMessageLength - 1)}…`

/** An error as its wire payload; `details` are merged over the error's own. */
export const toPayload = (error: ArcpError, details?: Record<string, unknown>): ErrorPayload => ({
  code: error.code,
  message: wellFormed(truncateMessage(error.message)),
  retryable: retryable[error.code],
  ...(error.details !== undefined || details !== undefined
    ? { details: { ...error.details, ...details } }
    : {})
})

/** A wire payload as an error. An unknown code becomes `InternalError` with `details.code`. */
export const fromPayload = (payload: ErrorPayload): ArcpError => {
  const { code, message } = payload
  const known = isCode(code)
  const details = known ? payload.details : { ...payload.details, code }
  return new classes[known ? code : "INTERNAL_ERROR"]({ message, ...(details && { details }) })
}
