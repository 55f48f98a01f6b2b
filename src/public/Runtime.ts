/** The runtime in one line: agents and who may use them go in, and a transport. */
export type { Only, OnlyIn } from "../layers/runtime/Parts.js"
export {
  type EventLogLayer,
  type Failures,
  type JobsLayer,
  layer,
  layerMemory,
  type Parts,
  type Requirements,
  type Services,
  type StartError,
  serve,
  serveAll
} from "../layers/runtime/Runtime.js"
