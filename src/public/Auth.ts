/** Who may connect, and with what authority (§6.1). */
export { layerConfig, layerDev, layerStatic } from "../layers/auth/Auth.js"
export { Auth, type Identity } from "../services/auth/Auth.js"
