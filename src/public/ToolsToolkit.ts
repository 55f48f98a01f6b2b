/** Tools out of an `@effect/ai` toolkit. */
export { make } from "../layers/agents/ToolsToolkit.js"
