import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Encoding from "effect/Encoding"
import * as Option from "effect/Option"
import type * as Tracer from "effect/Tracer"
import * as Budget from "../../protocol/Budget.js"
import { InvalidRequest } from "../../protocol/Errors.js"
import { timestamp } from "../../protocol/EventText.js"
import * as Message from "../../protocol/Message.js"
import * as Trace from "../../protocol/Trace.js"
import * as Vendor from "../../protocol/Vendor.js"
import { type Credential, toWire } from "../../services/credentials/Credentials.js"
import type { Outgoing } from "../../services/jobs/Jobs.js"
import * as Tracing from "../../services/runtime/Tracing.js"
import type { JobRecord } from "../../services/store/Store.js"
import type { CurrentJob } from "./RunningJobs.js"

const shared = (job: JobRecord) => ({
  agent: job.agent,
  lease: job.lease,
  ...(job.leaseConstraints === undefined ? {} : { lease_constraints: job.leaseConstraints })
})

const credentialsOf = (credentials: ReadonlyArray<Credential>) =>
  credentials.length === 0 ? {} : { credentials: credentials.map(toWire) }

/** Returns the context of a job's span, while that is here, to peers that have shown to know the extension (§11). */
export const traceContext = (job: JobRecord, span: Tracer.Span | undefined): Outgoing["extensions"] => {
  const context = job.parentSpan === undefined ? undefined : Tracing.contextOf(Option.fromNullable(span))
  return context === undefined ? undefined : { [Trace.extension]: context }
}

/**
 * Makes the accept of a job: with its initial budget, also when it is made again. Without a request id for a delegated
 * job, which answers no request.
 */
export const acceptance = (
  job: JobRecord,
  requestId: string | undefined,
  credentials: ReadonlyArray<Credential>,
  span: Tracer.Span | undefined
): Outgoing => ({
  type: "job.accepted",
  jobId: job.jobId,
  traceId: job.traceId,
  extensions: traceContext(job, span),
  payload: accepted(job, requestId, credentials)
})

/** Makes the payload of an accept: member by member, since every job has one, and most have few of them. */
export const accepted = (
  job: JobRecord,
  requestId: string | undefined,
  credentials: ReadonlyArray<Credential>
): Message.Accepted => {
  const budget = job.lease["cost.budget"]
  const made: { -readonly [Name in keyof Message.Accepted]?: Message.Accepted[Name] } = {}
  if (requestId !== undefined) made.request_id = requestId
  made.job_id = job.jobId
  made.agent = job.agent
  made.lease = job.lease
  if (job.leaseConstraints !== undefined) made.lease_constraints = job.leaseConstraints
  if (budget !== undefined) made.budget = Budget.wire(Budget.parse(budget))
  if (credentials.length > 0) made.credentials = credentials.map(toWire)
  made.accepted_at = timestamp(job.createdAt)
  if (job.parentJobId !== undefined) made.parent_job_id = job.parentJobId
  if (job.delegateId !== undefined) made.delegate_id = job.delegateId
  made.trace_id = job.traceId
  return Object.assign(made as Message.Accepted, job.queued === undefined ? undefined : startOf(job))
}

/** When a job that has not begun does so at the earliest. */
const startOf = ({ queued }: JobRecord) =>
  queued?.startAt === undefined ? {} : { [Vendor.startAt]: timestamp(queued.startAt) }

const waitingOf = ({ endedAt, queued, sleepingUntil, survival, waitingFor }: CurrentJob) => {
  if (endedAt !== undefined) return {}
  const until = sleepingUntil ?? survival?.waiting?.sleepingUntil
  const parked = survival?.parked ?? queued?.parked
  return {
    ...(parked === undefined ? {} : { parked }),
    ...(until === undefined ? {} : { sleeping_until: timestamp(until) }),
    ...(waitingFor === undefined ? {} : { waiting_for: waitingFor })
  }
}

/** Returns the answer to a subscribe (§7.6). */
export const subscribed = (
  job: CurrentJob,
  answer: {
    readonly requestId: string
    readonly subscribedFrom: number
    readonly replayed: boolean
    /** The session was subscribed to it before, and is still. */
    readonly goesOn: boolean
    /** Those that the subscriber may see. */
    readonly credentials: ReadonlyArray<Credential>
  }
): Message.Subscribed => ({
  request_id: answer.requestId,
  job_id: job.jobId,
  current_status: job.status,
  ...shared(job),
  ...(job.budget === undefined ? {} : { budget: Budget.wire(countersOf(job.budget)) }),
  ...credentialsOf(answer.credentials),
  parent_job_id: job.parentJobId ?? null,
  ...(job.delegateId === undefined ? {} : { delegate_id: job.delegateId }),
  trace_id: job.traceId,
  [Vendor.createdAt]: timestamp(job.createdAt),
  ...startOf(job),
  ...waitingOf(job),
  subscribed_from: answer.subscribedFrom,
  replayed: answer.replayed,
  ...(answer.goesOn ? { [Vendor.goesOn]: true } : {})
})

const countersOf = (stored: Readonly<Record<string, string>>) =>
  Budget.parse(Object.entries(stored).map(([currency, amount]) => `${currency}:${amount}`))

/** Returns a job as listings show it (§6.6). */
export const entry = (job: CurrentJob): Message.TimedJobEntry => ({
  job_id: job.jobId,
  ...shared(job),
  status: job.status,
  parent_job_id: job.parentJobId ?? null,
  ...(job.delegateId === undefined ? {} : { delegate_id: job.delegateId }),
  created_at: timestamp(job.createdAt),
  submitted_at: timestamp(job.createdAt),
  trace_id: job.traceId,
  last_event_seq: job.lastEventSeq,
  ...startOf(job),
  ...waitingOf(job),
  ...(job.endedAt === undefined ? {} : { [Message.completedAt]: timestamp(job.endedAt) })
})

/** Returns an opaque cursor for the page that begins after this job. */
export const encodeCursor = (job: { readonly createdAt: number; readonly jobId: string }): string =>
  Encoding.encodeBase64Url(`${job.createdAt} ${job.jobId}`)

/** Reads a cursor that `encodeCursor` made; fails on any other. */
export const decodeCursor = (
  cursor: string
): Effect.Effect<{ readonly createdAt: number; readonly jobId: string }, InvalidRequest> => {
  const text = Either.getOrElse(Encoding.decodeBase64UrlString(cursor), () => "")
  const match = /^(\d{1,15}) (job_[0-9A-HJKMNP-TV-Z]{26})$/.exec(text)
  return match?.[2] === undefined
    ? new InvalidRequest({ message: "payload.cursor: not a cursor of this runtime; start again without one" })
    : Effect.succeed({ createdAt: Number(match[1]), jobId: match[2] })
}
