/** How a person is told what a lease has refused. What is shown was chosen by an agent, or by another runtime. */
import { type Refusal, refusalIn } from "../../protocol/Refusal.js"
import { kindOf } from "../../protocol/Target.js"
import { cut } from "../../protocol/Text.js"
import { inLine, json } from "./text.js"

/** Runtimes name a longer target by its beginning. */
const longest = 200

/** Returns `fs.read "/etc/passwd"` of an error that says so. */
export const refused = (details: unknown): string | undefined => {
  const refusal = refusalIn(details)
  if (refusal === undefined) return undefined
  const { capability, target } = refusal
  const shown = target.length > longest ? `${cut(target, longest - 1)}…` : target
  return `${inLine(cut(capability, 80))} ${json(shown)}`
}

/**
 * A target as the pattern that matches it and nothing else, if it is one: whole, without a wildcard, and nothing that a shell
 * or the reader would take for something else. URLs are named without their query, which a pattern has to have.
 */
const patternOf = ({ capability, target }: Refusal): string => {
  const isPlain = target.length < longest && /^[\w/.:@+,=~ -]+$/.test(target)
  const kind = kindOf(capability)
  const isPath = /^(\/(?!\.{0,2}(\/|$))[^/]*)+$/.test(target)
  return isPlain && (kind === "name" || (kind === "path" && isPath)) ? target : "PATTERN"
}

/** Returns what to do about it: the flag that would have allowed it. */
export const refusalHint = (details: unknown): string | undefined => {
  const refusal = refusalIn(details)
  if (refusal === undefined || !/^[\w.-]{1,80}$/.test(refusal.capability)) return undefined
  return `--lease '${refusal.capability}=${patternOf(refusal)}' allows it, see arcp submit --help`
}
