/** What a handler sees of the job it runs in: its identity, and one method per kind of event (§8). */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import type * as Schema from "effect/Schema"
import type * as Stream from "effect/Stream"
import type { ArcpError, BudgetExhausted, InternalError, Timeout } from "../../protocol/Errors.js"
import type { Body, Event, LogLevel } from "../../protocol/Event.js"
import type { Lease, LeaseConstraints } from "../../protocol/Lease.js"
import type { Contract } from "../agents/Contract.js"
import type { AnyVendorEvent, Emits, Readable, VendorKind, Writable } from "../agents/VendorEvent.js"
import type { Credential } from "../credentials/Credentials.js"
import type { EmitError } from "./EmitError.js"
import type { AskInput } from "./Input.js"

export type { EmitError }

/** How an emit is known again when a durable job is run again. */
export interface EmitOptions {
  /**
   * Unique among the keyed emits of its job: the event is logged once, however often the job is run again. A durable job
   * needs it for what it emits outside of steps in another fiber than the handler's own.
   */
  readonly key?: string | undefined
}

/** The step in which something runs: what it may tell others of itself, so that they can see a repetition. */
export interface StepService {
  readonly key: string
  /** From 1; one more after each failure that is tried again, and each crash. */
  readonly attempt: number
  /** The same in every attempt, and of no other step: for whoever takes an idempotency key. */
  readonly idempotencyKey: string
}

/** The step that the effect in this context is run by (`Job.step`). */
export class Step extends Context.Tag("arcp/services/Step")<Step, StepService>() {}

/**
 * What marks the fibers of a handler that is no Effect, a promise agent's: what they emit counts as emitted in the
 * handler's own fiber.
 */
export class HandlerThread extends Context.Tag("arcp/services/HandlerThread")<HandlerThread, true>() {}

/** How a step is stored, tried again and bounded. */
export interface StepOptions<A, AEncoded, E, EEncoded, RC = never> {
  /** How the outcome is stored. Default: as JSON, whose form is what the step returns, the first time too. */
  readonly output?: Schema.Schema<A, AEncoded> | undefined
  /**
   * How a typed failure is stored. Errors of the protocol, and plain JSON, need none; any other failure without a schema
   * is a defect.
   */
  readonly error?: Schema.Schema<Exclude<E, ArcpError>, EEncoded> | undefined
  /** Tries again after a typed failure. A crash begins the schedule anew. */
  readonly retry?: Schedule.Schedule<unknown, E> | undefined
  /** Of each attempt; then it fails with `Timeout`. */
  readonly timeout?: Duration.DurationInput | undefined
  /**
   * Undoes what the step has done, given its output, when the job ends in an error, is cancelled or runs out of time. All
   * compensations of a job run one after the other when its handler has ended, those of the newest outcomes first, each as
   * a step (its key is `compensate:` and that of what it undoes) that may run more than once and has one outcome, for no
   * longer than the contract's `compensateWithin`. A step inside of another one cannot have one, since of an outer step
   * that is found nothing runs.
   */
  readonly compensate?: ((output: A) => Effect.Effect<unknown, unknown, RC>) | undefined
}

/** Why a step failed other than by its effect: it took too long, or its outcome cannot be stored. */
export type StepError = Timeout | InternalError

/**
 * Runs an effect once in the life of a durable job. What it gives is what comes out of the store: of the schema's type `Out`, if there
 * is one, which may be wider than what the effect gives (`Schema.Array` of a mutable array).
 */
export type RunStep = <
  A extends Out,
  E = never,
  R = never,
  AEncoded = unknown,
  EEncoded = unknown,
  RC = never,
  Out = A
>(
  key: string,
  effect: Effect.Effect<A, E, R>,
  options?: Omit<StepOptions<NoInfer<Out>, unknown, E, EEncoded, RC>, "output"> & {
    readonly output?: Schema.Schema<Out, AEncoded> | undefined
  }
) => Effect.Effect<Out, E | StepError, Exclude<R | NoInfer<RC>, Step>>

/** What may be said with the end of a streamed result. */
export interface ResultEnd {
  /** What the result is, in at most 4096 characters; `summary` of `job.result` (§8.4). */
  readonly summary?: string | undefined
}

/** A result that is delivered in chunks. Chunks are numbered and finalised by the runtime. */
export interface ResultStream {
  readonly resultId: string
  /** Emits one chunk, at most 1 MiB. Half a surrogate pair becomes U+FFFD; bytes that are not UTF-8 need `base64`. */
  readonly write: (data: string | Uint8Array) => Effect.Effect<void, EmitError>
  /** Emits the last chunk, waits until all are committed, and says what the result is. A handler that returns without it gets an empty last chunk. */
  readonly end: (data?: string | Uint8Array, options?: ResultEnd) => Effect.Effect<void, EmitError>
}

/** What a delegated job may do: never more than the job that delegates (§9.4). Without a lease, nothing. */
export interface DelegateOptions {
  readonly lease?: Lease | undefined
  /** Without `expires_at`, the parent's. */
  readonly constraints?: LeaseConstraints | undefined
  /** The key of the delegation as a step of a durable job, which needs one: the child is found again by it. */
  readonly key?: string | undefined
  /**
   * Of a delegation of a durable job: how many children are started in the place of one that did not survive its process
   * (`runtime_restart`). Default: none.
   */
  readonly retries?: number | undefined
}

/** A delegated job. It ends, at the latest, with the job that delegated to it. */
export interface Delegated<Output, Failure, Events extends AnyVendorEvent = AnyVendorEvent> {
  readonly jobId: string
  readonly delegateId: string
  /** `name@version` */
  readonly agent: string
  /** What the job comes to; its protocol errors and declared failures as typed errors. */
  readonly await: Effect.Effect<Output, Failure | ArcpError>
  /** Its events from the first, and as they come, to its end; without the terminal message. */
  readonly events: Stream.Stream<Event, InternalError>
  /**
   * Returns the values of the events of one vendor kind (`Event.vendor`), of those that the contract declares, if it does.
   * Fails with `InternalError` at one that is not what its schema says.
   */
  // A method, so that a child whose contract declares events can be used as one of any agent.
  of<Value>(event: Readable<Value> & Events): Stream.Stream<Value, InternalError>
  /** Ends it, and waits until it has ended. */
  readonly cancel: Effect.Effect<void>
}

/** Emits an event of a vendor's kind. */
export interface Emit {
  <Kind extends VendorKind, Value>(
    event: Writable<Kind, Value>,
    value: NoInfer<Value>,
    options?: EmitOptions
  ): Effect.Effect<void, EmitError, Emits<Kind>>
  (kind: VendorKind, body: unknown, options?: EmitOptions): Effect.Effect<void, EmitError>
}

/**
 * What a handler can do with its job, whether or not anybody is connected.
 *
 * An emit takes its place in the job's log when it is run, after all that were run before it, in whichever fiber, and keeps
 * it when it is interrupted. It returns at once, unless too much waits for the store (`maxUncommittedEvents`,
 * `maxUncommittedBytes`); what it has returned from is committed soon, in order, or the job ends in `INTERNAL_ERROR`. It is
 * *not* committed when the emit returns: whoever acts on the world after an emit waits for `flush` first. These wait for
 * their commit by themselves: a `tool_call`, an `artifact_ref`, a `delegate`, a cost, the end of a streamed result, and with
 * `awaitEmits`, an option of the runtime and of the contract, every emit.
 */
export interface JobService {
  readonly jobId: string
  readonly sessionId: string
  readonly principal: string
  /** `name@version` */
  readonly agent: string
  readonly traceId: string
  readonly lease: Lease
  readonly leaseConstraints: LeaseConstraints
  /** Epoch ms at which `max_runtime_sec` or the lease ends the job, whichever is first. */
  readonly deadline: number | undefined

  /** Emits a `log` event. */
  readonly log: (
    level: LogLevel,
    message: string,
    attributes?: Record<string, unknown>,
    options?: EmitOptions
  ) => Effect.Effect<void, EmitError>
  /** Emits a `thought`. */
  readonly thought: (text: string, options?: EmitOptions) => Effect.Effect<void, EmitError>
  /** Emits a `status` with this phase. */
  readonly status: (
    phase: string,
    more?: Record<string, unknown>,
    options?: EmitOptions
  ) => Effect.Effect<void, EmitError>
  /**
   * Emits a `metric`. One named `cost.…` waits until it is committed; in a budgeted currency it decrements its counter. Fails with `InvalidRequest` on a
   * negative cost and on `cost.budget.remaining`, which is the runtime's own.
   */
  readonly metric: (body: Body<"metric">, options?: EmitOptions) => Effect.Effect<void, EmitError>
  /** Emits a `tool_call`, and waits until it is committed: the tool is called after that. */
  readonly toolCall: (body: Body<"tool_call">, options?: EmitOptions) => Effect.Effect<void, EmitError>
  /** Emits a `tool_result`. */
  readonly toolResult: (body: Body<"tool_result">, options?: EmitOptions) => Effect.Effect<void, EmitError>
  /** Emits an `artifact_ref`, and waits until it is committed. */
  readonly artifact: (body: Body<"artifact_ref">, options?: EmitOptions) => Effect.Effect<void, EmitError>
  /** Emits a `progress`. */
  readonly progress: (body: Body<"progress">, options?: EmitOptions) => Effect.Effect<void, EmitError>
  /**
   * Emits an event of a vendor's kind: a value by the schema of `Event.vendor`, or a body as it is. Fails with
   * `InvalidRequest` when the value is none of the schema's, and nothing is emitted. `Emits` is given to a handler whose
   * contract declares the event, or none.
   */
  readonly emit: Emit

  /**
   * Waits until everything that the job has emitted so far is committed: it survives a crash, and is, or will be, sent.
   * Fails when the store does not take it.
   */
  readonly flush: Effect.Effect<void, InternalError>

  /**
   * Runs an effect as a step of a durable job: its outcome, a success or a typed failure, is committed to the job's log,
   * and found there when the handler is run again, after a crash or a restart; then the effect does not run. A crash
   * before that runs it again: it runs at least once, and `Step` in its context says which attempt it is. What it emits
   * is tagged with the step, and never comes again once the outcome is committed.
   *
   * Keys are unique in a job; the same key again gives the same outcome, and at the same time is a defect. Fails with
   * `InternalError` when the outcome, or all of them, are larger than the limits (`details.limit`), cannot be written as
   * JSON, or are not stored. In an agent that is not durable it is a defect.
   */
  readonly step: RunStep
  /**
   * Waits as long, by the wall clock, from the first time that it is run in a durable job: a restart does not begin it
   * anew. Its key is one of the step keys.
   */
  readonly sleep: (key: string, duration: Duration.DurationInput) => Effect.Effect<void, InternalError>

  /**
   * Keeps a durable job in memory while an effect runs. Otherwise one that does nothing but sleep, or wait for an input, is
   * unloaded after a while (`unloadAfter`): its handler is interrupted, and run again over its steps when the wait is over.
   * An effect outside of steps beside such a wait (a connection that is kept open, a timer) does not keep it in memory by
   * itself. In an agent that is not durable it changes nothing.
   */
  readonly hold: <A, E, R>(effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>

  /**
   * Asks, and waits for an answer, by whoever may give one (`Policy.mayAnswer`): for days, and over the end of the process.
   * In a durable job; its key is one of the step keys, and an answer is handed out again like a step's outcome.
   *
   * Fails with `InputExpired` when nobody has answered in time, and with `InternalError` when the question is too large,
   * or too many are open (`details.limit`). Interrupted, it is asked no more.
   */
  readonly input: AskInput

  /** Opens the streamed result of this job; at most one. */
  readonly openResult: (encoding?: "utf8" | "base64") => Effect.Effect<ResultStream, EmitError>
  /** Streams a whole result, cut into chunks of at most 64 KiB at code-point boundaries. */
  readonly streamResult: <E, R>(
    data: Stream.Stream<string | Uint8Array, E, R>,
    encoding?: "utf8" | "base64",
    options?: ResultEnd
  ) => Effect.Effect<void, E | EmitError, R>

  /**
   * Runs another agent of this runtime as a child of this job (§10). Needs `agent.delegate` for its name.
   * Returns when the child is accepted. A refusal is also on this job's stream, as a `tool_result`:
   * `PermissionDenied` without `agent.delegate`, `LeaseSubsetViolation` when the child would get more than
   * this job has, `InternalError` with `details.limit` at 16 jobs above it or 100 children at once.
   */
  readonly delegate: Delegate
  /** Returns the credentials provisioned for this job; none without a provisioner. */
  readonly credentials: Effect.Effect<ReadonlyArray<Credential>>
  /** Replaces a credential's value; the submitter is told. `BudgetExhausted`: the budget upstream allows no other. */
  readonly rotateCredential: (id: string) => Effect.Effect<Credential, EmitError | BudgetExhausted>
}

/** Starts another agent's job under this job's lease (§10). Fails as a submit does. */
export interface Delegate {
  <I, IE, O, OE, F, FE, Events extends AnyVendorEvent = AnyVendorEvent>(
    agent: Contract<I, IE, O, OE, F, FE, Events>,
    input: I,
    options?: DelegateOptions
  ): Effect.Effect<Delegated<O, F, Events>, ArcpError>
  /** By reference, `name` or `name@version`, with JSON in and out. */
  (
    agent: string,
    input: unknown,
    options?: DelegateOptions
  ): Effect.Effect<Delegated<unknown, never>, ArcpError>
}

/** The job that the handler in this context is running. */
export class Job extends Context.Tag("arcp/services/Job")<Job, JobService>() {}
