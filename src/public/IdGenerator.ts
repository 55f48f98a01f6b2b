/** Ids of messages, sessions and jobs, sorted by time. */
export { layer } from "../layers/runtime/IdGenerator.js"
export { IdGenerator } from "../services/runtime/IdGenerator.js"
