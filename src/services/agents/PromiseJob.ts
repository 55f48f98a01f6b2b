/** A job as an async function sees it. */
import type * as Effect from "effect/Effect"
import type { InputOptions } from "../jobs/Input.js"
import type { DelegateOptions, EmitOptions, JobService } from "../jobs/Job.js"
import type { Cost } from "../lease/Lease.js"
import type { PromiseStep } from "./PromiseStep.js"
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

/** Returns what a job says of itself. Named one by one: the service may be there only when something of it is used. */
export const identityOf = ({
  agent,
  deadline,
  jobId,
  lease,
  leaseConstraints,
  principal,
  sessionId,
  traceId
}: JobService) => ({ agent, deadline, jobId, lease, leaseConstraints, principal, sessionId, traceId })
