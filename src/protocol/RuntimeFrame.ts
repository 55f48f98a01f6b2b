/**
 * Reads what a runtime sends, without `effect/Schema`. The shapes are those of Message.ts and Event.ts, which the
 * compiler holds these checks to; a client is no stricter than it must be, so leases and timestamps are taken as
 * they come, and what other runtimes leave out or say in another way is filled in.
 */
import * as Check from "./Check.js"
import type { Envelope } from "./Envelope.js"
import type { ErrorPayload } from "./Errors.js"
import type * as Event from "./Event.js"
import type * as Message from "./Message.js"
import type { RuntimeMessage } from "./TypedMessage.js"
import * as Vendor from "./Vendor.js"

const texts = Check.array(Check.string)
const maybe = Check.optional(Check.string)
const lease = Check.orElse(Check.record(texts), {})
const constraints = Check.object<Event.Body<"delegate">["lease_constraints"] & {}>({
  expires_at: maybe
})
const status = Check.oneOf("pending", "running", "success", "error", "cancelled", "timed_out")

const error = {
  code: Check.orElse(Check.string, "INTERNAL_ERROR"),
  message: Check.orElse(Check.string, ""),
  retryable: Check.orElse(Check.boolean, false),
  details: Check.optional(Check.json)
}

/** What every answer that shows a job says of it. */
const shown = {
  job_id: Check.text,
  agent: Check.orElse(Check.string, ""),
  lease,
  lease_constraints: Check.optional(constraints),
  parent_job_id: Check.orElse(Check.string, null),
  delegate_id: maybe,
  trace_id: maybe
}
const waiting = { waiting_for: Check.optional(texts), sleeping_until: maybe, parked: maybe }

const entry = Check.object<Message.JobEntry>({
  ...shown,
  status,
  created_at: Check.string,
  submitted_at: maybe,
  last_event_seq: Check.orElse(Check.integer, 0),
  ...waiting
})
/** Others call it by one name or the other when a job was submitted. */
const jobEntry: typeof entry = (value, path) => {
  const job = Object(value) as { created_at?: unknown; readonly submitted_at?: unknown }
  job.created_at ??= job.submitted_at
  return entry(job, path)
}

const agentEntry = Check.object<Message.AgentEntry>({
  name: Check.string,
  versions: Check.orElse(texts, []),
  default: maybe
})

/** What no client looks at. */
type Unread =
  | "final_status"
  | "runtime"
  | "encodings"
  | "request_id"
  | "reason"
  | "sent_at"
  | "received_at"
  | "completed_at"
  | "input_id"
type Read<A> = { readonly [K in keyof A as Exclude<K, Unread>]: A[K] }

/** All but the two that say that the connection closes, which it says itself. */
type Payloads = {
  readonly [K in Exclude<keyof typeof Message.runtimeMessages, "session.closed" | "session.bye">]: Read<
    (typeof Message.runtimeMessages)[K]["Type"]
  >
}

const payloads: { readonly [K in keyof Payloads]: Check.Check<Payloads[K]> } = {
  "session.welcome": Check.object<Payloads["session.welcome"]>({
    session_id: maybe,
    resume_token: maybe,
    resume_window_sec: Check.optional(Check.amount),
    heartbeat_interval_sec: Check.optional(Check.amount),
    capabilities: Check.optional(
      Check.object<Read<Message.Welcome["capabilities"] & {}>>({
        features: Check.optional(texts),
        agents: Check.optional(
          Check.array((agent, path) => (typeof agent === "string" ? agent : agentEntry(agent, path)))
        ),
        // Limits that nothing fits into are none.
        [Vendor.limits]: Check.ifGood(
          Check.object({ frame_bytes: Check.positive, outbound_frame_bytes: Check.positive }),
          undefined
        )
      })
    )
  }),
  "session.error": Check.object<ErrorPayload>(error),
  "session.ping": Check.object({ nonce: Check.orElse(Check.string, "") }),
  "session.pong": Check.object({ ping_nonce: Check.orElse(Check.string, "") }),
  "session.jobs": Check.object<Read<Message.Jobs>>({
    jobs: Check.array(jobEntry),
    next_cursor: Check.orElse(Check.string, null)
  }),
  "job.accepted": Check.object<Payloads["job.accepted"]>({ ...shown, accepted_at: maybe }),
  "job.cancelled": Check.object<Payloads["job.cancelled"]>({}),
  "job.subscribed": Check.object<Read<Message.Subscribed>>({
    ...shown,
    current_status: status,
    subscribed_from: Check.orElse(Check.integer, 0),
    replayed: Check.orElse(
      (value, path) => (typeof value === "boolean" ? value : Check.count(value, path)),
      false
    ),
    [Vendor.goesOn]: Check.optional(Check.boolean),
    [Vendor.createdAt]: maybe,
    ...waiting
  }),
  [Vendor.jobInputAccepted]: Check.object<Payloads[typeof Vendor.jobInputAccepted]>({}),
  "job.event": Check.object<Event.EventPayload>({
    kind: Check.ifGood(Check.string, ""),
    ts: Check.ifGood(Check.string, "")
  }),
  "job.result": Check.object<Payloads["job.result"]>({
    result_id: maybe,
    result_size: Check.optional(Check.integer),
    summary: maybe,
    [Vendor.encoding]: maybe
  }),
  "job.error": Check.object<Payloads["job.error"]>(error)
}

/** A frame that was read; what names the request that it answers may have been in its envelope. */
export type Frame = RuntimeMessage & {
  readonly type: keyof Payloads
  readonly request_id?: string | undefined
  readonly problem?: undefined
}

/** A frame that cannot be read: what is wrong with it, and what it says of where it belongs. */
export interface Misread extends Pick<Envelope, "job_id" | "trace_id" | "event_seq"> {
  readonly problem: string
  readonly type?: string | undefined
  readonly payload?: unknown
  readonly request_id?: string | undefined
}

/** Where a message belongs: some say it in the envelope, others in the payload, and of errors in their details. */
const places = ["session_id", "job_id", "trace_id", "request_id"] as const

/** What a frame may have. */
type Fields = {
  [K in
    | "problem"
    | "type"
    | "payload"
    | "event_seq"
    | "final_status"
    | "code"
    | "details"
    | (typeof places)[number]]?: unknown
}

/** What can be told of a text that is no JSON, such as one with a `NaN` in it. */
const salvaged = (text: string): Fields => {
  const fields: Fields = {}
  for (const key of [...places, "type", "event_seq"] as const)
    fields[key] = new RegExp(`"${key}"\\s*:\\s*"?([\\w.-]+)`).exec(text)?.[1]
  return fields
}

const named = (value: unknown): string | undefined =>
  typeof value === "string" && value !== "" ? value : undefined

/**
 * Says a thing as we do: in the envelope where it belongs, as far as that is said anywhere, and a failure that others tell by
 * a `job.result`, or by its `final_status` alone, as a `job.error` with a code.
 */
const arrange = (frame: Fields): void => {
  frame.payload ??= {}
  const { payload: said, type } = frame
  const payload = Object(said) as Fields
  const details = Object(payload.details) as Fields
  for (const key of places) frame[key] = named(frame[key]) ?? named(payload[key]) ?? named(details[key])
  frame.event_seq ??= payload.event_seq
  if (type === "job.accepted" || type === "job.subscribed") payload.job_id ??= frame.job_id
  const { final_status: status } = payload
  const isBare = type === "job.error" && payload.code == null && status !== "error"
  if ((type !== "job.result" && !isBare) || typeof status !== "string" || status === "success") return
  frame.type = "job.error"
  const code = status === "timed_out" ? "TIMEOUT" : status.toUpperCase()
  frame.payload = { message: status, ...payload, code: payload.code ?? code }
}

/** Is it of the messages that have a number? */
export const isEvent = (type: unknown): boolean => /^job\.(event|result|error)$/.test(String(type))
const number = Check.optional(Check.count)

/** Reads a frame from a runtime. The bodies of events are left as they are, and so is what no client looks at. */
export const decodeRuntime = (text: string): Frame | Misread => {
  let frame: Fields
  let problem: string | undefined
  try {
    frame = Object(JSON.parse(text))
  } catch {
    frame = salvaged(text)
    problem = "no JSON"
  }
  arrange(frame)
  const { event_seq: seq, type } = frame
  frame.event_seq = undefined
  try {
    // Some write 0 where there is none.
    if (isEvent(type)) frame.event_seq = number(seq, "event_seq") || undefined
    problem ??= Object.hasOwn(payloads, type as string)
      ? void payloads[type as keyof Payloads](frame.payload, "payload")
      : "unknown type"
  } catch (wrong) {
    problem ??= String(wrong)
  }
  frame.problem = problem
  return frame as Frame | Misread
}

const bodies: { readonly [K in Event.Kind]: Check.Check<Event.Body<K>> } = {
  log: Check.object<Event.Body<"log">>({
    level: Check.oneOf("trace", "debug", "info", "warn", "error", "critical"),
    message: Check.string,
    attributes: Check.optional(Check.json)
  }),
  thought: Check.object<Event.Body<"thought">>({ text: Check.string }),
  tool_call: Check.object<Event.Body<"tool_call">>({
    tool: Check.text,
    call_id: Check.text
  }),
  tool_result: Check.object<Event.Body<"tool_result">>({
    call_id: Check.text
  }),
  status: Check.object<{ readonly phase: string; readonly message?: string | undefined }>({
    phase: Check.text,
    message: maybe
  }) as Check.Check<Event.Body<"status">>,
  metric: Check.object<Event.Body<"metric">>({
    name: Check.text,
    value: Check.number(() => true),
    unit: maybe,
    dimensions: Check.optional(Check.json)
  }),
  artifact_ref: Check.object<Event.Body<"artifact_ref">>({
    uri: Check.text,
    content_type: Check.text,
    byte_size: Check.optional(Check.count),
    sha256: maybe
  }),
  delegate: Check.object<Event.Body<"delegate">>({
    delegate_id: Check.text,
    agent: Check.text,
    lease_request: Check.optional(lease),
    lease_constraints: Check.optional(constraints)
  }),
  progress: Check.object<Event.Body<"progress">>({
    current: Check.amount,
    total: Check.optional(Check.amount),
    units: maybe,
    message: maybe
  }),
  result_chunk: Check.object<Event.Body<"result_chunk">>({
    result_id: Check.text,
    chunk_seq: Check.count,
    data: Check.string,
    encoding: Check.oneOf("utf8", "base64"),
    more: Check.boolean
  })
}

/** Does the protocol define this kind of event? */
export const isKind = (kind: string): kind is Event.Kind => Object.hasOwn(bodies, kind)

/** Reads the body of an event of this kind, as it came from a runtime; returns what is wrong with it, if anything. */
export const bodyProblem = (kind: Event.Kind, body: unknown): string | undefined => {
  try {
    bodies[kind](body, "body")
    return undefined
  } catch (wrong) {
    return String(wrong)
  }
}
