/** Whether a job may begin now: rate limits, quotas, maintenance. What it may do is its lease's and the policy's matter. */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import { type ArcpError, InternalError } from "../../protocol/Errors.js"
import type { Lease, LeaseConstraints } from "../../protocol/Lease.js"
import type { Identity } from "../auth/Auth.js"

/** A job that has passed every other check, and is about to be opened. */
export interface Submit {
  /** `name@version` */
  readonly agent: string
  /** As it came, before the agent's contract decoded it. */
  readonly input: unknown
  /** As it will be granted. */
  readonly lease: Lease
  readonly leaseConstraints: LeaseConstraints
  readonly maxRuntimeSec: number | undefined
  readonly idempotencyKey: string | undefined
  readonly sessionId: string
  readonly traceId: string
  /** The job that delegates; `undefined` for one that a client submits. */
  readonly parentJobId: string | undefined
}

/**
 * Decides whether a job is opened. It is asked once for each, after everything that can be said of the submit by itself,
 * and before anything is reserved, minted or stored for it; what it lets in can still be refused by a limit of the
 * runtime. A submit that is answered with a job there is already, because its frame or its key was sent before, is not
 * asked about.
 *
 * Delegated jobs are asked about too, with the identity of the session that owns their parent: an admission that counts
 * must be able to see all that a principal starts. One that is refused is a `tool_result` on its parent, and a typed
 * failure of `delegate`.
 *
 * The refusal goes to the client as it is. A defect is `INTERNAL_ERROR`, and is logged whole. A session's submits are
 * decided in their order, so whatever asks elsewhere should have a time-out.
 */
export class Admission extends Context.Tag("arcp/services/Admission")<
  Admission,
  {
    /** Fails with what the client is told; `later` makes an error that says when to come again. */
    readonly check: (identity: Identity, submit: Submit) => Effect.Effect<void, ArcpError>
  }
>() {}

/**
 * Makes the refusal of what may be submitted again later: `INTERNAL_ERROR`, which is retryable (§12), with
 * `details.limit`, the name of what is exhausted, and `details.retry_after`, in seconds.
 *
 * @example
 * Admission.later({ limit: "maintenance", retryAfter: "5 minutes", message: "back at noon" })
 */
export const later = (refusal: {
  readonly limit: string
  readonly retryAfter: Duration.DurationInput
  readonly message?: string | undefined
}): InternalError => {
  const retryAfter = Math.ceil(Duration.toMillis(refusal.retryAfter)) / 1000
  return new InternalError({
    message: refusal.message ?? `limit reached: ${refusal.limit}; submit again in ${retryAfter} s`,
    details: { limit: refusal.limit, retry_after: retryAfter }
  })
}
