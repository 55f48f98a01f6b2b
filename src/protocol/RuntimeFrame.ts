/**
 * Reads what a runtime sends, without `effect/Schema`. The shapes are those of Message.ts and Event.ts, which the
 * compiler holds these checks to; a client is no stricter than it must be, so leases and timestamps are taken as
 * they come, and what other runtimes leave out or say in another way is filled in.
 */
import * as Either from "effect/Either"
import * as Check from "./Check.js"
import type { Envelope, Rejected } from "./Envelope.js"
import type { ErrorPayload } from "./Errors.js"
import type * as Event from "./Event.js"
import type * as Message from "./Message.js"
import type { RuntimeMessage } from "./TypedMessage.js"
import * as Vendor from "./Vendor.js"

const seconds = Check.number("a number > 0", (value) => value > 0)
const texts = Check.array(Check.string)
const maybe = Check.optional(Check.string)
const lease = Check.orElse(Check.record(texts), {})
const constraints = Check.object<Event.Body<"delegate">["lease_constraints"] & {}>({
  expires_at: maybe
})
const status = Check.oneOf("pending", "running", "success", "error", "cancelled", "timed_out")

const error = {
  code: Check.string,
  message: Check.string,
  retryable: Check.orElse(Check.boolean, false),
  details: Check.optional(Check.json)
}

const envelope = Check.object<Pick<Envelope, "type" | "session_id" | "job_id" | "trace_id" | "event_seq">>({
  type: Check.text,
  session_id: Check.optional(Check.text),
  job_id: Check.optional(Check.text),
  trace_id: maybe,
  event_seq: Check.optional(Check.number("an integer ≥ 1", (value) => Number.isInteger(value) && value >= 1))
})

const entry = Check.object<Message.JobEntry>({
  job_id: Check.text,
  agent: Check.text,
  status,
  lease,
  lease_constraints: Check.optional(constraints),
  parent_job_id: Check.orElse(Check.nullable(Check.string), null),
  delegate_id: maybe,
  created_at: Check.string,
  submitted_at: maybe,
  trace_id: maybe,
  last_event_seq: Check.orElse(Check.integer, 0)
})
/** Others call it by one name or the other when a job was submitted. */
const jobEntry: typeof entry = (value, path) => {
  const job = Object(value) as { created_at?: unknown; readonly submitted_at?: unknown }
  job.created_at ??= job.submitted_at
  return entry(value, path)
}

/** What no client looks at. */
type Unread =
  | "final_status"
  | "runtime"
  | "encodings"
  | "sent_at"
  | "received_at"
  | "accepted_at"
  | "completed_at"
type Read<A> = { readonly [K in keyof A as Exclude<K, Unread>]: A[K] }

/** All but the two that say that the connection closes, which it says itself. */
type Payloads = {
  readonly [K in Exclude<keyof typeof Message.runtimeMessages, "session.closed" | "session.bye">]: Read<
    (typeof Message.runtimeMessages)[K]["Type"]
  >
}

const payloads: { readonly [K in keyof Payloads]: Check.Check<Payloads[K]> } = {
  "session.welcome": Check.object<Payloads["session.welcome"]>({
    session_id: Check.optional(Check.text),
    resume_token: Check.optional(Check.text),
    resume_window_sec: Check.optional(seconds),
    heartbeat_interval_sec: Check.optional(seconds),
    capabilities: Check.optional(
      Check.object<Read<Message.Welcome["capabilities"] & {}>>({
        features: Check.optional(texts),
        agents: Check.optional(
          Check.array(
            Check.either(
              Check.string,
              Check.object<Message.AgentEntry>({
                name: Check.string,
                versions: texts,
                default: maybe
              })
            )
          )
        ),
        [Vendor.limits]: Check.optional(
          Check.object({ frame_bytes: Check.count, outbound_frame_bytes: Check.count })
        )
      })
    )
  }),
  "session.error": Check.object<ErrorPayload>(error),
  "session.ping": Check.object({ nonce: Check.string }),
  "session.pong": Check.object({ ping_nonce: Check.string }),
  "session.jobs": Check.object<Message.Jobs>({
    request_id: Check.optional(Check.text),
    jobs: Check.array(jobEntry),
    next_cursor: Check.optional(Check.nullable(Check.string))
  }),
  "job.accepted": Check.object<Payloads["job.accepted"]>({
    request_id: maybe,
    job_id: Check.text,
    agent: maybe,
    lease,
    lease_constraints: Check.optional(constraints),
    budget: Check.anything,
    credentials: Check.anything,
    parent_job_id: Check.optional(Check.nullable(Check.string)),
    delegate_id: maybe,
    trace_id: maybe
  }),
  "job.cancelled": Check.object<Payloads["job.cancelled"]>({
    reason: maybe,
    request_id: maybe
  }),
  "job.subscribed": Check.object<Message.Subscribed>({
    request_id: maybe,
    job_id: Check.text,
    current_status: status,
    agent: Check.string,
    lease,
    lease_constraints: Check.optional(constraints),
    budget: Check.anything,
    parent_job_id: Check.optional(Check.nullable(Check.string)),
    delegate_id: maybe,
    trace_id: maybe,
    subscribed_from: Check.orElse(Check.integer, 0),
    replayed: Check.orElse(Check.either(Check.boolean, Check.count), false),
    credentials: Check.anything
  }),
  "job.event": Check.object<Event.EventPayload>({
    kind: Check.text,
    ts: Check.orElse(Check.string, ""),
    body: Check.anything
  }),
  "job.result": Check.object<Payloads["job.result"]>({
    result: Check.anything,
    result_id: maybe,
    result_size: Check.optional(Check.integer),
    summary: maybe,
    [Vendor.encoding]: maybe
  }),
  "job.error": Check.object<Payloads["job.error"]>(error)
}

const rejected = (_tag: Rejected["_tag"], message: string) => Either.left({ _tag, message })

/** Others tell a failure by a `job.result`. */
const arrange = (json: unknown): void => {
  const message = Object(json) as { type?: unknown; payload?: unknown }
  const { final_status: status } = Object(message.payload) as { readonly final_status?: unknown }
  if (message.type !== "job.result" || typeof status !== "string" || status === "success") return
  message.type = "job.error"
  const code = status === "timed_out" ? "TIMEOUT" : status.toUpperCase()
  message.payload = { code, message: status, ...(message.payload as object) }
}

/** A frame from a runtime. The bodies of events are left as they are, and so is what no client looks at. */
export const decodeRuntime = (text: string): Either.Either<RuntimeMessage, Rejected> => {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    return rejected("Malformed", "the frame is not valid JSON")
  }
  arrange(json)
  const problem = envelope(json, "frame")
  if (problem !== undefined) return rejected("Malformed", problem)
  const { type, payload } = json as RuntimeMessage
  if (!Object.hasOwn(payloads, type)) return rejected("UnknownType", "type: unknown")
  const wrong = (payloads[type as keyof Payloads] as Check.Check<unknown>)(payload, "payload")
  return wrong === undefined ? Either.right(json as RuntimeMessage) : rejected("Malformed", wrong)
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
    args: Check.anything,
    call_id: Check.text
  }),
  tool_result: Check.object<Event.Body<"tool_result">>({
    call_id: Check.text,
    result: Check.anything,
    error: Check.anything
  }),
  status: Check.object<{ readonly phase: string; readonly message?: string | undefined }>({
    phase: Check.text,
    message: maybe
  }) as Check.Check<Event.Body<"status">>,
  metric: Check.object<Event.Body<"metric">>({
    name: Check.text,
    value: Check.number("a finite number", () => true),
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
    input: Check.anything,
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

/** What is wrong with the body of an event of this kind, as it came from a runtime. */
export const bodyProblem = (kind: Event.Kind, body: unknown): string | undefined =>
  (bodies[kind] as Check.Check<unknown>)(body, "body")
