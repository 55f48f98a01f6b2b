/** Runtime and client in one process, without a socket. */
export { layer } from "../layers/transport/TransportMemory.js"
