/** A runtime that is somebody's child, on stdin and stdout. */
export { layer, type Options } from "../layers/transport/TransportStdio.js"
