/**
 * The log is the truth, a session is a view (docs/design.md, "One idea").
 *
 * Each event is stored once, in its job's log. A session's view is a list of runs over the logs of the
 * jobs it observes, and delivery pulls from the view. This is the only place that assigns sequence
 * numbers (§8), and the only one that commits to the store.
 */
import type * as BigDecimal from "effect/BigDecimal"
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { InternalError, JobNotFound, ResumeWindowExpired } from "../../protocol/Errors.js"
import type { Feature } from "../../protocol/Features.js"
import type { Accepted, EventType } from "../../protocol/Message.js"
import type {
  FreeKey,
  JobRecord,
  JournalEntry,
  Op,
  Owner,
  SessionRecord,
  StoredEvent
} from "../store/Store.js"

/** A payload as it is delivered, and the values in it that nobody else may read. */
export interface Secret {
  readonly payload: string
  readonly values: ReadonlyArray<string>
  /** Whether it may be delivered, asked each time: whose a session is can change between an event and its replay. */
  readonly isShown: Effect.Effect<boolean>
}

/** A call of a hook that is stored with an event, and owed from its commit on. */
export interface HookTold {
  /** See `HookEvent`. */
  readonly text: string
  /** Called synchronously at the commit, with the number of the event in its job. */
  readonly committed: (seq: number) => void
}

/** An event before it has numbers. `payload` is the JSON text of the message's payload. */
export interface NewEvent {
  readonly type: EventType
  /** Event kind; `""` for `job.error` and an inline `job.result`, `"streamed"` for a streamed one. */
  readonly kind: string
  /** The only session that is sent the event; `undefined` means every observer. */
  readonly audience?: string | undefined
  readonly payload: string
  /** Delivered in place of `payload` for as long as the job runs here, and stored nowhere. */
  readonly secret?: Secret | undefined
  /** Decrements this currency's counter, of the job and of its ancestors, in the same commit (§9.6). */
  readonly cost?: { readonly currency: string; readonly amount: BigDecimal.BigDecimal } | undefined
  /** Belongs to the end of its job, which waits for no consumer of `Committed`. */
  readonly ending?: boolean | undefined
  /** Its emitter waits for the commit. Whoever emits something that has a cost does so anyway. */
  readonly awaited?: boolean | undefined
  /** An entry, or several, of the job's journal that are committed with it; see `makeJournal`. */
  readonly journal?: JournalEntry | ReadonlyArray<JournalEntry> | undefined
  /**
   * Makes `journal` in the step in which the event takes its place in the log: what is decided, counted and remembered with its entries
   * is so from then on, and not at all when there is no place for it. An effect is what comes of the event instead, which then takes no
   * place.
   */
  readonly makeJournal?: (() => NewEvent["journal"] | Effect.Effect<void, InternalError>) | undefined
  /** Gives the job's record, as it is stored with the event; asked at the commit. */
  readonly record?: (() => JobRecord) | undefined
  /** Called synchronously at the commit, before the event can be read. */
  readonly onCommit?: (() => void) | undefined
  readonly hook?: HookTold | undefined
}

/** The log of one job. Obtained from `openJob` or `loadJob`. */
export interface JobLog {
  readonly jobId: string
  /** The terminal message is in the log, or on its way: whatever is appended now is discarded. */
  readonly ended: boolean
  /** It is another process's, as far as is known here: it may be read, and whoever writes to it is told so (`isTaken`). */
  readonly isElsewhere: boolean
  /**
   * Why the job is broken: what it had emitted could not be committed and is discarded. Whatever it emits is refused, and
   * its end says so.
   */
  readonly broken: InternalError | undefined
  /** Calls back when the job breaks, at once when it is broken already; one callback per job. */
  readonly whenBroken: (callback: (error: InternalError) => void) => void
  /**
   * What is emitted is tried again for as long as the store does not take it, also what somebody waits for: of a job that survives
   * its process, which must not end because its store was away.
   */
  readonly endure: () => void
  /** The job's newest `event_seq` in its owner's numbering. */
  readonly lastEventSeq: number
  /** What is left per budgeted currency, as committed; empty without a budget. */
  readonly remaining: ReadonlyMap<string, BigDecimal.BigDecimal>
  /**
   * What is left of each budget that the job's costs count against, as committed: its own, then those of the jobs above it, nearest
   * first. A job without a budget is not among them.
   */
  readonly allRemaining: ReadonlyArray<ReadonlyMap<string, BigDecimal.BigDecimal>>
  /** A currency whose counter, here or in an ancestor, is at zero or below. */
  readonly exhausted: string | undefined
  /** Returns whether the job or an ancestor has a budget in this currency. */
  readonly budgets: (currency: string) => boolean
}

/** One session's numbered view. */
export interface View {
  readonly sessionId: string
  /** Highest `event_seq` assigned; 0 when none. */
  readonly last: number
  /** Oldest `event_seq` still retained. */
  readonly first: number
  /** Events that it had not numbered are gone: it cannot go on. */
  readonly lost: boolean
  readonly acked: number
  /** With which this process has the session; see `epochOf`. */
  readonly epoch: number
  /** Jobs of others, not ended, whose events this session receives. */
  readonly subscribedCount: number
  /** Ids of the jobs that it observes. */
  readonly observedJobs: Iterable<string>
  /** Only jobs of one principal are seen: its subscriptions to others are being ended. */
  readonly isNarrowed: boolean
  /** Has only events of jobs of this principal numbered for it from now on; of all jobs when `undefined`. Not stored. */
  readonly seeOnly: (principal: string | undefined) => void
  /** Calls back when another process has taken the session: nothing is numbered for it here any more. One callback per view. */
  readonly whenTaken: (callback: () => void) => void
}

/**
 * How a session reads jobs of another node: it has so many events that it has not acknowledged, or so many that are not sent that
 * what it owns is to wait for it (`held`), or no more.
 */
export type Slow = { readonly lag: number } | { readonly held: boolean }

/** The next events of a job, for whoever reads the job itself. */
export interface JobPage {
  /** At least one, unless the job has `ended`; without those that are for one session only. */
  readonly events: ReadonlyArray<StoredEvent>
  /** Up to where the job has been read: what the next page comes after. */
  readonly through: number
  /** The terminal message has been read. */
  readonly ended: boolean
}

/** A job that is read by its own numbers, `seq`, from wherever it is wanted. */
export interface FollowedJob {
  /** Oldest `seq` retained, newest committed, and whether that is the terminal message: as it is when asked. */
  readonly bounds: Effect.Effect<
    { readonly first: number; readonly last: number; readonly ended: boolean },
    InternalError
  >
  /**
   * Returns events that follow `after`, a page of around 1 MiB at the most; waits for the first. Whoever waits may be
   * interrupted and ask again. Fails with `ResumeWindowExpired` when what follows is no longer retained; its `details.next`
   * is the oldest that is. Fails with `JobNotFound` when the job has been dropped.
   */
  readonly read: (after: number) => Effect.Effect<JobPage, ResumeWindowExpired | JobNotFound | InternalError>
}

/** The next frames of a view. */
export interface Page {
  /** Whole messages as JSON text, their `event_seq` ascending without a gap. */
  readonly frames: ReadonlyArray<string>
  /** Which of them are the first event of a job that the session owns: its accept goes right before it (§4.3). */
  readonly starts: ReadonlyArray<{ readonly index: number; readonly jobId: string }>
}

/** Keeps the events of jobs, numbers them for the sessions that observe them, and gives both back in order (§8). */
export class EventLog extends Context.Tag("arcp/services/EventLog")<
  EventLog,
  {
    /**
     * Commits records with the next group; they are durable when it returns. Those of sessions are put by whoever has them:
     * it fails when another process has taken one, or one of the `owners` that are stated.
     */
    readonly commit: (
      ops: ReadonlyArray<Op>,
      owners?: ReadonlyArray<Owner>
    ) => Effect.Effect<void, InternalError>
    /**
     * Fails when the log has stopped for good, by a defect that leaves memory and store different; never returns
     * otherwise. A runtime ends with it.
     */
    readonly stopped: Effect.Effect<never, InternalError>

    /** Opens the view of a new session and stores its record. */
    readonly openView: (session: SessionRecord) => Effect.Effect<View, InternalError>
    /**
     * Returns the view of a stored session, which this process holds from now on, until it is dropped: what the jobs that it
     * observes append is numbered for it as they do. What they have appended while nobody held it is numbered from now on, with
     * the features that are given, those of the hello that takes the session.
     */
    readonly holdView: (session: SessionRecord) => Effect.Effect<View, InternalError>
    /**
     * Takes a session from whoever has it, as it was read from the store, for a node. When it returns its record is to be read
     * again, and its view can be held. Fails when somebody else has taken it since (`isTaken`).
     */
    readonly takeSession: (session: SessionRecord, node: string) => Effect.Effect<void, InternalError>
    /** Returns what is here of the view of a stored session, for a job that is run before that has come back. */
    readonly absentView: (session: SessionRecord) => View
    /**
     * Ends a session's view: nothing is numbered for it any more, and its record and runs are dropped; not those of one that
     * another process has taken.
     */
    readonly dropView: (
      session: Pick<SessionRecord, "sessionId" | "epoch">
    ) => Effect.Effect<void, InternalError>
    /**
     * Lets a connection read the view, in place of the one before. `wake` is called, synchronously, whenever something
     * new can be read.
     */
    readonly attach: (
      view: View,
      connection: { readonly features: ReadonlyArray<Feature>; readonly wake: () => void }
    ) => Effect.Effect<void>
    /** Ends what `attach` began. */
    readonly detach: (view: View) => Effect.Effect<void>
    /** Records an acknowledgement. Lower ones than before are ignored; the caller has checked the bounds. */
    readonly ack: (view: View, eventSeq: number) => Effect.Effect<void>
    /**
     * Returns the frames that follow `after`, within ~256 events and ~256 KiB; none when there is nothing newer. `wake` is
     * that of the connection that reads, which has been sent what goes up to `after`: that is noted, unless another has taken its
     * place. Fails with `ResumeWindowExpired` when `after` is no longer retained.
     */
    readonly read: (
      view: View,
      after: number,
      wake: () => void
    ) => Effect.Effect<Page, ResumeWindowExpired | InternalError>
    /** Returns the frame of one event again, `undefined` when it is no longer retained. Nothing is noted of it. */
    readonly again: (view: View, eventSeq: number) => Effect.Effect<string | undefined, InternalError>

    /**
     * Waits until every consumer of `Committed` that must lose nothing has room for a job that is opened. `keep` is called
     * with what gives the room back, which it is to be when the job is stored, or is not to be. Whoever waits can be
     * interrupted, which `openJob`, once it was called, cannot be without knowing what became of it.
     */
    readonly roomToOpen: (keep: (giveBack: () => void) => void) => Effect.Effect<void>
    /**
     * Stores a job's record and lets its owner observe it; `event` is appended in the same transaction, and is the last
     * one of a job that has ended by its record.
     * `onCommit` is called synchronously at the commit, before any event of the job can be read. What the job
     * spends is counted against `parent` and its ancestors too.
     */
    readonly openJob: (
      job: JobRecord,
      owner: View,
      options?: {
        readonly parent?: JobLog | undefined
        readonly event?: NewEvent | undefined
        /** An idempotency key that is to be free: fails with `keyUsed`, and stores nothing, when it is not. */
        readonly freeKey?: FreeKey | undefined
        /** Stored in the same commit. */
        readonly ops?: ReadonlyArray<Op> | undefined
        readonly onCommit?: ((job: JobLog) => void) | undefined
        /** Makes the accept that is published (`Committed`): without credentials. */
        readonly accepted?: (() => Accepted) | undefined
        /** The values of the job's credentials: never published. Those of `parent` are not either. */
        readonly secrets?: ReadonlyArray<string> | undefined
      }
    ) => Effect.Effect<JobLog, InternalError>
    /** Returns the log of a stored job; loads it when it is not in memory. */
    readonly loadJob: (job: JobRecord) => Effect.Effect<JobLog, InternalError>
    /**
     * Runs `use` with the log of a stored job, which is the one log of it in memory for as long as that takes. Of a job that
     * does not run it is let go of after that, unless a session in memory observes it.
     */
    readonly holding: <A, E>(
      job: JobRecord,
      use: (log: JobLog) => Effect.Effect<A, E>
    ) => Effect.Effect<A, E | InternalError>
    /** Returns the logs of many jobs, in the order of their records, with fewer reads. */
    readonly loadJobs: (jobs: ReadonlyArray<JobRecord>) => Effect.Effect<ReadonlyArray<JobLog>, InternalError>
    /**
     * Returns the log of a stored job that is run again here: it goes on with the counters of its budget as they were
     * stored, under its parent's. `secrets` as in `openJob`. Fails when it is another process's since the record was read (`isTaken`).
     */
    readonly reopenJob: (
      job: JobRecord,
      options?: { readonly parent?: JobLog | undefined; readonly secrets?: ReadonlyArray<string> | undefined }
    ) => Effect.Effect<JobLog, InternalError>
    /**
     * This node has taken jobs from others: what memory has of them, of when others wrote to them or before, is let go of. Views
     * that are held here, and observe one, go on where they had come to.
     */
    readonly took: (jobs: ReadonlyArray<JobRecord>) => void
    /**
     * Runs `move`, which leaves a stored job to other nodes; nothing of it runs here. Whatever comes of that, whoever observes the
     * job here, or follows it, finds out by what is stored whose it is, and looks at it there.
     */
    readonly leaving: <A, E>(job: JobRecord, move: Effect.Effect<A, E>) => Effect.Effect<A, E | InternalError>
    /**
     * Notes that jobs of which nothing runs here were left to other nodes, many at once: as `leaving`, but for who observes what is not in
     * memory, which is found out when that is looked for.
     */
    readonly left: (jobIds: ReadonlyArray<string>) => Effect.Effect<void>
    /**
     * Closes the log of a durable job that has not ended, and goes on later: whatever is appended from now on is discarded, of what
     * has this log for ever, also when the job is reopened. Its record may still be amended.
     */
    readonly leaveJob: (job: JobLog) => void
    /**
     * Nothing of the job runs any more, until it is reopened: what memory has of its log is let go of. Sessions in memory
     * that observe it go on doing so, and everybody finds its events in the store. Returns the log for what the runtime
     * says of the job meanwhile.
     */
    readonly letGo: (job: JobLog) => JobLog
    /** Returns a view of a session that does not exist any more, for a job that outlived it. */
    readonly goneView: (sessionId: string, features: ReadonlyArray<Feature>) => View
    /**
     * Appends an event, which cannot be read, nor sent, before it is committed. It takes its place in the log when this is
     * run, after whatever was appended to this job before; that place it keeps when its emitter is interrupted. Returns as
     * soon as there is room for more that is not committed, or, with `awaited` or a cost, when it is committed.
     *
     * A commit that fails is tried again, for `storagePatience`; whoever waits for it is told at once (unless its job endures), and has appended
     * nothing. When it is given up the job is `broken`. On a log that has ended it does nothing, but for a cost: that is
     * charged to the jobs above it which still run.
     */
    readonly append: (job: JobLog, event: NewEvent) => Effect.Effect<void, InternalError>
    /** Returns when everything that was appended to this job is committed; fails when the job is broken. */
    readonly flush: (job: JobLog) => Effect.Effect<void, InternalError>
    /**
     * Appends the terminal message and stores the job's final record in the same transaction. The first
     * call decides; once it was made nothing else gets into this log. It comes after everything that was appended. After a
     * failure it may be repeated; a job that breaks meanwhile fails it.
     * `onCommit` is called synchronously at the commit, before the message can be read; with `false`, when another process has taken the
     * job, which ends it.
     */
    readonly end: (
      job: JobLog,
      event: NewEvent,
      record: (lastEventSeq: number) => JobRecord,
      onCommit?: (isOurs: boolean) => void
    ) => Effect.Effect<void, InternalError>
    /**
     * Lets the view observe a job from now on. With `history`, events that are retained, newer than `fromEventSeq` in
     * the owner's numbering, come first, without gap or duplicate at the join; of a job that has ended, at
     * least the terminal message comes. `onCommit` gets the view's newest `event_seq` before the join, and whether it observed the job already.
     */
    readonly observe: (
      view: View,
      job: JobLog,
      options: {
        readonly history: boolean
        /** It has submitted the job, and has not asked to observe it: a session that is `unobserved` does not from here on either. */
        readonly isOwn?: boolean | undefined
        readonly fromEventSeq?: number | undefined
        /** Asked in the commit: when it says so nothing is joined, and nobody is told. */
        readonly unless?: (() => boolean) | undefined
        /** Stored in the same commit. */
        readonly ops?: ReadonlyArray<Op> | undefined
        readonly onCommit: (subscribedFrom: number, observed: boolean) => void
      }
    ) => Effect.Effect<void, InternalError>
    /**
     * Calls back whenever the node of a job is to be told how a session that is here reads it: once when that changes. One that
     * listens takes the place of the one before.
     */
    readonly onSlow: (
      tell: (job: { readonly jobId: string; readonly node: string }, sessionId: string, slow: Slow) => void
    ) => void
    /** A session that is on another node reads a job of this one so. Nothing when the job does not run. */
    readonly slow: (jobId: string, sessionId: string, slow: Slow) => Effect.Effect<void>
    /** Returns all events of a job that are retained, then those to come, to its end; without those for one session. */
    readonly events: (job: JobLog) => Stream.Stream<StoredEvent, InternalError>
    /**
     * Reads a stored job by its own numbers, for the scope. Nothing is retained for it, and nobody waits for it: what it is
     * too slow for is no longer there.
     */
    readonly follow: (job: JobRecord) => Effect.Effect<FollowedJob, InternalError, Scope.Scope>
    /**
     * Returns the streamed result of a job that has ended as a whole. Fails with `InternalError` when that has more than
     * `maxFrameBytes` and is not the JSON of a value that was returned, or parts of it are not retained any more.
     */
    readonly streamedResult: (job: JobLog) => Effect.Effect<unknown, InternalError>
    /**
     * Forgets jobs that have ended, with everything of them, because somebody wants it, whoever still needs them: views that
     * hold something of one begin after it. Waits for those that somebody begins to observe right now; what is not stored any more
     * is passed over. What it leaves to be freed is freed by the retention, and overwritten.
     */
    readonly forget: (
      jobs: ReadonlyArray<Pick<JobRecord, "jobId" | "principal">>
    ) => Effect.Effect<void, InternalError>
    /** Ends what `observe` began: the job's further events are not numbered for the view. */
    readonly unobserve: (view: View, jobId: string) => Effect.Effect<void, InternalError>
    /** Tells whether a job that runs on another node, as far as is known here, is one of the view's own. */
    readonly ownsElsewhere: (view: View) => boolean
    /**
     * Makes `job`'s owner another view, which observes it from now on. The record is asked for as the change is put into its commit:
     * what was committed before is in it.
     */
    readonly adopt: (
      view: View,
      job: JobLog,
      recordNow: () => JobRecord
    ) => Effect.Effect<void, InternalError>
    /**
     * Stores the changed record of a job that runs; of one whose terminal message is stored nothing changes any more.
     * `onCommit` is called synchronously at the commit in either case, before any later event can be read.
     */
    readonly amend: (
      job: JobLog,
      record: JobRecord,
      onCommit: () => void
    ) => Effect.Effect<void, InternalError>
  }
>() {}
