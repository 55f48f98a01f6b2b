/**
 * Failures as HTTP says them: a status, and a problem document (RFC 9457) with the protocol's code. Without the platform, which is
 * loaded with the first request.
 */
import * as Data from "effect/Data"
import { type ArcpError, type ErrorCode, toPayload, Unauthenticated } from "../../protocol/Errors.js"
import type { RefusalWriter } from "../../services/transport/HttpRoutes.js"

/** What HTTP itself has to refuse: a method, a media type, a range. */
export class Refused extends Data.TaggedError("Refused")<{
  readonly status: number
  readonly message: string
  /** Default: `INVALID_REQUEST`. */
  readonly code?: ErrorCode | undefined
  readonly details?: Readonly<Record<string, unknown>> | undefined
  readonly headers?: Readonly<Record<string, string>> | undefined
}> {}

/** Says to whoever is still being answered that their token has ended. */
export const tokenEnded = () =>
  new Unauthenticated({ message: "the token has ended; go on with a fresh one, after the last event" })

/** The status of each of the protocol's codes, where its details say nothing more. */
const statuses: Readonly<Record<ErrorCode, number>> = {
  PERMISSION_DENIED: 403,
  LEASE_SUBSET_VIOLATION: 403,
  JOB_NOT_FOUND: 404,
  DUPLICATE_KEY: 422,
  AGENT_NOT_AVAILABLE: 422,
  AGENT_VERSION_NOT_AVAILABLE: 422,
  CANCELLED: 409,
  TIMEOUT: 504,
  RESUME_WINDOW_EXPIRED: 410,
  HEARTBEAT_LOST: 503,
  LEASE_EXPIRED: 403,
  BUDGET_EXHAUSTED: 403,
  INVALID_REQUEST: 400,
  UNAUTHENTICATED: 401,
  INTERNAL_ERROR: 500
}

/** Why an answer cannot be given that could be later: what `details.reason` of an `INTERNAL_ERROR` says. */
const passing: ReadonlySet<unknown> = new Set([
  "shutdown",
  "authentication",
  "keys",
  "storage",
  "session",
  "timeout"
])

/** Why something is refused that would not be if things stood otherwise: what `details.reason` of an `INVALID_REQUEST` says. */
const notNow: ReadonlySet<unknown> = new Set(["already_answered", "expired", "not_ended"])

const statusOf = ({ code, details }: ArcpError): number => {
  if (code === "INTERNAL_ERROR") {
    if (details?.["limit"] !== undefined) return 429
    if (details?.["reason"] === "unanswered") return 504
    if (passing.has(details?.["reason"])) return 503
  }
  if (code === "INVALID_REQUEST") {
    if (details?.["reason"] === "unknown_input") return 404
    if (notNow.has(details?.["reason"])) return 409
  }
  return statuses[code]
}

/** Returns a failure as one problem document. */
export const documentOf = (error: ArcpError | Refused) => {
  const status = error._tag === "Refused" ? error.status : statusOf(error)
  const said =
    error._tag === "Refused"
      ? {
          code: error.code ?? "INVALID_REQUEST",
          retryable: error.code === "INTERNAL_ERROR",
          details: error.details,
          message: error.message
        }
      : toPayload(error)
  // The names of the protocol's frames are nothing to whoever sends none.
  const detail = said.message.replace(/(^|; )(?:payload\.(?:filter\.)?|filter\.)/g, "$1")
  const { request_id: _request, ...details } = said.details ?? {}
  return {
    type: "about:blank",
    title: said.code.toLowerCase().replaceAll("_", " "),
    status,
    detail,
    code: said.code,
    // It is as damaged when it is asked for again.
    retryable: said.retryable && said.details?.["reason"] !== "damaged",
    ...(Object.keys(details).length === 0 ? {} : { details })
  }
}

/** The media type of a problem document. */
export const problemJson = "application/problem+json"

/** Writes what the server refuses before the gateway has seen it as the gateway would. */
export const refusal: RefusalWriter = ({ message, status }) => {
  const code = status === 403 ? "PERMISSION_DENIED" : status < 500 ? "INVALID_REQUEST" : "INTERNAL_ERROR"
  return {
    contentType: problemJson,
    body: `${JSON.stringify(documentOf(new Refused({ status, message, code })))}\n`
  }
}
