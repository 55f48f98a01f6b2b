/** Who may connect, and with what authority (§6.1). */
export { fromToken, layerConfig, layerDev, layerStatic, type TokenVerifier } from "../layers/auth/Auth.js"
export {
  behindProxy,
  cookie,
  fromPeer,
  header,
  type PeerJudge,
  type ProxyOptions,
  withPeer
} from "../layers/auth/AuthPeer.js"
export { Auth, type AuthRequest, type Identity } from "../services/auth/Auth.js"
