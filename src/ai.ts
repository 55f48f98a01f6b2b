/** Language models under a lease, over `@effect/ai`. */

export * as ToolsToolkit from "./layers/agents/ToolsToolkit.js"
export * as LeasedLanguageModel from "./layers/lease/LeasedLanguageModel.js"
