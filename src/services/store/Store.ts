/**
 * The narrow driver below the log: what is durable, and one way to change it. A batch of operations
 * commits whole or not at all, and not at all when somebody else has taken what it states to own. One caller (the EventLog's
 * committer) commits, one batch at a time; reads may come from anywhere. Every store passes the contract suite in `test/layers/store/Store.suite.ts`.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type { Version } from "../../protocol/Codec.js"
import { InternalError } from "../../protocol/Errors.js"
import type { Feature } from "../../protocol/Features.js"
import type { Lease, LeaseConstraints } from "../../protocol/Lease.js"
import type { EventType, JobStatus } from "../../protocol/Message.js"
import type { RemoteSpan } from "../../protocol/Trace.js"
import { markAway } from "./away.js"
import type { Owner, Place } from "./epoch.js"
import type { LateEvent, News, NewsQuery, Numbering, Observed } from "./numbering.js"
import type { OpenJobs } from "./openJobs.js"
import type { DueQuery, Queued, Survival } from "./Survival.js"
import type { PlacedWish, Wish } from "./Wish.js"

export { isAway } from "./away.js"
export { absent, epochOf, type FreeKey, first as firstEpoch, type Owner, type Place } from "./epoch.js"
export { eventOverhead } from "./eventOverhead.js"
export type { LateEvent, News, NewsQuery, Numbering, Observed } from "./numbering.js"
export { noJobs, type OpenJobs } from "./openJobs.js"
export type { DueQuery, Queued, StoredEnd, Survival, Waiting } from "./Survival.js"
export type { PlacedWish, Wish } from "./Wish.js"

/**
 * The store refused or failed; nothing of the batch was written. `message` is for the operator and may name files;
 * `publicMessage` is what others may read.
 */
export class StoreError extends Data.TaggedError("StoreError")<{
  readonly message: string
  readonly publicMessage?: string | undefined
  /** Another store writes here since: no batch of this one will ever succeed. */
  readonly fenced?: boolean | undefined
  /** The batch was a mistake of its maker: the store is well, and another batch may succeed. */
  readonly misuse?: boolean | undefined
  /** What was read is not what a store writes, and is so whenever it is read: of this job, and which of its events, if it is one. */
  readonly damaged?: { readonly jobId?: string | undefined; readonly seq?: number | undefined } | undefined
  readonly cause?: unknown
}> {}

/** Somebody else has taken jobs or sessions that a batch stated to own; nothing of it was written. */
export class Fenced extends Data.TaggedError("Fenced")<{
  /** Those that have another epoch than was stated: all of them, as the batch stated them. */
  readonly owners: ReadonlyArray<Owner>
  /** The node that was stated to be gone (`Batch.gone`), and is back. */
  readonly back?: string | undefined
}> {}

/**
 * Returns what a client is told of a storage failure: what could not be done, and why, in words that name no file.
 * Whatever else failed there, a defect included, is an "unknown fault".
 *
 * @example toInternalError("the log could not be read")(error)
 */
export const toInternalError =
  (undone: string) =>
  (error: unknown): InternalError => {
    const known = error instanceof StoreError ? error : undefined
    const why = known === undefined ? "unknown fault" : (known.publicMessage ?? "the store failed")
    const { jobId: job_id, seq } = known?.damaged ?? {}
    const told = new InternalError({
      message: `${undone}: ${why}`,
      details:
        known?.damaged === undefined
          ? { reason: "storage" }
          : {
              reason: "damaged",
              ...(job_id === undefined ? {} : { job_id }),
              ...(seq === undefined ? {} : { seq })
            }
    })
    return known !== undefined && mayPass(known) ? markAway(told) : told
  }

/** A mistake is one again, what is damaged stays so, and a store whose place another has taken never writes again. */
const mayPass = ({ damaged, fenced, misuse }: StoreError): boolean =>
  damaged === undefined && fenced !== true && misuse !== true

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
  /** See {@link epochOf}. */
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
  /** See {@link epochOf}. */
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

/** A change to what is stored. A batch of them is committed whole or not at all. */
export type Op = Data.TaggedEnum<{
  /** Inserts or replaces. */
  PutSession: { readonly session: SessionRecord }
  /**
   * Gives a stored session to a node, under another epoch, and leaves the rest of its record as it is: whoever takes one may have
   * read it before the node that had it wrote its newest token.
   */
  TakeSession: { readonly sessionId: string; readonly node: string; readonly epoch: number }
  /**
   * Removes the session, its floor, what it needs, its observations, and its runs but those over jobs that it owns: these
   * are its jobs' numbering, and go with them.
   */
  DropSession: { readonly sessionId: string }
  /** Inserts or replaces. */
  PutJob: { readonly job: JobRecord }
  /**
   * Gives a stored job to a node, or to nobody, under another epoch, with a cancel when one is given, and leaves the rest of its
   * record as it is: what was written of it since it was read is not written over. Does nothing when it has ended meanwhile.
   */
  MoveJob: {
    readonly jobId: string
    readonly node: string
    readonly epoch: number
    readonly cancelRequested?: JobRecord["cancelRequested"] | undefined
  }
  /**
   * Removes the job, its events, its input, its journal, its observers, and what its owner has numbered of it. Sessions that
   * observed it and had not come to its end have lost events (`Lose`).
   */
  DropJob: { readonly jobId: string }
  /**
   * The session observes the job, which is stored or in the batch. What is up to `cursor`, a `seq` of the job, it has
   * numbered or passed over, as it has whatever its runs of the job hold. Put again, the cursor goes up and never down.
   */
  Observe: { readonly sessionId: string; readonly jobId: string; readonly cursor: number }
  /** The session no longer observes the job, or has numbered its end. */
  Unobserve: { readonly sessionId: string; readonly jobId: string }
  /** The session has lost events that it had not numbered: it cannot be resumed, and needs nothing any more. */
  Lose: { readonly sessionId: string }
  /** Events of one job, in order, following the last one stored. Its `PutJob` is stored, or in the batch. */
  Append: { readonly jobId: string; readonly events: ReadonlyArray<StoredEvent> }
  /**
   * Inserts a run, or replaces the newest of that session when it starts at the same `eventSeq`: it grew, and is
   * of the same job and `jobSeq`. Of a job that is neither stored nor in the batch it leads nowhere.
   */
  PutRun: { readonly sessionId: string; readonly run: Run }
  /**
   * Raises the floor of the session's view to `eventSeq`, at most to the number that follows its newest: what is
   * before it is gone for readers. It stays until the session is dropped. The newest run itself is kept all the
   * same: it is where the session's numbering goes on. So are those over jobs that the session owns.
   */
  TrimSession: { readonly sessionId: string; readonly eventSeq: number }
  /** The first `event_seq` that a stored session still needs; 1 when never said. `PutSession` leaves it. */
  Need: { readonly sessionId: string; readonly eventSeq: number }
  /** Keeps or replaces the input of a job, as JSON text. Its `PutJob` is stored, or in the batch. */
  PutInput: { readonly jobId: string; readonly input: string }
  /** Puts entries of the journal of a job. Its `PutJob` is stored, or in the batch. They go with the job. */
  PutJournal: { readonly jobId: string; readonly entries: ReadonlyArray<JournalEntry> }
  /** Keeps, until it is dropped, that a hook is to be called. It outlives its job. */
  PutHookEvent: { readonly event: HookEvent }
  /** Hooks have been called, or are not called any more. */
  DropHookEvents: { readonly events: ReadonlyArray<Omit<HookEvent, "text">> }
  /** Keeps what a node wants of another, until it is dropped. It outlives its job, and the nodes. */
  PutWish: { readonly wish: Wish }
  /** A wish has been done, or refused. Does nothing when it has been dropped, or has an answer. */
  AnswerWish: { readonly id: string; readonly answer: string }
  /** What was wanted is not wanted any more, or its answer has been taken. */
  DropWishes: { readonly ids: ReadonlyArray<string> }
  /** Events of the job before `seq` are no longer needed. Sessions that had not come to them have lost events (`Lose`). */
  TrimJob: { readonly jobId: string; readonly seq: number }
  /** The runtime is alive at this time (epoch ms); what a restart takes attached sessions to have been seen at. */
  Alive: { readonly at: number }
  /** When nodes were last known to be alive matters to nobody any more where it was before this time (epoch ms). */
  ForgetLives: { readonly before: number }
}>
/** Makes the operations of a batch. */
export const Op = Data.taggedEnum<Op>()

/** What is committed at once, and what whoever commits it states to own: whatever of it belongs to one job or one session. */
export interface Batch {
  readonly ops: ReadonlyArray<Op>
  /** Each job, each session and each key at most once. */
  readonly owners: ReadonlyArray<Owner>
  /**
   * A node that was buried: nothing is written when it is back under its name, so that it finds all that it has left, or what was not
   * taken until then. Only a store that nodes share knows of it.
   */
  readonly gone?: string | undefined
}

/** Which jobs a listing wants: those that fulfil every condition that is given. */
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
  /**
   * `rows`: only jobs that wait and are not in memory; `parked`: of those all that are parked, and maybe a few others; `held`: all but
   * those of `rows` that no job has delegated to.
   */
  readonly waiting?: "rows" | "parked" | "held" | undefined
  /** Only what this node has; the empty name is that of a runtime which is alone. */
  readonly node?: string | undefined
  /** Jobs whose record is damaged are left out, where the answer would be that. */
  readonly damaged?: "left out" | undefined
  /** Only jobs after this one in `(createdAt, jobId)` order. */
  readonly after?: { readonly createdAt: number; readonly jobId: string } | undefined
  /** The oldest so many. */
  readonly limit: number
}

/** Which sessions are wanted: those that fulfil every condition that is given. */
export interface SessionFilter {
  /** Only what this node has; the empty name is that of a runtime which is alone. */
  readonly node?: string | undefined
  /** Nothing that one of these nodes has. */
  readonly notOf?: ReadonlyArray<string> | undefined
  /** Only sessions after this one, by id. */
  readonly after?: string | undefined
  readonly limit: number
}

/** What is retained of a job: `seq` of the oldest and the newest event, and bytes of payload and overhead. */
export interface Bounds {
  readonly first: number
  readonly last: number
  readonly bytes: number
}

/** A place after which a job's log can begin: from the last mark up to and including `seq` there are `bytes`. */
export interface Mark {
  readonly seq: number
  readonly bytes: number
}

/** An event as a session has it numbered. */
export interface ViewEvent {
  readonly eventSeq: number
  readonly job: { readonly jobId: string; readonly traceId: string; readonly sessionId: string }
  readonly event: StoredEvent
  /** Why the event cannot be given as it is stored: something else has written there. */
  readonly damage?: StoreError | undefined
}

/** A session that has a part of a job in its view; `end` is the `event_seq` after its last run of that job. */
export interface Viewer {
  readonly sessionId: string
  readonly jobId: string
  readonly end: number
}

/** Commits batches of changes, and reads what was committed. What fails, fails with a `StoreError`. */
export interface StoreService {
  /** `memory` stores keep a sixteenth of the retention limits and forget on exit. */
  readonly kind: "memory" | "durable"
  /**
   * Commits a batch whole or not at all. When an owner that it states has another epoch, or is not stored, nothing is
   * written, and it fails with all of those; see {@link epochOf}. What is put of a record, its epoch included, counts from the
   * next batch on: so whoever takes a job or a session states the epoch that it was read with, and puts the next one.
   */
  readonly commit: (batch: Batch) => Effect.Effect<void, StoreError | Fenced>

  readonly session: (sessionId: string) => Effect.Effect<SessionRecord | undefined, StoreError>
  /** Returns all of them at once, and fails when one is damaged: for tools that look at a store. */
  readonly sessions: Effect.Effect<ReadonlyArray<SessionRecord>, StoreError>
  /**
   * Returns sessions by id, at most `limit`. Those whose record is damaged are left out, and fewer are given only when there are no
   * more.
   */
  readonly sessionPage: (filter: SessionFilter) => Effect.Effect<ReadonlyArray<SessionRecord>, StoreError>
  /**
   * Returns what of a view can be read: 1 and 0 for one that never had a run, `first` = `last` + 1 when nothing is
   * retained.
   */
  readonly view: (
    sessionId: string
  ) => Effect.Effect<{ readonly first: number; readonly last: number }, StoreError>
  /**
   * Returns the events of a view that follow `after`, in order and without a gap: at most `limit`, none after the one
   * that takes payloads and overhead over `maxBytes`, and none from the first that is missing (trimmed or dropped). It
   * may be shorter, and is empty only when there is nothing or the next one is missing.
   */
  readonly page: (
    sessionId: string,
    after: number,
    limit: number,
    maxBytes: number
  ) => Effect.Effect<ReadonlyArray<ViewEvent>, StoreError>
  /**
   * Returns the runs, in order, that end at or after `fromEventSeq` and at or after the view's floor, at most `limit`.
   */
  readonly runs: (
    sessionId: string,
    fromEventSeq: number,
    limit: number
  ) => Effect.Effect<ReadonlyArray<Run>, StoreError>
  /**
   * Returns what a session has numbered of a job, and the first of it after `after`, whatever its floor. Of a session that is
   * not stored any more there is what it has numbered of jobs that it owns.
   */
  readonly numbering: (
    sessionId: string,
    jobId: string,
    after: number
  ) => Effect.Effect<Numbering, StoreError>
  /** Returns what a session observes, by job id. */
  readonly observed: (sessionId: string) => Effect.Effect<ReadonlyArray<Observed>, StoreError>
  /** Returns the ids of the stored sessions that have not come to the newest event of a job that they observe, but for those that have lost events. */
  readonly lagging: (jobId: string) => Effect.Effect<ReadonlyArray<string>, StoreError>
  /**
   * Returns the first events that follow a `seq` in each of some jobs, of all of them in the order in which they were committed,
   * at most `limit`. What was trimmed is left out.
   */
  readonly backlog: (
    after: ReadonlyArray<{ readonly jobId: string; readonly seq: number }>,
    limit: number
  ) => Effect.Effect<ReadonlyArray<LateEvent>, StoreError>
  /** Returns what there is for sessions that look at jobs of other nodes. Only stores that nodes share have it. */
  readonly news?: ((query: NewsQuery) => Effect.Effect<News, StoreError>) | undefined
  /** Returns the first `event_seq` that a session still needs, as it was last said (`Need`); 1 when it never was. */
  readonly need: (sessionId: string) => Effect.Effect<number, StoreError>
  /** Returns whether a session has lost events that it had not numbered. */
  readonly hasLost: (sessionId: string) => Effect.Effect<boolean, StoreError>
  /** Returns the ids of the sessions that observe each of these jobs; jobs without any are left out. */
  readonly observersOf: (
    jobIds: ReadonlyArray<string>
  ) => Effect.Effect<ReadonlyMap<string, ReadonlyArray<string>>, StoreError>
  /** Returns the stored sessions whose views retain something of these jobs. */
  readonly viewers: (jobIds: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<Viewer>, StoreError>
  /**
   * Returns the lowest `seq` of a job that a stored session still needs, `undefined` when none needs anything of it: what is in
   * its view, and what it observes and has not come to.
   */
  readonly needed: (jobId: string) => Effect.Effect<number | undefined, StoreError>
  /**
   * Returns whether the job that delegated to this one still needs it: it has not ended, and has delegations in its journal, by
   * which it finds the jobs that it has delegated to when it is run again.
   */
  readonly neededAbove: (jobId: string) => Effect.Effect<boolean, StoreError>

  readonly job: (jobId: string) => Effect.Effect<JobRecord | undefined, StoreError>
  /** Returns jobs (not rejected submits), oldest first by `(createdAt, jobId)`. */
  readonly jobs: (filter: JobFilter) => Effect.Effect<ReadonlyArray<JobRecord>, StoreError>
  /** Returns the newest job, or rejected submit, that this session started with this message id. */
  readonly jobBySubmit: (
    sessionId: string,
    submitId: string
  ) => Effect.Effect<JobRecord | undefined, StoreError>
  /** Returns the newest job of this principal with this idempotency key, unless that is freed. */
  readonly jobByKey: (principal: string, key: string) => Effect.Effect<JobRecord | undefined, StoreError>
  /**
   * Returns the ids of ended jobs and rejected submits with `endedAt` < `endedBefore` (epoch ms) of which neither a stored
   * session nor the job above needs anything, oldest end first, at most `limit`. A call looks at a bounded number of jobs, from where the
   * call before stopped; so jobs that are still needed cost little, and one call need not find all.
   */
  readonly retired: (query: {
    readonly endedBefore: number
    readonly limit: number
  }) => Effect.Effect<ReadonlyArray<string>, StoreError>
  /**
   * Returns the ids of the ended jobs and rejected submits of one principal, oldest end first, at most `limit`. With
   * `needed: false` only those of which nobody needs anything, found as in `retired`.
   */
  readonly surplus: (query: {
    readonly principal: string
    readonly limit: number
    readonly needed: boolean
  }) => Effect.Effect<ReadonlyArray<string>, StoreError>
  /** Returns how many ended jobs and rejected submits each principal has. Counts them all: for the start. */
  readonly endedCounts: Effect.Effect<ReadonlyMap<string, number>, StoreError>
  /**
   * Returns jobs that wait, are not in memory, and are due at `by` (epoch ms) or before, by `(dueAt, jobId)`: those after a
   * place, at most `limit`. Those whose record is damaged are left out, and fewer are given only when there are no more.
   */
  readonly due: (query: DueQuery) => Effect.Effect<ReadonlyArray<JobRecord>, StoreError>
  /** Returns the ids of jobs that wait, are not in memory, and that a session observes. */
  readonly waitingObserved: (sessionId: string) => Effect.Effect<ReadonlyArray<string>, StoreError>
  /** Returns the ids of the sessions that own a job of the principal which waits and is not in memory. */
  readonly waitingOwners: (principal: string) => Effect.Effect<ReadonlyArray<string>, StoreError>
  /** Returns how many jobs of each principal, of one node or of all, wait and are not in memory. Counts them: for the start. */
  readonly waitingCounts: (node: string | undefined) => Effect.Effect<ReadonlyMap<string, number>, StoreError>
  /** Returns where these jobs are; those that are not stored are left out. */
  readonly jobPlaces: (jobIds: ReadonlyArray<string>) => Effect.Effect<ReadonlyMap<string, Place>, StoreError>
  /** Returns where these sessions are; those that are not stored are left out. */
  readonly sessionPlaces: (
    sessionIds: ReadonlyArray<string>
  ) => Effect.Effect<ReadonlyMap<string, Place>, StoreError>
  /** Returns the names of the nodes that have jobs which have not ended; the empty name is as in {@link Observed}. */
  readonly jobNodes: Effect.Effect<ReadonlyArray<string>, StoreError>
  /** Returns how many jobs that have not ended, and how many attached sessions, each node has; the empty name is as in {@link jobNodes}. */
  readonly nodeCounts: Effect.Effect<
    { readonly jobs: ReadonlyMap<string, number>; readonly sessions: ReadonlyMap<string, number> },
    StoreError
  >
  /**
   * Returns how many jobs that have not ended these principals have on these nodes; who has none is left out. Only stores that nodes
   * share have it.
   */
  readonly openOn?:
    | ((
        nodes: ReadonlyArray<string>,
        principals: ReadonlyArray<string>
      ) => Effect.Effect<ReadonlyMap<string, OpenJobs>, StoreError>)
    | undefined
  /**
   * Returns wishes, oldest first, at most `limit`: those that a node wants, and those without an answer of jobs that it has and
   * that have not ended; without a node all.
   */
  readonly wishes: (
    node: string | undefined,
    limit: number
  ) => Effect.Effect<ReadonlyArray<PlacedWish>, StoreError>
  /** Returns the calls of hooks that are owed after a place, by `(jobId, seq)`, at most `limit`. */
  readonly hookEvents: (
    after: { readonly jobId: string; readonly seq: number },
    limit: number
  ) => Effect.Effect<ReadonlyArray<HookEvent>, StoreError>
  /** Returns the input of a job as JSON text, when it was kept. */
  readonly input: (jobId: string) => Effect.Effect<string | undefined, StoreError>
  /** Returns entries of the journal of a job after a place, by `(kind, key)`, without their values, at most `limit`. */
  readonly journal: (
    jobId: string,
    after: { readonly kind: string; readonly key: string },
    limit: number
  ) => Effect.Effect<ReadonlyArray<JournalIndexEntry>, StoreError>
  /** Returns the value of a journal entry as JSON text, when there is one. */
  readonly journalValue: (
    jobId: string,
    kind: string,
    key: string
  ) => Effect.Effect<string | undefined, StoreError>
  /** Returns the events of a job in order from `fromSeq` on, at most `limit`. */
  readonly events: (
    jobId: string,
    fromSeq: number,
    limit: number
  ) => Effect.Effect<ReadonlyArray<StoredEvent>, StoreError>
  /**
   * Returns what is retained of each of these jobs: `first` = `last` + 1 when all events were trimmed; jobs without a
   * log are left out. Bytes of a log that was cut within a mark are in proportion.
   */
  readonly boundsOf: (jobIds: ReadonlyArray<string>) => Effect.Effect<ReadonlyMap<string, Bounds>, StoreError>
  /**
   * Returns the marks of what is retained of a job, ascending, the last at its newest event. From one to the next there
   * are at most 1 024 events, and 256 KiB unless one event is larger.
   */
  readonly marks: (jobId: string) => Effect.Effect<ReadonlyArray<Mark>, StoreError>

  /** Returns when a runtime on this store, of one that is shared this node, was last known to be alive, in epoch ms; 0 when never. */
  readonly aliveAt: Effect.Effect<number, StoreError>
  /** Returns the same of each node, by its name, until that is forgotten (`ForgetLives`); of a runtime that is alone the name is empty. */
  readonly lives: Effect.Effect<ReadonlyMap<string, number>, StoreError>
  /**
   * Returns about how many events were dropped or trimmed and still take space; 0 when none do. Cheap: whoever makes
   * events faster than they are freed asks it before each batch.
   */
  readonly freeing: Effect.Effect<number, StoreError>
  /**
   * Has what is deleted by some work, or freed after it, overwritten. `undefined` where nothing of what is deleted stays anywhere,
   * or that is the affair of whoever runs the database.
   */
  readonly erasing?: (<A, E>(work: Effect.Effect<A, E>) => Effect.Effect<A, E | StoreError>) | undefined
  /**
   * Physically frees what was dropped or trimmed, of many jobs and sessions in one transaction that ends after about
   * 4 000 rows or 4 ms, and returns whether more is left. To be called between commits, a turn of the event loop
   * after each call.
   */
  readonly vacuum: Effect.Effect<boolean, StoreError>
  /** Fails once the store has ended by itself, and can do nothing any more. A store without it does not. */
  readonly died?: Effect.Effect<never, StoreError> | undefined
  /**
   * Counts the events that are stored, with those that were dropped or trimmed and are not freed yet, and their bytes with the
   * overhead. Looks at every mark, in turns of the event loop. A store without it does not tell.
   */
  readonly retained?:
    | Effect.Effect<{ readonly events: number; readonly bytes: number }, StoreError>
    | undefined
  /** Returns the bytes of memory that what is stored takes, roughly; 0 of a store on disk. */
  readonly held: () => number
}

/** What a runtime keeps: sessions, their views, jobs and events. */
export class Store extends Context.Tag("arcp/services/Store")<Store, StoreService>() {}
