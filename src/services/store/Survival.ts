/** What is stored of a job for when it is not in memory: so that it begins, is run again, or comes due. */
import type { Body } from "../../protocol/Event.js"
import type { Feature } from "../../protocol/Features.js"
import type { JobStatus } from "../../protocol/Message.js"
import type { Restart } from "../agents/Contract.js"
import type { Identity } from "../auth/Auth.js"

/** Until when a job sleeps that is not in memory, and when it is to be looked at again at the latest. */
export interface Waiting {
  /** Epoch ms at which the first of its sleeps ends. */
  readonly sleepingUntil?: number | undefined
  /**
   * Epoch ms at which something has to be done with it: a sleep or an input ends, its deadline or its lease is over.
   * `never`: nothing by itself.
   */
  readonly dueAt: number
}

/** The end of a job that is decided and not written yet. */
export interface StoredEnd {
  readonly status: JobStatus
  /** The payload of its `job.error`. */
  readonly payload: string
  readonly keyFreed: boolean
  /** Keys of steps that are done and can be undone, and whose outcomes had no place in the journal. */
  readonly unstored?: ReadonlyArray<string> | undefined
}

/** What a job is run again with when its process has died; of jobs of agents that say so (`Agent.make`). */
export interface Survival {
  readonly restart: Restart
  /** Who submitted it, without the principal and never with a token. */
  readonly identity: Omit<Identity, "principal">
  /** Of the submitting session: they decide the form of what the job gives. */
  readonly features: ReadonlyArray<Feature>
  /** Epoch ms at which `max_runtime_sec` is over. */
  readonly deadline?: number | undefined
  /** How often its handler was begun. */
  readonly attempt: number
  /** How often in a row the process died while its handler ran, without a new outcome. */
  readonly deaths: number
  /** Newest ordinal of an outcome when the handler was begun. */
  readonly progress: number
  /** The handler does not run: the runtime that ran it was shut down, or the job is parked. */
  readonly left?: boolean | undefined
  /** How it ends: only compensations are left to be run. */
  readonly ended?: StoredEnd | undefined
  /** Why it is not run at the moment. */
  readonly parked?: string | undefined
  /** The job is not in memory: it is a row that comes due. */
  readonly waiting?: Waiting | undefined
}

/** What is stored of a job that is accepted and has not begun: it begins with that, also in another process. */
export interface Queued extends Pick<Survival, "identity" | "features"> {
  /** Epoch ms before which it does not begin. */
  readonly startAt?: number | undefined
  /** What is said of one that goes on from another, when it begins. */
  readonly forked?: Body<"status"> | undefined
  /** Why it does not begin although its time has come: its agent is not there. */
  readonly parked?: string | undefined
}

/** Which jobs that wait are asked for; see `StoreService.due`. */
export interface DueQuery {
  readonly by: number
  readonly after?: { readonly dueAt: number; readonly jobId: string } | undefined
  /** Only what this node has. */
  readonly node?: string | undefined
  readonly limit: number
}
