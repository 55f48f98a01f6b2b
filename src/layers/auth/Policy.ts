/** Who may see what. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Policy } from "../../services/auth/Policy.js"

/** The default: jobs are visible to their own principal and cancelled by their own session; agents as the identity's claims say. */
export const layerSamePrincipal: Layer.Layer<Policy> = Layer.succeed(Policy, {
  listable: (identity) => Effect.succeed([identity.principal]),
  maySubscribe: (identity, job) => Effect.succeed(identity.principal === job.principal),
  mayCancel: (_identity, _job, owner) => Effect.succeed(owner),
  mayUseAgent: (identity, agent) =>
    Effect.succeed(identity.agents === undefined || identity.agents.includes(agent))
})

export * from "../../services/auth/Policy.js"
