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
