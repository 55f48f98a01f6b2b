/** What a store knows of how far sessions have come with the events of jobs. */
import type { EventType } from "../../protocol/Message.js"

/** What a session has numbered of a job, and what of it comes after a number. */
export interface Numbering {
  /** Newest `event_seq`, 0 when it has numbered nothing of the job. */
  readonly last: number
  /** `seq` up to which it has come, 0 when it has numbered nothing of the job. */
  readonly through: number
  /** `seq` of the first event that it numbered higher than was asked, and not lower as well; `undefined` when there is none. */
  readonly next: number | undefined
}

/** A job that a session observes. */
export interface Observed {
  readonly jobId: string
  /** That has the job; the empty name is that of a runtime which is alone, or of nobody: the job was left to whoever takes it. */
  readonly node: string
  /** The job has ended. */
  readonly ended: boolean
  /** `seq` up to which the session has numbered the job, or passed it over, and the newest. */
  readonly cursor: number
  readonly last: number
  /** Of what lies between, with the overhead: of a mark that the cursor is in, in proportion. */
  readonly bytes: number
}

/** An event as far as it says who gets it. */
export interface LateEvent {
  readonly jobId: string
  readonly seq: number
  readonly type: EventType
  readonly kind: string
  readonly audience?: string | undefined
  /** Payload and overhead, roughly. */
  readonly bytes: number
}

/** What a node asks for whose sessions look at jobs of others. */
export interface NewsQuery {
  /** The node. */
  readonly node: string
  readonly sessions: ReadonlyArray<string>
  /** How far all of them have come with jobs that they look at. */
  readonly after: ReadonlyArray<{ readonly jobId: string; readonly seq: number }>
  /** Events at the most. */
  readonly limit: number
  /** Payloads of the first of them are given, until these characters or bytes are reached. */
  readonly maxBytes: number
}

/** What there is for sessions that look at jobs of other nodes, as it was at one time. */
export interface News {
  /** What follows, in the order in which it was committed; what was trimmed is left out. */
  readonly events: ReadonlyArray<LateEvent & { readonly payload?: string | undefined }>
  /**
   * Sessions that observe a job of another node which was not asked for, or of which they have come to nothing yet: it may have
   * been asked for another session.
   */
  readonly joined: ReadonlySet<string>
  /** Sessions that have lost events which they had not numbered. */
  readonly lost: ReadonlySet<string>
  /** Jobs that were asked for and are not stored any more. */
  readonly gone: ReadonlySet<string>
}
