/** The errors of the protocol (§12), one class for each code. */
export {
  AgentNotAvailable,
  AgentVersionNotAvailable,
  type ArcpError,
  BudgetExhausted,
  Cancelled,
  DuplicateKey,
  type ErrorCode,
  type ErrorFields,
  type ErrorPayload,
  HeartbeatLost,
  InternalError,
  InvalidRequest,
  isArcpError,
  isRetryable,
  JobNotFound,
  LeaseExpired,
  LeaseSubsetViolation,
  PermissionDenied,
  ResumeWindowExpired,
  Timeout,
  Unauthenticated
} from "../protocol/Errors.js"
