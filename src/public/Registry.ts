/** The agents of a runtime, and what they need. */
export { AgentRegistrationError, layer, Registry, type Requirements } from "../layers/agents/Registry.js"
export type { AgentRef } from "../protocol/AgentRef.js"
