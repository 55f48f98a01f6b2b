/**
 * Leases: capability → patterns (§9). This module knows their shape and the grammar of budgets and
 * constraints; the wire shape is used as it is.
 */
import * as Schema from "effect/Schema"

/** Capabilities the protocol reserves; any other must be `x-vendor.<vendor>.<name>`. */
export const reserved = [
  "fs.read",
  "fs.write",
  "net.fetch",
  "tool.call",
  "agent.delegate",
  "model.use",
  "cost.budget"
] as const

/** `x-vendor.<vendor>.<name>`, as event kinds, message types and capabilities use it. */
export const vendorName = /^x-vendor\.[A-Za-z0-9_-]+\.[A-Za-z0-9._-]+$/
const budgetEntry = /^[A-Za-z][A-Za-z0-9_-]{0,31}:\d{1,18}(?:\.\d{1,18})?$/
const maxPattern = 1024
const maxPatterns = 1000

/** Capability → patterns. For `cost.budget` the patterns are `currency:amount`. */
export type Lease = Readonly<Record<string, ReadonlyArray<string>>>

const isCapability = (name: string): boolean =>
  (reserved as ReadonlyArray<string>).includes(name) || vendorName.test(name)

/** Why a value is not a lease, or `undefined` when it is one. Never repeats the value itself. */
export const invalidLease = (value: unknown): string | undefined => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return "must be an object"
  for (const [capability, patterns] of Object.entries(value)) {
    if (!isCapability(capability))
      return `names an unknown capability; use one of ${reserved.join(", ")} or x-vendor.<vendor>.<name>`
    if (!Array.isArray(patterns) || patterns.length > maxPatterns)
      return `${capability} must be an array of at most ${maxPatterns} patterns`
    for (const pattern of patterns) {
      if (typeof pattern !== "string" || pattern.length === 0 || pattern.length > maxPattern)
        return `${capability} must hold strings of 1 to ${maxPattern} characters`
      if (capability === "cost.budget" && !budgetEntry.test(pattern))
        return `cost.budget entries must look like "USD:5.00"`
    }
  }
  return undefined
}

export const Lease: Schema.Schema<Lease> = Schema.declare(
  (value): value is Lease => invalidLease(value) === undefined,
  { identifier: "Lease", description: "a lease: capability → patterns" }
)

/** RFC 3339 in UTC with a `Z`. */
export const isUtcTimestamp = (text: string): boolean => {
  if (!/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?Z$/.test(text)) return false
  const ms = Date.parse(text)
  // `Date.parse` takes 30 February for 1 March.
  return !Number.isNaN(ms) && new Date(ms).toISOString().startsWith(text.slice(0, 19))
}

export const UtcTimestamp = Schema.String.pipe(
  Schema.filter(isUtcTimestamp, { description: "an RFC 3339 timestamp in UTC, ending in Z" })
)

export const LeaseConstraints = Schema.Struct({ expires_at: Schema.optional(UtcTimestamp) })
export interface LeaseConstraints extends Schema.Schema.Type<typeof LeaseConstraints> {}

/**
 * Is every target of `pattern` a target of `by`? Conservative: equal patterns, and whole subtrees
 * (`prefix/**`); whatever else might be covered is not.
 */
export const covers = (by: string, pattern: string): boolean => {
  if (by === pattern || by === "**") return true
  if (!by.endsWith("/**")) return false
  const prefix = by.slice(0, -2)
  const climbs = pattern.split("/").some((segment) => segment === ".." || segment === ".")
  return !prefix.includes("*") && !climbs && pattern.startsWith(prefix)
}

/** What remains of a requested lease under an identity's ceiling: never more than either. */
export const reduce = (requested: Lease, ceiling: Lease | undefined): Lease => {
  if (ceiling === undefined) return requested
  const reduced: Record<string, ReadonlyArray<string>> = {}
  for (const [capability, patterns] of Object.entries(requested)) {
    const allowed = Object.hasOwn(ceiling, capability) ? (ceiling[capability] ?? []) : []
    reduced[capability] = patterns.filter((pattern) => allowed.some((by) => covers(by, pattern)))
  }
  return reduced
}
