/** The runtime in one line: agents and who may use them go in, and a transport. */
export { layer, layerCore, layerMemory, type Parts, serve, serveAll } from "../layers/runtime/Runtime.js"
