/**
 * How leases compare and narrow: a delegated lease is a subset of its parent's (§9.4), a granted one is under the
 * identity's ceiling. Both are done in parts, so that no lease, whatever is in it, holds the process for more than a
 * few milliseconds.
 */
import * as BigDecimal from "effect/BigDecimal"
import * as Either from "effect/Either"
import * as Budget from "./Budget.js"
import { shown, tooIntricate } from "./LeaseDecision.js"
import { type Lease, maxPatterns } from "./LeaseGrammar.js"
import * as Pattern from "./Pattern.js"
import { finish, type Steps, stepsPerPart } from "./Steps.js"
import * as Target from "./Target.js"
import { cut } from "./Text.js"

/** Steps for one comparison of leases, some hundred milliseconds: far beyond what honest leases take. */
export const defaultMaxSteps = 2_000_000

/** Steps for one comparison of two patterns, which is not cut into parts. */
const maxStepsOfPair = 50_000

/** What comparing has cost so far. */
class ComparisonCost {
  private left: number
  private untilPause = stepsPerPart
  /** Set, to the limit that was exceeded, when it was too much; nothing is proven any more then. */
  exceeded: string | undefined

  constructor(readonly maxSteps: number) {
    this.left = maxSteps
  }

  /** Counts steps. Returns whether it is time for a pause. */
  private spend(steps: number): boolean {
    this.left -= steps
    if (this.left < 0) this.exceeded ??= `${this.maxSteps} steps (maxLeaseSteps)`
    this.untilPause -= steps
    if (this.untilPause > 0) return false
    this.untilPause = stepsPerPart
    return true
  }

  *compile(capability: string, sources: ReadonlyArray<string>): Steps<ReadonlyArray<Pattern.Pattern>> {
    const kind = Target.kindOf(capability)
    const compiled: Array<Pattern.Pattern> = []
    for (const source of new Set(sources)) {
      compiled.push(Pattern.compile(kind, source))
      if (this.spend(1 + source.length / 2)) yield
    }
    return compiled
  }

  /** `Pattern.includes`; `false` also when it was too much. */
  *includes(by: Pattern.Pattern, pattern: Pattern.Pattern): Steps<boolean> {
    if (this.exceeded !== undefined) return false
    const limit = Math.min(this.left, maxStepsOfPair)
    const effort = { left: limit }
    const included = Pattern.includes(by, pattern, effort)
    const pause = this.spend(limit - effort.left)
    if (effort.left < 0) this.exceeded ??= `${maxStepsOfPair} steps for one pair of patterns`
    if (pause) yield
    return included
  }

  *someIncludes(allowed: ReadonlyArray<Pattern.Pattern>, pattern: Pattern.Pattern): Steps<boolean> {
    for (const by of allowed) {
      if (this.exceeded !== undefined) return false
      if (yield* this.includes(by, pattern)) return true
    }
    return false
  }

  *included(
    pattern: Pattern.Pattern,
    among: ReadonlyArray<Pattern.Pattern>
  ): Steps<ReadonlyArray<Pattern.Pattern>> {
    const found: Array<Pattern.Pattern> = []
    for (const narrower of among) {
      if (this.exceeded !== undefined) break
      if (yield* this.includes(pattern, narrower)) found.push(narrower)
    }
    return found
  }
}

/** Patterns of a ceiling are compiled once, for as long as somebody has them. */
const ceilings = new WeakMap<ReadonlyArray<string>, CompiledOnce>()

interface CompiledOnce {
  readonly kind: Target.TargetKind
  readonly sources: ReadonlyArray<string>
  readonly patterns: ReadonlyArray<Pattern.Pattern>
}

function* compiledOnce(
  work: ComparisonCost,
  capability: string,
  sources: ReadonlyArray<string>
): Steps<ReadonlyArray<Pattern.Pattern>> {
  const kind = Target.kindOf(capability)
  const known = ceilings.get(sources)
  // Whoever made the ceiling may have changed it.
  const same = known?.kind === kind && known.sources.length === sources.length
  if (same && sources.every((source, i) => source === known.sources[i])) return known.patterns
  const patterns = yield* work.compile(capability, sources)
  ceilings.set(sources, { kind, sources: [...sources], patterns })
  return patterns
}

/** The patterns for a capability; a name that only the prototype has is not one. */
const patternsOf = (lease: Lease, capability: string): ReadonlyArray<string> =>
  (Object.hasOwn(lease, capability) ? lease[capability] : undefined) ?? []

/**
 * Says why `child` is not a subset of `parent`, `undefined` when it is: each of its patterns covered by one pattern of
 * the parent's (§9.4). Budgets are compared apart, with what is left of the parent's. If in doubt, it is not.
 */
export function* comparing(
  child: Lease,
  parent: Lease,
  maxSteps = defaultMaxSteps,
  parentName = "the delegating job"
): Steps<string | undefined> {
  const work = new ComparisonCost(maxSteps)
  for (const [capability, patterns] of Object.entries(child)) {
    if (capability === "cost.budget") continue
    const allowed = yield* work.compile(capability, patternsOf(parent, capability))
    for (const pattern of yield* work.compile(capability, patterns))
      if (!(yield* work.someIncludes(allowed, pattern)))
        return `${cut(capability, 100)} ${shown(pattern.source)} is not covered by a pattern of the lease of ${parentName}; ask for one that is${work.exceeded !== undefined ? tooIntricate : ""}`
  }
  return undefined
}

/** Why a child may not have this budget beside what a job above it has left, `undefined` when it may. */
export const budgetProblem = (child: Budget.Budget, remaining: Budget.Budget): string | undefined => {
  // A job without a budget is not limited, and any budget is narrower than none.
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
 * Gives a lease the `model.use` of the one that it is taken from, when it has none of its own, where models need none (`anyModel`):
 * there a lease without it is the wider one, as one without a budget is.
 */
export const withModelsOf = (lease: Lease, from: Lease | undefined, anyModel: boolean): Lease =>
  anyModel && from !== undefined && hasModels(from) && !hasModels(lease)
    ? { ...lease, "model.use": patternsOf(from, "model.use") }
    : lease

/** Tells whether a lease says which models may be used, be it none. */
export const hasModels = (lease: Lease): boolean => Object.hasOwn(lease, "model.use")

/**
 * Gives what remains of a requested lease under an identity's ceiling: never more than either. A budget restricts, so
 * the ceiling's is added to a request without one. Left: why it cannot be decided, when that takes more than
 * `maxSteps`.
 */
export function* narrowing(
  requested: Lease,
  ceiling: Lease | undefined,
  maxSteps = defaultMaxSteps
): Steps<Either.Either<Lease, string>> {
  if (ceiling === undefined) return Either.right(requested)
  const work = new ComparisonCost(maxSteps)
  const reduced: Array<[string, ReadonlyArray<string>]> = []
  for (const [capability, patterns] of Object.entries(requested)) {
    if (capability === "cost.budget") continue
    const allowed = yield* compiledOnce(work, capability, patternsOf(ceiling, capability))
    // Patterns of both can together be more than a lease may have: to leave some out is to narrow.
    const kept = new Set<string>()
    for (const pattern of yield* work.compile(capability, patterns)) {
      if (yield* work.someIncludes(allowed, pattern)) kept.add(pattern.source)
      else for (const narrower of yield* work.included(pattern, allowed)) kept.add(narrower.source)
      if (work.exceeded !== undefined)
        return Either.left(
          `${cut(capability, 100)} takes too long to compare with what this identity may have, more than ${work.exceeded}: use fewer patterns, ** and *`
        )
    }
    reduced.push([capability, [...kept].slice(0, maxPatterns)])
  }
  const budget = narrowedBudget(patternsOf(requested, "cost.budget"), patternsOf(ceiling, "cost.budget"))
  if (budget.length > 0) reduced.push(["cost.budget", budget])
  return Either.right(Object.fromEntries(reduced))
}

/** `narrowing`, all at once. */
export const reduce = (
  requested: Lease,
  ceiling: Lease | undefined,
  maxSteps?: number
): Either.Either<Lease, string> => finish(narrowing(requested, ceiling, maxSteps))

/** As it was asked for, when that is within the ceiling. */
const narrowedBudget = (
  asked: ReadonlyArray<string>,
  ceiling: ReadonlyArray<string>
): ReadonlyArray<string> => {
  const budget = new Map(Budget.parse(asked))
  let narrowed = false
  for (const [currency, limit] of Budget.parse(ceiling)) {
    const wanted = budget.get(currency)
    if (wanted !== undefined && BigDecimal.lessThanOrEqualTo(wanted, limit)) continue
    budget.set(currency, limit)
    narrowed = true
  }
  return narrowed ? Budget.entries(budget) : asked
}
