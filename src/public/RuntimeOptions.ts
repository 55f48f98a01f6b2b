/** The options of a runtime, with their defaults. */
export { layer, layerConfig } from "../layers/runtime/RuntimeOptions.js"
export {
  type Input,
  type Options,
  RuntimeOptions,
  RuntimeOptionsSchema
} from "../services/runtime/RuntimeOptions.js"
