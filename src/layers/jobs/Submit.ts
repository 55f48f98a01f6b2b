/** One submit, decided: reserve → repeated? → key used? → check → open (Opening.ts). Answers.ts has what starts no run. */
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
import { hasEnded } from "../../services/auth/ended.js"
import type { JobSession, SubmitHead, SubmitRequest } from "../../services/jobs/Jobs.js"
import * as Decided from "../../services/runtime/decided.js"
import * as Tracing from "../../services/runtime/Tracing.js"
import type { JobRecord } from "../../services/store/Store.js"
import * as Answers from "./Answers.js"
import type { Candidate, Open } from "./Candidate.js"
import * as Checks from "./Checks.js"
import * as Forking from "./durable/Forking.js"
import * as Survival from "./durable/Survival.js"
import * as Faults from "./Faults.js"
import type { JobParts } from "./JobParts.js"
import type { Ownership } from "./Ownership.js"
import type { Recovery } from "./Recovery.js"
import * as Reservations from "./Reservations.js"
import * as StartAt from "./scheduling/StartAt.js"

/** Decides submits, and answers them. */
export interface Submitter {
  readonly submit: (session: JobSession, request: SubmitRequest) => Effect.Effect<void, ArcpError>
  readonly refuse: (
    session: JobSession,
    request: SubmitHead,
    error: ArcpError
  ) => Effect.Effect<void, ArcpError>
}

/** What decides a submit works on. */
interface SubmitParts extends Answers.AnswerParts {
  readonly open: Open
  readonly recovery: Recovery
  readonly reservations: Reservations.Reservations
}

const sameParameters = (record: JobRecord, digest: string): Effect.Effect<void, DuplicateKey> =>
  record.paramsDigest === digest
    ? Effect.void
    : new DuplicateKey({
        message: "this idempotency key was used with other parameters; use a new key",
        details: { existing_job_id: record.jobId }
      })

/** Returns the job that occupies a key, once it is known how it ends. */
const occupying = (
  { now, options, recovery, running, store }: SubmitParts,
  principal: string,
  key: string
): Effect.Effect<JobRecord | undefined, InternalError> =>
  Effect.gen(function* () {
    const find = Faults.storage(store.jobByKey(principal, key))
    let found = yield* find
    if (found !== undefined && (yield* recovery.settled(found.jobId))) found = yield* find
    if (found === undefined || found.keyFreed === true) return undefined
    return found.createdAt > now() - Duration.toMillis(options.idempotencyWindow)
      ? running.current(found)
      : undefined
  })

/** Answers a submit that names the job it wants back; it never starts a run. */
const adopt = (
  parts: SubmitParts,
  session: JobSession,
  request: SubmitHead,
  jobId: unknown,
  digest: string | undefined
) =>
  Effect.gen(function* () {
    const { recovery, running, store } = parts
    if (typeof jobId !== "string")
      return yield* new InvalidRequest({ message: "extensions: x-vendor.effect-arcp.adopt is a job id" })
    yield* recovery.settled(jobId)
    const stored = yield* Faults.storage(store.job(jobId))
    if (stored === undefined || stored.rejected || stored.principal !== session.identity.principal)
      return yield* new JobNotFound({ message: "no such job" })
    if (digest !== undefined && stored.paramsDigest !== undefined) yield* sameParameters(stored, digest)
    return yield* Answers.rejoin(parts, session, request, running.current(stored))
  })

/** Checks a submit whose key is free, in the order of §7.1. */
const check = (
  parts: SubmitParts,
  session: JobSession,
  request: SubmitRequest,
  ref: AgentRef,
  keyed: Pick<JobRecord, "idempotencyKey" | "paramsDigest">
): Effect.Effect<Candidate, ArcpError> =>
  Decided.gen(function* () {
    const { now, options, policy, registry } = parts
    const origin =
      request.fork === undefined ? undefined : yield* Forking.originOf(parts, session.identity, request.fork)
    const payload =
      origin === undefined ? request.payload : yield* Forking.filled(parts, origin, request.payload)
    if (origin !== undefined) yield* Checks.checkShape(payload, session.features)
    yield* Checks.checkAgent(policy, session.identity, ref.name)
    const agent = yield* registry.resolve(ref)
    yield* Checks.checkConstraints(payload.lease_constraints, now())
    const lease = yield* Checks.effectiveLease(
      payload.lease_request ?? {},
      session.identity.leaseCeiling,
      options
    )
    if (agent.requiresStreaming && !session.features.includes("result_chunk"))
      return yield* new InvalidRequest({
        message: "this agent streams its result; negotiate the result_chunk feature"
      })
    const startAt = yield* StartAt.read(request.schedule, payload.lease_constraints, now())
    if (origin !== undefined) yield* Forking.check(parts, origin, agent, lease)
    const run = yield* agent.prepare(payload.input)
    const record = Answers.newRecord(parts, session, request, `${agent.name}@${agent.version}`, {
      lease,
      anyModel: Checks.anyModelIn(lease, options),
      leaseConstraints: payload.lease_constraints,
      maxRuntimeSec: payload.max_runtime_sec,
      survival: Survival.begun(agent.restart, session, now(), payload.max_runtime_sec),
      idempotencyKey: keyed.idempotencyKey,
      paramsDigest: keyed.paramsDigest
    })
    const begun = origin === undefined ? undefined : yield* Forking.take(parts, origin, record.jobId)
    // Made at once, like its record.
    return {
      session,
      // The session may be resumed with another hello.
      submitter: { features: session.features, identity: session.identity },
      record,
      run,
      agent,
      startAt,
      input: payload.input,
      parentSpan: Tracing.submitter(record),
      keyed: keyedBy(parts, session, request, keyed.idempotencyKey),
      journal: begun?.journal,
      ops: begun?.ops,
      forked: begun?.forked
    }
  })

/** Returns what is stated of a key that another node may use at the same time. */
const keyedBy = (
  parts: SubmitParts,
  session: JobSession,
  request: SubmitRequest,
  key: string | undefined
): Candidate["keyed"] => {
  const { cluster, now, options } = parts
  if (cluster === undefined || key === undefined) return undefined
  const since = now() - Duration.toMillis(options.idempotencyWindow)
  return {
    freeKey: { key, principal: session.identity.principal, since },
    beaten: Effect.suspend(() => submitted(parts, session, request))
  }
}

/** Opens the job that a submit asks for, or answers with the one that its key or its wish names. */
const decide = (
  parts: SubmitParts,
  session: JobSession,
  request: SubmitRequest,
  hold: Reservations.Hold
): Effect.Effect<void, ArcpError> =>
  Decided.gen(function* () {
    const { open, reservations, secrets } = parts
    const { adopt: wanted, payload } = request
    const ref = yield* Checks.checkShape(payload, session.features)
    const { principal } = session.identity
    const key = payload.idempotency_key
    const digest =
      key === undefined ? undefined : yield* secrets.digest(yield* Checks.parameters(payload, request.fork))
    if (wanted !== undefined) return yield* adopt(parts, session, request, wanted, digest)
    if (key !== undefined && digest !== undefined) {
      yield* reservations.take(`key ${principal} ${key}`, hold)
      const existing = yield* occupying(parts, principal, key)
      if (existing !== undefined) {
        yield* sameParameters(existing, digest)
        return yield* Answers.rejoin(parts, session, request, existing)
      }
    }
    const keyed = { idempotencyKey: key, paramsDigest: digest }
    yield* open(yield* check(parts, session, request, ref, keyed), hold)
  })

/** Runs `deciding` unless this session has sent the frame before; refuses with what it fails with. */
const answer = (
  parts: SubmitParts,
  session: JobSession,
  request: SubmitHead,
  agent: Message.Submit["agent"],
  deciding: (hold: Reservations.Hold) => Effect.Effect<void, ArcpError>
): Effect.Effect<void, ArcpError> =>
  Reservations.withHold((hold) =>
    Decided.gen(function* () {
      const { now, reservations, store } = parts
      yield* reservations.take(`submit ${session.sessionId} ${request.id}`, hold)
      const before = yield* Faults.storage(store.jobBySubmit(session.sessionId, request.id))
      if (before !== undefined) {
        const repeating = hasEnded(session.identity, now()) ? Answers.repeatRefusal : Answers.repeat
        return yield* repeating(parts, session, request, before, hold)
      }
      yield* Effect.catchAllCause(
        Decided.attempt(() => deciding(hold)),
        (cause) =>
          Effect.failCause(cause).pipe(
            Faults.contained("a submit was decided"),
            Effect.catchAll((error) => Answers.reject(parts, session, request, agent, error, hold))
          )
      )
    })
  )

/** Decides a submit that the session has not sent before. */
const submitted = (
  parts: SubmitParts,
  session: JobSession,
  request: SubmitRequest
): Effect.Effect<void, ArcpError> =>
  answer(parts, session, request, request.payload.agent, (hold) => decide(parts, session, request, hold))

/** Returns what decides submits (§7.1, §7.2). */
export const make = (jobs: JobParts, open: Open, ownership: Ownership, recovery: Recovery): Submitter => {
  const parts: SubmitParts = { ...jobs, open, ownership, recovery, reservations: Reservations.make() }
  return {
    submit: (session, request) => submitted(parts, session, request),
    refuse: (session, request, error) => answer(parts, session, request, "", () => Effect.fail(error))
  }
}
