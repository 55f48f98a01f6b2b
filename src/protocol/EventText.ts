/** The texts that events are made of, without a detour through objects. */

import * as Either from "effect/Either"
import { fault, repaired } from "./JsonText.js"

/**
 * Well-formed JSON text of a value: half a surrogate pair becomes U+FFFD (§5). Left: what of it JSON cannot say, as a
 * sentence that begins with its path below `root` and never repeats the value: a `Map` or `Set`, a bigint, bytes, a
 * number that is not finite, a cycle, a function, or nothing at all. A member that is `undefined` is left out, as
 * JSON does.
 */
export const json = (value: unknown, root: string): Either.Either<string, string> => {
  let text: string | undefined
  try {
    text = JSON.stringify(value)
  } catch {
    return Either.left(fault(value, root) ?? `${root}: cannot be written as JSON`)
  }
  // What JSON makes of a value that it cannot say. A text without these is what most events are.
  const suspect = text === undefined || text.includes("null") || text.includes("{}")
  const problem = suspect ? fault(value, root) : undefined
  if (problem !== undefined || text === undefined) return Either.left(problem ?? `${root}: is missing`)
  return Either.right(text.includes("\\ud") ? repaired(text) : text)
}

let lastAt = Number.NaN
let lastText = ""

/** RFC 3339 in UTC. Keeps the text of the last millisecond: many are written in a row. */
export const timestamp = (epochMs: number): string => {
  if (epochMs !== lastAt) {
    lastText = new Date(epochMs).toISOString()
    lastAt = epochMs
  }
  return lastText
}

/** `job.event` payload text around a body that is JSON text already. */
export const eventPayload = (kind: string, at: string, body: string): string =>
  `{"kind":${JSON.stringify(kind)},"ts":"${at}","body":${body}}`
