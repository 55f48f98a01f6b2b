/** What a lease has refused, as an error says it: beside its message, which never repeats the target (§9.3). */
import { membersOf } from "./Json.js"

export interface Refusal {
  readonly capability: string
  readonly target: string
}

/** Returns what the details of an error name as refused; `undefined` when they do not. Both are texts of others. */
export const refusalIn = (details: unknown): Refusal | undefined => {
  const { capability, target } = membersOf(details)
  return typeof capability === "string" && typeof target === "string" ? { capability, target } : undefined
}
