/** Jobs over the log, the registry and the policy. jobs/Runner.ts runs one, this module decides which. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import {
  AgentNotAvailable,
  type ArcpError,
  DuplicateKey,
  InternalError,
  InvalidRequest,
  JobNotFound,
  PermissionDenied,
  toPayload
} from "../../protocol/Errors.js"
import { reduce } from "../../protocol/Lease.js"
import type * as Message from "../../protocol/Message.js"
import { Registry } from "../../services/agents/Registry.js"
import { Policy } from "../../services/auth/Policy.js"
import { Credentials } from "../../services/credentials/Credentials.js"
import { type JobSession, Jobs } from "../../services/jobs/Jobs.js"
import { EventLog } from "../../services/log/EventLog.js"
import { IdGenerator } from "../../services/runtime/IdGenerator.js"
import { RuntimeOptions } from "../../services/runtime/RuntimeOptions.js"
import { Secrets } from "../../services/runtime/Secrets.js"
import { Turn } from "../../services/runtime/Turn.js"
import { type JobFilter, type JobRecord, Op, Store, type StoreError } from "../../services/store/Store.js"
import { within } from "../runtime/within.js"
import * as Checks from "./Checks.js"
import * as Delegation from "./Delegation.js"
import type { LiveJob } from "./LiveJob.js"
import * as Reservations from "./Reservations.js"
import * as Runner from "./Runner.js"
import * as Start from "./Start.js"

/** Jobs dropped in one commit by the sweeper. */
const sweepPage = 200

/** Jobs of a listing that are read in one go. */
const listingPart = 64
/** What the envelope of a listing takes of its frame, in bytes. */
const listingHeadroom = 4 * 1024

const encoder = new TextEncoder()
const utf8Bytes = (text: string): number => encoder.encode(text).length

type Request = { readonly id: string; readonly traceId?: string | undefined }

const storage = <A>(effect: Effect.Effect<A, StoreError>) =>
  Effect.mapError(
    effect,
    (error) =>
      new InternalError({
        message: `the store could not be read: ${error.message}`,
        details: { reason: "storage" }
      })
  )

export const make = Effect.gen(function* () {
  const log = yield* EventLog
  const store = yield* Store
  const registry = yield* Registry
  const policy = yield* Policy
  const ids = yield* IdGenerator
  const secrets = yield* Secrets
  const credentials = yield* Credentials
  const options = yield* RuntimeOptions
  const clock = yield* Effect.clock
  const turn = yield* Turn
  // A supervisor that retries an end which cannot be stored is not to keep the runtime from closing.
  const supervision = yield* Scope.make()
  const supervisors = yield* Scope.extend(FiberSet.make<void, InternalError>(), supervision)
  yield* Effect.addFinalizer((exit) => within(Scope.close(supervision, exit), "3 seconds"))
  const now = () => clock.unsafeCurrentTimeMillis()

  const table = new Start.Table()
  const maxRetained = Math.ceil(options.maxRetainedJobs / (store.kind === "memory" ? 16 : 1))
  const reservations = Reservations.make()

  const current = (record: JobRecord) => table.current(record)
  const find = (jobId: string): Effect.Effect<JobRecord | undefined, InternalError> => {
    const running = table.live.get(jobId)
    return running !== undefined
      ? Effect.succeed(current(running.live.record))
      : Effect.map(storage(store.job(jobId)), (record) => (record?.rejected === false ? record : undefined))
  }

  const newRecord = (session: JobSession, request: Request, agent: string): JobRecord => ({
    jobId: ids.unsafeMake("job"),
    sessionId: session.sessionId,
    submitId: request.id,
    principal: session.identity.principal,
    agent,
    status: "running",
    rejected: false,
    lease: {},
    traceId: request.traceId ?? ids.unsafeTraceId(),
    createdAt: now(),
    lastEventSeq: 0
  })

  /** Stores a refusal as the only, terminal event of a fresh job id. */
  const reject = (session: JobSession, request: Request, agent: string, error: ArcpError) =>
    Effect.suspend(() => {
      const at = now()
      const record = newRecord(session, request, agent)
      const event = Runner.failed(error, "error", at, { request_id: request.id })
      table.ended.push(record.jobId)
      return log.openJob({ ...record, status: "error", rejected: true, endedAt: at }, session.view, { event })
    })

  /** The credentials of a job that this session may see: the submitter's, when it knows of them. */
  const shown = (session: JobSession, record: JobRecord) =>
    session.identity.principal === record.principal && session.features.includes("provisioned_credentials")
      ? credentials.held(record.jobId)
      : []

  /** The accept of a job as it is sent to its owner once more. */
  const acceptOf = (session: JobSession, record: JobRecord) =>
    Checks.acceptance(
      record,
      record.parentJobId === undefined ? record.submitId : undefined,
      shown(session, record)
    )

  const sendAccepted = (session: JobSession, request: Request, record: JobRecord) =>
    Checks.sendAccepted(session, record, request.id, shown(session, record))

  /** The same submit again: the same answer again, and nothing else. */
  const repeat = (session: JobSession, request: Request, record: JobRecord) =>
    Effect.suspend(() => {
      if (!record.rejected) return Effect.sync(() => sendAccepted(session, request, record))
      return log.read(session.view, record.lastEventSeq - 1).pipe(
        Effect.map(({ frames: [frame] }) => {
          if (frame !== undefined) session.sendFrame(frame)
        }),
        // The refusal has been evicted from the view, so the client has had it.
        Effect.catchTag("ResumeWindowExpired", () => Effect.void)
      )
    })

  /** A running job and what it delegated to belong to another session from now on. */
  const adoptFamily = (session: JobSession, job: LiveJob): Effect.Effect<void, InternalError> =>
    Effect.gen(function* () {
      job.owner = session
      for (const child of job.children) {
        const opened = table.live.get(child.record.jobId)
        if (opened === undefined) continue
        yield* log.adopt(session.view, opened.job, { ...child.record, sessionId: session.sessionId })
        yield* log.observe(session.view, opened.job, {
          history: false,
          onCommit: () => session.send(acceptOf(session, child.record))
        })
        yield* adoptFamily(session, child)
      }
    })

  /** A submit with a key that has been used: the job it started, when the parameters are the same. */
  const reuse = (session: JobSession, request: Request, record: JobRecord, digest: string) =>
    Effect.gen(function* () {
      if (record.paramsDigest !== digest)
        return yield* new DuplicateKey({
          message: "this idempotency key was used with other parameters; use a new key",
          details: { existing_job_id: record.jobId }
        })
      const job = yield* log.loadJob(record)
      const orphaned =
        record.sessionId !== session.sessionId &&
        (yield* storage(store.session(record.sessionId))) === undefined
      if (orphaned) {
        yield* log.adopt(session.view, job, { ...record, sessionId: session.sessionId })
        const running = table.live.get(record.jobId)
        if (running !== undefined) yield* adoptFamily(session, running.live)
      }
      yield* log.observe(session.view, job, {
        history: false,
        onCommit: () => sendAccepted(session, request, record)
      })
    })

  const provision = Start.makeProvision(credentials, table)
  const start = Start.make({
    log,
    store,
    ids,
    credentials,
    options,
    now,
    table,
    supervisors,
    delegator: Delegation.make({
      log,
      registry,
      policy,
      ids,
      options,
      now,
      table,
      provision,
      start: (child) => start(child)
    })
  })

  const accept = (session: JobSession, request: Request, submit: Message.Submit, held: Array<() => void>) =>
    Effect.gen(function* () {
      const ref = yield* Checks.checkShape(submit, session.features)
      const { principal } = session.identity
      const key = submit.idempotency_key
      const digest = key === undefined ? undefined : yield* secrets.digest(Checks.parameters(submit))
      if (key !== undefined && digest !== undefined) {
        held.push(yield* reservations.take(`key ${principal} ${key}`))
        const existing = yield* storage(store.jobByKey(principal, key))
        if (
          existing !== undefined &&
          existing.createdAt > now() - Duration.toMillis(options.idempotencyWindow)
        )
          return yield* reuse(session, request, current(existing), digest)
      }
      if (!(yield* policy.mayUseAgent(session.identity, ref.name)))
        return yield* new AgentNotAvailable({ message: "no agent of that name" })
      const agent = yield* registry.resolve(ref)
      yield* Checks.checkConstraints(submit.lease_constraints, now())
      if (agent.requiresStreaming && !session.features.includes("result_chunk"))
        return yield* new InvalidRequest({
          message: "this agent streams its result; negotiate the result_chunk feature"
        })
      const run = yield* agent.prepare(submit.input)
      if (table.perSession.get(session.sessionId) >= options.maxJobsPerSession)
        return yield* Checks.atLimit("jobs_per_session", options.maxJobsPerSession)
      if (table.perPrincipal.get(principal) >= options.maxJobsPerPrincipal)
        return yield* Checks.atLimit("jobs_per_principal", options.maxJobsPerPrincipal)
      if (table.stopping) return yield* shuttingDown
      const record: JobRecord = {
        ...newRecord(session, request, `${agent.name}@${agent.version}`),
        lease: Checks.granted(reduce(submit.lease_request ?? {}, session.identity.leaseCeiling)),
        leaseConstraints: submit.lease_constraints,
        idempotencyKey: key,
        paramsDigest: digest,
        maxRuntimeSec: submit.max_runtime_sec
      }
      yield* provision(session, record, (minted) => {
        // From here on the store decides about a repetition, as soon as the job is in it.
        const release = held.splice(0)
        return start({
          session,
          record,
          run,
          accepted: () => Checks.sendAccepted(session, record, request.id, minted),
          stored: () => release.forEach((back) => back()),
          failed: (error) =>
            session.send({ type: "session.error", payload: toPayload(error, { request_id: request.id }) })
        })
      })
    })

  /** One submit at a time gets here per session, so accepts keep the order of the submits. */
  const submit = Effect.fnUntraced(function* (
    session: JobSession,
    request: Request,
    agent: string,
    decide: (held: Array<() => void>) => Effect.Effect<void, ArcpError>
  ) {
    const held = [yield* reservations.take(`submit ${session.sessionId} ${request.id}`)]
    yield* Effect.gen(function* () {
      const before = yield* storage(store.jobBySubmit(session.sessionId, request.id))
      if (before !== undefined) return yield* repeat(session, request, current(before))
      yield* decide(held).pipe(Effect.catchAll((error) => reject(session, request, agent, error)))
    }).pipe(Effect.ensuring(Effect.sync(() => held.forEach((back) => back()))))
  })

  const maySee = (session: JobSession, record: JobRecord) =>
    Effect.map(
      policy.listable(session.identity),
      (who) => who === "everyone" || who.includes(record.principal)
    )

  const notFound = new JobNotFound({ message: "no such job" })

  /**
   * Jobs that were running when the last process ended end now, with the sessions that still watch them;
   * delegated ones, which are younger, before their parents.
   */
  const recover = Effect.gen(function* () {
    const lost: Array<JobRecord> = []
    for (let after: JobFilter["after"]; ; ) {
      const page = yield* storage(
        store.jobs({ principals: "everyone", status: ["pending", "running"], after, limit: sweepPage })
      )
      lost.push(...page)
      if (page.length < sweepPage) break
      after = page[page.length - 1]
    }
    const error = new InternalError({
      message: "the runtime restarted while the job ran; submit it again",
      details: { reason: "runtime_restart" }
    })
    for (const record of lost.reverse()) {
      const job = yield* log.loadJob(record)
      const owner = { sessionId: record.sessionId, send: () => {} }
      const at = now()
      yield* Runner.write(log, { record, owner, job }, Runner.failed(error, "error", at), at)
    }
  })
  yield* recover

  const shutdown = Effect.gen(function* () {
    if (table.stopping) return
    table.stopping = true
    // As a finalizer this runs uninterruptibly, and a time-out could not end the wait.
    yield* Effect.interruptible(FiberSet.awaitEmpty(supervisors)).pipe(
      Effect.timeoutOption(options.shutdownGrace),
      Runner.inRealTime
    )
    for (const { live } of table.live.values()) live.end({ _tag: "Shutdown" })
    yield* FiberSet.awaitEmpty(supervisors)
  })
  yield* Effect.addFinalizer(() => within(shutdown, Duration.sum(options.shutdownGrace, Duration.seconds(3))))

  return Jobs.of({
    submit: (session, request) =>
      submit(session, request, request.payload.agent, (held) =>
        accept(session, request, request.payload, held)
      ).pipe(Effect.catchAll(toInternal)),
    refuse: (session, request, error) =>
      submit(session, request, "", () => Effect.fail(error)).pipe(Effect.catchAll(toInternal)),

    cancel: (session, { id, jobId, reason }) =>
      Effect.gen(function* () {
        const record = yield* find(jobId)
        if (record === undefined) return yield* notFound
        if (!(yield* policy.mayCancel(session.identity, record, record.sessionId === session.sessionId)))
          return yield* (yield* maySee(session, record))
            ? new PermissionDenied({ message: "only the session that submitted a job may cancel it" })
            : notFound
        session.send({
          type: "job.cancelled",
          jobId,
          traceId: record.traceId,
          payload: { request_id: id, ...(reason === undefined ? {} : { reason }) }
        })
        table.live.get(jobId)?.live.end({ _tag: "Cancel", reason })
      }),
    cancelAll: (sessionId, reason) =>
      Effect.sync(() => {
        for (const { live } of table.live.values())
          if (live.owner.sessionId === sessionId) live.end({ _tag: "Cancel", reason })
      }),

    list: (session, { filter, limit = 100, cursor }) =>
      Effect.gen(function* () {
        const principals = yield* policy.listable(session.identity)
        const maxBytes = options.maxOutboundFrameBytes - listingHeadroom
        const jobs: Array<Message.JobEntry> = []
        let after = cursor == null ? undefined : yield* Checks.decodeCursor(cursor)
        let bytes = 0
        // In parts, with turns of the event loop between them: a thousand leases can be large.
        for (;;) {
          const part = yield* storage(
            store.jobs({
              principals,
              status: filter?.status,
              agent: filter?.agent,
              createdAfter:
                filter?.created_after === undefined ? undefined : Date.parse(filter.created_after),
              createdBefore:
                filter?.created_before === undefined ? undefined : Date.parse(filter.created_before),
              after,
              limit: Math.min(listingPart, limit - jobs.length) + 1
            })
          )
          const more = part.length > Math.min(listingPart, limit - jobs.length)
          for (const record of more ? part.slice(0, -1) : part) {
            const entry = Checks.entry(current(record))
            bytes += utf8Bytes(JSON.stringify(entry)) + 1
            if (bytes > maxBytes && after !== undefined && jobs.length > 0)
              return { jobs, next_cursor: Checks.encodeCursor(after) }
            jobs.push(entry)
            after = { createdAt: record.createdAt, jobId: record.jobId }
          }
          if (!more || after === undefined) return { jobs, next_cursor: null }
          if (jobs.length >= limit) return { jobs, next_cursor: Checks.encodeCursor(after) }
          yield* turn.next
        }
      }),

    subscribe: (session, { id, jobId, payload }) =>
      Effect.gen(function* () {
        const record = yield* find(jobId)
        const allowed = record !== undefined && (yield* policy.maySubscribe(session.identity, record))
        yield* Effect.logInfo("subscribe").pipe(
          Effect.annotateLogs({
            subscriber: session.identity.principal,
            job: jobId.slice(0, 64),
            owner: record?.principal ?? "unknown",
            verdict: allowed ? "allowed" : "denied"
          })
        )
        if (record === undefined) return yield* notFound
        if (!allowed)
          return yield* (yield* maySee(session, record))
            ? new PermissionDenied({ message: "this job may be listed, but not subscribed to" })
            : notFound
        const own = table.perSession.get(session.sessionId)
        if (session.view.observedCount - own >= options.maxSubscriptionsPerSession)
          return yield* Checks.atLimit("subscriptions_per_session", options.maxSubscriptionsPerSession)
        const history = payload.history ?? false
        yield* log.observe(session.view, yield* log.loadJob(record), {
          history,
          fromEventSeq: payload.from_event_seq,
          onCommit: (subscribedFrom) => {
            const job = current(record)
            session.send({
              type: "job.subscribed",
              jobId,
              traceId: job.traceId,
              payload: Checks.subscribed(job, {
                requestId: id,
                subscribedFrom,
                replayed: history,
                credentials: shown(session, job)
              })
            })
          }
        })
      }),
    unsubscribe: (session, jobId) => log.unobserve(session.view, jobId),

    accepted: (session, jobId) =>
      Effect.map(find(jobId), (record) => (record === undefined ? undefined : acceptOf(session, record))),
    liveOwners: Effect.sync(
      () => new Set(Array.from(table.live.values(), ({ live }) => live.owner.sessionId))
    ),

    sweep: Effect.gen(function* () {
      const drop = (jobIds: ReadonlyArray<string>) => log.commit(jobIds.map((jobId) => Op.DropJob({ jobId })))
      const before = now() - Duration.toMillis(options.jobRetention)
      for (;;) {
        const old = yield* storage(store.endedJobs(before, sweepPage))
        yield* drop(old)
        if (old.length < sweepPage) break
      }
      const surplus = table.ended.slice(0, Math.max(0, table.ended.length - maxRetained))
      table.ended = table.ended.slice(surplus.length)
      for (let i = 0; i < surplus.length; i += sweepPage) yield* drop(surplus.slice(i, i + sweepPage))
    }),
    shutdown
  })
})

const shuttingDown = new InternalError({
  message: "the runtime is shutting down; submit again later",
  details: { reason: "shutdown" }
})

const toInternal = (error: ArcpError): Effect.Effect<never, InternalError> =>
  error._tag === "InternalError"
    ? Effect.fail(error)
    : Effect.fail(new InternalError({ message: error.message }))

export const layer = Layer.scoped(Jobs, make)

export * from "../../services/jobs/Jobs.js"
