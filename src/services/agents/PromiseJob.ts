/** A job as an async function sees it. */
import * as Effect from "effect/Effect"
import * as Argument from "../../protocol/Argument.js"
import type { ArcpError } from "../../protocol/Errors.js"
import type { InputOptions } from "../jobs/Input.js"
import type { DelegateOptions, EmitOptions, JobService } from "../jobs/Job.js"
import type { Cost, LeaseService } from "../lease/Lease.js"
import type { InPromises, PromiseStep } from "./PromiseStep.js"
import { readable } from "./Thrown.js"
import type { AnyVendorEvent, VendorKind, Writable } from "./VendorEvent.js"

type Promised<A> = A extends (...args: infer P) => Effect.Effect<infer X, infer _E, infer _R>
  ? (...args: P) => Promise<X>
  : A

/** A job as an async function sees it: the same methods, returning promises, and an `AbortSignal`. */
export type PromiseJob<Events extends AnyVendorEvent = AnyVendorEvent> = {
  readonly [K in Exclude<
    keyof JobService,
    | "emit"
    | "flush"
    | "step"
    | "hold"
    | "streamResult"
    | "openResult"
    | "delegate"
    | "credentials"
    | "rotateCredential"
    | "input"
  >]: Promised<JobService[K]>
} & {
  /** Emits an event of a vendor's kind: a value by its schema, or a body as it is. */
  readonly emit: {
    <Value>(
      event: Writable<VendorKind, Value> & Events,
      value: NoInfer<Value>,
      options?: EmitOptions
    ): Promise<void>
    (kind: VendorKind, body: unknown, options?: EmitOptions): Promise<void>
  }
  readonly step: PromiseStep
  /** Keeps a durable job in memory while an async function runs (`JobService.hold`). */
  readonly hold: <A>(run: () => A | PromiseLike<A>) => Promise<A>
  /** Asks, and resolves with the answer; rejects with `InputExpired` when there is none in time. See `JobService.input`. */
  readonly input: <const AEncoded = unknown, A = AEncoded>(
    key: string,
    options: InputOptions<A, AEncoded>
  ) => Promise<A>
  /** Resolves when everything that the job has emitted is committed. */
  readonly flush: () => Promise<void>
  /**
   * Aborted when the job is cancelled, times out or the runtime shuts down, with that as its reason: the protocol's error, which
   * everything that is waited for of the job rejects with, too.
   */
  readonly signal: AbortSignal
  readonly openResult: (encoding?: "utf8" | "base64") => Promise<{
    readonly resultId: string
    readonly write: (data: string | Uint8Array) => Promise<void>
    readonly end: (data?: string | Uint8Array) => Promise<void>
  }>
  /** Rejects when the lease does not allow it; gives the canonical target. See `Lease.authorize`. */
  readonly authorize: (
    capability: string,
    target: string,
    options?: { callId?: string | undefined }
  ) => Promise<string>
  /** Records a cost. See `Lease.spend`. */
  readonly spend: (cost: Cost) => Promise<void>
  readonly delegate: (
    agent: string,
    input: unknown,
    options?: DelegateOptions
  ) => Promise<{
    readonly jobId: string
    readonly result: () => Promise<unknown>
    readonly cancel: () => Promise<void>
  }>
}

/** Emits, as a promise agent does: what its contract declares is not a matter of types there. */
const emitting = <Value>(
  job: JobService,
  event: VendorKind | Writable<VendorKind, Value>,
  value: Value,
  options?: EmitOptions
): Effect.Effect<void, ArcpError> =>
  typeof event === "string" || typeof event?.encode !== "function"
    ? job.emit(event as VendorKind, value, options)
    : Effect.flatMap(event.encode(value), (body) => job.emit(event.kind, body, options))

/** Returns a job as an async function sees it, whose calls run as `promises` has it. */
export const inPromises = <Events extends AnyVendorEvent>(
  job: JobService,
  lease: LeaseService,
  { promise, step, unlessEnded, waiting }: InPromises,
  signal: AbortSignal
): PromiseJob<Events> => {
  const lift =
    <P extends ReadonlyArray<unknown>, A, E>(method: (...args: P) => Effect.Effect<A, E>) =>
    (...args: P) =>
      promise(method(...args))
  // What it says of itself is named one by one: the service may be there only when something of it is used.
  const { agent, deadline, jobId, leaseConstraints, principal, sessionId, traceId } = job
  return {
    agent,
    deadline,
    jobId,
    lease: job.lease,
    leaseConstraints,
    principal,
    sessionId,
    traceId,
    signal,
    step,
    sleep: (key, duration) => unlessEnded(job.sleep(key, duration)),
    hold: (run) => {
      const refused = Argument.refusal("hold", ["run", Argument.callable, run])
      if (refused !== undefined) return Promise.reject(refused)
      return waiting(job.hold(Effect.tryPromise({ try: async () => run(), catch: readable })))
    },
    input: (key, options) => unlessEnded(job.input(key, options)),
    log: lift(job.log),
    thought: lift(job.thought),
    status: lift(job.status),
    metric: lift(job.metric),
    toolCall: lift(job.toolCall),
    toolResult: lift(job.toolResult),
    artifact: lift(job.artifact),
    progress: lift(job.progress),
    emit: <Value>(event: VendorKind | Writable<VendorKind, Value>, value: Value, options?: EmitOptions) =>
      promise(emitting(job, event, value, options)),
    flush: () => promise(job.flush),
    authorize: lift(lease.authorize),
    spend: lift(lease.spend),
    delegate: (agent, input, options) =>
      unlessEnded(
        Effect.map(
          Effect.suspend(() => job.delegate(agent, input, options)),
          (child) => ({
            jobId: child.jobId,
            result: () => unlessEnded(child.await),
            cancel: () => waiting(child.cancel)
          })
        )
      ),
    openResult: (encoding) =>
      promise(
        Effect.map(
          Effect.suspend(() => job.openResult(encoding)),
          ({ end, resultId, write }) => ({ resultId, write: lift(write), end: lift(end) })
        )
      )
  }
}
