/** The checks a submit passes, in the order of §7.1, and how a job looks on the wire. */
import type * as BigDecimal from "effect/BigDecimal"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Encoding from "effect/Encoding"
import * as Option from "effect/Option"
import type * as Tracer from "effect/Tracer"
import * as AgentRef from "../../protocol/AgentRef.js"
import * as Budget from "../../protocol/Budget.js"
import * as CanonicalJson from "../../protocol/CanonicalJson.js"
import {
  AgentNotAvailable,
  InternalError,
  InvalidRequest,
  type PermissionDenied
} from "../../protocol/Errors.js"
import { timestamp } from "../../protocol/EventText.js"
import type { Feature } from "../../protocol/Features.js"
import { excess, type Lease, narrowing } from "../../protocol/Lease.js"
import * as Message from "../../protocol/Message.js"
import * as Trace from "../../protocol/Trace.js"
import * as Vendor from "../../protocol/Vendor.js"
import type { Identity } from "../../services/auth/Auth.js"
import { denied, type Policy } from "../../services/auth/Policy.js"
import { type Credential, toWire } from "../../services/credentials/Credentials.js"
import type { Outgoing } from "../../services/jobs/Jobs.js"
import * as Decided from "../../services/runtime/decided.js"
import { inTurns } from "../../services/runtime/inTurns.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"
import * as Tracing from "../../services/runtime/Tracing.js"
import type { JobRecord } from "../../services/store/Store.js"

/** Which features a submit needs, and what for. */
const needs = (submit: Message.Submit, ref: AgentRef.AgentRef): ReadonlyArray<readonly [Feature, string]> => [
  ...(ref.version === undefined ? [] : [["agent_versions", "payload.agent with a version"] as const]),
  ...(submit.lease_constraints?.expires_at === undefined
    ? []
    : [["lease_expires_at", "payload.lease_constraints.expires_at"] as const]),
  ...(submit.lease_request?.["cost.budget"] === undefined
    ? []
    : [["cost.budget", "payload.lease_request cost.budget"] as const]),
  ...(submit.lease_request?.["model.use"] === undefined
    ? []
    : [["model.use", "payload.lease_request model.use"] as const])
]

/** The agent reference, once everything that needs no look-up has been checked. */
export const checkShape = (
  submit: Message.Submit,
  features: ReadonlyArray<Feature>
): Effect.Effect<AgentRef.AgentRef, InvalidRequest> => {
  const ref = AgentRef.parse(submit.agent)
  if (Option.isNone(ref))
    return new InvalidRequest({ message: "payload.agent: expected name or name@version, in lower-case" })
  for (const [feature, what] of needs(submit, ref.value))
    if (!features.includes(feature))
      return new InvalidRequest({ message: `${what} needs the feature ${feature}, which was not negotiated` })
  return Effect.succeed(ref.value)
}

/** Checks that an identity may run the agent of this name; else there is none, unless the policy says why. */
export const checkAgent = (
  policy: Policy["Type"],
  identity: Identity,
  agent: string
): Effect.Effect<void, AgentNotAvailable | PermissionDenied> =>
  Decided.gen(function* () {
    const decision = yield* policy.mayUseAgent(identity, agent)
    if (decision === false) yield* new AgentNotAvailable({ message: "no agent of that name" })
    else if (decision !== true) yield* denied(decision)
  })

/** Checks the constraints of a lease that is asked for. */
export const checkConstraints = (
  constraints: Message.Submit["lease_constraints"],
  now: number
): Effect.Effect<void, InvalidRequest> =>
  constraints?.expires_at !== undefined && Date.parse(constraints.expires_at) <= now
    ? new InvalidRequest({ message: "payload.lease_constraints.expires_at: must be in the future" })
    : Effect.void

/** The parameters that make two submits with one idempotency key the same. */
export const parameters = (submit: Message.Submit, fork: unknown): Effect.Effect<string> =>
  inTurns(() =>
    CanonicalJson.stringifying([
      submit.agent,
      submit.input ?? null,
      submit.lease_request ?? null,
      submit.lease_constraints ?? null,
      submit.max_runtime_sec ?? null,
      // As it was before there were any.
      ...(fork === undefined ? [] : [fork])
    ])
  )

/** The lease of a submit: what was asked for, under the identity's ceiling (§7.1). */
export const effectiveLease = (
  requested: Lease,
  ceiling: Lease | undefined,
  options: Options
): Effect.Effect<Lease, InvalidRequest> =>
  Object.keys(requested).length === 0 ? Effect.succeed(nothingGranted) : narrowed(requested, ceiling, options)

const narrowed = (
  requested: Lease,
  ceiling: Lease | undefined,
  options: Options
): Effect.Effect<Lease, InvalidRequest> =>
  Effect.gen(function* () {
    const problem = excess(requested, options)
    if (problem !== undefined)
      return yield* new InvalidRequest({ message: `payload.lease_request: ${problem}` })
    const lease = yield* inTurns(() => narrowing(requested, ceiling, options.maxLeaseSteps))
    return Either.isLeft(lease)
      ? yield* new InvalidRequest({ message: `payload.lease_request: ${lease.left}` })
      : granted(lease.right)
  })

/** Returns the refusal of what would exceed a limit. */
export const atLimit = (limit: string, max: number) =>
  new InternalError({
    message: `limit reached: at most ${max} ${limit.replaceAll("_", " ")}`,
    details: { limit }
  })

/** A lease of its own that nobody can change: not whoever asked for it, nor the handler that sees it. */
export const granted = (lease: Lease): Lease =>
  Object.freeze(
    Object.fromEntries(
      Object.entries(lease).map(([capability, patterns]) => [capability, Object.freeze([...patterns])])
    )
  )

const nothingGranted = granted({})

/** Counters as they are stored: exact decimals as text. */
export const storedBudget = (
  counters: ReadonlyMap<string, BigDecimal.BigDecimal>
): Readonly<Record<string, string>> =>
  Object.fromEntries(Array.from(counters, ([currency, amount]) => [currency, Budget.format(amount)]))

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

/** Makes the payload of an accept. */
export const accepted = (
  job: JobRecord,
  requestId: string | undefined,
  credentials: ReadonlyArray<Credential>
): Message.Accepted => ({
  ...(requestId === undefined ? {} : { request_id: requestId }),
  job_id: job.jobId,
  ...shared(job),
  ...(job.lease["cost.budget"] === undefined
    ? {}
    : { budget: Budget.wire(Budget.parse(job.lease["cost.budget"])) }),
  ...credentialsOf(credentials),
  accepted_at: timestamp(job.createdAt),
  ...(job.parentJobId === undefined ? {} : { parent_job_id: job.parentJobId }),
  ...(job.delegateId === undefined ? {} : { delegate_id: job.delegateId }),
  trace_id: job.traceId,
  ...startOf(job)
})

const parkedOf = ({ endedAt, queued, survival }: JobRecord) => {
  const parked = survival?.parked ?? queued?.parked
  return parked === undefined || endedAt !== undefined ? {} : { parked }
}

/** When a job that has not begun does so at the earliest. */
const startOf = ({ queued }: JobRecord) =>
  queued?.startAt === undefined ? {} : { [Vendor.startAt]: timestamp(queued.startAt) }

const waitingOf = ({ endedAt, waitingFor }: JobRecord) =>
  waitingFor === undefined || endedAt !== undefined ? {} : { waiting_for: waitingFor }

/** Returns the answer to a subscribe (§7.6). */
export const subscribed = (
  job: JobRecord,
  answer: {
    readonly requestId: string
    readonly subscribedFrom: number
    readonly replayed: boolean
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
  ...parkedOf(job),
  ...startOf(job),
  ...waitingOf(job),
  subscribed_from: answer.subscribedFrom,
  replayed: answer.replayed
})

const countersOf = (stored: Readonly<Record<string, string>>) =>
  Budget.parse(Object.entries(stored).map(([currency, amount]) => `${currency}:${amount}`))

/** Returns a job as listings show it (§6.6). */
export const entry = (job: JobRecord): Message.TimedJobEntry => ({
  job_id: job.jobId,
  ...shared(job),
  status: job.status,
  parent_job_id: job.parentJobId ?? null,
  ...(job.delegateId === undefined ? {} : { delegate_id: job.delegateId }),
  created_at: timestamp(job.createdAt),
  submitted_at: timestamp(job.createdAt),
  trace_id: job.traceId,
  last_event_seq: job.lastEventSeq,
  ...parkedOf(job),
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
  return match === null
    ? new InvalidRequest({ message: "payload.cursor: not a cursor of this runtime; start again without one" })
    : Effect.succeed({ createdAt: Number(match[1]), jobId: match[2] as string })
}
