/**
 * The other side: a session that survives its connections, and handles on jobs. Everything here is one session
 * with one runtime; what it promises is in docs/guide.md, "Clients".
 */

import type { PlatformError } from "@effect/platform/Error"
import type { FileSystem } from "@effect/platform/FileSystem"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { ArcpError } from "../../protocol/Errors.js"
import type { Body, Event, Kind } from "../../protocol/Event.js"
import type { Lease, LeaseConstraints } from "../../protocol/Lease.js"
import type * as Message from "../../protocol/Message.js"
import type { Contract, Outcome } from "../agents/Agent.js"
import type { AnyVendorEvent, Readable } from "../agents/VendorEvent.js"
import type { TransportError } from "../transport/Transport.js"

/** The runtime broke the protocol: a gap in the numbering, a result that is not what it says. */
export class ProtocolViolation extends Data.TaggedError("ProtocolViolation")<{ readonly message: string }> {
  readonly code = "PROTOCOL_VIOLATION"
  readonly retryable = false
}

/** The runtime did not answer a request in time, or on any of ten connections that were lost in that time. Whether it was done is not known. */
export class RequestTimeout extends Data.TaggedError("RequestTimeout")<{ readonly message: string }> {
  readonly code = "REQUEST_TIMEOUT"
  readonly retryable = true
}

/**
 * What gives the bearer token has failed, has given no text, or has not answered in time. It may be asked again unless
 * its failure says that it is not `retryable`.
 */
export class TokenUnavailable extends Data.TaggedError("TokenUnavailable")<{
  readonly message: string
  readonly retryable: boolean
  readonly cause?: unknown
}> {
  readonly code = "TOKEN_UNAVAILABLE"
}

/** Whatever ends a session for good, or fails one request or one job. `isRetryable` tells which may be repeated. */
export type ClientError = ArcpError | TransportError | ProtocolViolation | RequestTimeout | TokenUnavailable

/** A bearer token; secret. */
export type Token = string | Redacted.Redacted

/**
 * A bearer token, or what gives one: an effect, or a function of whatever kind. That is asked for each connection, and
 * before the token ends that it has given.
 */
export type TokenSource =
  | Token
  | Effect.Effect<Token, unknown>
  | (() => Token | PromiseLike<Token> | Effect.Effect<Token, unknown>)

/** A value that changes. */
export interface Latest<A> {
  /** The value now. */
  readonly get: Effect.Effect<A>
  /**
   * The value now, then each new one; a slow reader gets the newest and may miss those between. Ends with its source.
   */
  readonly changes: Stream.Stream<A>
}

/**
 * What the client says in a job's stream when it cannot say what happened:
 * - `evicted`: events here are no longer retained by the runtime; they were skipped while nobody read the stream
 * - `session_lost`: the session could not be resumed. The client has subscribed to the job from a new session, and
 *   `eventSeq` starts again. With `replayed`, what the runtime still had of the time between follows; without, it is
 *   missing
 * - `unsubscribed`: the client's token had ended, and with it, perhaps, the subscription to somebody else's job. The client has
 *   subscribed again; what came between, if anything, is missing
 */
export interface Gap {
  readonly kind: "gap"
  /** When it was noticed. */
  readonly ts: string
  readonly body: {
    readonly reason: "evicted" | "session_lost" | "unsubscribed"
    /** Whether what the runtime still has of the time between follows. */
    readonly replayed: boolean
    readonly message: string
  }
}

/** An event of a kind that this client does not know, or whose body is not what its kind says (`problem`). */
export interface OtherEvent {
  readonly kind: "other"
  /** The kind as it came. */
  readonly wireKind: string
  readonly ts: string
  readonly body: unknown
  /** What of the body is not what the kind says; `undefined` of a kind that is not known. */
  readonly problem: string | undefined
}

/** An event of a job, by `kind`, with its place in the session's numbering. */
export type JobEvent = (Event | OtherEvent | Gap) & { readonly eventSeq: number }

/** The event of one kind. */
export type EventOf<K extends Kind> = { readonly kind: K; readonly ts: string; readonly body: Body<K> }

/** A credential that was minted for the job (§9.8). */
export interface JobCredential {
  readonly id: string
  readonly value: Redacted.Redacted
  readonly endpoint: string
  readonly profile?: string | undefined
  readonly constraints?: unknown
}

/** What a job asks and waits for (`Job.input`), as it goes over the wire. */
export interface InputRequest {
  readonly input_id: string
  /** The question, for people. */
  readonly prompt: string
  /** JSON Schema of an answer. */
  readonly schema?: unknown
  /** The only answers that are taken. */
  readonly choices?: ReadonlyArray<unknown> | undefined
  /** What it is about, and the SHA-256 of that, which the answer has to name. */
  readonly about?: { readonly value?: unknown; readonly sha256: string } | undefined
  /** UTC. */
  readonly expires_at?: string | undefined
}

/** What is said of an answer beside its value. */
export interface AnswerOptions {
  /** `about.sha256` of the request, where that is about something: what was approved is what was shown. */
  readonly about?: string | undefined
}

/** A file that holds a job's result. */
export interface ResultFile {
  readonly path: string
  /** In bytes. */
  readonly size: number
  /** What the agent says of it. */
  readonly summary: string | undefined
}

/**
 * A job, seen from here. Nothing of it is lost by not reading: what nobody reads is held up to a limit
 * (`Options.held`), and fetched again from the runtime's log when somebody does.
 */
export interface JobHandle<
  Output = unknown,
  Failure = never,
  Events extends AnyVendorEvent = AnyVendorEvent
> {
  readonly jobId: string
  /** `name@version` */
  readonly agent: string
  readonly traceId: string | undefined
  /** As granted. */
  readonly lease: Lease
  readonly leaseConstraints: LeaseConstraints
  /** Every event in order, exactly once, across reconnects; ends with the job. One reader. */
  readonly events: Stream.Stream<JobEvent, ClientError>
  /**
   * Returns the values of the events of one vendor kind (`Event.vendor`), of those that the contract declares, if it
   * does. In place of `events`, which says of gaps and has every kind. Fails with `ProtocolViolation` at one that is
   * not what its schema says.
   */
  // A method, so that a handle whose contract declares events can be used as one of any job.
  of<Value>(event: Readable<Value> & Events): Stream.Stream<Value, ClientError>
  /** The newest `progress`. */
  readonly progress: Latest<Body<"progress"> | undefined>
  /** What is left of each budgeted currency, by the newest report; empty without a budget. */
  readonly budget: Latest<ReadonlyMap<string, number>>
  /** The job's own credentials, with the newest value of each. */
  readonly credentials: Latest<ReadonlyArray<JobCredential>>
  /**
   * What the job asks and waits for, each once, as far as its events were seen here: in place of none of the other streams. A
   * question that is answered, or expires, before it is read is left out. Ends with the job.
   */
  readonly inputs: Stream.Stream<InputRequest>
  /**
   * The decoded result, or the job's failure: the contract's own, or the protocol's. A streamed result is put
   * together in memory: text of `utf8` chunks, a `Uint8Array` of `base64` ones. Interrupting whoever waits cancels
   * the job, unless it was submitted with `onInterrupt: "detach"` or is only subscribed to.
   */
  readonly result: Effect.Effect<Output, Failure | ClientError>
  /** When the job was accepted, in UTC, by the runtime's clock: `undefined` of a runtime that does not say. */
  readonly createdAt: string | undefined
  /** Returns when the job ended, in UTC, by the runtime's clock: `undefined` before its end has come, or of one that does not say. */
  readonly completedAt: Effect.Effect<string | undefined>
  /**
   * The bytes of the result as they come, checked for order and size, without ever holding all of them. One
   * reader, and in place of `result`. A result that is not streamed comes as one piece: a text in UTF-8, anything
   * else as JSON. Fails with the job's error.
   */
  readonly chunks: Stream.Stream<Uint8Array, ClientError>
  /**
   * Writes the result to a file, in constant memory whatever its size: beside it under a name that nobody can know, moved
   * there when it is whole. In place of `result`, like `chunks`. A file that is there is replaced, and so is a link to one:
   * the link, and not what it leads to. Before the transfer it fails with `InvalidRequest` when a folder, a device or the
   * like is there, and with the platform's error when the file cannot be made.
   */
  readonly resultAsFile: (path: string) => Effect.Effect<ResultFile, ClientError | PlatformError, FileSystem>
  /** Asks for cancellation (§7.4); returns when it is acknowledged. `result` then fails with `Cancelled`. */
  readonly cancel: (reason?: string) => Effect.Effect<void, ClientError>
}

/** What may be said of a submit beside its agent and input (§7.1). */
export interface SubmitOptions {
  readonly leaseRequest?: Lease | undefined
  readonly leaseConstraints?: LeaseConstraints | undefined
  /** 1 to 256 characters; the same key and parameters within 24 h give the same job. */
  readonly idempotencyKey?: string | undefined
  /** 1 second to a day; then the job ends with `Timeout`. */
  readonly maxRuntime?: Duration.DurationInput | undefined
  /**
   * 32 lower-case hex digits. Default: the trace of the current span, which is then the parent of the job's, else a
   * fresh one.
   */
  readonly traceId?: string | undefined
  /**
   * Extensions of the envelope (§5), by their names, as `fork` makes one. Beside them an input that is `undefined` is left out,
   * where it is `null` otherwise.
   */
  readonly extensions?: Readonly<Record<string, unknown>> | undefined
  /**
   * What interrupting a fiber that awaits `result`, or `submit` itself, does to the job. Default: `cancel`. A submit that was
   * not sent yet is then never sent, and an interrupted `submitScoped` cancels in any case.
   */
  readonly onInterrupt?: "cancel" | "detach" | undefined
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
  /** The newest event after which nothing has to be delivered again: all of them are read. */
  readonly lastEventSeq: number
}

/** A job whose handle is to be had with `attach`. */
export interface Known {
  readonly jobId: string
  /** `name@version` */
  readonly agent: string
  readonly idempotencyKey: string | undefined
}

export interface SubmitMethod {
  <I, IE, O, OE, F, FE, Events extends AnyVendorEvent = AnyVendorEvent>(
    agent: Contract<I, IE, O, OE, F, FE, Events>,
    input: I,
    options?: SubmitOptions
  ): Effect.Effect<JobHandle<O, F, Events>, ClientError, Scope.Scope>
  (agent: string, input: unknown, options?: SubmitOptions): Effect.Effect<JobHandle, ClientError, Scope.Scope>
}

/** How much of a listing is wanted. */
export interface ListOptions {
  /** Jobs, at most: the oldest of those that match. Default: all. */
  readonly limit?: number | undefined
}

/** Submits, watches, lists and cancels jobs over one session, through any number of connections. */
export interface ArcpClientService {
  /**
   * Submits to an agent by contract, which types input, result and failures, or by name. The handle is good for
   * the scope; leaving it detaches, and the job goes on.
   */
  readonly submit: SubmitMethod
  /** Submits as `submit` does, and cancels a job that has not ended when the scope is left. */
  readonly submitScoped: SubmitMethod
  /**
   * Watches a job of any session (feature `subscribe`). With a contract its result is typed. With `history`, what has
   * happened so far comes first, newer than `fromEventSeq` in the submitting session's numbering. Fails with
   * `InvalidRequest` when history is asked for while this client has another handle on the job.
   */
  readonly subscribe: <O = unknown, F = never, Events extends AnyVendorEvent = AnyVendorEvent>(
    jobId: string,
    options?: {
      readonly contract?: Outcome<O, F, Events> | undefined
      readonly history?: boolean | undefined
      readonly fromEventSeq?: number | undefined
    }
  ) => Effect.Effect<
    JobHandle<O, F, Events> & { readonly subscribed: Message.Subscribed },
    ClientError,
    Scope.Scope
  >
  /**
   * Returns a handle on a job that an earlier process of this session has submitted (option `state`), from where that
   * process was. Fails with `JobNotFound` when it is not among `restored`.
   */
  readonly attach: <O = unknown, F = never, Events extends AnyVendorEvent = AnyVendorEvent>(
    jobId: string,
    options?: { readonly contract?: Outcome<O, F, Events> | undefined }
  ) => Effect.Effect<JobHandle<O, F, Events>, ClientError, Scope.Scope>
  /** Returns the jobs of an earlier process of this session that nobody has attached to yet. */
  readonly restored: Effect.Effect<ReadonlyArray<Known>>
  /** Cancels a job (§7.4); returns when the runtime has acknowledged it, before the job has ended. */
  readonly cancel: (jobId: string, reason?: string) => Effect.Effect<void, ClientError>
  /**
   * Answers what a job asks, of any session (`JobHandle.inputs`); returns when the answer is stored. The same answer again is
   * accepted again; another one fails with `InvalidRequest`, and `details.reason`: `unknown_input`, `expired`,
   * `already_answered`, `value` or `about`.
   */
  readonly answer: (
    jobId: string,
    inputId: string,
    value: unknown,
    options?: AnswerOptions
  ) => Effect.Effect<void, ClientError>
  /**
   * Returns all jobs that match, oldest first, page by page as they are read. Entries are as they are on the wire, as those of
   * events and of `subscribed` are, and have `job_id` where a handle has `jobId`.
   */
  readonly list: (
    filter?: NonNullable<Message.ListJobs["filter"]>,
    options?: ListOptions
  ) => Stream.Stream<Message.JobEntry, ClientError>
  /** Returns what the runtime hosts, as of the last welcome. */
  readonly agents: Effect.Effect<ReadonlyArray<Message.AgentEntry>>
  /** Asks the runtime for a pong; returns the milliseconds there and back. */
  readonly ping: Effect.Effect<number, ClientError>
  /** The state of the connection, now and as it changes. */
  readonly status: Latest<Status>
  /** Returns what another client would need to resume this session (§6.3). It holds the secret token. */
  readonly resumeState: Effect.Effect<ResumeState>
  /** Cuts the connection, not the session, which resumes by itself. For tests and demonstrations. */
  readonly dropTransport: Effect.Effect<void>
  /** Closes the session; it can still be resumed within its window. Jobs go on. */
  readonly close: Effect.Effect<void>
}

/** The client of this context: one session with a runtime. */
export class ArcpClient extends Context.Tag("arcp/services/ArcpClient")<ArcpClient, ArcpClientService>() {}
