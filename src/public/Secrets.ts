/** Where secrets come from: random bits of the platform. */
export { layer } from "../layers/runtime/Secrets.js"
export { Secrets } from "../services/runtime/Secrets.js"
