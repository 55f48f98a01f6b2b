/**
 * What is JSON and what only looks like it: values that JSON cannot say, numbers that JavaScript cannot hold, and
 * strings that are not well-formed Unicode (§5). Everything here names a path and never repeats a value.
 */
import { cut, withArticle } from "./Text.js"

const half = /\p{Cs}/u

/** What JSON makes of these is all that is in them. */
const isPlain = (value: object): boolean => {
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === Array.prototype || prototype === null
}

/** `a Promise`, `an Error`: an object that is more than its members, of which JSON would be `{}` or nearly. */
const unsayable = (value: object): string | undefined => {
  if (isPlain(value) || ("toJSON" in value && typeof value.toJSON === "function")) return undefined
  const kind = Object.prototype.toString.call(value).slice(8, -1)
  const isSaid = kind === "Object" || Object.keys(value).length > 0 || sayable.has(kind)
  return isSaid && kind !== "Error" ? undefined : withArticle(kind)
}
const isDate = (value: object): boolean => Object.prototype.toString.call(value) === "[object Date]"
const sayable = new Set(["Array", "Boolean", "Number", "String"])

/** Whether JSON says all of a value, seen at a glance: when not, `fault` knows. Cycles are not looked for. */
export const isSaid = (value: unknown): boolean => {
  switch (typeof value) {
    case "number":
      return Number.isFinite(value)
    case "function":
    case "symbol":
      return false
    case "object": {
      if (value === null) return true
      if (Array.isArray(value)) return value.every(isSaid)
      if (!isPlain(value)) return false
      for (const name in value) if (!isSaid((value as Readonly<Record<string, unknown>>)[name])) return false
      return true
    }
    default:
      return true
  }
}

/** Levels of nesting beyond which a value is not looked at: far beyond what a frame may have. */
const maxDepth = 512

/**
 * Names the first part of a value that JSON cannot say, `undefined` when it can say all of it. `strict`: and the first
 * string or name of a member that is not well-formed Unicode, which otherwise becomes U+FFFD. A path below `""` begins
 * with the name of a member.
 */
export const fault = (value: unknown, path: string, strict = false): string | undefined => {
  const within: Array<object> = []
  let at = path
  const wrong = (what: string, path: string) => `${path || "frame"}: ${what}`

  const check = (value: unknown, path: string): string | undefined => {
    at = path
    switch (typeof value) {
      case "string":
        return strict && half.test(value) ? wrong("has half a surrogate pair", path) : undefined
      case "number":
        return Number.isFinite(value) ? undefined : wrong("a number that is not finite is not JSON", path)
      case "undefined":
        // As a member it is left out.
        return within.length === 0 ? wrong("is missing", path) : undefined
      case "object":
        return value === null ? undefined : checkObject(value, path)
      case "boolean":
        return undefined
      default:
        return wrong(`a ${typeof value} is not JSON`, path)
    }
  }

  const checkObject = (value: object, path: string): string | undefined => {
    if (
      value instanceof Map ||
      value instanceof Set ||
      value instanceof ArrayBuffer ||
      ArrayBuffer.isView(value)
    )
      return wrong("a Map, a Set or bytes are not JSON", path)
    const kind = unsayable(value)
    if (kind !== undefined) return wrong(`${kind} is not JSON`, path)
    if (value instanceof Number) return check(value.valueOf(), path)
    if (isDate(value) && Number.isNaN(Number(value))) return wrong("a Date of no time is not JSON", path)
    if (within.includes(value)) return wrong("holds itself", path)
    if (within.length >= maxDepth) return wrong("is nested too deep", path)
    within.push(value)
    const said: unknown = "toJSON" in value && typeof value.toJSON === "function" ? value.toJSON() : value
    const problem = said === value ? checkParts(value, path) : check(said, path)
    within.pop()
    return problem
  }

  const checkParts = (value: object, path: string): string | undefined => {
    const isArray = Array.isArray(value)
    for (const [name, part] of Object.entries(value)) {
      if (name === "toJSON" && typeof part === "function") continue
      if (strict && half.test(name)) return wrong("has a name with half a surrogate pair", path)
      const below = isArray ? `[${name}]` : `${path && "."}${cut(name, 64)}`
      const problem = check(part, path + below)
      if (problem !== undefined) return problem
    }
    return undefined
  }

  try {
    return check(value, path)
  } catch {
    // A getter or `toJSON` that throws.
    return wrong("cannot be written as JSON", at)
  }
}

/**
 * Returns a message as JSON text, or tells why it cannot be sent as it is: JSON cannot say it, or it is not well-formed Unicode. Names
 * the member. It is `fault` in small, for the client, whose size in a browser counts.
 */
export const written = (message: object, refused: (problem: string) => void): string | undefined => {
  let at = ""
  try {
    return JSON.stringify(message, (name: string, part: unknown) => {
      at = name
      // Of anything but these JSON would say `{}`, or nothing.
      if (
        (typeof part === "number" && !Number.isFinite(part)) ||
        !/ (N|St|Bo|Un|O|Array])/.test({}.toString.call(part)) ||
        half.test(`${name} ${typeof part === "string" ? part : ""}`)
      )
        throw part
      return part
    })
  } catch {
    refused(`${half.test(at) ? "a name" : at}: is not JSON`)
  }
  return undefined
}

/** JSON text with U+FFFD in place of each escaped half of a surrogate pair, which is how `JSON.stringify` writes them. */
export const repaired = (text: string): string =>
  // Most has none.
  !text.includes("\\ud")
    ? text
    : text.replace(/\\\\|\\ud[89a-f][0-9a-f]{2}/g, (found) => (found === "\\\\" ? found : "\ufffd"))
