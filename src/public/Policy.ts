/** Who may see, cancel and use what. */
export { layer, layerSamePrincipal, type Options } from "../layers/auth/Policy.js"
export { type Decision, Policy, type Refusal, refuse } from "../services/auth/Policy.js"
