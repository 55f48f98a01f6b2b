/** What is called when a job waits for somebody, has ended, or cannot go on: for people who are to be told. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type { InternalError } from "../../protocol/Errors.js"
import type { JobStatus } from "../../protocol/Message.js"

/** What every call of a hook says. */
interface CallFacts {
  /** The same at each try, and of no other call: a call may come twice. */
  readonly id: string
  /** Epoch ms. */
  readonly at: number
  readonly jobId: string
  /** `name@version` */
  readonly agent: string
  readonly principal: string
  readonly traceId: string
  /** The job that delegated to it. */
  readonly parentJobId?: string | undefined
  /**
   * Reads the payload of the event that tells of it: the question, or how the job ended. It has the agent's own words and
   * values. `undefined` when it is not retained any more.
   */
  readonly payload: Effect.Effect<unknown, InternalError>
}

/** A job waits for an answer (`Job.input`). */
export interface WaitingCall extends CallFacts {
  readonly kind: "waiting"
  readonly inputId: string
  /** Epoch ms. */
  readonly expiresAt?: number | undefined
}

/** A job that was submitted has ended. Jobs that others delegated to are not told of. */
export interface EndedCall extends CallFacts {
  readonly kind: "ended"
  readonly status: JobStatus
  /** Of the error that it ended with. */
  readonly code?: string | undefined
  /** Epoch ms. */
  readonly createdAt: number
}

/** A durable job does not go on: the version of its agent is not there. */
export interface ParkedCall extends CallFacts {
  readonly kind: "parked"
  readonly reason: string
}

/** A call of a hook. */
export type HookCall = WaitingCall | EndedCall | ParkedCall

/** A hook could not do what it is for; it is called again, unless it says that this is of no use. */
export class HookError extends Data.TaggedError("HookError")<{
  readonly message: string
  /** Default: yes. */
  readonly retryable?: boolean | undefined
  /** Milliseconds to wait at least. */
  readonly retryAfter?: number | undefined
}> {}

/**
 * What is called, once it is stored, outside of any job. A call that is owed survives a restart, is repeated with growing
 * pauses until it succeeds, and given up after `hookPatience`; so it comes at least once. Those of one job come in order.
 * Nothing is stored for what is `undefined`.
 */
export class Hooks extends Context.Tag("arcp/services/Hooks")<
  Hooks,
  {
    readonly onWaiting?: ((call: WaitingCall) => Effect.Effect<void, HookError>) | undefined
    readonly onEnded?: ((call: EndedCall) => Effect.Effect<void, HookError>) | undefined
    readonly onParked?: ((call: ParkedCall) => Effect.Effect<void, HookError>) | undefined
  }
>() {}
