import type { Family } from "../../src/services/runtime/Metrics.js"

/** Returns what a counter or gauge says now, and of a histogram how much it has been given. */
export const measured = (family: Family, ...labels: ReadonlyArray<string>): number => {
  const state = family.of(...labels).unsafeValue([])
  return "value" in state ? state.value : state.count
}
