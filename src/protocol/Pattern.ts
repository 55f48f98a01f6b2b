/**
 * Patterns (§9.2): segments split at `/`; `*` is any run of characters within one segment, a segment `**` any
 * number of segments, also none; anchored at both ends; nothing else is special.
 *
 * In a URL a `*` crosses neither `.` nor `:` of the host, so any port is `:*`. Without a `?` of its own a pattern
 * matches a URL with a query only if it ends with a wildcard and matches the URL without the query too: otherwise
 * `/secret?/a.json` would pass for what `**` and `/a.json` stand for.
 *
 * Matching goes once over the target and remembers one place to come back to, the last `**`; inside a segment it looks
 * for the pieces between the `*` one after the other. At most pattern × target steps, whatever they are, and no more
 * than the `Effort` that is given to all the patterns together.
 */
import { canonicalPattern } from "./PatternForm.js"
import { coverShape, matchShape } from "./PatternMatch.js"
import { hostIndex, prefixOf, type Shape, shapeOf } from "./PatternShape.js"
import { type Effort, unlimited } from "./Steps.js"
import type { TargetKind } from "./Target.js"

export type { Effort } from "./Steps.js"

export interface Pattern {
  readonly kind: TargetKind
  /** As it was written. */
  readonly source: string
  /** As it is compared; `undefined` when it can match nothing. */
  readonly canonical: string | undefined
  /** Tells whether it matches a target, which must be canonical. */
  readonly matches: (target: string, effort?: Effort) => boolean
  /** The host of a URL pattern has no wildcard; its port may. */
  readonly literalHost: boolean
}

/** What a pattern matches by. Its shape is made when it is first needed: most comparisons end before that. */
class CompiledPattern implements Pattern {
  readonly kind: TargetKind
  readonly source: string
  readonly canonical: string
  readonly prefix: string
  readonly literal: boolean
  /** Nothing but the prefix and a `**` after it, as most patterns are. */
  readonly below: boolean
  private made: Shape | undefined

  constructor(kind: TargetKind, source: string, canonical: string) {
    this.kind = kind
    this.source = source
    this.canonical = canonical
    this.prefix = prefixOf(kind, canonical)
    this.literal = !canonical.includes("*")
    this.below = canonical === `${this.prefix}/**`
  }

  shape(effort: Effort): Shape {
    if (this.made === undefined) {
      this.made = shapeOf(this.kind, this.canonical)
      effort.left -= shaping * this.made.segments.length
    }
    return this.made
  }

  get literalHost(): boolean {
    if (this.kind !== "url") return false
    const { floating, segments } = this.shape(unlimited())
    return (
      !(floating >= 0 && floating <= hostIndex) &&
      segments[hostIndex]?.text.replace(/:[0-9*]*$/, "").includes("*") === false
    )
  }

  readonly matches = (target: string, effort: Effort = unlimited()): boolean => {
    if (this.literal) return target === this.canonical
    if (this.below) return isBelow(target, this.prefix)
    return target.startsWith(this.prefix) && matchShape(this.shape(effort), target, effort)
  }
}

const isBelow = (target: string, prefix: string): boolean =>
  target.startsWith(prefix) && (target.length === prefix.length || target[prefix.length] === "/")

export const compile = (kind: TargetKind, source: string): Pattern => {
  const canonical = canonicalPattern(kind, source)
  return canonical === undefined
    ? { kind, source, canonical, matches: () => false, literalHost: false }
    : new CompiledPattern(kind, source, canonical)
}

/**
 * Is every target of `pattern` a target of `by`, both of one kind? Proves it or says no: a wildcard is covered only by
 * one that is at least as wide. A pattern that can match nothing is not covered.
 */
export const includes = (by: Pattern, pattern: Pattern, effort: Effort = unlimited()): boolean => {
  effort.left -= comparison
  if (!(by instanceof CompiledPattern && pattern instanceof CompiledPattern) || effort.left < 0) return false
  if (by.literal) return by.canonical === pattern.canonical
  if (!pattern.canonical.startsWith(by.prefix)) return false
  if (by.below) return isBelow(pattern.canonical, by.prefix)
  return coverShape(by.shape(effort), pattern.shape(effort), effort)
}

/** Steps that making a segment costs. */
const shaping = 2

/** Steps that a comparison costs that is decided by how the patterns begin. */
const comparison = 0.25

/** `includes` for patterns that are compared only once. */
export const covers = (kind: TargetKind, by: string, pattern: string): boolean =>
  includes(compile(kind, by), compile(kind, pattern))
