/** The lease of one job: every operation is decided here, in the order expiry → budget → pattern (§9). */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { BudgetExhausted, LeaseExpired, PermissionDenied, toPayload } from "../../protocol/Errors.js"
import { compile, type Lease as Terms } from "../../protocol/Lease.js"
import { canonical, kindOf } from "../../protocol/Target.js"
import type { EmitError, JobService } from "../../services/jobs/Job.js"
import type { Cost, FetchBounds, LeaseError, LeaseService } from "../../services/lease/Lease.js"
import type { JobLog } from "../../services/log/EventLog.js"
import type { JobRecord } from "../../services/store/Store.js"

export const make = (context: {
  readonly record: JobRecord
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
  /** An operation was attempted after expiry, which ends the job. */
  readonly onExpired: () => void
}): LeaseService => {
  const { record, log } = context
  const terms = record.lease
  const constraints = record.leaseConstraints ?? {}
  const expiresAt = constraints.expires_at === undefined ? Infinity : Date.parse(constraints.expires_at)
  // Most jobs never ask, so nothing is compiled before one does.
  let compiled: ReturnType<typeof compile> | undefined
  const patterns = () => {
    compiled ??= compile(terms)
    return compiled
  }

  const check = (capability: string, target: string): Either.Either<string, LeaseError> => {
    // What its handler left running: costs would no longer count, and nobody would see what it does.
    if (log.ended)
      return Either.left(
        new PermissionDenied({ message: `${capability.slice(0, 100)} refused: the job has ended` })
      )
    if (context.now() >= expiresAt) {
      context.onExpired()
      return Either.left(new LeaseExpired({ message: `the lease expired at ${constraints.expires_at}` }))
    }
    const currency = log.exhausted
    if (currency !== undefined)
      return Either.left(
        new BudgetExhausted({
          message: `the ${currency} budget is used up; submit the job again with a larger cost.budget`,
          details: { currency }
        })
      )
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

  const flushed = Effect.mapError(
    context.flush,
    ({ message }) =>
      new PermissionDenied({ message: `refused, because what the job has said is not stored: ${message}` })
  )

  const decide: LeaseService["authorize"] = (capability, target, options) =>
    Effect.suspend(() => {
      const verdict = check(capability, target)
      if (Either.isRight(verdict)) return Effect.succeed(verdict.right)
      const callId = options?.callId
      const refused = Effect.fail(verdict.left)
      return callId === undefined
        ? refused
        : // The refusal stands whether or not it could be logged.
          Effect.zipRight(
            Effect.ignore(context.toolResult({ call_id: callId, error: toPayload(verdict.left) })),
            refused
          )
    })

  return {
    flushed,
    terms,
    constraints,
    bounds: context.bounds ?? terms,
    workspace: context.workspace,
    fetching: context.fetching,
    check,
    authorize: (capability, target, options) => Effect.zipRight(flushed, decide(capability, target, options)),
    namesHost: (url) => patterns().namesHost(url),
    remaining: Effect.sync(() => log.remaining),
    spend: context.spend
  }
}

/** A target as an error may show it: queries can hold secrets. */
const shown = (capability: string, target: string): string =>
  (kindOf(capability) === "url" ? target.replace(/[?#].*$/s, "").replace(/\/\/[^/]*@/, "//") : target).slice(
    0,
    200
  )

export * from "../../services/lease/Lease.js"
