/** Who may see, cancel and use what. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Budget from "../../protocol/Budget.js"
import { budgetProblem, subsetProblem } from "../../protocol/Lease.js"
import type { Identity } from "../../services/auth/Auth.js"
import { Policy } from "../../services/auth/Policy.js"
import type { JobRecord } from "../../services/store/Store.js"

export interface Options {
  /**
   * Who may cancel a job that its session still owns, beside that session: nobody else (`own-session`, the default), or
   * every session of the same principal whose own agents and ceiling cover the job (`principal`).
   */
  readonly cancel?: "own-session" | "principal" | undefined
  /** Principals that may cancel every job of this runtime. They see no more than others do. */
  readonly operators?: ReadonlyArray<string> | undefined
}

/**
 * Tells whether an identity could have been given this job: its agent is one of the identity's, and its lease and budget
 * are within the identity's ceiling (§5.4, §5.6 of the protocol page). Conservative: what cannot be proved is refused.
 */
export const covers = (identity: Identity, job: JobRecord): boolean => {
  const { agents, leaseCeiling } = identity
  if (agents !== undefined && !agents.includes(job.agent.split("@")[0] as string)) return false
  if (leaseCeiling === undefined) return true
  if (subsetProblem(job.lease, leaseCeiling) !== undefined) return false
  const ceiling = Budget.parse(leaseCeiling["cost.budget"] ?? [])
  const budget = Budget.parse(job.lease["cost.budget"] ?? [])
  // A ceiling bounds a job in each of its currencies: one without a budget in it is wider.
  for (const currency of ceiling.keys()) if (!budget.has(currency)) return false
  const bounded = new Map([...budget].filter(([currency]) => ceiling.has(currency)))
  return budgetProblem(bounded, ceiling) === undefined
}

/**
 * Jobs are visible to their own principal; agents are used as the identity's claims say; jobs are cancelled as the
 * options say, and always by the session that owns them.
 *
 * @example
 * Policy.layer({ operators: ["ops"], cancel: "principal" })
 */
export const layer = ({ cancel = "own-session", operators = [] }: Options = {}): Layer.Layer<Policy> =>
  Layer.succeed(Policy, {
    listable: (identity) => Effect.succeed([identity.principal]),
    maySubscribe: (identity, job) => Effect.succeed(identity.principal === job.principal),
    mayCancel: (identity, job) =>
      Effect.sync(
        () =>
          operators.includes(identity.principal) ||
          (cancel === "principal" && identity.principal === job.principal && covers(identity, job))
      ),
    mayUseAgent: (identity, agent) =>
      Effect.succeed(identity.agents === undefined || identity.agents.includes(agent))
  })

/** The default: every job is its principal's to see, and its own session's to cancel. */
export const layerSamePrincipal: Layer.Layer<Policy> = layer()

export * from "../../services/auth/Policy.js"
