/**
 * The commands that talk to a runtime, together: they need the same, and in one piece that is loaded sooner than in the many
 * that what some of them share would fall into.
 */
export * as agents from "./agents.js"
export * as answer from "./answer.js"
export * as cancel from "./cancel.js"
export * as fork from "./fork.js"
export * as jobs from "./jobs.js"
export * as retry from "./retry.js"
export * as submit from "./submit.js"
export * as watch from "./watch.js"
