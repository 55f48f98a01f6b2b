/**
 * The narrow driver below the log: what is durable, and one way to change it. A batch of operations
 * commits whole or not at all, and not at all when somebody else has taken what it states to own. One caller (the EventLog's
 * committer) commits, one batch at a time; reads may come from anywhere. Every store passes the contract suite in `test/layers/store/Store.suite.ts`.
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import { InternalError } from "../../protocol/Errors.js"
import type { JobStatus } from "../../protocol/Message.js"
import { markAway } from "./away.js"
import type { Owner, Place } from "./epoch.js"
import type { LateEvent, News, NewsQuery, Numbering, Observed } from "./numbering.js"
import type { Batch } from "./Op.js"
import type { OpenJobs } from "./openJobs.js"
import type { HookEvent, JobRecord, JournalIndexEntry, Run, SessionRecord, StoredEvent } from "./records.js"
import type { DueQuery } from "./Survival.js"
import type { PlacedWish } from "./Wish.js"

export { isAway } from "./away.js"
export { absent, epochOf, type FreeKey, first as firstEpoch, type Owner, type Place } from "./epoch.js"
export { eventOverhead } from "./eventOverhead.js"
export type { LateEvent, News, NewsQuery, Numbering, Observed } from "./numbering.js"
export { type Batch, Op } from "./Op.js"
export { noJobs, type OpenJobs } from "./openJobs.js"
export {
  delegationKind,
  type HookEvent,
  type JobRecord,
  type JournalEntry,
  type JournalIndexEntry,
  journalOverhead,
  type Run,
  type SessionRecord,
  type StoredEvent
} from "./records.js"
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
