/** Jobs: submit, run, cancel, list, observe (§7). */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { ArcpError, InternalError } from "../../protocol/Errors.js"
import type { Feature } from "../../protocol/Features.js"
import type * as Message from "../../protocol/Message.js"
import type { RemoteSpan } from "../../protocol/Trace.js"
import type { Identity } from "../auth/Auth.js"
import type { FollowedJob, View } from "../log/EventLog.js"

/** A message that is not an event: it has no `event_seq` and is not kept. */
export interface Outgoing {
  readonly type: string
  readonly jobId?: string | undefined
  readonly traceId?: string | undefined
  readonly extensions?: Readonly<Record<string, unknown>> | undefined
  readonly payload: unknown
}

/** What jobs know of the session they are asked by. */
export interface JobSession {
  readonly sessionId: string
  readonly identity: Identity
  readonly view: View
  /** As negotiated last. */
  readonly features: ReadonlyArray<Feature>
  /** Whether what is sent to it crosses a network in the clear (`Connection.exposed`), on the connection that was attached last. */
  readonly exposed: boolean
  /** Queues a message for the connection, ahead of events not yet written; lost when nobody is attached. */
  readonly send: (message: Outgoing) => void
  /** Sends an event again, when the connection has been sent what goes up to it: otherwise it comes in its turn. */
  readonly sendAgain: (eventSeq: number, frame: string) => void
}

/** Which message a submit is, and in which trace. */
export interface SubmitHead {
  readonly id: string
  readonly traceId?: string | undefined
  /** The submitter's span, in that trace. */
  readonly parentSpan?: RemoteSpan | undefined
}

/** A `job.submit`. */
export interface SubmitRequest extends SubmitHead {
  readonly payload: Message.Submit
  /**
   * `extensions["x-vendor.effect-arcp.adopt"]` as it came: the id of the job that the session wants to observe, and to
   * own when its owner is gone (§5.2). Such a submit never starts a run.
   */
  readonly adopt?: unknown
  /** `extensions["x-vendor.effect-arcp.schedule"]` as it came: when the job is to begin. */
  readonly schedule?: unknown
  /**
   * `extensions["x-vendor.effect-arcp.fork"]` as it came, `{job_id, at?}`: the job begins with what that one's steps came
   * to before the step `at` (§12.1), and is like it in whatever the payload leaves out.
   */
  readonly fork?: unknown
}

/** A `job.cancel`. */
export interface CancelRequest {
  readonly id: string
  readonly jobId: string
  readonly reason?: string | undefined
  /** Called with why the job was not cancelled, when that is known only later: it is, or goes on, on another node. */
  readonly refused: (error: ArcpError) => void
}

/** A `job.subscribe`. */
export interface SubscribeRequest {
  readonly id: string
  readonly jobId: string
  readonly payload: Message.Subscribe
}

/** An answer to what a job asks. */
export interface AnswerRequest {
  readonly id: string
  readonly jobId: string
  readonly payload: Message.JobInput
  /** Called with why it was not taken, when that is known only later: the job is on another node. */
  readonly refused: (error: ArcpError) => void
}

/** What is to be deleted: a job, or everything of a principal. */
export type Deletion = ({ readonly jobId: string } | { readonly principal: string }) & {
  /** Jobs that have not ended are cancelled first; otherwise nothing is deleted when there are some. */
  readonly cancel: boolean
}

/** Starts jobs for sessions, cancels and lists them, and lets sessions watch them (§7). */
export class Jobs extends Context.Tag("arcp/services/Jobs")<
  Jobs,
  {
    /**
     * Checks a submit, in the order of §7.1. Accepted: the job is stored, `job.accepted` sent, and the job runs
     * in the runtime's scope. Refused: a terminal `job.error` on a fresh job id goes into the session's view.
     * Returns when the checks are done; accepts are sent in the order of the calls. Fails only when the
     * refusal itself could not be stored.
     */
    readonly submit: (session: JobSession, request: SubmitRequest) => Effect.Effect<void, InternalError>
    /** Refuses a submit for a reason found before its payload could be read. */
    readonly refuse: (
      session: JobSession,
      request: SubmitHead,
      error: ArcpError
    ) => Effect.Effect<void, InternalError>
    /**
     * Begins to end the job at once, and sends `job.cancelled` when that is stored (§7.4). Of a job that has ended it
     * only sends the answer. Of a job of another node it returns before that.
     */
    readonly cancel: (session: JobSession, request: CancelRequest) => Effect.Effect<void, ArcpError>
    /** Stores the answer to what a job asks, and says so when it is stored; the same answer again is accepted again. Of a job of another node it returns before that. */
    readonly answer: (session: JobSession, request: AnswerRequest) => Effect.Effect<void, ArcpError>
    /** Returns a job as a listing shows it. Fails with `JobNotFound` when the identity may not list it. */
    readonly entry: (identity: Identity, jobId: string) => Effect.Effect<Message.TimedJobEntry, ArcpError>
    /** Lets an identity read the events of a job by the job's own numbers, for the scope, if it may subscribe to it. */
    readonly follow: (identity: Identity, jobId: string) => Effect.Effect<FollowedJob, ArcpError, Scope.Scope>
    /**
     * Deletes a job, or the jobs of a principal, for good, with what they have delegated to, if the policy lets the identity;
     * returns their ids. They are gone when it returns. Fails with `InvalidRequest` (`not_ended`) when some have not ended.
     */
    readonly delete: (
      identity: Identity,
      deletion: Deletion
    ) => Effect.Effect<ReadonlyArray<string>, ArcpError>
    /** Returns one page of the jobs that the identity may list (§6.6). */
    readonly list: (
      session: JobSession,
      request: Message.ListJobs
    ) => Effect.Effect<Omit<Message.Jobs, "request_id">, ArcpError>
    /** Sends `job.subscribed`, then history as asked, then live events (§7.6). */
    readonly subscribe: (session: JobSession, request: SubscribeRequest) => Effect.Effect<void, ArcpError>
    /** Ends a subscription: what is already in the session's view stays there. */
    readonly unsubscribe: (session: JobSession, jobId: string) => Effect.Effect<void, InternalError>
    /**
     * Ends the subscriptions to jobs of other principals: the session's identity has ended. Nothing of them reaches the session from
     * now on; that is stored later, however long the store takes nothing.
     */
    readonly unsubscribeForeign: (session: JobSession) => Effect.Effect<void>
    /** A stored session is here again: jobs that were run again without it know it from now on. */
    readonly attached: (session: JobSession) => void
    /** A session has ended. */
    readonly dropped: (sessionId: string) => void
    /** Tells whether a job that the session owns is running, here or on another node. */
    readonly hasRunning: (session: JobSession) => boolean
    /**
     * Cancels every job that the session owns and that has not ended, without acknowledgement; what is not in memory, or on another
     * node, in the background, for as long as the runtime.
     */
    readonly cancelAll: (
      session: Pick<JobSession, "sessionId" | "identity">,
      reason: string
    ) => Effect.Effect<void>
    /**
     * Returns the `job.accepted` of a job that the session owns, as it is made again before the job's first event
     * (§6.3): with the original `request_id`, or as that of a delegated job. None for a refused submit.
     */
    readonly accepted: (
      session: JobSession,
      jobId: string
    ) => Effect.Effect<Outgoing | undefined, InternalError>
    /** Returns the ids of the sessions that own a job of the principal which has not ended, in memory or not. */
    readonly liveOwners: (principal: string) => Effect.Effect<ReadonlySet<string>, InternalError>
    /** Refuses further submits, lets running jobs finish within the shutdown grace, and ends the rest. */
    readonly shutdown: Effect.Effect<void>
  }
>() {}
