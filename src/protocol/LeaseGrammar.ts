/** The grammar of leases: capability → patterns (§9), in their wire shape. */
import * as BigDecimal from "effect/BigDecimal"
import * as Schema from "effect/Schema"
import * as Budget from "./Budget.js"
import { explains } from "./Problem.js"
import * as Target from "./Target.js"
import { byteLength } from "./Utf8.js"
import { vendorName } from "./Vendor.js"

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

const budgetEntry = /^[A-Za-z][A-Za-z0-9_-]{0,31}:(\d+)(?:\.(\d+))?$/
/** Digits of a budget before the point, and after it. */
const maxBudgetDigits = 18
/** So that a sum can be written as an entry again. */
const maxBudget = BigDecimal.make(10n ** 18n, 0)
const maxPattern = 1024
/** Patterns of one capability. */
export const maxPatterns = 1000
/** Far more than there are things to do. */
const maxCapabilities = 100

/** Capability → patterns. For `cost.budget` the patterns are `currency:amount`. */
export type Lease = Readonly<Record<string, ReadonlyArray<string>>>

const isCapability = (name: string): boolean => reserved.some((one) => one === name) || vendorName.test(name)

const invalidBudget = (entry: string): string | undefined => {
  const match = budgetEntry.exec(entry)
  if (match === null) return `cost.budget entries must look like "USD:5.00"`
  const [, whole = "", fraction = ""] = match
  return Math.max(whole.length, fraction.length) > maxBudgetDigits
    ? `cost.budget amounts must have at most ${maxBudgetDigits} digits before the point, and after it`
    : undefined
}

/** Why a value is not a lease, or `undefined` when it is one. Never repeats the value itself. */
export const invalidLease = (value: unknown): string | undefined => {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return "must be an object"
  if (Object.keys(value).length > maxCapabilities) return `must have at most ${maxCapabilities} capabilities`
  for (const [capability, patterns] of Object.entries(value)) {
    if (!isCapability(capability))
      return `names an unknown capability; use one of ${reserved.join(", ")} or x-vendor.<vendor>.<name>`
    if (!Array.isArray(patterns) || patterns.length > maxPatterns)
      return `${capability} must be an array of at most ${maxPatterns} patterns`
    for (const pattern of patterns) {
      if (typeof pattern !== "string" || pattern.length === 0 || pattern.length > maxPattern)
        return `${capability} must hold strings of 1 to ${maxPattern} characters`
      if (Target.isUnclean(pattern))
        return `${capability} must hold well-formed Unicode without control characters`
      const problem = capability === "cost.budget" ? invalidBudget(pattern) : undefined
      if (problem !== undefined) return problem
    }
    if (capability === "cost.budget")
      for (const amount of Budget.parse(patterns).values())
        if (BigDecimal.greaterThanOrEqualTo(amount, maxBudget))
          return "cost.budget must stay below 10^18 in each currency"
  }
  return undefined
}

export const Lease: Schema.Schema<Lease> = Schema.declare(
  (value): value is Lease => invalidLease(value) === undefined,
  {
    identifier: "Lease",
    description: "a lease: capability → patterns",
    arbitrary: () => (fc) => fc.constantFrom({}, { "fs.read": ["/src/**"], "cost.budget": ["USD:5.00"] }),
    [explains]: invalidLease
  }
)

/** RFC 3339 in UTC with a `Z`. */
export const isUtcTimestamp = (text: string): boolean => {
  if (!/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?Z$/.test(text)) return false
  const ms = Date.parse(text)
  // `Date.parse` takes 30 February for 1 March.
  return !Number.isNaN(ms) && new Date(ms).toISOString().startsWith(text.slice(0, 19))
}

/** A time in UTC as text. */
export const UtcTimestamp = Schema.String.pipe(
  Schema.filter(isUtcTimestamp, {
    description: "an RFC 3339 timestamp in UTC, ending in Z",
    arbitrary: () => (fc) =>
      fc.date({ noInvalidDate: true, min: new Date(0) }).map((date) => date.toISOString())
  })
)

/** What bounds a whole lease: when it ends. */
export const LeaseConstraints = Schema.Struct({ expires_at: Schema.optional(UtcTimestamp) })
export interface LeaseConstraints extends Schema.Schema.Type<typeof LeaseConstraints> {}

/** How large a lease may be in a runtime: patterns of all capabilities together, and UTF-8 bytes with their names. */
export interface LeaseLimits {
  readonly maxLeasePatterns: number
  readonly maxLeaseBytes: number
}

/** Names the limit that a lease exceeds; `undefined` when it keeps to all of them. */
export const excess = (lease: Lease, limits: LeaseLimits): string | undefined => {
  let count = 0
  let bytes = 0
  for (const [capability, patterns] of Object.entries(lease)) {
    count += patterns.length
    bytes += byteLength(capability)
    for (const pattern of patterns) bytes += byteLength(pattern)
  }
  if (count > limits.maxLeasePatterns)
    return `has ${count} patterns, of at most ${limits.maxLeasePatterns} (maxLeasePatterns)`
  if (bytes > limits.maxLeaseBytes)
    return `has ${bytes} bytes, of at most ${limits.maxLeaseBytes} (maxLeaseBytes)`
  return undefined
}
