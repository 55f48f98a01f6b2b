/** Leases: their grammar, what they permit, and how they compare and narrow. */
export * from "./LeaseDecision.js"
export * from "./LeaseGrammar.js"
export * from "./LeaseNarrowing.js"
