/**
 * Checks a value by a JSON Schema, as far as those go that Effect makes of its schemas. What else a schema says is not looked
 * at, nor are its regular expressions, which may take for ever: whoever has the schema itself checks the value again.
 */

import { isRecord } from "./Json.js"
import type { Effort } from "./Steps.js"
import { cut } from "./Text.js"

/** A JSON Schema, or the part of one. */
type Part = Readonly<Record<string, unknown>>

const typeOf = (value: unknown): string =>
  value === null ? "null" : Array.isArray(value) ? "array" : typeof value

const same = (a: unknown, b: unknown): boolean => a === b || JSON.stringify(a) === JSON.stringify(b)

/** Values looked at before a schema is given up: far more than a frame has, unless its alternatives overlap again and again. */
const maxEffort = 500_000
/** Parts within each other: a schema may be part of itself. */
const maxDepth = 500

/** What is gone through. */
interface SchemaWalk {
  readonly root: Part
  readonly effort: Effort
  /** Parts that are within each other. */
  depth: number
}

const count = (schema: Part, name: string): number | undefined => {
  const limit = schema[name]
  return typeof limit === "number" ? limit : undefined
}

/** Returns whether a number is on the right side of its bounds. */
const isWithin = (schema: Part, value: number): boolean => {
  const { exclusiveMaximum, exclusiveMinimum, maximum, minimum, multipleOf } = schema
  return !(
    (typeof minimum === "number" && value < minimum) ||
    (typeof maximum === "number" && value > maximum) ||
    (typeof exclusiveMinimum === "number" && value <= exclusiveMinimum) ||
    (typeof exclusiveMaximum === "number" && value >= exclusiveMaximum) ||
    (typeof multipleOf === "number" && !Number.isInteger(value / multipleOf))
  )
}

const isOfLength = (schema: Part, length: number, min: string, max: string): boolean =>
  length >= (count(schema, min) ?? 0) && length <= (count(schema, max) ?? Infinity)

const isOfType = (type: unknown, value: unknown): boolean => {
  const types = Array.isArray(type) ? type : [type]
  return types.some((name) => (name === "integer" ? Number.isSafeInteger(value) : name === typeOf(value)))
}

/** Returns the part that a reference within the schema names. */
const resolve = (root: Part, reference: string): unknown => {
  let part: unknown = root
  for (const name of reference.split("/").slice(1))
    part = isRecord(part)
      ? part[decodeURIComponent(name).replaceAll("~1", "/").replaceAll("~0", "~")]
      : undefined
  return part
}

const array = (
  walk: SchemaWalk,
  schema: Part,
  value: ReadonlyArray<unknown>,
  at: string
): string | undefined => {
  if (!isOfLength(schema, value.length, "minItems", "maxItems")) return `${at}: has too few or too many items`
  const { additionalItems, items } = schema
  const first = Array.isArray(items) ? items : []
  const rest = Array.isArray(items) ? additionalItems : items
  for (const [i, item] of value.entries()) {
    const problem = part(walk, i < first.length ? first[i] : rest, item, `${at}[${i}]`)
    if (problem !== undefined) return problem
  }
  return undefined
}

const object = (walk: SchemaWalk, schema: Part, value: Part, at: string): string | undefined => {
  const names = Object.keys(value)
  const { additionalProperties, patternProperties, properties, required } = schema
  const others = patternProperties === undefined ? additionalProperties : undefined
  if (!isOfLength(schema, names.length, "minProperties", "maxProperties"))
    return `${at}: has too few or too many members`
  for (const name of Array.isArray(required) ? required : [])
    if (typeof name === "string" && !Object.hasOwn(value, name)) return `${at}.${name}: is missing`
  for (const name of names) {
    const isNamed = isRecord(properties) && Object.hasOwn(properties, name)
    const problem = part(walk, isNamed ? properties[name] : others, value[name], `${at}.${cut(name, 64)}`)
    if (problem !== undefined) return problem
  }
  return undefined
}

/** Returns what is wrong with a value by the schemas that are put together in one. */
const combined = (walk: SchemaWalk, schema: Part, value: unknown, at: string): string | undefined => {
  const { $ref: reference, allOf, anyOf, oneOf } = schema
  if (typeof reference === "string") {
    const problem = part(walk, resolve(walk.root, reference), value, at)
    if (problem !== undefined) return problem
  }
  for (const one of Array.isArray(allOf) ? allOf : []) {
    const problem = part(walk, one, value, at)
    if (problem !== undefined) return problem
  }
  for (const some of [anyOf, oneOf])
    if (Array.isArray(some) && !some.some((one) => part(walk, one, value, at) === undefined))
      return `${at}: is none of what may be here`
  return undefined
}

/** Returns what is wrong with a value that is no composite, or the composite itself. */
const simple = (schema: Part, value: unknown, at: string): string | undefined => {
  const { enum: values, type } = schema
  if (type !== undefined && !isOfType(type, value)) return `${at}: expected ${String(type)}`
  if (Array.isArray(values) && !values.some((one) => same(one, value))) return `${at}: is none of its values`
  if (Object.hasOwn(schema, "const") && !same(schema["const"], value)) return `${at}: is none of its values`
  if (typeof value === "number" && !isWithin(schema, value)) return `${at}: is out of its bounds`
  if (typeof value !== "string") return undefined
  return isOfLength(schema, value.length, "minLength", "maxLength")
    ? undefined
    : `${at}: is too short or too long`
}

const part = (walk: SchemaWalk, schema: unknown, value: unknown, at: string): string | undefined => {
  if (walk.effort.left-- <= 0 || walk.depth >= maxDepth) return `${at}: takes too long to check`
  if (schema === false) return `${at}: is not expected`
  if (!isRecord(schema)) return undefined
  walk.depth++
  const problem =
    simple(schema, value, at) ??
    (Array.isArray(value)
      ? array(walk, schema, value, at)
      : isRecord(value)
        ? object(walk, schema, value, at)
        : undefined) ??
    combined(walk, schema, value, at)
  walk.depth--
  return problem
}

/** Returns what is wrong with a value, as a sentence that names the path below `at` and never the value. */
export const problem = (schema: Part, value: unknown, at: string): string | undefined =>
  part({ root: schema, effort: { left: maxEffort }, depth: 0 }, schema, value, at)
