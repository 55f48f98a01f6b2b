/** Language models under a lease, over `@effect/ai`. */
export * as LeasedLanguageModel from "./layers/LeasedLanguageModel.js"
export * as ToolsToolkit from "./layers/ToolsToolkit.js"
