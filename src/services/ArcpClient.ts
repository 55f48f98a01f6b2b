/** The other side: a session that survives its connections, and handles on jobs. */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Effect from "effect/Effect"
import type * as Stream from "effect/Stream"
import type * as SubscriptionRef from "effect/SubscriptionRef"
import type { ArcpError } from "../protocol/Errors.js"
import type { EventPayload } from "../protocol/Event.js"
import type { Lease, LeaseConstraints } from "../protocol/Lease.js"
import type * as Message from "../protocol/Message.js"
import type { Contract } from "./Agent.js"
import type { TransportError } from "./Transport.js"

/** The runtime broke the protocol: a gap in the numbering, a result that is not what it says. */
export class ProtocolViolation extends Data.TaggedError("ProtocolViolation")<{ readonly message: string }> {}

/** Events of a job came faster than they were taken, and more than the handle holds. Its result is not affected. */
export class EventsOverflowed extends Data.TaggedError("EventsOverflowed")<{ readonly message: string }> {}

/** Whatever ends a session for good, or fails one request. */
export type ClientError = ArcpError | TransportError | ProtocolViolation

/** An event of a job, with its place in the session's numbering. */
export interface JobEvent extends EventPayload {
  readonly eventSeq: number
}

export interface JobHandle<Output = unknown, Failure = never> {
  readonly jobId: string
  /** `name@version` */
  readonly agent: string
  readonly traceId: string | undefined
  readonly lease: Lease
  /**
   * Events in order, each exactly once, across reconnects; ends with the job. One consumer. A handle holds
   * up to 100 000 events that nobody has taken; beyond that the stream fails with `EventsOverflowed`.
   */
  readonly events: Stream.Stream<JobEvent, ClientError | EventsOverflowed>
  /** The decoded result; fails with the job's error. Streamed results are put together and checked. */
  readonly result: Effect.Effect<Output, Failure | ClientError>
  /** Asks for cancellation (§7.4); returns when it is acknowledged. `result` then fails with `Cancelled`. */
  readonly cancel: (reason?: string) => Effect.Effect<void, ClientError>
}

export interface SubmitOptions {
  readonly leaseRequest?: Lease
  readonly leaseConstraints?: LeaseConstraints
  /** 1 to 256 characters; the same key and parameters within 24 h give the same job. */
  readonly idempotencyKey?: string
  /** 1 to 86 400. */
  readonly maxRuntimeSec?: number
  /** 32 lower-case hex digits. */
  readonly traceId?: string
}

/** Where the session is. `lastEventSeq` is the newest event received. */
export type Status =
  | { readonly _tag: "Connecting" }
  | { readonly _tag: "Connected"; readonly sessionId: string; readonly resumedAt: number | undefined }
  | { readonly _tag: "Reconnecting"; readonly lastEventSeq: number; readonly reason: string }
  | { readonly _tag: "Closed"; readonly error: ClientError | undefined }

/** What another process needs to continue this session; secret. */
export interface ResumeState {
  readonly sessionId: string
  readonly resumeToken: string
  readonly lastEventSeq: number
}

export interface ArcpClientService {
  /** Submits to an agent by contract, which decodes the result, or by name. */
  readonly submit: {
    <I, IE, O, OE, F, FE>(
      agent: Contract<I, IE, O, OE, F, FE>,
      input: I,
      options?: SubmitOptions
    ): Effect.Effect<JobHandle<O, F>, ClientError>
    (agent: string, input: unknown, options?: SubmitOptions): Effect.Effect<JobHandle, ClientError>
  }
  /**
   * Watches a job (feature `subscribe`). Fails with `InvalidRequest` when its history is asked for while this
   * client has another handle on it.
   */
  readonly subscribe: (
    jobId: string,
    options?: { readonly history?: boolean; readonly fromEventSeq?: number }
  ) => Effect.Effect<JobHandle & { readonly subscribed: Message.Subscribed }, ClientError>
  /** Ends the handles on a job; the job goes on. */
  readonly unsubscribe: (jobId: string) => Effect.Effect<void>
  readonly cancel: (jobId: string, reason?: string) => Effect.Effect<void, ClientError>
  /** All jobs that match, page by page. */
  readonly list: (
    filter?: NonNullable<Message.ListJobs["filter"]>
  ) => Stream.Stream<Message.JobEntry, ClientError>
  /** What the runtime hosts, as of the last welcome. */
  readonly agents: Effect.Effect<ReadonlyArray<Message.AgentEntry>>
  /** Milliseconds there and back. */
  readonly ping: Effect.Effect<number, ClientError>
  readonly status: SubscriptionRef.SubscriptionRef<Status>
  readonly resumeState: Effect.Effect<ResumeState>
  /** Cuts the connection, not the session, which resumes by itself. For tests and demonstrations. */
  readonly dropTransport: Effect.Effect<void>
  /** Closes the session; it can still be resumed within its window. Jobs go on. */
  readonly close: Effect.Effect<void>
}

export class ArcpClient extends Context.Tag("arcp/services/ArcpClient")<ArcpClient, ArcpClientService>() {}
