/** A job before it is opened, and what opens it: what submitting, delegating and opening tell each other. */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Tracer from "effect/Tracer"
import type { ArcpError } from "../../protocol/Errors.js"
import type { Body } from "../../protocol/Event.js"
import type { Registered } from "../../services/agents/Agent.js"
import type { Submit } from "../../services/jobs/Admission.js"
import type { Job } from "../../services/jobs/Job.js"
import type { JobSession } from "../../services/jobs/Jobs.js"
import type { Lease as LeaseTag } from "../../services/lease/Lease.js"
import type { FreeKey, JobRecord, Op } from "../../services/store/Store.js"
import type { Journal } from "./durable/Journal.js"
import type { LiveJob, TerminalMessage } from "./LiveJob.js"
import type { Hold } from "./Reservations.js"
import type { RunningJob } from "./RunningJobs.js"

/** What of the session that submits a job is stored with it. */
export type Submitter = Pick<JobSession, "features" | "identity">

/** A job that may be run. */
export interface Candidate {
  /** Whose it is, and who is told of it. */
  readonly session: JobSession
  /** Who submitted it, as it was when that was decided: what that could take, and may do, decides the form of the job for its life, whoever has it later. */
  readonly submitter: Submitter
  readonly record: JobRecord
  readonly run: Effect.Effect<unknown, ArcpError, Job | LeaseTag | Scope.Scope>
  readonly agent: Pick<Registered, "awaitEmits" | "compensateWithin" | "concurrency" | "restart" | "services">
  /** Epoch ms before which it is not to begin. */
  readonly startAt?: number | undefined
  /** Of a durable job that is run again, or goes on from another. */
  readonly journal?: Journal | undefined
  /** Of one with an idempotency key that another node may use at the same time: the key, and what to do when it has. */
  readonly keyed?: { readonly freeKey: FreeKey; readonly beaten: Effect.Effect<void, ArcpError> } | undefined
  /** Makes what is stored in the commit that opens it. */
  readonly ops?: (() => ReadonlyArray<Op>) | undefined
  /** Called when it could not be opened, before whoever waits for that is told: what `ops` has made is not stored. */
  readonly unopened?: (() => void) | undefined
  /** What is said of a job that goes on from another. */
  readonly forked?: Body<"status"> | undefined
  /** Of a job that is run again: what comes before its handler, or before its compensations. */
  readonly begin?: Effect.Effect<void, ArcpError> | undefined
  /** Of a job that is run again for its compensations only: how it ends. */
  readonly settled?: TerminalMessage | undefined
  /** As it came, before the agent's contract decoded it. */
  readonly input: unknown
  readonly parent?: RunningJob | undefined
  /** Of the submitter's, or of the job that delegates. */
  readonly parentSpan: Tracer.AnySpan
}

/**
 * Opens a job, and returns before its commit is stored: what is opened next comes after it. Who delegated to it waits
 * for `awaited.opened`. One that waits before it begins, which a delegated one never does, gives nothing.
 */
export type Open = (candidate: Candidate, hold: Hold) => Effect.Effect<LiveJob | undefined, ArcpError>

/** Returns the job as admission sees it. */
export const submitOf = ({ input, record }: Candidate): Submit => ({
  agent: record.agent,
  input,
  lease: record.lease,
  leaseConstraints: record.leaseConstraints ?? {},
  maxRuntimeSec: record.maxRuntimeSec,
  idempotencyKey: record.idempotencyKey,
  sessionId: record.sessionId,
  traceId: record.traceId,
  parentJobId: record.parentJobId
})
