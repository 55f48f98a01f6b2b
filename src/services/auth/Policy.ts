/** Who may do what with agents and jobs (§6.6, §7.4, §7.6). The default is: the same principal, nobody else. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Budget from "../../protocol/Budget.js"
import { PermissionDenied } from "../../protocol/Errors.js"
import { budgetProblem, comparing, hasModels, type Lease } from "../../protocol/Lease.js"
import { inTurns } from "../runtime/inTurns.js"
import type { JobRecord } from "../store/Store.js"
import type { Identity } from "./Auth.js"

/** Why something is refused, in words for the client. */
export interface Refusal {
  readonly reason: string
}

/**
 * Whether something is allowed. A refusal with a reason is told to the client as `PERMISSION_DENIED`, except where the
 * answer must be the same as for what there is not: of a job that the identity may not list it hears `JOB_NOT_FOUND`
 * whatever the reason.
 */
export type Decision = boolean | Refusal

/** Refuses, and says why. */
export const refuse = (reason: string): Refusal => ({ reason })

/** Returns principals that an identity has to do with, or `"everyone"`. */
type WhosePrincipals = (identity: Identity) => Effect.Effect<ReadonlyArray<string> | "everyone">

/** Decides who may list, watch and cancel jobs, and run agents (§6.6, §7.4, §7.6). */
export class Policy extends Context.Tag("arcp/services/Policy")<
  Policy,
  {
    /** Returns the principals whose jobs this identity may list, or `"everyone"`. */
    readonly listable: (identity: Identity) => Effect.Effect<ReadonlyArray<string> | "everyone">
    /** Tells whether this identity may receive the events of a job. */
    readonly maySubscribe: (identity: Identity, job: JobRecord) => Effect.Effect<Decision>
    /**
     * Tells whether this identity may cancel a job that its session does not own. The owning session always may; so may, when that no
     * longer exists, any session of the same principal whose own agents and ceiling cover the job.
     */
    readonly mayCancel: (identity: Identity, job: JobRecord) => Effect.Effect<Decision>
    /**
     * Tells whether this identity may answer what a job asks (§12.2 of the protocol page). Nobody else may, its own session
     * included: a resume may have narrowed that.
     */
    readonly mayAnswer: (identity: Identity, job: JobRecord) => Effect.Effect<Decision>
    /**
     * Returns the principals whose jobs and sessions this identity may have deleted for good, or `"everyone"`; it need not be
     * one who may list them. Nobody's when it is left out.
     */
    readonly deletable?: WhosePrincipals | undefined
    /**
     * Tells whether this identity may run, and see in the inventory, the agent of this name; it is asked whether or not
     * there is one. Without a reason, the client hears that there is none.
     */
    readonly mayUseAgent: (identity: Identity, agent: string) => Effect.Effect<Decision>
  }
>() {}

/** Returns the refusal of something that is not allowed, in the policy's words if it gave any. */
export const denied = (decision: Decision, otherwise = "this is not allowed"): PermissionDenied =>
  new PermissionDenied({ message: typeof decision === "object" ? decision.reason : otherwise })

/** Tells whether what a job may spend, of its own budget and of those above it, is within a ceiling. */
const isAffordable = ({ budgetAbove = [], lease }: JobRecord, leaseCeiling: Lease): boolean => {
  const ceiling = Budget.parse(leaseCeiling["cost.budget"] ?? [])
  const budget = Budget.least([Budget.parse(lease["cost.budget"] ?? []), Budget.parse(budgetAbove)])
  // A ceiling bounds a job in each of its currencies: one without a budget in it is wider.
  for (const currency of ceiling.keys()) if (!budget.has(currency)) return false
  const bounded = new Map([...budget].filter(([currency]) => ceiling.has(currency)))
  return budgetProblem(bounded, ceiling) === undefined
}

/** What has been found of the patterns of leases, by the ceiling that they were compared with: the same is asked again and again. */
const found = new WeakMap<Lease, { readonly text: string; readonly within: WeakMap<Lease, boolean> }>()

/** Returns what has been found of leases under this ceiling, which whoever made it may have changed since. */
const foundUnder = (ceiling: Lease): WeakMap<Lease, boolean> => {
  const text = JSON.stringify(ceiling)
  const known = found.get(ceiling)
  if (known?.text === text) return known.within
  const within = new WeakMap<Lease, boolean>()
  found.set(ceiling, { text, within })
  return within
}

/**
 * Tells whether an identity could have been given this job: its agent is one of the identity's, and its lease and budget
 * are within the identity's ceiling (§5.4, §5.6 of the protocol page). Conservative: what cannot be proved is refused. Leases
 * are compared part by part, with turns of the event loop in between.
 */
export const coversJob = (identity: Identity, job: JobRecord): Effect.Effect<boolean> =>
  Effect.suspend(() => {
    const { agents, leaseCeiling } = identity
    const { agent, anyModel, lease } = job
    const [name = ""] = agent.split("@")
    if (agents !== undefined && !agents.includes(name)) return no
    if (leaseCeiling === undefined) return yes
    if (anyModel === true && hasModels(leaseCeiling)) return no
    if (!isAffordable(job, leaseCeiling)) return no
    const within = foundUnder(leaseCeiling)
    const known = within.get(lease)
    if (known !== undefined) return known ? yes : no
    return Effect.tap(
      Effect.map(
        inTurns(() => comparing(lease, leaseCeiling)),
        (problem) => problem === undefined
      ),
      (isCovered) => Effect.sync(() => within.set(lease, isCovered))
    )
  })

const yes = Effect.succeed(true)
const no = Effect.succeed(false)
