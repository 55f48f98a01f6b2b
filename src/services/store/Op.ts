/** The one way to change what is stored: batches of operations, each with what whoever commits it states to own. */
import * as Data from "effect/Data"
import type { Owner } from "./epoch.js"
import type { HookEvent, JobRecord, JournalEntry, Run, SessionRecord, StoredEvent } from "./records.js"
import type { Wish } from "./Wish.js"

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
