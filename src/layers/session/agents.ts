/** Which agents an identity may use, for a welcome and for whoever asks without a session. */
import * as Effect from "effect/Effect"
import type { Registry } from "../../services/agents/Registry.js"
import type { Identity } from "../../services/auth/Auth.js"
import type { Policy } from "../../services/auth/Policy.js"
import type { Sessions } from "../../services/session/Sessions.js"

/** What tells which agents may be used. */
export interface AgentServices {
  readonly registry: Registry["Type"]
  readonly policy: Policy["Type"]
}

/** Returns the entries of the agents that an identity may use. */
export const usable = ({ policy, registry }: AgentServices, identity: Identity) =>
  Effect.filter(registry.inventory, ({ name }) =>
    Effect.map(policy.mayUseAgent(identity, name), (allowed) => allowed === true)
  )

/** Makes what tells which agents may be used, with their schemas, as they are when it is asked: a registry may change. */
export const make =
  (services: AgentServices): Sessions["Type"]["agents"] =>
  (identity) =>
    Effect.suspend(() => {
      // Of the same agents as the entries are, whatever comes while the policy decides.
      const { described } = services.registry
      return Effect.map(usable(services, identity), (entries) =>
        entries.map((entry) => ({
          ...entry,
          versions: entry.versions.map((version) => ({
            version,
            about: described.get(entry.name)?.[version] ?? {}
          }))
        }))
      )
    })
