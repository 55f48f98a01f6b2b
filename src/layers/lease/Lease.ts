/** The lease of one job: every operation is decided here, in the order expiry → budget → pattern (§9). */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Fiber from "effect/Fiber"
import { BudgetExhausted, LeaseExpired, PermissionDenied, toPayload } from "../../protocol/Errors.js"
import { compile, type Lease as Terms } from "../../protocol/Lease.js"
import { canonical, kindOf } from "../../protocol/Target.js"
import type { EmitError, JobService } from "../../services/jobs/Job.js"
import type { Cost, FetchBounds, LeaseError, LeaseService } from "../../services/lease/Lease.js"
import type { JobLog } from "../../services/log/EventLog.js"
import type { JobRecord } from "../../services/store/Store.js"

/** What the lease of one job is made of. */
interface LeaseContext {
  readonly record: JobRecord
  /** The terms of each job above it; default: of a job that was submitted. */
  readonly above?: ReadonlyArray<Terms> | undefined
  readonly log: JobLog
  readonly now: () => number
  /** See `LeaseService.bounds`; default: the terms. */
  readonly bounds?: Terms | undefined
  readonly workspace: string | undefined
  readonly fetching: FetchBounds
  /** Models need no `model.use`. */
  readonly anyModel: boolean
  readonly toolResult: JobService["toolResult"]
  readonly spend: (cost: Cost) => Effect.Effect<void, EmitError>
  readonly flush: JobService["flush"]
  /** The job's compensations run: what they cost is counted, and not refused. */
  readonly isUndoing?: (() => boolean) | undefined
  /** Told of each operation that is refused; default: nobody is. */
  readonly onDenied?: ((capability: string, error: LeaseError) => void) | undefined
  /** An operation was attempted after expiry, which ends the job. */
  readonly onExpired: () => void
  /** Of a durable job: why something that is paid for may not be done in a fiber. */
  readonly misplaced?: ((fiber: AnyFiber, capability: string) => PermissionDenied | undefined) | undefined
}

type AnyFiber = Fiber.RuntimeFiber<unknown, unknown>

/** What is done under these is paid for, or may be. */
const paid: ReadonlySet<string> = new Set(["tool.call", "model.use"])

/** Returns why a job may do nothing at all any more, if that is so: it has ended, its lease has, or its budget. */
const overFor = (
  { isUndoing, log, now, onExpired, record }: LeaseContext,
  expiresAt: number,
  capability: string
): LeaseError | undefined => {
  // What its handler left running: costs would no longer count, and nobody would see what it does.
  if (log.ended)
    return new PermissionDenied({ message: `${cut(capability, 100)} refused: the job has ended` })
  if (now() >= expiresAt) {
    onExpired()
    return new LeaseExpired({ message: `the lease expired at ${record.leaseConstraints?.expires_at}` })
  }
  const currency = isUndoing?.() === true ? undefined : log.exhausted
  return currency === undefined
    ? undefined
    : new BudgetExhausted({
        message: `the ${currency} budget is used up; submit the job again with a larger cost.budget`,
        details: { currency }
      })
}

/** Puts a refusal on the stream, as the result of the call that was refused. It stands whether or not that could be. */
const logged = (
  { toolResult }: LeaseContext,
  error: LeaseError,
  callId: string | undefined
): Effect.Effect<never, LeaseError> =>
  callId === undefined
    ? Effect.fail(error)
    : Effect.zipRight(
        Effect.ignore(toolResult({ call_id: callId, error: toPayload(error) })),
        Effect.fail(error)
      )

/** See `LeaseService.flushed`. */
const flushing = ({ flush }: LeaseContext): LeaseService["flushed"] =>
  Effect.mapError(
    flush,
    ({ message }) =>
      new PermissionDenied({ message: `refused, because what the job has said is not stored: ${message}` })
  )

/** Refuses what is paid for where it would be paid again when the job is run again. */
const placed =
  (
    context: LeaseContext,
    misplaced: NonNullable<LeaseContext["misplaced"]>,
    authorize: LeaseService["authorize"]
  ): LeaseService["authorize"] =>
  (capability, target, options) =>
    Effect.withFiberRuntime((fiber) => {
      const error = paid.has(capability) ? misplaced(fiber, capability) : undefined
      if (error === undefined) return authorize(capability, target, options)
      context.onDenied?.(capability, error)
      return logged(context, error, options?.callId)
    })

/** Returns the lease of one job. */
export const make = (context: LeaseContext): LeaseService => {
  const { log, record } = context
  const terms = record.lease
  const flushed = flushing(context)
  const constraints = record.leaseConstraints ?? {}
  const expiresAt = constraints.expires_at === undefined ? Infinity : Date.parse(constraints.expires_at)
  // Most jobs never ask, so nothing is compiled before one does.
  let compiled: ReturnType<typeof compile> | undefined
  const patterns = () => {
    compiled ??= compile(terms)
    return compiled
  }

  let compiledAbove: ReadonlyArray<ReturnType<typeof compile>> | undefined
  const above = () => {
    compiledAbove ??= (context.above ?? []).map(compile)
    return compiledAbove
  }

  const verdictOn = (capability: string, target: string): Either.Either<string, LeaseError> => {
    const over = overFor(context, expiresAt, capability)
    if (over !== undefined) return Either.left(over)
    const unbound = capability === "model.use" && context.anyModel && !patterns().has(capability)
    return Either.mapLeft(
      unbound ? canonical("name", target) : patterns().permits(capability, target),
      (why) =>
        new PermissionDenied({
          message: `${capability} refused: ${why}`,
          details: { capability, target: shown(capability, target) }
        })
    )
  }

  const check: LeaseService["check"] = (capability, target, isAttempt = true) => {
    const verdict = verdictOn(capability, target)
    if (isAttempt && Either.isLeft(verdict)) context.onDenied?.(capability, verdict.left)
    return verdict
  }

  const authorize: LeaseService["authorize"] = (capability, target, options) =>
    Effect.flatMap(flushed, () => {
      const verdict = check(capability, target)
      return Either.isRight(verdict)
        ? Effect.succeed(verdict.right)
        : logged(context, verdict.left, options?.callId)
    })

  return {
    terms,
    constraints,
    bounds: context.bounds ?? terms,
    workspace: context.workspace,
    fetching: context.fetching,
    check,
    flushed,
    authorize: context.misplaced === undefined ? authorize : placed(context, context.misplaced, authorize),
    // A pattern with a wildcard covers one without: whoever has the one must not be able to delegate the other.
    namesHost: (url) => patterns().namesHost(url) && above().every((terms) => terms.namesHost(url)),
    remaining: Effect.sync(() => log.remaining),
    spend: context.spend
  }
}

/** Returns a target as an error may show it: queries can hold secrets. */
const shown = (capability: string, target: string): string =>
  (kindOf(capability) === "url" ? target.replace(/[?#].*$/s, "").replace(/\/\/[^/]*@/, "//") : target).slice(
    0,
    200
  )

export * from "../../services/lease/Lease.js"

import { cut } from "../../protocol/Text.js"
