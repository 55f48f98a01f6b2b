/** The texts that events are made of, without a detour through objects. */

import * as Either from "effect/Either"
import { fault, isSaid, repaired } from "./JsonText.js"

/** The JSON text of a value. */
export interface Written {
  readonly text: string
  /** The text says of it what it is; otherwise it is what its `toJSON`, or that of a part, has made of it. */
  readonly literal: boolean
}

/**
 * Well-formed JSON text of a value: half a surrogate pair becomes U+FFFD (§5). Left: what of it JSON cannot say, as a
 * sentence that begins with its path below `root` and never repeats the value: a `Map` or `Set`, a bigint, bytes, an
 * `Error`, a promise, a number that is not finite, a cycle, a function, or nothing at all. A member that is `undefined` is
 * left out, as JSON does.
 */
export const written = (value: unknown, root: string): Either.Either<Written, string> => {
  let text: string | undefined
  let said: boolean
  try {
    text = JSON.stringify(value)
    said = isSaid(value)
  } catch {
    return Either.left(fault(value, root) ?? `${root}: cannot be written as JSON`)
  }
  const problem = said ? undefined : fault(value, root)
  if (problem !== undefined || text === undefined) return Either.left(problem ?? `${root}: is missing`)
  return Either.right({ text: repaired(text), literal: said })
}

/** The text alone. */
export const json = (value: unknown, root: string): Either.Either<string, string> =>
  Either.map(written(value, root), ({ text }) => text)

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
