/** Connects over the WebSocket that the platform has: browsers, Deno, Bun, Node 22. */
export { layer, type Options } from "../layers/transport/DialerWebSocketGlobal.js"
