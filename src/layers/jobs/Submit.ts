/**
 * One submit, decided: reserve → repeated? → key used? → check → open (Opening.ts). A refusal is stored as the only,
 * terminal event of a fresh job id, so that a resume replays it (§5.1, §5.2 of the protocol page).
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { AgentRef } from "../../protocol/AgentRef.js"
import {
  type ArcpError,
  DuplicateKey,
  type InternalError,
  InvalidRequest,
  JobNotFound
} from "../../protocol/Errors.js"
import type * as Message from "../../protocol/Message.js"
import type { JobSession, SubmitHead, SubmitRequest } from "../../services/jobs/Jobs.js"
import * as Tracing from "../../services/runtime/Tracing.js"
import { type JobRecord, Op } from "../../services/store/Store.js"
import type { Candidate, Open } from "./Candidate.js"
import * as Checks from "./Checks.js"
import * as Faults from "./Faults.js"
import type { JobParts } from "./JobParts.js"
import type { Ownership } from "./Ownership.js"
import type { Recovery } from "./Recovery.js"
import * as Reservations from "./Reservations.js"
import * as Terminal from "./Terminal.js"

/** Decides submits, and answers them. */
export interface Submitter {
  readonly submit: (session: JobSession, request: SubmitRequest) => Effect.Effect<void, ArcpError>
  readonly refuse: (
    session: JobSession,
    request: SubmitHead,
    error: ArcpError
  ) => Effect.Effect<void, ArcpError>
}

/** Returns what decides submits (§7.1, §7.2). */
export const make = (parts: JobParts, open: Open, ownership: Ownership, recovery: Recovery): Submitter => {
  const { ids, log, now, options, policy, registry, running, secrets, store } = parts
  const reservations = Reservations.make()

  const newRecord = (session: JobSession, request: SubmitHead, agent: string): JobRecord => ({
    jobId: ids.unsafeMake("job"),
    sessionId: session.sessionId,
    submitId: request.id,
    principal: session.identity.principal,
    agent,
    status: "running",
    rejected: false,
    lease: {},
    traceId: request.traceId ?? ids.unsafeTraceId(),
    parentSpan: request.parentSpan,
    createdAt: now(),
    lastEventSeq: 0
  })

  const reject = (
    session: JobSession,
    request: SubmitHead,
    agent: string,
    error: ArcpError,
    hold: Reservations.Hold
  ) =>
    Effect.gen(function* () {
      yield* log.roomToOpen((giveBack) => hold.keepKey(giveBack))
      const at = now()
      const record = newRecord(session, request, agent)
      const event = Terminal.failed(error, "error", at, options.maxOutboundFrameBytes, {
        details: { request_id: request.id }
      })
      yield* log.openJob({ ...record, status: "error", rejected: true, endedAt: at }, session.view, { event })
    })

  const accepted = (session: JobSession, request: SubmitHead, record: JobRecord) =>
    session.send(
      Checks.acceptance(
        record,
        request.id,
        ownership.shown(session, record),
        running.get(record.jobId)?.live.span
      )
    )

  /** The same frame again: the same answer again, and nothing else. */
  const repeat = (
    session: JobSession,
    request: SubmitHead,
    before: JobRecord,
    hold: Reservations.Hold
  ): Effect.Effect<void, ArcpError> =>
    Effect.gen(function* () {
      if (!before.rejected) return accepted(session, request, running.current(before))
      if (before.answeredWith !== undefined) {
        const record = yield* Faults.storage(store.job(before.answeredWith))
        if (record !== undefined) return accepted(session, request, running.current(record))
        const error = new JobNotFound({
          message: "the job that this submit was answered with has been dropped"
        })
        return yield* reject(session, request, before.agent, error, hold)
      }
      return yield* log.read(session.view, before.lastEventSeq - 1).pipe(
        Effect.map(({ frames: [frame] }) => {
          if (frame !== undefined) session.sendFrame(frame)
        }),
        // The refusal has been evicted from the view, so the client has had it.
        Effect.catchTag("ResumeWindowExpired", () => Effect.void)
      )
    })

  /**
   * Answers a new frame with the accept of a job that there is already: the session observes it from here on, and owns it
   * when nobody does. That this frame was answered is stored with the join.
   */
  const rejoin = (session: JobSession, request: SubmitHead, record: JobRecord) =>
    Effect.gen(function* () {
      const job = yield* log.loadJob(record)
      const inherits = yield* ownership.inheritable(session, record)
      const answer: JobRecord = {
        ...newRecord(session, request, record.agent),
        status: record.status,
        rejected: true,
        endedAt: now(),
        answeredWith: record.jobId
      }
      yield* log.observe(session.view, job, {
        history: false,
        ops: [Op.PutJob({ job: answer })],
        onCommit: () => accepted(session, request, running.current(record))
      })
      if (inherits)
        yield* ownership
          .take(session, record, job, request.id)
          .pipe(
            Effect.catchAll((error) =>
              Effect.logWarning(
                `${record.jobId} has no owner; a cancel, or the key again, finds one`,
                error.message
              )
            )
          )
    })

  const sameParameters = (record: JobRecord, digest: string): Effect.Effect<void, DuplicateKey> =>
    record.paramsDigest === digest
      ? Effect.void
      : new DuplicateKey({
          message: "this idempotency key was used with other parameters; use a new key",
          details: { existing_job_id: record.jobId }
        })

  /** The job that occupies a key, once it is known how it ends. */
  const occupying = (principal: string, key: string): Effect.Effect<JobRecord | undefined, InternalError> =>
    Effect.gen(function* () {
      const find = Faults.storage(store.jobByKey(principal, key))
      let found = yield* find
      if (found !== undefined && (yield* recovery.settled(found.jobId))) found = yield* find
      if (found === undefined || found.keyFreed === true) return undefined
      return found.createdAt > now() - Duration.toMillis(options.idempotencyWindow)
        ? running.current(found)
        : undefined
    })

  /** A submit that names the job it wants back; it never starts a run. */
  const adopt = (session: JobSession, request: SubmitHead, jobId: unknown, digest: string | undefined) =>
    Effect.gen(function* () {
      if (typeof jobId !== "string")
        return yield* new InvalidRequest({ message: "extensions: x-vendor.effect-arcp.adopt is a job id" })
      yield* recovery.settled(jobId)
      const stored = yield* Faults.storage(store.job(jobId))
      if (stored === undefined || stored.rejected || stored.principal !== session.identity.principal)
        return yield* new JobNotFound({ message: "no such job" })
      if (digest !== undefined && stored.paramsDigest !== undefined) yield* sameParameters(stored, digest)
      return yield* rejoin(session, request, running.current(stored))
    })

  /** What is checked of a submit whose key is free, in the order of §7.1. */
  const check = (
    session: JobSession,
    request: SubmitRequest,
    ref: AgentRef,
    keyed: Pick<JobRecord, "idempotencyKey" | "paramsDigest">
  ): Effect.Effect<Candidate, ArcpError> =>
    Effect.gen(function* () {
      const { payload } = request
      yield* Checks.checkAgent(policy, session.identity, ref.name)
      const agent = yield* registry.resolve(ref)
      yield* Checks.checkConstraints(payload.lease_constraints, now())
      const lease = yield* Checks.effectiveLease(
        payload.lease_request ?? {},
        session.identity.leaseCeiling,
        parts.options
      )
      if (agent.requiresStreaming && !session.features.includes("result_chunk"))
        return yield* new InvalidRequest({
          message: "this agent streams its result; negotiate the result_chunk feature"
        })
      const run = yield* agent.prepare(payload.input)
      const record: JobRecord = {
        ...newRecord(session, request, `${agent.name}@${agent.version}`),
        lease,
        leaseConstraints: payload.lease_constraints,
        maxRuntimeSec: payload.max_runtime_sec,
        ...keyed
      }
      return {
        session,
        record,
        run,
        awaitEmits: agent.awaitEmits,
        input: payload.input,
        parentSpan: Tracing.submitter(record)
      }
    })

  const decide = (session: JobSession, request: SubmitRequest, hold: Reservations.Hold) =>
    Effect.gen(function* () {
      const { adopt: wanted, payload } = request
      const ref = yield* Checks.checkShape(payload, session.features)
      const { principal } = session.identity
      const key = payload.idempotency_key
      const digest = key === undefined ? undefined : yield* secrets.digest(yield* Checks.parameters(payload))
      if (wanted !== undefined) return yield* adopt(session, request, wanted, digest)
      if (key !== undefined && digest !== undefined) {
        yield* reservations.take(`key ${principal} ${key}`, hold)
        const existing = yield* occupying(principal, key)
        if (existing !== undefined) {
          yield* sameParameters(existing, digest)
          return yield* rejoin(session, request, existing)
        }
      }
      const keyed = { idempotencyKey: key, paramsDigest: digest }
      yield* open(yield* check(session, request, ref, keyed), hold)
    })

  /** Runs `deciding` unless this session has sent the frame before; refuses with what it fails with. */
  const answer = (
    session: JobSession,
    request: SubmitHead,
    agent: Message.Submit["agent"],
    deciding: (hold: Reservations.Hold) => Effect.Effect<void, ArcpError>
  ) =>
    Reservations.withHold((hold) =>
      Effect.gen(function* () {
        yield* reservations.take(`submit ${session.sessionId} ${request.id}`, hold)
        const before = yield* Faults.storage(store.jobBySubmit(session.sessionId, request.id))
        if (before !== undefined) return yield* repeat(session, request, before, hold)
        yield* deciding(hold).pipe(
          Faults.contained("a submit was decided"),
          Effect.catchAll((error) => reject(session, request, agent, error, hold))
        )
      })
    )

  return {
    submit: (session, request) =>
      answer(session, request, request.payload.agent, (hold) => decide(session, request, hold)),
    refuse: (session, request, error) => answer(session, request, "", () => Effect.fail(error))
  }
}
