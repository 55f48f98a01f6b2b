/** A job before it is opened, and what opening it gives: what submitting, delegating and opening tell each other. */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Tracer from "effect/Tracer"
import type { ArcpError, InternalError } from "../../protocol/Errors.js"
import type { Job } from "../../services/jobs/Job.js"
import type { JobSession } from "../../services/jobs/Jobs.js"
import type { Lease as LeaseTag } from "../../services/lease/Lease.js"
import type { JobLog } from "../../services/log/EventLog.js"
import type { JobRecord } from "../../services/store/Store.js"
import type { LiveJob } from "./LiveJob.js"
import type { Hold } from "./Reservations.js"
import type { RunningJob } from "./RunningJobs.js"

/** A job that may be run. */
export interface Candidate {
  readonly session: JobSession
  readonly record: JobRecord
  readonly run: Effect.Effect<unknown, ArcpError, Job | LeaseTag | Scope.Scope>
  /** As it came, before the agent's contract decoded it. */
  readonly input: unknown
  readonly parent?: RunningJob | undefined
  /** Of the submitter's, or of the job that delegates. */
  readonly parentSpan: Tracer.AnySpan
}

/** A job whose opening commit is queued. */
export interface Opening {
  readonly live: LiveJob
  /** Gives its log when it is stored and accepted; fails when it could not be stored. */
  readonly opened: Effect.Effect<JobLog, InternalError>
}

/** Opens a job, and returns when its commit is queued: what is queued next comes after it. */
export type Open = (candidate: Candidate, hold: Hold) => Effect.Effect<Opening, ArcpError>
