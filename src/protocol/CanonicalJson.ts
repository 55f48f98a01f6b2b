/**
 * Canonical JSON: object keys sorted by code unit, no white space, numbers as ECMAScript prints
 * them (RFC 8785 for values that came out of `JSON.parse`). Two submits have identical parameters
 * when their canonical texts are equal (§7.2).
 */

import { isRecord } from "./Json.js"
import { finish, type Steps } from "./Steps.js"

/** An array or object that is being written: what is left of it, and its closing bracket. */
interface Container {
  readonly values: ReadonlyArray<unknown>
  /** Names of the members, in their order; of an array none. */
  readonly names: ReadonlyArray<string> | undefined
  at: number
}

/** Values written between two pauses: some two milliseconds of work. */
const valuesPerPart = 8_000

/** Writes the value in parts, each of a few milliseconds, however large or wide it is. */
export function* stringifying(value: unknown): Steps<string> {
  const open: Array<Container> = []
  let text = ""
  let budget = valuesPerPart
  /** Writes a value, or the beginning of one with parts. */
  const begin = (part: unknown, names: ReadonlyArray<string> | undefined): void => {
    if (Array.isArray(part)) {
      text += "["
      open.push({ values: part, names: undefined, at: 0 })
    } else if (names !== undefined) {
      text += "{"
      open.push({ values: names.map((name) => (part as Record<string, unknown>)[name]), names, at: 0 })
    } else text += JSON.stringify(part ?? null) ?? "null"
  }
  begin(value, isRecord(value) ? yield* sortedNames(value) : undefined)
  for (;;) {
    const container = open[open.length - 1]
    if (container === undefined) return text
    const { at, names, values } = container
    if (at === values.length) {
      text += names === undefined ? "]" : "}"
      open.pop()
      continue
    }
    container.at++
    if (at > 0) text += ","
    if (names !== undefined) text += `${JSON.stringify(names[at])}:`
    const part = values[at]
    budget--
    begin(part, isRecord(part) ? yield* sortedNames(part) : undefined)
    if (budget <= 0) {
      budget = valuesPerPart
      yield
    }
  }
}

export const stringify = (value: unknown): string => finish(stringifying(value))

/** Names of the members that JSON has, by code unit. Many are sorted in parts, which are then merged. */
function* sortedNames(object: Readonly<Record<string, unknown>>): Steps<ReadonlyArray<string>> {
  const names = Object.keys(object).filter((name) => object[name] !== undefined)
  if (names.length <= valuesPerPart) return names.sort()
  let runs: Array<ReadonlyArray<string>> = []
  for (let from = 0; from < names.length; from += valuesPerPart) {
    runs.push(names.slice(from, from + valuesPerPart).sort())
    yield
  }
  while (runs.length > 1) {
    const merged: Array<ReadonlyArray<string>> = []
    for (let i = 0; i < runs.length; i += 2) merged.push(yield* merge(runs[i] ?? [], runs[i + 1] ?? []))
    runs = merged
  }
  return runs[0] ?? []
}

function* merge(a: ReadonlyArray<string>, b: ReadonlyArray<string>): Steps<ReadonlyArray<string>> {
  const merged: Array<string> = []
  let i = 0
  let j = 0
  while (i < a.length || j < b.length) {
    const [x, y] = [a[i], b[j]]
    if (y === undefined || (x !== undefined && x <= y)) {
      merged.push(x as string)
      i++
    } else {
      merged.push(y)
      j++
    }
    if (merged.length % (4 * valuesPerPart) === 0) yield
  }
  return merged
}
