/** Ids of messages, sessions and jobs, sorted by time. */
export { layer } from "../layers/runtime/IdGenerator.js"
export type { IdPrefix } from "../protocol/Ids.js"
export { IdGenerator } from "../services/runtime/IdGenerator.js"
