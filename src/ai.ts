/** Language models under a lease, over `@effect/ai`. */

export * as LeasedLanguageModel from "./public/LeasedLanguageModel.js"
export * as ToolsToolkit from "./public/ToolsToolkit.js"
