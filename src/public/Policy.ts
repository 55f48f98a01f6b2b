/** Who may see, cancel and use what. */
export { layer, layerSamePrincipal, type Options } from "../layers/auth/Policy.js"
export { Policy } from "../services/auth/Policy.js"
