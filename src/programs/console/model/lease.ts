/** A lease as sentences. */
import type { Lease } from "../../../protocol/Lease.js"
import { moment, plain } from "./text.js"
import { textIn } from "./values.js"

/** What a job may, in a few words, and to what. */
export interface Sentence {
  readonly says: string
  readonly what: ReadonlyArray<string>
  readonly then?: string | undefined
}

const verbs: Readonly<Record<string, string>> = {
  "fs.read": "may read",
  "fs.write": "may write",
  "net.fetch": "may fetch",
  "tool.call": "may call the tools",
  "agent.delegate": "may delegate to",
  "model.use": "may use the models",
  "cost.budget": "may spend up to"
}

const list = (patterns: unknown): ReadonlyArray<string> =>
  Array.isArray(patterns) ? patterns.map((pattern) => plain(String(pattern), 500)) : []

/** `USD:5.00` as people write it. */
const amount = (entry: string): string => {
  const at = entry.indexOf(":")
  return at < 1 ? entry : `${entry.slice(at + 1)} ${entry.slice(0, at)}`
}

/** Returns what a lease allows, and until when. */
export const sentences = (lease: Lease, constraints: unknown, now: number): ReadonlyArray<Sentence> => {
  const said: Array<Sentence> = Object.entries(lease).map(([capability, patterns]) => {
    const what = list(patterns)
    const verb = verbs[capability] ?? `has ${plain(capability, 200)} for`
    return what.length === 0
      ? { says: `${verb} nothing`, what }
      : { says: verb, what: capability === "cost.budget" ? what.map(amount) : what }
  })
  const expires = textIn(constraints, "expires_at")
  if (said.length === 0) said.push({ says: "may touch nothing: it was given no lease", what: [] })
  if (!("cost.budget" in lease)) said.push({ says: "has no bound on what it spends", what: [] })
  if (expires !== undefined) {
    const at = Date.parse(expires)
    said.push({ says: at < now ? "all of it was over at" : "all of it until", what: [moment(at, now)] })
  }
  return said
}

/** Returns what was given of each currency. */
export const budgets = (lease: Lease): ReadonlyMap<string, number> => {
  const given = new Map<string, number>()
  for (const entry of list(lease["cost.budget"])) {
    const at = entry.indexOf(":")
    const value = Number(entry.slice(at + 1))
    if (at > 0 && Number.isFinite(value))
      given.set(entry.slice(0, at), (given.get(entry.slice(0, at)) ?? 0) + value)
  }
  return given
}
