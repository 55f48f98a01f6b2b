/**
 * Canonical JSON: object keys sorted by code unit, no white space, numbers as ECMAScript prints
 * them (RFC 8785 for values that came out of `JSON.parse`). Two submits have identical parameters
 * when their canonical texts are equal (§7.2).
 */

import { isRecord } from "./Json.js"
import { finish, type Steps } from "./Steps.js"

/** An array or object that is being written, and how far. Members are looked up as they are written: an object may have many. */
type Container = { at: number } & (
  | { readonly items: ReadonlyArray<unknown>; readonly names?: never }
  | { readonly items: Readonly<Record<string, unknown>>; readonly names: ReadonlyArray<string> }
)

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
      open.push({ items: part, at: 0 })
    } else if (names !== undefined) {
      text += "{"
      open.push({ items: part as Readonly<Record<string, unknown>>, names, at: 0 })
    } else text += JSON.stringify(part ?? null) ?? "null"
  }
  begin(value, isRecord(value) ? yield* sortedNames(value) : undefined)
  for (;;) {
    const container = open[open.length - 1]
    if (container === undefined) return text
    const { at, items, names } = container
    if (at === (names ?? items).length) {
      text += names === undefined ? "]" : "}"
      open.pop()
      continue
    }
    container.at++
    if (at > 0) text += ","
    if (names !== undefined) text += `${JSON.stringify(names[at])}:`
    const part = names === undefined ? items[at] : items[names[at] ?? ""]
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
  const all = Object.keys(object)
  const sorted = (names: ReadonlyArray<string>) => names.filter((name) => object[name] !== undefined).sort()
  if (all.length <= valuesPerPart) return sorted(all)
  let runs: Array<ReadonlyArray<string>> = []
  for (let from = 0; from < all.length; from += valuesPerPart) {
    yield
    runs.push(sorted(all.slice(from, from + valuesPerPart)))
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
