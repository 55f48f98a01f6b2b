/**
 * Checks a value by a JSON Schema, as far as those go that Effect makes of its schemas. What else a schema says is not looked at:
 * whoever has the schema itself checks the value again.
 */
import type { Effort } from "./Steps.js"

/** A JSON Schema, or the part of one. */
type Part = Readonly<Record<string, unknown>>

const isObject = (value: unknown): value is Part =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const isPart = isObject

const typeOf = (value: unknown): string =>
  value === null ? "null" : Array.isArray(value) ? "array" : typeof value

const same = (a: unknown, b: unknown): boolean => a === b || JSON.stringify(a) === JSON.stringify(b)

/** Values looked at before a schema is given up: far more than a frame has, unless its alternatives overlap again and again. */
const maxEffort = 1_000_000

/** What is gone through. */
interface Walk {
  readonly root: Part
  readonly effort: Effort
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

const matches = (pattern: unknown, text: string): boolean => {
  if (typeof pattern !== "string") return true
  try {
    return new RegExp(pattern, "u").test(text)
  } catch {
    return true
  }
}

const isOfType = (type: unknown, value: unknown): boolean => {
  const types = Array.isArray(type) ? type : [type]
  return types.some((name) => (name === "integer" ? Number.isInteger(value) : name === typeOf(value)))
}

/** Returns the part that a reference within the schema names. */
const resolve = (root: Part, reference: string): unknown => {
  let part: unknown = root
  for (const name of reference.split("/").slice(1))
    part = isPart(part)
      ? part[decodeURIComponent(name).replaceAll("~1", "/").replaceAll("~0", "~")]
      : undefined
  return part
}

const array = (walk: Walk, schema: Part, value: ReadonlyArray<unknown>, at: string): string | undefined => {
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

const object = (walk: Walk, schema: Part, value: Part, at: string): string | undefined => {
  const names = Object.keys(value)
  const { additionalProperties, patternProperties, properties, propertyNames, required } = schema
  if (!isOfLength(schema, names.length, "minProperties", "maxProperties"))
    return `${at}: has too few or too many members`
  for (const name of Array.isArray(required) ? required : [])
    if (typeof name === "string" && !Object.hasOwn(value, name)) return `${at}.${name}: is missing`
  const patterns = isPart(patternProperties) ? Object.entries(patternProperties) : []
  for (const name of names) {
    const below = `${at}.${name.slice(0, 64)}`
    const named = propertyNames === undefined ? undefined : part(walk, propertyNames, name, below)
    if (named !== undefined) return named
    const own = isPart(properties) && Object.hasOwn(properties, name) ? [properties[name]] : []
    const schemas = [...own, ...patterns.filter(([pattern]) => matches(pattern, name)).map(([, of]) => of)]
    for (const of of schemas.length === 0 ? [additionalProperties] : schemas) {
      const problem = part(walk, of, value[name], below)
      if (problem !== undefined) return problem
    }
  }
  return undefined
}

/** Returns what is wrong with a value by the schemas that are put together in one. */
const combined = (walk: Walk, schema: Part, value: unknown, at: string): string | undefined => {
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
  const { enum: values, pattern, type } = schema
  if (type !== undefined && !isOfType(type, value)) return `${at}: expected ${String(type)}`
  if (Array.isArray(values) && !values.some((one) => same(one, value))) return `${at}: is none of its values`
  if (Object.hasOwn(schema, "const") && !same(schema["const"], value)) return `${at}: is none of its values`
  if (typeof value === "number" && !isWithin(schema, value)) return `${at}: is out of its bounds`
  if (typeof value !== "string") return undefined
  if (!isOfLength(schema, value.length, "minLength", "maxLength")) return `${at}: is too short or too long`
  return matches(pattern, value) ? undefined : `${at}: is not of its form`
}

const part = (walk: Walk, schema: unknown, value: unknown, at: string): string | undefined => {
  if (walk.effort.left-- <= 0) return `${at}: takes too long to check`
  if (schema === false) return `${at}: is not expected`
  if (!isPart(schema)) return undefined
  return (
    simple(schema, value, at) ??
    (Array.isArray(value)
      ? array(walk, schema, value, at)
      : isObject(value)
        ? object(walk, schema, value, at)
        : undefined) ??
    combined(walk, schema, value, at)
  )
}

/** Returns what is wrong with a value, as a sentence that names the path below `at` and never the value. */
export const problem = (schema: Part, value: unknown, at: string): string | undefined =>
  part({ root: schema, effort: { left: maxEffort } }, schema, value, at)
