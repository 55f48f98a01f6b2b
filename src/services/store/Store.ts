/**
 * The narrow driver below the log: what is durable, and one way to change it. A batch of operations
 * commits whole or not at all. One caller (the EventLog's committer) commits, one batch at a time;
 * reads may come from anywhere. Every store passes the contract suite in `test/layers/store/Store.suite.ts`.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type { Version } from "../../protocol/Codec.js"
import type { Feature } from "../../protocol/Features.js"
import type { Lease, LeaseConstraints } from "../../protocol/Lease.js"
import type { EventType, JobStatus } from "../../protocol/Message.js"

/** The store refused or failed; nothing of the batch was written. */
export class StoreError extends Data.TaggedError("StoreError")<{
  readonly message: string
  readonly cause?: unknown
}> {}

/** A session as it survives a restart. Tokens are kept as SHA-256 digests only. */
export interface SessionRecord {
  readonly sessionId: string
  readonly principal: string
  readonly version: Version
  readonly features: ReadonlyArray<Feature>
  /** Epoch ms. */
  readonly createdAt: number
  /** Epoch ms of the last message. While attached it trails; see `aliveAt`. */
  readonly lastSeenAt: number
  readonly attached: boolean
  readonly tokenDigest: string
  /** Valid until the client has shown that it received the new one (§6.3 rule 4). */
  readonly previousTokenDigest?: string | undefined
  /** Newest acknowledged `event_seq`. */
  readonly acked: number
}

/** A job as it survives a restart. Also a rejected submit, so that its answer can be repeated. */
export interface JobRecord {
  readonly jobId: string
  /** The owning session and, for the answer to a repeated submit, the submit's message id. */
  readonly sessionId: string
  readonly submitId: string
  readonly principal: string
  /** `name@version`; for a rejected submit whatever was asked for. */
  readonly agent: string
  readonly status: JobStatus
  /** The submit was refused: not a job, never listed, kept for the repeated answer only. */
  readonly rejected: boolean
  readonly lease: Lease
  readonly leaseConstraints?: LeaseConstraints | undefined
  /** What is left per budgeted currency, exact decimals as text. Absent without a budget. */
  readonly budget?: Readonly<Record<string, string>> | undefined
  readonly traceId: string
  /** Epoch ms. */
  readonly createdAt: number
  readonly endedAt?: number | undefined
  readonly parentJobId?: string | undefined
  readonly delegateId?: string | undefined
  readonly maxRuntimeSec?: number | undefined
  readonly idempotencyKey?: string | undefined
  /** SHA-256 of the canonical JSON of the parameters; present with an idempotency key. */
  readonly paramsDigest?: string | undefined
  /** The runtime ended the job for a fault of its own: its idempotency key is free again (§5.2). */
  readonly keyFreed?: boolean | undefined
  /** A cancel that was, or is about to be, acknowledged: the job ends in `CANCELLED` whatever happens (§5.4). */
  readonly cancelRequested?: { readonly reason?: string | undefined; readonly at: number } | undefined
  /**
   * Not a job of its own: this submit was answered with the accept of that one, because of its idempotency key. Kept as a
   * rejected one is, so that the same frame gets the same answer.
   */
  readonly answeredWith?: string | undefined
  /** The job's newest `event_seq` in its owner's numbering, as of the last status change. */
  readonly lastEventSeq: number
}

/** One stored event. `payload` is JSON text, ready to be spliced into a frame. */
export interface StoredEvent {
  /** From 1, gap-free within its job. */
  readonly seq: number
  readonly type: EventType
  /** Event kind; empty for `job.result` and `job.error`. */
  readonly kind: string
  /** Only this session sees it; `undefined` means every observer. */
  readonly audience?: string | undefined
  /** Its `event_seq` in the owner's numbering. */
  readonly ownerSeq: number
  readonly payload: string
}

/** `event_seq` eventSeq … eventSeq + count - 1 of a session are `seq` jobSeq … of a job. */
export interface Run {
  readonly eventSeq: number
  readonly jobId: string
  readonly jobSeq: number
  readonly count: number
}

export type Op = Data.TaggedEnum<{
  /** Inserts or replaces. */
  PutSession: { readonly session: SessionRecord }
  /** Removes the session, its runs and its observations. */
  DropSession: { readonly sessionId: string }
  /** Inserts or replaces. */
  PutJob: { readonly job: JobRecord }
  /** Removes the job, its events and its observers. */
  DropJob: { readonly jobId: string }
  /** The session observes the job (idempotent), or no longer does. */
  Observe: { readonly sessionId: string; readonly jobId: string }
  Unobserve: { readonly sessionId: string; readonly jobId: string }
  /** Events of one job, in order, following the last one stored. Its `PutJob` is stored, or in the batch. */
  Append: { readonly jobId: string; readonly events: ReadonlyArray<StoredEvent> }
  /** Inserts a run, or replaces the one of that session that starts at the same `eventSeq` (it grew). */
  PutRun: { readonly sessionId: string; readonly run: Run }
  /**
   * Runs of the session that end before `eventSeq` are no longer needed. The newest run is kept all the
   * same: it is where the session's numbering goes on.
   */
  TrimSession: { readonly sessionId: string; readonly eventSeq: number }
  /** Events of the job before `seq` are no longer needed. */
  TrimJob: { readonly jobId: string; readonly seq: number }
  /** The runtime is alive at this time (epoch ms); what a restart takes attached sessions to have been seen at. */
  Alive: { readonly at: number }
}>
export const Op = Data.taggedEnum<Op>()

export interface JobFilter {
  readonly principals: ReadonlyArray<string> | "everyone"
  readonly status?: ReadonlyArray<JobStatus> | undefined
  /** `name` or `name@version`. */
  readonly agent?: string | undefined
  /** Epoch ms, both exclusive. */
  readonly createdAfter?: number | undefined
  readonly createdBefore?: number | undefined
  /** Only what this job delegated to. */
  readonly parentJobId?: string | undefined
  /** Continue behind this job in `(createdAt, jobId)` order. */
  readonly after?: { readonly createdAt: number; readonly jobId: string } | undefined
  readonly limit: number
}

export interface StoreService {
  /** `memory` stores keep a sixteenth of the retention limits and forget on exit. */
  readonly kind: "memory" | "durable"
  /** Commits a batch whole or not at all. */
  readonly commit: (batch: ReadonlyArray<Op>) => Effect.Effect<void, StoreError>

  readonly session: (sessionId: string) => Effect.Effect<SessionRecord | undefined, StoreError>
  readonly sessions: Effect.Effect<ReadonlyArray<SessionRecord>, StoreError>
  /** The newest run of a session, `undefined` when it has none. */
  readonly lastRun: (sessionId: string) => Effect.Effect<Run | undefined, StoreError>
  /** Runs in order that end at or after `fromEventSeq`, at most `limit`. */
  readonly runs: (
    sessionId: string,
    fromEventSeq: number,
    limit: number
  ) => Effect.Effect<ReadonlyArray<Run>, StoreError>
  /** Ids of the sessions that observe a job. */
  readonly observers: (jobId: string) => Effect.Effect<ReadonlyArray<string>, StoreError>

  readonly job: (jobId: string) => Effect.Effect<JobRecord | undefined, StoreError>
  /** Jobs (not rejected submits) oldest first by `(createdAt, jobId)`. */
  readonly jobs: (filter: JobFilter) => Effect.Effect<ReadonlyArray<JobRecord>, StoreError>
  /** The newest job, or rejected submit, that this session started with this message id. */
  readonly jobBySubmit: (
    sessionId: string,
    submitId: string
  ) => Effect.Effect<JobRecord | undefined, StoreError>
  /** The newest job of this principal with this idempotency key, unless that is freed. */
  readonly jobByKey: (principal: string, key: string) => Effect.Effect<JobRecord | undefined, StoreError>
  /** Ids of jobs, and rejected submits, that ended before `endedBefore` (epoch ms), at most `limit`. */
  readonly endedJobs: (endedBefore: number, limit: number) => Effect.Effect<ReadonlyArray<string>, StoreError>
  /** Events of a job in order with `seq` ≥ fromSeq, at most `limit`. */
  readonly events: (
    jobId: string,
    fromSeq: number,
    limit: number
  ) => Effect.Effect<ReadonlyArray<StoredEvent>, StoreError>
  /**
   * `seq` of the oldest retained and the newest event of a job: `{first: 1, last: 0}` when it has none,
   * and `first` = `last` + 1 when all were trimmed.
   */
  readonly bounds: (
    jobId: string
  ) => Effect.Effect<{ readonly first: number; readonly last: number }, StoreError>

  /** Epoch ms at which a runtime on this store was last known to be alive; 0 when never. */
  readonly aliveAt: Effect.Effect<number, StoreError>
  /**
   * Physically frees what was dropped or trimmed, a page at a time, and returns whether more is left.
   * Called from the runtime's sweeper between commits; never long enough to be noticed.
   */
  readonly vacuum: Effect.Effect<boolean, StoreError>
}

export class Store extends Context.Tag("arcp/services/Store")<Store, StoreService>() {}
