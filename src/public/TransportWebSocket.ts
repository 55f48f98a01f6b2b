/** A WebSocket server, on a port of its own or at a path of your HTTP server. */
export {
  type Acceptor,
  acceptor,
  layer,
  type MountOptions,
  mount,
  type Options,
  type OptionsWithRoutes,
  protect,
  refuse,
  route,
  type UpgradePolicy,
  type UpgradeRefusal
} from "../layers/transport/TransportWebSocket.js"
export type { ServedPage } from "../layers/transport/WebSocketListener.js"
