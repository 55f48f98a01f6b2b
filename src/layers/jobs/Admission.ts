/** Whether a job may begin now. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Argument from "../../protocol/Argument.js"
import type { ArcpError } from "../../protocol/Errors.js"
import type { Identity } from "../../services/auth/Auth.js"
import { Admission, later, type Submit } from "../../services/jobs/Admission.js"
import { monotonic } from "../../services/runtime/monotonic.js"

/**
 * Asks this function. What it requires is the layer's.
 *
 * @example
 * Admission.layer(({ principal }) =>
 *   Effect.gen(function* () {
 *     const plans = yield* Plans
 *     if (yield* plans.isSuspended(principal)) yield* new Errors.PermissionDenied({ message: "this account is suspended" })
 *   })
 * )
 */
export const layer = <R = never>(
  check: (identity: Identity, submit: Submit) => Effect.Effect<void, ArcpError, R>
): Layer.Layer<Admission, never, R> => {
  Argument.check("Admission.layer", ["check", Argument.callable, check])
  return Layer.effect(
    Admission,
    Effect.map(Effect.context<R>(), (context) => ({
      check: (identity, submit) => Effect.provide(check(identity, submit), context)
    }))
  )
}

/** The default: everything may begin. */
export const layerAdmitAll: Layer.Layer<Admission> = Layer.succeed(Admission, { check: () => Effect.void })

/** How much may be submitted. */
export interface RateLimitOptions {
  /** Submits of one principal at once, and per `per`. A positive integer. */
  readonly submits: number
  /** How long it takes until as many may be submitted again. More than 0. */
  readonly per: Duration.DurationInput
  /**
   * Principals remembered at the most; default: 10 000. Only those are that have submitted within `per`. Beyond it, the one
   * is forgotten that has submitted least, and may begin anew.
   */
  readonly maxPrincipals?: number | undefined
}

/**
 * How much each principal has submitted, as the moment at which it will have paid for all of it, in ms. That is a token
 * bucket of `submits` tokens, one of which comes back every `per / submits`.
 */
export class Buckets {
  private readonly paidAt = new Map<string, number>()

  constructor(
    private readonly interval: number,
    private readonly window: number,
    private readonly max: number
  ) {}

  /** Tells whether anything is known of a principal. */
  knows(principal: string): boolean {
    return this.paidAt.has(principal)
  }
  /** Takes tokens for what was submitted before, at these times, in order. */
  restore(principal: string, times: ReadonlyArray<number>): void {
    let paidAt = Number.NEGATIVE_INFINITY
    for (const at of times) paidAt = Math.max(paidAt, at) + this.interval
    if (times.length > 0) this.paidAt.set(principal, paidAt)
  }
  /** Takes a token; returns how long it takes, in ms, until there is one, 0 when there was. */
  take(principal: string, now: number): number {
    const paidAt = Math.max(this.paidAt.get(principal) ?? now, now) + this.interval
    // Half a millionth of a token: what adding up intervals rounds away is no reason to refuse.
    const wait = paidAt - this.window - now
    if (wait > this.interval * 1e-6) return wait
    if (!this.paidAt.has(principal) && this.paidAt.size >= this.max) this.forget(now)
    this.paidAt.set(principal, paidAt)
    return 0
  }
  /** Makes room: of who has nothing to pay any more, else of who has the least. */
  private forget(now: number): void {
    let least: string | undefined
    let leastPaidAt = Number.POSITIVE_INFINITY
    for (const [principal, paidAt] of this.paidAt)
      if (paidAt <= now) this.paidAt.delete(principal)
      else if (paidAt < leastPaidAt) {
        least = principal
        leastPaidAt = paidAt
      }
    if (least !== undefined && this.paidAt.size >= this.max) this.paidAt.delete(least)
  }
}

/** Says that a principal has submitted as much as it may, and when it may again. */
export const tooMany = (wait: number) => later({ limit: "submits_per_principal", retryAfter: wait })

const rateLimit = Argument.options<RateLimitOptions>({
  submits: Argument.positive,
  per: Argument.positiveDuration,
  maxPrincipals: Argument.maybe(Argument.positive)
})

/**
 * Bounds how often each principal submits, in this process. The refusal says when the next submit is let in. Jobs that are
 * delegated are not counted: their number is bounded by their parent's, which was. Throws on a bad option.
 *
 * @example
 * Admission.layerRateLimit({ submits: 60, per: "1 minute" })
 */
export const layerRateLimit = (options: RateLimitOptions): Layer.Layer<Admission> => {
  Argument.check("Admission.layerRateLimit", ["options", rateLimit, options])
  const { maxPrincipals: max = 10_000, submits } = options
  const per = Duration.toMillis(options.per)
  return Layer.effect(
    Admission,
    Effect.map(Effect.clock, (clock) => {
      const buckets = new Buckets(per / submits, per, max)
      const now = monotonic(clock)
      return {
        check: ({ principal }, { parentJobId }) =>
          Effect.suspend(() => {
            const wait = parentJobId === undefined ? buckets.take(principal, now()) : 0
            return wait === 0 ? Effect.void : tooMany(wait)
          })
      }
    })
  )
}

export * from "../../services/jobs/Admission.js"
