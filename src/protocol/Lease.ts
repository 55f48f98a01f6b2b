/**
 * Leases: capability → patterns (§9). Their grammar, what they permit, and how they narrow; the wire shape is used
 * as it is.
 */
import * as BigDecimal from "effect/BigDecimal"
import * as Either from "effect/Either"
import * as Schema from "effect/Schema"
import * as Budget from "./Budget.js"
import * as Pattern from "./Pattern.js"
import { explains } from "./Problem.js"
import * as Target from "./Target.js"
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

const budgetEntry = /^[A-Za-z][A-Za-z0-9_-]{0,31}:\d{1,18}(?:\.\d{1,18})?$/
/** So that a sum can be written as an entry again. */
const maxBudget = BigDecimal.make(10n ** 18n, 0)
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
      if (Target.isUnclean(pattern))
        return `${capability} must hold well-formed Unicode without control characters`
      if (capability === "cost.budget" && !budgetEntry.test(pattern))
        return `cost.budget entries must look like "USD:5.00"`
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

export const UtcTimestamp = Schema.String.pipe(
  Schema.filter(isUtcTimestamp, {
    description: "an RFC 3339 timestamp in UTC, ending in Z",
    arbitrary: () => (fc) =>
      fc.date({ noInvalidDate: true, min: new Date(0) }).map((date) => date.toISOString())
  })
)

export const LeaseConstraints = Schema.Struct({ expires_at: Schema.optional(UtcTimestamp) })
export interface LeaseConstraints extends Schema.Schema.Type<typeof LeaseConstraints> {}

/** A lease ready to be asked. */
export interface Compiled {
  readonly lease: Lease
  /** Right: the canonical target. Left: why not, as a sentence that says what to do. Never repeats the target. */
  readonly permits: (capability: string, target: string) => Either.Either<string, string>
  /** Does a `net.fetch` pattern that matches this URL name its host without a wildcard? */
  readonly namesHost: (url: string) => boolean
  /** Is the capability in the lease, with or without patterns? */
  readonly has: (capability: string) => boolean
}

const compiled = (capability: string, patterns: ReadonlyArray<string>): ReadonlyArray<Pattern.Pattern> => {
  const kind = Target.kindOf(capability)
  return Array.from(new Set(patterns), (pattern) => Pattern.compile(kind, pattern))
}

/**
 * Steps for one decision and for one comparison of leases, some ten milliseconds and some hundred: far beyond what
 * honest leases take, so that nobody can stop the process with patterns that are made to be slow.
 */
const maxDeciding = 1_000_000
const maxComparing = 10_000_000

const tooIntricate = (effort: Pattern.Effort): string =>
  effort.left < 0 ? " (the patterns take too long to compare: use fewer ** and *)" : ""

/** Decisions remembered per lease, and the longest target among them: at most some 700 KB. */
const maxRemembered = 1024
const maxRememberedTarget = 256

export const compile = (lease: Lease): Compiled => {
  const patterns = new Map<string, ReadonlyArray<Pattern.Pattern>>()
  for (const [capability, sources] of Object.entries(lease)) {
    if (capability === "cost.budget") continue
    patterns.set(capability, compiled(capability, sources))
  }

  const decide = (capability: string, target: string): Either.Either<string, string> => {
    const mine = patterns.get(capability)
    if (mine === undefined || mine.length === 0)
      return Either.left(
        `the lease has no ${capability.slice(0, 100)}; request it with patterns for what it is needed for`
      )
    const kind = Target.kindOf(capability)
    const canonical = Target.canonical(kind, target)
    if (Either.isLeft(canonical)) return Either.left(`the ${kind} cannot be used because ${canonical.left}`)
    const effort = { left: maxDeciding }
    if (mine.some((pattern) => pattern.matches(canonical.right, effort))) return canonical
    const dead = mine.find((pattern) => pattern.canonical === undefined)
    return Either.left(
      `no ${capability} pattern of the lease covers this ${kind}; request one that does${
        dead === undefined ? "" : ` (${shown(dead.source)} can match nothing: ${howToWrite[kind]})`
      }${tooIntricate(effort)}`
    )
  }

  const remembered = new Map<string, Map<string, Either.Either<string, string>>>()
  let size = 0
  const remember = (capability: string, target: string, decision: Either.Either<string, string>) => {
    if (!patterns.has(capability) || target.length > maxRememberedTarget) return
    if (size >= maxRemembered) {
      remembered.clear()
      size = 0
    }
    const decisions = remembered.get(capability) ?? new Map<string, Either.Either<string, string>>()
    remembered.set(capability, decisions.set(target, decision))
    size++
  }

  return {
    lease,
    permits: (capability, target) => {
      const known = remembered.get(capability)?.get(target)
      if (known !== undefined) return known
      const decision = decide(capability, target)
      remember(capability, target, decision)
      return decision
    },
    namesHost: (url) => {
      const canonical = Target.canonical("url", url)
      return (
        Either.isRight(canonical) &&
        (patterns.get("net.fetch") ?? []).some(
          (pattern) => pattern.literalHost && pattern.matches(canonical.right)
        )
      )
    },
    has: (capability) => patterns.has(capability)
  }
}

/** Why one of the patterns can match nothing; `undefined` when each can match something. */
export const deadPattern = (lease: Lease): string | undefined => {
  for (const [capability, sources] of Object.entries(lease)) {
    if (capability === "cost.budget") continue
    const kind = Target.kindOf(capability)
    const dead = sources.find((source) => Pattern.compile(kind, source).canonical === undefined)
    if (dead !== undefined) return `${capability} ${shown(dead)} can match nothing: ${howToWrite[kind]}`
  }
  return undefined
}

const howToWrite: Readonly<Record<Target.TargetKind, string>> = {
  path: "path patterns start with / or **",
  url: "URL patterns look like https://host/path",
  name: "patterns are text without control characters"
}

/** A pattern as a message may show it. */
const shown = (pattern: string): string => JSON.stringify(pattern.slice(0, 100))

/** The patterns for a capability; a name that only the prototype has is not one. */
const patternsOf = (lease: Lease, capability: string): ReadonlyArray<string> =>
  (Object.hasOwn(lease, capability) ? lease[capability] : undefined) ?? []

/**
 * Why `child` is not a subset of `parent`, `undefined` when it is: each of its patterns covered by one pattern of the
 * parent's (§9.4). Budgets are compared apart, with what is left of the parent's.
 */
export const subsetProblem = (child: Lease, parent: Lease): string | undefined => {
  const effort = { left: maxComparing }
  for (const [capability, patterns] of Object.entries(child)) {
    if (capability === "cost.budget") continue
    const allowed = compiled(capability, patternsOf(parent, capability))
    for (const pattern of compiled(capability, patterns))
      if (!allowed.some((by) => Pattern.includes(by, pattern, effort)))
        return `${capability.slice(0, 100)} ${shown(pattern.source)} is not covered by a pattern of the delegating job's lease; ask for one that is${tooIntricate(effort)}`
  }
  return undefined
}

/** Why a child may not have this budget beside what its parent has left, `undefined` when it may. */
export const budgetProblem = (child: Budget.Budget, remaining: Budget.Budget): string | undefined => {
  // A parent without a budget is not limited, and any budget is narrower than none.
  if (remaining.size === 0) return undefined
  for (const [currency, amount] of child) {
    const left = remaining.get(currency)
    if (left === undefined)
      return `cost.budget: the delegating job has no ${currency}; ask for a currency it has, ${[...remaining.keys()].slice(0, 5).join(", ")}`
    if (BigDecimal.greaterThan(amount, left))
      return `cost.budget: ${Budget.format(amount)} ${currency} is more than the ${Budget.format(left)} that the delegating job has left; ask for less`
  }
  return undefined
}

/**
 * What remains of a requested lease under an identity's ceiling: never more than either. A budget restricts, so the
 * ceiling's is added to a request without one.
 */
export const reduce = (requested: Lease, ceiling: Lease | undefined): Lease => {
  if (ceiling === undefined) return requested
  const effort = { left: maxComparing }
  const reduced = Object.entries(requested)
    .filter(([capability]) => capability !== "cost.budget")
    .map(([capability, patterns]): [string, ReadonlyArray<string>] => {
      const allowed = compiled(capability, patternsOf(ceiling, capability))
      const kept = compiled(capability, patterns).flatMap((pattern) =>
        allowed.some((by) => Pattern.includes(by, pattern, effort))
          ? [pattern]
          : allowed.filter((narrower) => Pattern.includes(pattern, narrower, effort))
      )
      // Patterns of both can together be more than a lease may have: to leave some out is to narrow.
      const different = new Set(kept.map((pattern) => pattern.source))
      return [capability, [...different].slice(0, maxPatterns)]
    })
  const asked = patternsOf(requested, "cost.budget")
  const budget = new Map(Budget.parse(asked))
  let narrowed = false
  for (const [currency, limit] of Budget.parse(patternsOf(ceiling, "cost.budget"))) {
    const wanted = budget.get(currency)
    if (wanted !== undefined && BigDecimal.lessThanOrEqualTo(wanted, limit)) continue
    budget.set(currency, limit)
    narrowed = true
  }
  if (budget.size > 0) reduced.push(["cost.budget", narrowed ? Budget.entries(budget) : asked])
  return Object.fromEntries(reduced)
}
