/** Connects over `ws`. */
export { layer, type Options } from "../layers/transport/DialerWebSocket.js"
