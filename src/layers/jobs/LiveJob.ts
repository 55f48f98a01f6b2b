/** A job that has not ended, and the jobs that it delegated to. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as FiberId from "effect/FiberId"
import type * as Tracer from "effect/Tracer"
import type { ArcpError, InternalError } from "../../protocol/Errors.js"
import type { Lease } from "../../protocol/Lease.js"
import type { JobStatus } from "../../protocol/Message.js"
import { readableExit } from "../../services/agents/Thrown.js"
import type { JobSession } from "../../services/jobs/Jobs.js"
import type { JobLog } from "../../services/log/EventLog.js"
import { Signal } from "../../services/runtime/Signal.js"
import type { JobRecord } from "../../services/store/Store.js"
import type { Submitter } from "./Candidate.js"
import type { Inputs } from "./durable/Inputs.js"
import type { Presence, WaitsFor } from "./durable/Presence.js"

/** Why a job ends other than by its handler. */
export type Ending =
  | { readonly _tag: "Cancel"; readonly reason?: string | undefined }
  | { readonly _tag: "Timeout" }
  | { readonly _tag: "LeaseExpired" }
  | { readonly _tag: "Shutdown" }
  /** The runtime shuts down, and the next one runs the job again: it has no terminal message. */
  | { readonly _tag: "Leave" }
  /** The job only waits, and is not kept in memory for that: it has no terminal message. Any other ending takes its place. */
  | { readonly _tag: "Unload" }
  /** What it had emitted could not be committed. */
  | { readonly _tag: "Broken"; readonly error: InternalError }
  /** The process in which it ran has ended. */
  | { readonly _tag: "Restart" }

/** The last message of a job, and the status that its record ends with. */
export interface TerminalMessage {
  readonly type: "job.result" | "job.error"
  readonly kind: "" | "streamed"
  readonly status: JobStatus
  readonly payload: string
  /** The same for whoever delegated to the job; a streamed result is read from the log instead. */
  readonly outcome: Exit.Exit<unknown, ArcpError>
  readonly streamed?: boolean | undefined
  /** The runtime ended the job for a fault of its own: its idempotency key is free (§5.2). */
  readonly keyFreed?: boolean | undefined
}

/** How a job ends that is deleted while it goes on. */
export const deleted = { _tag: "Cancel", reason: "the job is deleted" } as const

/** How a job ends whose parent has ended. */
export const parentEnded: Ending = { _tag: "Cancel", reason: "the job that delegated to it ended" }

/** How a job ends that is run again and finds no parent: while the runtime shuts down that has been left, and goes on elsewhere. */
export const orphaned = ({ stopping }: { readonly stopping: boolean }): Ending =>
  stopping ? { _tag: "Leave" } : parentEnded

/** Somebody who waits until it is stored that a job is cancelled. */
export interface CancelAnswer {
  /** It is, in this record. */
  readonly given: (record: JobRecord) => void
  /** It will not be here: the job has been left to the next process, or is another node's. */
  readonly refused: (error: InternalError) => void
}

/** What whoever delegated to a job waits for. */
export interface Awaited {
  /** Its log, when it is stored and accepted; fails when it could not be stored. */
  readonly opened: Deferred.Deferred<JobLog, InternalError>
  readonly outcome: Deferred.Deferred<unknown, ArcpError>
  readonly done: Deferred.Deferred<void>
}

/** A job that has not ended, from its acceptance on. */
export class LiveJob {
  status: JobStatus = "pending"
  /** The first ending counts; set synchronously, so that an acknowledged cancel always wins. */
  ending: Ending | undefined
  /** The handler's exit, when it came first; its finalizers may still run. */
  exit: Exit.Exit<unknown, ArcpError> | undefined
  /** Acknowledgements of cancels that wait until the wish is stored, or, of a job whose end was decided before, that end. */
  readonly cancelAnswers: Array<CancelAnswer> = []
  /** A cancel is being stored. */
  storesCancel = false
  /** Returns when no cancel waits to be stored: its answer comes before the job's end. */
  cancelStored: Effect.Effect<void> = Effect.void
  /** Given when the handler has returned, or an ending has begun. */
  readonly changed = new Signal()
  /** The runtime shuts down: what is ending already does not get all of its grace. */
  hurried = false
  /** Ends the wait for a handler that is being interrupted. */
  hurry: () => void = () => {}
  /** Running, or being opened. A job ends after its children. */
  readonly children = new Set<LiveJob>()
  /** Children from the moment they pass the checks until they have ended, for the cap. */
  childCount = 0
  /**
   * Handlers below it that have not ended, also of jobs that have and wait for them no longer: what they spend is this job's, and
   * counted while it is in memory.
   */
  handlersBelow = 0
  /** Its compensations run. */
  undoing = false
  /** The next process goes on with it, however it is ending. */
  leaving = false
  /** It takes no more children. */
  sealed = false
  /** How it ends is decided: a cancel is one of a job that has ended. */
  concluded = false
  /** Its end is stored. */
  ended = false
  /** For whoever delegated to it: what it came to, given after its terminal message, and that it is over. */
  readonly awaited: Awaited | undefined
  readonly depth: number
  /** See `LeaseService.bounds`. */
  readonly bounds: Lease
  /** It is run again after the end of its process, which a job is not that would outlive its parent. */
  readonly survives: boolean
  /** What it asks; of a durable job. */
  inputs: Inputs | undefined
  /** Its own, from its acceptance on. */
  span: Tracer.Span | undefined
  /** Whether it does anything but wait; of a durable job that runs. */
  presence: Presence | undefined
  /** What it waited for when it began to be unloaded: its log is closed to this load of it, whatever ends it then. */
  waitsFor: WaitsFor | undefined
  /** Called when nothing of this load runs any more. */
  settled: () => void = () => {}
  /** Nothing of it runs: what ends it then, by its ending. See durable/Resting.ts. */
  rests: (() => void) | undefined
  /** Called when it has ended while nothing of it ran. */
  over: () => void = () => {}

  constructor(
    /** As stored last, but for what changes while the job runs (see `RunningJobs.current`). */
    public record: JobRecord,
    /** The owning session; another one after an adoption. */
    public owner: JobSession,
    readonly parent?: LiveJob | undefined,
    /** Who submitted it; default: the owner, of a job that is new. */
    submitter: Submitter = owner
  ) {
    this.bounds = parent?.bounds ?? submitter.identity.leaseCeiling ?? record.lease
    this.survives = record.survival !== undefined && (parent === undefined || parent.survives)
    this.depth = parent === undefined ? 0 : parent.depth + 1
    this.awaited =
      parent === undefined
        ? undefined
        : {
            opened: Deferred.unsafeMake(FiberId.none),
            outcome: Deferred.unsafeMake(FiberId.none),
            done: Deferred.unsafeMake(FiberId.none)
          }
  }

  /** The jobs that it was delegated by, nearest first. */
  get above(): ReadonlyArray<LiveJob> {
    const { parent } = this
    return parent === undefined ? [] : [parent, ...parent.above]
  }

  /** Its handler runs, until what this returns is called. */
  runsHandler(): () => void {
    const { above } = this
    for (const job of above) job.handlersBelow++
    return () => {
      for (const job of above) {
        job.handlersBelow--
        job.presence?.touch()
      }
    }
  }

  /** Begins to end the job, its children first, unless it is ending. */
  end(ending: Ending): void {
    if (ending._tag === "Shutdown" || ending._tag === "Leave") {
      this.hurried = true
      this.leaving ||= ending._tag === "Leave"
      this.hurry()
    }
    if (this.isEnding(ending) || (this.exit !== undefined && ending._tag !== "Cancel")) return
    this.begin(ending)
  }
  /** Returns whether another ending changes nothing any more. */
  private isEnding({ _tag }: Ending): boolean {
    return (
      this.ending !== undefined && (this.ending._tag !== "Unload" || _tag === "Unload" || _tag === "Leave")
    )
  }
  /**
   * The same for a cancel that is about to be acknowledged, which wins over any other ending: until the job's end is
   * decided, also when its handler has returned and only children are waited for. Returns what tells the handler and the children.
   */
  cancel(reason: string | undefined): () => void {
    return this.ending?._tag === "Cancel" ? () => {} : this.decide({ _tag: "Cancel", reason })
  }
  /** Tells whoever waits for a cancel: it is stored, or came when the job had ended; or why neither will be so here. */
  answerCancels(refusal?: InternalError): void {
    for (const { given, refused } of this.cancelAnswers.splice(0))
      if (refusal === undefined) given(this.record)
      else refused(refusal)
  }
  /** Notes that the handler has returned, which decides how the job ends unless it is ending already. */
  returned(exit: Exit.Exit<unknown, ArcpError>): void {
    if (this.ending !== undefined || this.exit !== undefined) return
    this.exit = readableExit(exit)
    this.changed.give()
  }
  private begin(ending: Ending): void {
    this.decide(ending)()
  }
  private decide(ending: Ending): () => void {
    if (this.concluded) return () => {}
    this.ending = ending
    return () => {
      this.endChildren()
      this.changed.give()
      this.rests?.()
    }
  }
  /** Nothing of it runs any more, for now: when it is to end, `end` does that. */
  rest(end: () => void): void {
    this.ending = undefined
    this.presence = undefined
    this.waitsFor = undefined
    this.inputs = undefined
    this.span = undefined
    this.rests = end
  }
  endChildren(): void {
    for (const child of this.children) child.end(this.endingOf(child))
  }
  /** Returns how a child ends when this job does. */
  private endingOf({ survives }: LiveJob): Ending {
    const { ending } = this
    if (ending?._tag === "Leave") return survives ? ending : { _tag: "Shutdown" }
    // What is delegated has no lease that is over later: which of the timers comes first says nothing.
    return ending?._tag === "Shutdown" || ending?._tag === "LeaseExpired" ? ending : parentEnded
  }
  /** Takes a child, unless the job has come so far that nobody would wait for it. */
  takeChild(child: LiveJob): boolean {
    if (this.sealed) return false
    this.children.add(child)
    // One that is left to the next process is so with all that it has delegated to, also what is only now run again.
    if (this.ending !== undefined || this.exit !== undefined) child.end(this.endingOf(child))
    return true
  }
  /** Ends all children, now; the effect waits until their terminal messages are written. */
  settleChildren(): Effect.Effect<void> {
    this.sealed = true
    if (this.children.size === 0) return Effect.void
    this.endChildren()
    const done = [...this.children].flatMap(({ awaited }) => (awaited === undefined ? [] : [awaited.done]))
    return Effect.forEach(done, Deferred.await, { discard: true })
  }
}
