/** Finding, listing and watching jobs (§4.6, §5.6 of the protocol page). */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type ArcpError, type InternalError, JobNotFound } from "../../protocol/Errors.js"
import * as Features from "../../protocol/Features.js"
import { parseJson } from "../../protocol/Json.js"
import type * as Message from "../../protocol/Message.js"
import { cut } from "../../protocol/Text.js"
import { byteLength } from "../../protocol/Utf8.js"
import type { Identity } from "../../services/auth/Auth.js"
import { hasEnded, tokenEnded } from "../../services/auth/ended.js"
import { coversJob, denied } from "../../services/auth/Policy.js"
import type { JobSession, SubscribeRequest } from "../../services/jobs/Jobs.js"
import type { FollowedJob } from "../../services/log/EventLog.js"
import type { JobRecord } from "../../services/store/Store.js"
import * as Checks from "./Checks.js"
import * as Faults from "./Faults.js"
import { envelopeBytes } from "./fitting.js"
import type { JobParts } from "./JobParts.js"
import type { Ownership } from "./Ownership.js"
import * as OnWire from "./onWire.js"
import type { Recovery } from "./Recovery.js"

/** Jobs of a listing that are read in one go. */
const listingPart = 64
/** What the envelope of a listing takes of its frame, in bytes. */
const listingHeadroom = envelopeBytes

/** Finds jobs, lists them, and lets sessions subscribe to them. */
export interface Lookup {
  /**
   * A job as it is now, running or stored; `undefined` when there is none of that id. `settled`: of one that the last
   * process left, only when its end is stored.
   */
  readonly job: (
    jobId: string,
    options?: { readonly settled: boolean }
  ) => Effect.Effect<JobRecord | undefined, InternalError>
  readonly mayList: (session: Pick<JobSession, "identity">, record: JobRecord) => Effect.Effect<boolean>
  readonly entry: (identity: Identity, jobId: string) => Effect.Effect<Message.TimedJobEntry, ArcpError>
  readonly follow: (identity: Identity, jobId: string) => Effect.Effect<FollowedJob, ArcpError, Scope.Scope>
  readonly list: (
    session: JobSession,
    request: Message.ListJobs
  ) => Effect.Effect<Omit<Message.Jobs, "request_id">, ArcpError>
  readonly subscribe: (session: JobSession, request: SubscribeRequest) => Effect.Effect<void, ArcpError>
}

/** Reads a listing until it is as long as was asked, or its frame is full, and says where the next one begins. */
const list = (
  { options, policy, running, store, turn }: JobParts,
  session: JobSession,
  { filter, limit = 100, cursor }: Message.ListJobs
): ReturnType<Lookup["list"]> =>
  Effect.gen(function* () {
    const principals = yield* policy.listable(session.identity)
    const maxBytes = options.maxOutboundFrameBytes - listingHeadroom
    const isNamed = session.features.includes(Features.principal)
    const jobs: Array<Message.JobEntry> = []
    let after = cursor == null ? undefined : yield* OnWire.decodeCursor(cursor)
    let bytes = 0
    // In parts, with turns of the event loop between them: a thousand leases can be large.
    for (;;) {
      const count = Math.min(listingPart, limit - jobs.length)
      const part = yield* Faults.storage(
        store.jobs({ ...asked(filter), principals, after, limit: count + 1 })
      )
      for (const record of part.slice(0, count)) {
        const listed = OnWire.entry(running.current(record))
        const entry = isNamed ? { ...listed, [Features.principal]: record.principal } : listed
        const size = byteLength(JSON.stringify(entry)) + 1
        // One that fits into no frame is left out: it was accepted when these could be larger.
        if (size <= maxBytes) {
          if (bytes + size > maxBytes && after !== undefined)
            return { jobs, next_cursor: OnWire.encodeCursor(after) }
          jobs.push(entry)
          bytes += size
        }
        after = { createdAt: record.createdAt, jobId: record.jobId }
      }
      if (part.length <= count || after === undefined) return { jobs, next_cursor: null }
      if (jobs.length >= limit) return { jobs, next_cursor: OnWire.encodeCursor(after) }
      yield* turn.next
    }
  })

/** Returns a filter as the store takes it. */
const asked = (filter: Message.ListJobs["filter"]) => ({
  status: filter?.status,
  agent: filter?.agent,
  createdAfter: filter?.created_after === undefined ? undefined : Date.parse(filter.created_after),
  createdBefore: filter?.created_before === undefined ? undefined : Date.parse(filter.created_before),
  parentJobId: filter?.parent_job_id
})

const audit = (
  session: Pick<JobSession, "identity">,
  jobId: string,
  record: JobRecord | undefined,
  allowed: boolean
) =>
  Effect.logInfo("subscribe").pipe(
    Effect.annotateLogs({
      subscriber: session.identity.principal,
      job: cut(jobId, 64),
      owner: record?.principal ?? "unknown",
      verdict: allowed ? "allowed" : "denied"
    })
  )

/** Returns the job when the session may subscribe to it; fails as if there were none when it may not even be listed. */
const subscribable = (
  { policy }: JobParts,
  lookup: Pick<Lookup, "job" | "mayList">,
  session: Pick<JobSession, "identity">,
  jobId: string
): Effect.Effect<JobRecord, ArcpError> =>
  Effect.gen(function* () {
    const record = yield* lookup.job(jobId)
    const decision = record !== undefined && (yield* policy.maySubscribe(session.identity, record))
    yield* audit(session, jobId, record, decision === true)
    if (record === undefined) return yield* notFound
    if (decision !== true)
      return yield* (yield* lookup.mayList(session, record))
        ? denied(decision, "this job may be listed, but not subscribed to")
        : notFound
    return record
  })

/** The input of a job, for a subscriber that asks for it and could have submitted the job itself. */
const inputOf = (
  { options, store }: JobParts,
  { features, identity }: JobSession,
  record: JobRecord
): Effect.Effect<Readonly<Record<string, unknown>>, InternalError> =>
  Effect.gen(function* () {
    if (!features.includes(Features.submittedInput) || !(yield* coversJob(identity, record))) return {}
    const text = yield* Faults.storage(store.input(record.jobId))
    // The rest of the frame has its place, too.
    return text === undefined || byteLength(text) > options.maxOutboundFrameBytes / 2
      ? {}
      : { [Features.submittedInput]: parseJson(text) }
  })

/** Tells whether a session that subscribes to a job has one subscription more. */
const isAnother = (
  { sessionId, view }: JobSession,
  { endedAt, jobId, sessionId: owner }: JobRecord
): boolean => endedAt === undefined && owner !== sessionId && !Array.from(view.observedJobs).includes(jobId)

/** Tells whether a job is another principal's: a session observes it for no longer than its token lasts. */
const isForeign = ({ identity }: JobSession, { principal }: JobRecord): boolean =>
  principal !== identity.principal

/** Lets a session observe a job, and tells it so in the commit with which that begins. */
const observe = (
  parts: JobParts,
  ownership: Ownership,
  session: JobSession,
  { id, payload }: SubscribeRequest,
  record: JobRecord
): Effect.Effect<void, ArcpError> =>
  Effect.gen(function* () {
    const { log, now, options, running } = parts
    const { maxSubscriptionsPerSession: max } = options
    if (session.view.subscribedCount >= max && isAnother(session, record))
      return yield* Checks.atLimit("subscriptions_per_session", max)
    const given = yield* inputOf(parts, session, record)
    const credentials = yield* ownership.shown(session, record)
    const history = payload.history ?? false
    const onCommit = (subscribedFrom: number, goesOn: boolean) => {
      const current = running.current(record)
      session.send({
        type: "job.subscribed",
        jobId: record.jobId,
        traceId: current.traceId,
        extensions: OnWire.traceContext(current, running.get(record.jobId)?.live.span),
        payload: {
          ...OnWire.subscribed(current, {
            requestId: id,
            subscribedFrom,
            replayed: history,
            goesOn,
            credentials: credentials()
          }),
          ...given
        }
      })
    }
    // All that was asked before may have taken longer than the token lasts: what ends with that has ended without this one.
    let isLate = false
    const unless = () => {
      isLate = isForeign(session, record) && (session.view.isNarrowed || hasEnded(session.identity, now()))
      return isLate
    }
    const join = { history, fromEventSeq: payload.from_event_seq, unless, onCommit }
    yield* log.holding(record, (job) => log.observe(session.view, job, join))
    if (isLate) return yield* tokenEnded()
  })

/** Returns what finds and lists jobs (§6.6, §7.6). */
export const make = (parts: JobParts, ownership: Ownership, recovery: Recovery): Lookup => {
  const { policy, running, store } = parts

  const job: Lookup["job"] = (jobId, { settled } = { settled: false }) =>
    Effect.gen(function* () {
      const live = running.get(jobId)?.live
      if (live !== undefined) return running.current(live.record)
      if (settled) yield* recovery.settled(jobId)
      const record = yield* Faults.storage(store.job(jobId))
      return record?.rejected === false ? running.current(record) : undefined
    })

  const mayList: Lookup["mayList"] = (session, record) =>
    Effect.map(
      policy.listable(session.identity),
      (who) => who === "everyone" || who.includes(record.principal)
    )

  return {
    job,
    mayList,
    entry: (identity, jobId) =>
      Effect.gen(function* () {
        const record = yield* job(jobId)
        if (record === undefined || !(yield* mayList({ identity }, record))) return yield* notFound
        return OnWire.entry(running.current(record))
      }),
    follow: (identity, jobId) =>
      Effect.flatMap(subscribable(parts, { job, mayList }, { identity }, jobId), parts.log.follow),
    list: (session, request) => list(parts, session, request),
    subscribe: (session, request) =>
      Effect.flatMap(subscribable(parts, { job, mayList }, session, request.jobId), (record) =>
        observe(parts, ownership, session, request, record)
      )
  }
}

const notFound = new JobNotFound({ message: "no such job" })
