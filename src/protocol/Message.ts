/** The payload of every message (§3 of the protocol page), in its wire shape. */

import * as Schema from "effect/Schema"
import { EventPayload } from "./Event.js"
import * as Features from "./Features.js"
import { jobStatuses } from "./JobStatus.js"
import { Lease, LeaseConstraints, UtcTimestamp } from "./Lease.js"
import * as Vendor from "./Vendor.js"

const optional = Schema.optional
const Text = Schema.NonEmptyString
/** What an answer may repeat is no longer than it may be in an envelope. */
const Id = Schema.String.pipe(
  Schema.filter((id) => id.length >= 1 && id.length <= 256, { description: "1 to 256 characters" })
)
/** A duration: NaN and the infinities are numbers, but not JSON. Others say 0 where there is none. */
const Seconds = Schema.Number.pipe(
  Schema.finite(),
  Schema.nonNegative({ description: "seconds, at least 0" })
)
const EventSeq = Schema.Int.pipe(Schema.nonNegative({ description: "an integer ≥ 0" }))

/** Any JSON object, kept as it is: rebuilding one would turn a `__proto__` key into a prototype. */
const JsonObject: Schema.Schema<Readonly<Record<string, unknown>>> = Schema.declare(
  (u): u is Readonly<Record<string, unknown>> => typeof u === "object" && u !== null && !Array.isArray(u),
  {
    identifier: "JsonObject",
    description: "an object",
    arbitrary: () => (fc) => fc.constantFrom({}, { request_id: "01J9" })
  }
)

/** §12. */
export const ErrorPayload = Schema.Struct({
  code: Schema.String,
  message: Schema.String,
  retryable: Schema.Boolean,
  details: optional(JsonObject)
})

/** Where a job is: waiting to begin, running, or how it has ended. */
export const JobStatus = Schema.Literal(...jobStatuses)
export type JobStatus = typeof JobStatus.Type

export const Hello = Schema.Struct({
  client: Schema.Struct({
    name: Schema.String,
    version: Schema.String,
    fingerprint: optional(Schema.String),
    principal: optional(Schema.String)
  }),
  auth: optional(Schema.Struct({ scheme: Schema.String, token: optional(Schema.String) })),
  capabilities: optional(
    Schema.Struct({
      encodings: optional(Schema.Array(Schema.String)),
      features: optional(Schema.Array(Schema.String))
    })
  ),
  resume: optional(Schema.Struct({ session_id: Text, resume_token: Text, last_event_seq: EventSeq }))
})
export interface Hello extends Schema.Schema.Type<typeof Hello> {}

/** An agent as a runtime's inventory names it. */
export const AgentEntry = Schema.Struct({
  name: Schema.String,
  versions: Schema.Array(Schema.String),
  default: optional(Schema.String)
})
export interface AgentEntry extends Schema.Schema.Type<typeof AgentEntry> {}

const Bytes = Schema.Int.pipe(Schema.nonNegative({ description: "an integer ≥ 0" }))
/** What the runtime takes and sends in one frame. */
const Limits = Schema.Struct({ frame_bytes: Bytes, outbound_frame_bytes: Bytes })

/** Ours says all of it. Others name the session on the envelope only, and 1.0 has neither features nor agents. */
export const Welcome = Schema.Struct({
  session_id: optional(Schema.String),
  runtime: Schema.Struct({ name: Schema.String, version: Schema.String }),
  resume_token: optional(Schema.String),
  resume_window_sec: optional(Seconds),
  heartbeat_interval_sec: optional(Seconds),
  capabilities: optional(
    Schema.Struct({
      encodings: optional(Schema.Array(Schema.String)),
      features: optional(Schema.Array(Schema.String)),
      agents: optional(Schema.Array(Schema.Union(Schema.String, AgentEntry))),
      [Vendor.limits]: optional(Limits)
    })
  )
})
export interface Welcome extends Schema.Schema.Type<typeof Welcome> {}

export const Ping = Schema.Struct({ nonce: Schema.String, sent_at: optional(Schema.String) })
export const Pong = Schema.Struct({ ping_nonce: Schema.String, received_at: optional(Schema.String) })
export const Ack = Schema.Struct({ last_processed_seq: EventSeq })
export const Reason = Schema.Struct({ reason: optional(Schema.String.pipe(Schema.maxLength(1024))) })

/** `session.list_jobs`: which jobs, in pages. */
export const ListJobs = Schema.Struct({
  filter: optional(
    Schema.Struct({
      status: optional(Schema.Array(JobStatus)),
      agent: optional(Text),
      created_after: optional(UtcTimestamp),
      created_before: optional(UtcTimestamp),
      parent_job_id: optional(Text)
    })
  ),
  limit: optional(Schema.Int.pipe(Schema.between(1, 1000, { description: "an integer from 1 to 1000" }))),
  cursor: optional(Schema.NullOr(Text))
})
export interface ListJobs extends Schema.Schema.Type<typeof ListJobs> {}

/** The field of a listing's entry that tells when the job ended; ours, as the protocol has none. */
export const completedAt = Vendor.completedAt

/** What a job waits for: ids of inputs, until when it sleeps, and why it is parked; ours. */
const waiting = {
  waiting_for: optional(Schema.Array(Schema.String)),
  sleeping_until: optional(Schema.String),
  parked: optional(Schema.String)
}

/** A job as a listing shows it. */
export const JobEntry = Schema.Struct({
  job_id: Text,
  agent: Text,
  status: JobStatus,
  lease: Lease,
  lease_constraints: optional(LeaseConstraints),
  parent_job_id: Schema.NullOr(Schema.String),
  delegate_id: optional(Schema.String),
  created_at: Schema.String,
  submitted_at: optional(Schema.String),
  trace_id: optional(Schema.String),
  last_event_seq: Schema.Int,
  ...waiting
})
export interface JobEntry extends Schema.Schema.Type<typeof JobEntry> {}
/** An entry as our runtime makes it. */
export interface TimedJobEntry extends JobEntry {
  readonly [completedAt]?: string | undefined
  readonly [Features.principal]?: string | undefined
  readonly [Vendor.startAt]?: string | undefined
}

export const Jobs = Schema.Struct({
  request_id: optional(Schema.String),
  jobs: Schema.Array(JobEntry),
  next_cursor: optional(Schema.NullOr(Schema.String))
})
export interface Jobs extends Schema.Schema.Type<typeof Jobs> {}

export const Submit = Schema.Struct({
  agent: Text,
  input: Schema.Unknown,
  lease_request: optional(Lease),
  lease_constraints: optional(LeaseConstraints),
  idempotency_key: optional(Id),
  max_runtime_sec: optional(
    Schema.Number.pipe(
      Schema.filter((sec) => sec >= 1 && sec <= 86_400, { description: "seconds from 1 to 86400" })
    )
  )
})
export interface Submit extends Schema.Schema.Type<typeof Submit> {}

/** `job.accepted`: what was granted. */
export const Accepted = Schema.Struct({
  request_id: optional(Schema.String),
  job_id: Text,
  agent: optional(Schema.String),
  lease: Lease,
  lease_constraints: optional(LeaseConstraints),
  budget: optional(Schema.Unknown),
  credentials: optional(Schema.Unknown),
  accepted_at: optional(Schema.String),
  parent_job_id: optional(Schema.NullOr(Schema.String)),
  delegate_id: optional(Schema.String),
  trace_id: optional(Schema.String)
})
export interface Accepted extends Schema.Schema.Type<typeof Accepted> {}

export const Cancel = Schema.Struct({
  ...Reason.fields,
  job_id: optional(Id)
})
export const JobCancelled = Schema.Struct({ ...Reason.fields, request_id: optional(Schema.String) })

export const Subscribe = Schema.Struct({
  job_id: optional(Id),
  history: optional(Schema.Boolean),
  from_event_seq: optional(EventSeq)
})
export interface Subscribe extends Schema.Schema.Type<typeof Subscribe> {}

/** `job.subscribed`: where the job is, and what comes. */
export const Subscribed = Schema.Struct({
  request_id: optional(Schema.String),
  job_id: Text,
  current_status: JobStatus,
  agent: Schema.String,
  lease: Lease,
  lease_constraints: optional(LeaseConstraints),
  budget: optional(Schema.Unknown),
  parent_job_id: optional(Schema.NullOr(Schema.String)),
  delegate_id: optional(Schema.String),
  trace_id: optional(Schema.String),
  subscribed_from: Schema.Int,
  /** Whether history came or comes with it; others say how many events. */
  replayed: Schema.Union(
    Schema.Boolean,
    Schema.Int.pipe(Schema.nonNegative({ description: "an integer ≥ 0" }))
  ),
  [Vendor.goesOn]: optional(Schema.Boolean),
  [Vendor.createdAt]: optional(Schema.String),
  ...waiting,
  credentials: optional(Schema.Unknown)
})
export interface Subscribed extends Schema.Schema.Type<typeof Subscribed> {}

export const Unsubscribe = Schema.Struct({ job_id: optional(Text) })

/** The answer to what a job asks; `about_sha256` is that of what was shown with the question. */
export const JobInput = Schema.Struct({
  input_id: Text,
  value: Schema.Unknown,
  about_sha256: optional(Schema.String)
}).pipe(Schema.filter(({ value }) => value !== undefined, { description: "an input_id and a value" }))
export interface JobInput extends Schema.Schema.Type<typeof JobInput> {}
export const JobInputAccepted = Schema.Struct({
  request_id: optional(Schema.String),
  input_id: optional(Schema.String)
})

export const JobResult = Schema.Struct({
  final_status: Schema.Literal("success"),
  result: optional(Schema.Unknown),
  result_id: optional(Schema.String),
  result_size: optional(Schema.Int),
  summary: optional(Schema.String),
  completed_at: optional(Schema.String),
  [Vendor.encoding]: optional(Schema.String)
})
export interface JobResult extends Schema.Schema.Type<typeof JobResult> {}

export const JobError = Schema.Struct({
  ...ErrorPayload.fields,
  final_status: Schema.Literal("error", "cancelled", "timed_out"),
  completed_at: optional(Schema.String)
})
export interface JobError extends Schema.Schema.Type<typeof JobError> {}

/** What a client may send. */
export const clientMessages = {
  "session.hello": Hello,
  "session.ping": Ping,
  "session.pong": Pong,
  "session.ack": Ack,
  "session.list_jobs": ListJobs,
  "session.close": Reason,
  "session.bye": Reason,
  "job.submit": Submit,
  "job.cancel": Cancel,
  "job.subscribe": Subscribe,
  "job.unsubscribe": Unsubscribe,
  [Vendor.jobInput]: JobInput
} as const

/** What a runtime may send. */
export const runtimeMessages = {
  "session.welcome": Welcome,
  "session.error": ErrorPayload,
  "session.ping": Ping,
  "session.pong": Pong,
  "session.jobs": Jobs,
  "session.closed": Reason,
  "session.bye": Reason,
  "job.accepted": Accepted,
  "job.cancelled": JobCancelled,
  "job.subscribed": Subscribed,
  [Vendor.jobInputAccepted]: JobInputAccepted,
  "job.event": EventPayload,
  "job.result": JobResult,
  "job.error": JobError
} as const

/** Message types that carry an `event_seq`; stored in the log. */
export type EventType = "job.event" | "job.result" | "job.error"
