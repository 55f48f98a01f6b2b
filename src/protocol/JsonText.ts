/**
 * What is JSON and what only looks like it: values that JSON cannot say, numbers that JavaScript cannot hold, and
 * strings that are not well-formed Unicode (§5). Everything here names a path and never repeats a value.
 */

const half = /\p{Cs}/u

/** A member or an item, as a path says it. Names are cut, and shown only when they can be read. */
const below = (path: string, key: string | number): string =>
  typeof key === "number"
    ? `${path}[${key}]`
    : `${path}${path === "" ? "" : "."}${half.test(key) ? "?" : key.slice(0, 64)}`

/** Names the first part of a decoded value that is not finite, or not well-formed Unicode; names of members too. */
export const unfit = (value: unknown, path: string): string | undefined => {
  switch (typeof value) {
    case "number":
      return Number.isFinite(value) ? undefined : `${path}: expected a number that is finite`
    case "string":
      return half.test(value) ? `${path}: expected well-formed Unicode, not half a surrogate pair` : undefined
    case "object":
      return value === null ? undefined : unfitPart(value, path)
    default:
      return undefined
  }
}

const unfitPart = (value: object, path: string): string | undefined => {
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) {
      const problem = unfit(value[i], below(path, i))
      if (problem !== undefined) return problem
    }
    return undefined
  }
  for (const [name, part] of Object.entries(value)) {
    if (half.test(name))
      return `${path === "" ? "frame" : path}: expected names of well-formed Unicode, not half a surrogate pair`
    const problem = unfit(part, below(path, name))
    if (problem !== undefined) return problem
  }
  return undefined
}

/** Names what of a value JSON cannot say; `undefined` when it can say all of it. */
export const fault = (value: unknown, path: string): string | undefined => faultIn(value, path, [])

const faultIn = (value: unknown, path: string, within: Array<object>): string | undefined => {
  switch (typeof value) {
    case "bigint":
      return `${path}: a bigint is not JSON; write it as a string`
    case "function":
    case "symbol":
      return `${path}: a ${typeof value} is not JSON`
    case "number":
      return Number.isFinite(value) ? undefined : `${path}: a number that is not finite is not JSON`
    case "undefined":
      return within.length === 0 ? `${path}: is missing` : undefined
    case "object":
      return value === null ? undefined : faultOfObject(value, path, within)
    default:
      return undefined
  }
}

const faultOfObject = (value: object, path: string, within: Array<object>): string | undefined => {
  if (within.includes(value)) return `${path}: holds itself, which JSON cannot`
  const kind = notJson(value)
  if (kind !== undefined) return `${path}: a ${kind} is not JSON`
  if (within.length >= maxDepth) return `${path}: is nested deeper than ${maxDepth} levels`
  within.push(value)
  const problem = faultOfParts(value, path, within)
  within.pop()
  return problem
}

const faultOfParts = (value: object, path: string, within: Array<object>): string | undefined => {
  if ("toJSON" in value && typeof value.toJSON === "function") {
    const made: unknown = value.toJSON()
    return made === value ? undefined : faultIn(made, path, within)
  }
  const parts: Iterable<readonly [string | number, unknown]> = Array.isArray(value)
    ? value.entries()
    : Object.entries(value)
  for (const [key, part] of parts) {
    // JSON leaves such members out.
    if (typeof part === "function" || typeof part === "symbol") continue
    const problem = faultIn(part, below(path, key), within)
    if (problem !== undefined) return problem
  }
  return undefined
}

/** Far beyond what a frame may have. */
const maxDepth = 512

/** Says why a value cannot be sent as it is: JSON cannot say it, or it is not well-formed Unicode. */
export const unsendable = (value: unknown, path: string): string | undefined => {
  try {
    return fault(value, path) ?? unfit(value, path)
  } catch {
    return `${path}: cannot be written as JSON`
  }
}

const notJson = (value: object): string | undefined =>
  value instanceof Map
    ? "Map"
    : value instanceof Set
      ? "Set"
      : value instanceof ArrayBuffer || ArrayBuffer.isView(value)
        ? "buffer of bytes"
        : undefined

/** JSON text with U+FFFD in place of each escaped half of a surrogate pair, which is how `JSON.stringify` writes them. */
export const repaired = (text: string): string =>
  text.replace(/\\\\|\\ud[89a-f][0-9a-f]{2}/g, (found) => (found === "\\\\" ? found : "\ufffd"))
