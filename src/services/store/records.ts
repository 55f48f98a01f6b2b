/** What a store keeps: sessions, jobs, and what belongs to a job, its events, its journal, the calls of hooks that it owes. */
import type { Version } from "../../protocol/Codec.js"
import type { Feature } from "../../protocol/Features.js"
import type { Lease, LeaseConstraints } from "../../protocol/Lease.js"
import type { EventType, JobStatus } from "../../protocol/Message.js"
import type { RemoteSpan } from "../../protocol/Trace.js"
import type { Queued, Survival } from "./Survival.js"

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
  /** Of the newest resume token that the client has shown to hold; of the first one until it has. */
  readonly tokenDigest: string
  /**
   * Of those that were issued to whoever held that one, oldest first. Each is valid until the client has shown which of
   * them it received (§4.3 rule 4): hellos of connections that it gave up may arrive after the one that it went on with.
   */
  readonly issuedTokenDigests?: ReadonlyArray<string> | undefined
  /** Newest acknowledged `event_seq`. */
  readonly acked: number
  /** See `epochOf`. */
  readonly epoch?: number | undefined
  /** The node that has it; absent where a runtime is alone. */
  readonly node?: string | undefined
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
  /**
   * Of a delegated job: what the jobs above it had left when it began, as a lease has it. It spends no more, since it spends theirs,
   * whatever budget it has of its own. Absent where none of them has a budget.
   */
  readonly budgetAbove?: ReadonlyArray<string> | undefined
  /** It has no `model.use`, and may use any model for that: what leaves it out is wider than what has it. */
  readonly anyModel?: boolean | undefined
  readonly traceId: string
  /** The span under which it was submitted or delegated, as far as the wire told (§11). */
  readonly parentSpan?: RemoteSpan | undefined
  /** Epoch ms. */
  readonly createdAt: number
  /** Epoch ms; absent until it ends. */
  readonly endedAt?: number | undefined
  readonly parentJobId?: string | undefined
  readonly delegateId?: string | undefined
  readonly maxRuntimeSec?: number | undefined
  readonly idempotencyKey?: string | undefined
  /** SHA-256 of the canonical JSON of the parameters; present with an idempotency key. */
  readonly paramsDigest?: string | undefined
  /** SHA-256 of the input's JSON text, lower-case hex, when that was too large to be kept. */
  readonly inputDigest?: string | undefined
  /** The runtime ended the job for a fault of its own: its idempotency key is free again (§5.2). */
  readonly keyFreed?: boolean | undefined
  /** A cancel that was, or is about to be, acknowledged: the job ends in `CANCELLED` whatever happens (§5.4). */
  readonly cancelRequested?: { readonly reason?: string | undefined; readonly at: number } | undefined
  readonly survival?: Survival | undefined
  /** Only of a job that has not begun (`pending`). */
  readonly queued?: Queued | undefined
  /** Ids of the inputs that a durable job waits for. */
  readonly waitingFor?: ReadonlyArray<string> | undefined
  /**
   * Not a job of its own: this submit was answered with the accept of that one, because of its idempotency key. Kept as
   * a rejected one is, so that the same frame gets the same answer.
   */
  readonly answeredWith?: string | undefined
  /** The job's newest `event_seq` in its owner's numbering, as of the last status change; 0 while it has none. */
  readonly lastEventSeq: number
  /** See `epochOf`. */
  readonly epoch?: number | undefined
  /** The node that has it; absent where a runtime is alone. */
  readonly node?: string | undefined
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
  readonly payload: string
}

/** `event_seq` eventSeq … eventSeq + count - 1 of a session are `seq` jobSeq … of a job. */
export interface Run {
  readonly eventSeq: number
  readonly jobId: string
  readonly jobSeq: number
  readonly count: number
  /** What the run accounts for in the session's retention, as its writer counts it. */
  readonly bytes: number
}

/**
 * An entry of a job's journal: what a durable job has done, so that it is not done again. It is in the job's log, and no
 * event. A later entry of the same kind and key takes the place of the one before.
 */
export interface JournalEntry {
  readonly kind: string
  /** Not empty, and without control characters. */
  readonly key: string
  /** Ascends in the order of commits within a job. */
  readonly ordinal: number
  /** What is known of it without its value, as JSON text: short. */
  readonly about: string
  /** JSON text; absent while there is nothing to find again. */
  readonly value?: string | undefined
}

/** Kind of the entries that lead to the jobs that a job has delegated to. */
export const delegationKind = "delegate"

/** A journal entry as an index has it. */
export interface JournalIndexEntry extends Omit<JournalEntry, "value"> {
  /** Bytes of the value in UTF-8; `undefined` without one. */
  readonly size: number | undefined
}

/** A call of a hook (`Hooks`) that is owed: what has happened to a job, and is stored with the event that tells of it. */
export interface HookEvent {
  readonly jobId: string
  /** Of the event. */
  readonly seq: number
  /** JSON text; short. */
  readonly text: string
}

/** What a journal entry takes beyond its key, `about` and value, roughly, in bytes: for limits. */
export const journalOverhead = 256
