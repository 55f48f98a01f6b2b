/** Who may see, cancel and use what. */
export { layerSamePrincipal } from "../layers/auth/Policy.js"
export { Policy } from "../services/auth/Policy.js"
