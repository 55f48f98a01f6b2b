/** What a lease permits (§9.3): a target of an operation against the patterns for its capability. */
import * as Either from "effect/Either"
import type { Lease } from "./LeaseGrammar.js"
import * as Pattern from "./Pattern.js"
import * as Target from "./Target.js"
import { cut } from "./Text.js"

/** A lease ready to be asked. */
export interface CompiledLease {
  readonly lease: Lease
  /** Right: the canonical target. Left: why not, as a sentence that says what to do. Never repeats the target. */
  readonly permits: (capability: string, target: string) => Either.Either<string, string>
  /** Does a `net.fetch` pattern that matches this URL name its host without a wildcard? */
  readonly namesHost: (url: string) => boolean
  /** Is the capability in the lease, with or without patterns? */
  readonly has: (capability: string) => boolean
}

/**
 * Steps for one decision, some ten milliseconds: far beyond what honest leases take, so that nobody can stop the
 * process with patterns that are made to be slow.
 */
const maxDeciding = 200_000

/** Decisions remembered per lease, and the longest target among them: at most some 700 KB. */
const maxRemembered = 1024
const maxRememberedTarget = 256

export const compile = (lease: Lease): CompiledLease => {
  const patterns = compiledPatterns(lease)

  const decide = (capability: string, target: string): Either.Either<string, string> => {
    const mine = patterns.of(capability)
    if (mine.length === 0)
      return Either.left(
        `the lease has no ${cut(capability, 100)}; request it with patterns for what it is needed for`
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
      }${effort.left < 0 ? tooIntricate : ""}`
    )
  }

  const remembered = new Decisions()
  return {
    lease,
    permits: (capability, target) => {
      const known = remembered.get(capability, target)
      if (known !== undefined) return known
      const decision = decide(capability, target)
      if (patterns.has(capability)) remembered.set(capability, target, decision)
      return decision
    },
    namesHost: (url) => {
      const canonical = Target.canonical("url", url)
      return (
        Either.isRight(canonical) &&
        patterns.of("net.fetch").some((pattern) => pattern.literalHost && pattern.matches(canonical.right))
      )
    },
    has: (capability) => patterns.has(capability)
  }
}

/** The patterns of each capability, compiled when it is first asked for. */
const compiledPatterns = (lease: Lease) => {
  const compiled = new Map<string, ReadonlyArray<Pattern.Pattern>>()
  const has = (capability: string) => capability !== "cost.budget" && Object.hasOwn(lease, capability)
  const of = (capability: string): ReadonlyArray<Pattern.Pattern> => {
    const known = compiled.get(capability)
    if (known !== undefined || !has(capability)) return known ?? []
    const kind = Target.kindOf(capability)
    const patterns = Array.from(new Set(lease[capability]), (source) => Pattern.compile(kind, source))
    compiled.set(capability, patterns)
    return patterns
  }
  return { has, of }
}

/** What was decided. Forgets everything when it is full. */
class Decisions {
  private readonly byCapability = new Map<string, Map<string, Either.Either<string, string>>>()
  private size = 0

  get(capability: string, target: string): Either.Either<string, string> | undefined {
    return this.byCapability.get(capability)?.get(target)
  }

  set(capability: string, target: string, decision: Either.Either<string, string>): void {
    if (target.length > maxRememberedTarget) return
    if (this.size >= maxRemembered) {
      this.byCapability.clear()
      this.size = 0
    }
    const decisions = this.byCapability.get(capability) ?? new Map<string, Either.Either<string, string>>()
    this.byCapability.set(capability, decisions.set(target, decision))
    this.size++
  }
}

/** How many patterns a message names. */
const maxNamed = 5

/** Agents are delegated to by name, without a version: other characters are in none. */
const isNoAgent = (pattern: string): boolean => !/^[a-z0-9._*-]+$/.test(pattern)

const isDead = (capability: string, source: string): boolean =>
  source === "" ||
  (capability === "agent.delegate" && isNoAgent(source)) ||
  Pattern.compile(Target.kindOf(capability), source).canonical === undefined

/** Says which patterns of a capability can match nothing, by name; `undefined` when each can match something. */
export const deadPattern = (lease: Lease): string | undefined => {
  for (const [capability, sources] of Object.entries(lease)) {
    if (capability === "cost.budget") continue
    const dead = sources.filter((source) => isDead(capability, source))
    if (dead.length === 0) continue
    const named = dead.slice(0, maxNamed).map(shown).join(", ")
    const others = dead.length > maxNamed ? ` and ${dead.length - maxNamed} more` : ""
    const how = capability === "agent.delegate" ? howToNameAgents : howToWrite[Target.kindOf(capability)]
    return `${capability} ${named}${others} can match nothing: ${how}`
  }
  return undefined
}

const howToNameAgents = "agents are named in lower case, without a version"

const howToWrite: Readonly<Record<Target.TargetKind, string>> = {
  path: "path patterns start with / or **",
  url: "URL patterns look like https://host/path",
  name: "patterns are text without control characters"
}

/** A pattern as a message may show it. */
export const shown = (pattern: string): string => JSON.stringify(cut(pattern, 100))

/** Follows a refusal that was not proven. */
export const tooIntricate = " (the patterns take too long to compare: use fewer ** and *)"
