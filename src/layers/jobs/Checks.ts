/** The checks a submit passes, in the order of §7.1. */
import type * as BigDecimal from "effect/BigDecimal"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as AgentRef from "../../protocol/AgentRef.js"
import * as Budget from "../../protocol/Budget.js"
import * as CanonicalJson from "../../protocol/CanonicalJson.js"
import {
  AgentNotAvailable,
  InternalError,
  InvalidRequest,
  type PermissionDenied
} from "../../protocol/Errors.js"
import type { Feature } from "../../protocol/Features.js"
import { excess, hasModels, type Lease, narrowing, withModelsOf } from "../../protocol/Lease.js"
import type * as Message from "../../protocol/Message.js"
import type { Identity } from "../../services/auth/Auth.js"
import { denied, type Policy } from "../../services/auth/Policy.js"
import * as Decided from "../../services/runtime/decided.js"
import { inTurns } from "../../services/runtime/inTurns.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"

/** Which features a submit needs, and what for. */
const needs = (submit: Message.Submit, ref: AgentRef.AgentRef): ReadonlyArray<readonly [Feature, string]> => [
  ...(ref.version === undefined ? [] : [["agent_versions", "payload.agent with a version"] as const]),
  ...(submit.lease_constraints?.expires_at === undefined
    ? []
    : [["lease_expires_at", "payload.lease_constraints.expires_at"] as const]),
  ...(submit.lease_request?.["cost.budget"] === undefined
    ? []
    : [["cost.budget", "payload.lease_request cost.budget"] as const]),
  ...(submit.lease_request?.["model.use"] === undefined
    ? []
    : [["model.use", "payload.lease_request model.use"] as const])
]

/** The agent reference, once everything that needs no look-up has been checked. */
export const checkShape = (
  submit: Message.Submit,
  features: ReadonlyArray<Feature>
): Effect.Effect<AgentRef.AgentRef, InvalidRequest> => {
  const ref = AgentRef.parse(submit.agent)
  if (Option.isNone(ref))
    return new InvalidRequest({ message: "payload.agent: expected name or name@version, in lower-case" })
  for (const [feature, what] of needs(submit, ref.value))
    if (!features.includes(feature))
      return new InvalidRequest({ message: `${what} needs the feature ${feature}, which was not negotiated` })
  return Effect.succeed(ref.value)
}

/** Checks that an identity may run the agent of this name; else there is none, unless the policy says why. */
export const checkAgent = (
  policy: Policy["Type"],
  identity: Identity,
  agent: string
): Effect.Effect<void, AgentNotAvailable | PermissionDenied> => {
  const decision = policy.mayUseAgent(identity, agent)
  const known = Decided.decided(decision)
  if (known?._tag === "Success" && known.value === true) return Effect.void
  return Effect.flatMap(
    decision,
    (may): Effect.Effect<void, AgentNotAvailable | PermissionDenied> =>
      may === true
        ? Effect.void
        : may === false
          ? new AgentNotAvailable({ message: "no agent of that name" })
          : denied(may)
  )
}

/** Checks the constraints of a lease that is asked for. */
export const checkConstraints = (
  constraints: Message.Submit["lease_constraints"],
  now: number
): Effect.Effect<void, InvalidRequest> =>
  constraints?.expires_at !== undefined && Date.parse(constraints.expires_at) <= now
    ? new InvalidRequest({ message: "payload.lease_constraints.expires_at: must be in the future" })
    : Effect.void

/** The parameters that make two submits with one idempotency key the same. */
export const parameters = (submit: Message.Submit, fork: unknown): Effect.Effect<string> =>
  inTurns(() =>
    CanonicalJson.stringifying([
      submit.agent,
      submit.input ?? null,
      submit.lease_request ?? null,
      submit.lease_constraints ?? null,
      submit.max_runtime_sec ?? null,
      // As it was before there were any.
      ...(fork === undefined ? [] : [fork])
    ])
  )

/** The lease of a submit: what was asked for, under the identity's ceiling (§7.1). */
export const effectiveLease = (
  requested: Lease,
  ceiling: Lease | undefined,
  options: Options
): Effect.Effect<Lease, InvalidRequest> =>
  // A ceiling may bound whoever asks for nothing: by its budget, and its models where these need no lease.
  ceiling === undefined && Object.keys(requested).length === 0
    ? Effect.succeed(nothingGranted)
    : narrowed(requested, ceiling, options)

const narrowed = (
  requested: Lease,
  ceiling: Lease | undefined,
  options: Options
): Effect.Effect<Lease, InvalidRequest> =>
  Effect.gen(function* () {
    const problem = excess(requested, options)
    if (problem !== undefined)
      return yield* new InvalidRequest({ message: `payload.lease_request: ${problem}` })
    const asked = withModelsOf(requested, ceiling, options.allowModelsWithoutLease)
    const lease = yield* inTurns(() => narrowing(asked, ceiling, options.maxLeaseSteps))
    return Either.isLeft(lease)
      ? yield* new InvalidRequest({ message: `payload.lease_request: ${lease.left}` })
      : granted(lease.right)
  })

/** Returns the refusal of what would exceed a limit. */
export const atLimit = (limit: string, max: number) =>
  new InternalError({
    message: `limit reached: at most ${max} ${limit.replaceAll("_", " ")}`,
    details: { limit }
  })

/** A lease of its own that nobody can change: not whoever asked for it, nor the handler that sees it. */
export const granted = (lease: Lease): Lease =>
  Object.freeze(
    Object.fromEntries(
      Object.entries(lease).map(([capability, patterns]) => [capability, Object.freeze([...patterns])])
    )
  )

const nothingGranted = granted({})

/** Tells whether a job with this lease may use any model, as its record says from its beginning on. */
export const anyModelIn = (lease: Lease, { allowModelsWithoutLease }: Options): true | undefined =>
  allowModelsWithoutLease && !hasModels(lease) ? true : undefined

/** Counters as they are stored: exact decimals as text. */
export const storedBudget = (
  counters: ReadonlyMap<string, BigDecimal.BigDecimal>
): Readonly<Record<string, string>> =>
  Object.fromEntries(Array.from(counters, ([currency, amount]) => [currency, Budget.format(amount)]))
