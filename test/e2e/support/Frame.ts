/** What a frame looks like to a client that knows only the protocol page. */
export interface Payload {
  readonly code?: string
  readonly message?: string
  readonly retryable?: boolean
  readonly details?: Record<string, unknown>
  readonly request_id?: string
  readonly kind?: string
  readonly ts?: string
  readonly body?: Record<string, unknown>
  readonly job_id?: string
  readonly trace_id?: string
  readonly final_status?: string
  readonly result?: unknown
  readonly [key: string]: unknown
}

export interface Frame {
  readonly arcp: string
  readonly id: string
  readonly type: string
  readonly session_id?: string
  readonly job_id?: string
  readonly trace_id?: string
  readonly event_seq?: number
  readonly extensions?: Readonly<Record<string, unknown>>
  readonly payload: Payload
}

export const features = [
  "heartbeat",
  "ack",
  "list_jobs",
  "subscribe",
  "lease_expires_at",
  "cost.budget",
  "model.use",
  "progress",
  "result_chunk",
  "agent_versions",
  "x-vendor.effect-arcp.requests",
  "x-vendor.effect-arcp.input"
] as const

/** §12: every code and whether it may be retried. */
export const retryableByCode: Readonly<Record<string, boolean>> = {
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
}

const topLevel = new Set([
  "arcp",
  "id",
  "type",
  "session_id",
  "job_id",
  "trace_id",
  "event_seq",
  "extensions",
  "payload"
])
const numbered = new Set(["job.event", "job.result", "job.error"])
const fromRuntime = new Set([
  "session.welcome",
  "session.error",
  "session.ping",
  "session.pong",
  "session.jobs",
  "session.closed",
  "session.bye",
  "job.accepted",
  "job.cancelled",
  "job.subscribed",
  "x-vendor.effect-arcp.job.input_accepted",
  ...numbered
])
const timestamps = ["ts", "accepted_at", "completed_at", "sent_at", "received_at"]
const kinds =
  /^(log|thought|tool_call|tool_result|status|metric|artifact_ref|delegate|progress|result_chunk|x-vendor\..+)$/

export const timestamp = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z$/
export const ulid = "[0-9A-HJKMNP-TV-Z]{26}"

export const isNumbered = (frame: Frame): boolean => frame.event_seq !== undefined
export const isTerminal = (frame: Frame): boolean => frame.type === "job.result" || frame.type === "job.error"

/** Everything sections 2, 3 and 10 say about any frame of a runtime; one sentence per breach. */
export const frameViolations = (frame: Frame, version: string): ReadonlyArray<string> => {
  const found: Array<string> = []
  const must = (holds: boolean, sentence: string) => {
    if (!holds) found.push(`${frame.type} ${frame.id}: ${sentence}`)
  }
  const { payload } = frame
  must(frame.arcp === version, `arcp is ${JSON.stringify(frame.arcp)}, not ${version}`)
  must(new RegExp(`^([a-z]+_)?${ulid}$`).test(frame.id), "id is not a ULID")
  must(fromRuntime.has(frame.type), "not a message of the runtime")
  must(new RegExp(`^sess_${ulid}$`).test(frame.session_id ?? ""), `session_id is ${frame.session_id}`)
  for (const key of Object.keys(frame)) must(topLevel.has(key), `unknown top-level field ${key}`)
  must(typeof payload === "object" && payload !== null && !Array.isArray(payload), "payload is no object")
  // A refused cancel or subscribe of a client that knows no better is an answer, and no event (5.7).
  const isAnswer = frame.type === "job.error" && frame.payload.details?.request_id !== undefined
  must(
    numbered.has(frame.type) === (frame.event_seq !== undefined) || isAnswer,
    `event_seq is ${frame.event_seq}`
  )
  if (frame.type.startsWith("job.")) {
    must(new RegExp(`^job_${ulid}$`).test(frame.job_id ?? ""), `job_id is ${frame.job_id}`)
  }
  if (frame.trace_id !== undefined) {
    must(/^(?!0{32})[0-9a-f]{32}$/.test(frame.trace_id), `trace_id is ${frame.trace_id}`)
  }
  for (const field of timestamps) {
    if (payload[field] !== undefined) {
      must(timestamp.test(String(payload[field])), `${field} is ${payload[field]}`)
    }
  }
  if (frame.type === "session.error" || frame.type === "job.error") {
    const retryable = retryableByCode[String(payload.code)]
    must(retryable !== undefined, `code is ${payload.code}`)
    must(payload.retryable === retryable, `${payload.code} has retryable ${payload.retryable}`)
    must(typeof payload.message === "string", "message is no string")
    must((payload.message?.length ?? 0) <= 512, "message is longer than 512 characters")
  }
  if (frame.type === "job.event") {
    must(kinds.test(payload.kind ?? ""), `kind is ${payload.kind}`)
    must(timestamp.test(payload.ts ?? ""), `ts is ${payload.ts}`)
  }
  if (isTerminal(frame)) {
    const allowed = frame.type === "job.result" ? ["success"] : ["error", "cancelled", "timed_out"]
    must(allowed.includes(String(payload.final_status)), `final_status is ${payload.final_status}`)
    must(payload.completed_at !== undefined, "no completed_at")
  }
  return found
}
