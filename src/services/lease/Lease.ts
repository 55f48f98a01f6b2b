/**
 * What the job in whose context this runs may do (§9). Leased services (services/lease/Leased.ts) ask here before
 * every operation; a handler asks itself only for what it does outside of them.
 */
import type * as BigDecimal from "effect/BigDecimal"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Either from "effect/Either"
import { BudgetExhausted, LeaseExpired, PermissionDenied } from "../../protocol/Errors.js"
import type { LeaseConstraints, Lease as Terms } from "../../protocol/Lease.js"
import type { EmitError } from "../jobs/EmitError.js"

/** Why an operation is refused. None of them ends the job by itself; see §9. */
export type LeaseError = PermissionDenied | LeaseExpired | BudgetExhausted

/** What something cost, exactly: a decimal as text (`"0.10"`), or a number taken as its shortest decimal. */
export interface Cost {
  /** Metric name; `cost.` is put in front. Default `other`: the metric is `cost.other`. */
  readonly name?: string | undefined
  readonly amount: string | number | BigDecimal.BigDecimal
  /** `USD`, `credits`, … */
  readonly currency: string
  readonly dimensions?: Record<string, unknown> | undefined
}

/** What a job's `HttpClient` is held to, besides its patterns. */
export interface FetchBounds {
  /** Bytes of the body of one response, as the handler gets them. */
  readonly maxBytes: number
  /** What one request may take, from the first byte of it to the last of the response, redirects included. */
  readonly timeout: Duration.Duration
  /** Tells hosts the trace in which they are asked. */
  readonly traceHeaders: boolean
}

/** Answers what the running job may touch and spend (§9), and charges what it has spent. */
export interface LeaseService {
  /** As granted, in its wire shape; it never changes. */
  readonly terms: Terms
  readonly constraints: LeaseConstraints
  /** What the terms were taken from and are within: a ceiling, or a delegating job's; else the terms themselves. */
  readonly bounds: Terms
  /** Absolute path of the directory that relative paths start from, when the operator gave one. */
  readonly workspace: string | undefined
  /** What its `HttpClient` is held to. */
  readonly fetching: FetchBounds
  /**
   * Waits until everything that the job has emitted so far is committed, as leased services do before they act on the world;
   * fails when the store does not take it: a job does nothing that its log may not tell of.
   */
  readonly flushed: Effect.Effect<void, LeaseError>
  /**
   * Asks for one operation, once what the job has emitted is committed: expiry, then budget, then pattern. Returns the canonical target. With a `callId`, a
   * refusal is also put on the stream, as a `tool_result` with that error.
   */
  readonly authorize: (
    capability: string,
    target: string,
    options?: { readonly callId?: string | undefined }
  ) => Effect.Effect<string, LeaseError>
  /**
   * Decides the same and returns it as a value, for services that check many targets. Nothing is put on the stream.
   * `isAttempt` is false of a mere question, which does not count as a denial; default: true.
   */
  readonly check: (
    capability: string,
    target: string,
    isAttempt?: boolean
  ) => Either.Either<string, LeaseError>
  /**
   * Tells whether a `net.fetch` pattern that matches this URL names its host without a wildcard, in this lease and in that of each
   * job above: such a host may have a private address.
   */
  readonly namesHost: (url: string) => boolean
  /** Returns what is left of each budgeted currency, of the job's own counters; empty without a budget. */
  readonly remaining: Effect.Effect<ReadonlyMap<string, BigDecimal.BigDecimal>>
  /**
   * Records a cost as a `cost.*` metric, which decrements the counter of its currency here and in every
   * ancestor, in the same commit. Returns when it is committed. Fails with `InvalidRequest` on a negative amount.
   */
  readonly spend: (cost: Cost) => Effect.Effect<void, EmitError>
}

/** The lease of the job that runs in this context (§9). */
export class Lease extends Context.Tag("arcp/services/Lease")<Lease, LeaseService>() {}

const isLeaseError = (u: unknown): u is LeaseError =>
  u instanceof PermissionDenied || u instanceof LeaseExpired || u instanceof BudgetExhausted

/**
 * Returns the lease error that a failure stems from: itself, or in its chain of causes. Leased platform services fail
 * with the errors of the platform, whose `cause` it is.
 */
export const leaseErrorOf = (failure: unknown): LeaseError | undefined => {
  let error = failure
  for (let depth = 0; depth < 8 && typeof error === "object" && error !== null; depth++) {
    if (isLeaseError(error)) return error
    error = (error as { readonly cause?: unknown }).cause
  }
  return undefined
}
