/** A WebSocket server, on a port of its own or in your HTTP server. */
export {
  layer,
  layerMounted,
  type MountedOptions,
  type Options,
  protect,
  route,
  WebSocketUpgrade
} from "../layers/transport/TransportWebSocket.js"
