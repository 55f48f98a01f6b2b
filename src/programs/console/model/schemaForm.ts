/** A form made from a JSON Schema: its fields, and the value that they hold. What no field is for stays JSON. */
import { field, isRecord, textIn } from "./values.js"

export type Field =
  | { readonly type: "text"; readonly long: boolean }
  | {
      readonly type: "number"
      readonly integer: boolean
      readonly least: number | undefined
      readonly most: number | undefined
    }
  | { readonly type: "boolean" }
  | { readonly type: "choice"; readonly choices: ReadonlyArray<unknown> }
  | { readonly type: "object"; readonly members: ReadonlyArray<Member> }
  | { readonly type: "list"; readonly of: Field }
  | { readonly type: "json" }

export interface Member {
  readonly name: string
  readonly required: boolean
  readonly says: string
  readonly field: Field
}

/** Levels of a form beyond which a value is given as JSON. */
const deepest = 4

const resolved = (schema: unknown, root: unknown, hops = 0): unknown => {
  const ref = textIn(schema, "$ref")
  if (ref === undefined || hops > 8) return schema
  const target = ref
    .replace(/^#\/?/, "")
    .split("/")
    .filter((part) => part !== "")
    .reduce<unknown>(
      (found, part) => field(found, decodeURIComponent(part).replace(/~1/g, "/").replace(/~0/g, "~")),
      root
    )
  return resolved(target, root, hops + 1)
}

const choicesOf = (schema: unknown, root: unknown): ReadonlyArray<unknown> | undefined => {
  const values = field(schema, "enum")
  if (Array.isArray(values) && values.length > 0) return values
  const constant = field(schema, "const")
  if (constant !== undefined) return [constant]
  const any = field(schema, "anyOf") ?? field(schema, "oneOf")
  if (!Array.isArray(any)) return undefined
  const each = any.map((one) => choicesOf(resolved(one, root), root))
  return each.every((one) => one !== undefined) ? each.flat() : undefined
}

const numberOf = (schema: unknown, name: string): number | undefined => {
  const found = field(schema, name)
  return typeof found === "number" ? found : undefined
}

const ofType = (schema: unknown, root: unknown, depth: number): Field => {
  switch (field(schema, "type")) {
    case "string":
      return { type: "text", long: (numberOf(schema, "maxLength") ?? 0) > 200 }
    case "integer":
    case "number":
      return {
        type: "number",
        integer: field(schema, "type") === "integer",
        least: numberOf(schema, "minimum"),
        most: numberOf(schema, "maximum")
      }
    case "boolean":
      return { type: "boolean" }
    case "array": {
      const items = field(schema, "items")
      return isRecord(items) && depth < deepest
        ? { type: "list", of: fieldOf(items, root, depth + 1) }
        : { type: "json" }
    }
    case "object": {
      const properties = field(schema, "properties")
      const required = field(schema, "required")
      if (!isRecord(properties) || depth >= deepest) return { type: "json" }
      const members = Object.entries(properties).map(([name, inner]) => ({
        name,
        required: Array.isArray(required) && required.includes(name),
        says: textIn(resolved(inner, root), "description") ?? "",
        field: fieldOf(inner, root, depth + 1)
      }))
      return members.length === 0 && field(schema, "additionalProperties") !== false
        ? { type: "json" }
        : { type: "object", members }
    }
    default:
      return { type: "json" }
  }
}

/** Returns the field for a schema. */
export const fieldOf = (schema: unknown, root: unknown = schema, depth = 0): Field => {
  const found = resolved(schema, root)
  const choices = choicesOf(found, root)
  if (choices !== undefined && choices.length <= 100) return { type: "choice", choices }
  const all = field(found, "allOf")
  if (field(found, "type") === undefined && Array.isArray(all) && all.length === 1)
    return fieldOf(all[0], root, depth)
  return ofType(found, root, depth)
}

/** What is in a field before anybody has touched it. `undefined`: nothing is given. */
export const initial = (of: Field, required: boolean): unknown => {
  if (!required) return undefined
  switch (of.type) {
    case "text":
      return ""
    case "boolean":
      return false
    case "choice":
      return of.choices[0]
    case "list":
      return []
    case "object": {
      const value: Record<string, unknown> = {}
      for (const { field: inner, name, required: needed } of of.members) {
        const held = initial(inner, needed)
        if (held !== undefined) define(value, name, held)
      }
      return value
    }
    default:
      return undefined
  }
}

/** Sets a member whatever it is called; `__proto__` is a name like any other. */
const define = (object: Record<string, unknown>, name: string, value: unknown): void => {
  Object.defineProperty(object, name, { value, enumerable: true, configurable: true, writable: true })
}

/** Returns an object with one member changed, or without it when the value is `undefined`. */
export const withMember = (
  object: unknown,
  name: string,
  value: unknown
): Readonly<Record<string, unknown>> => {
  const copy: Record<string, unknown> = {}
  if (isRecord(object))
    for (const [key, held] of Object.entries(object)) if (key !== name) define(copy, key, held)
  if (value !== undefined) define(copy, name, value)
  return copy
}

/** Returns what is missing in a value, as sentences with its place. */
export const missing = (of: Field, value: unknown, path = "input"): ReadonlyArray<string> => {
  if (of.type === "number" && typeof value !== "number") return [`${path} needs a number`]
  if (of.type === "list" && Array.isArray(value))
    return value.flatMap((item: unknown, i) => missing(of.of, item, `${path}[${i}]`))
  if (of.type !== "object") return []
  return of.members.flatMap(({ field: inner, name, required }) => {
    const held = field(value, name)
    return held === undefined
      ? required
        ? [`${path}.${name} is missing`]
        : []
      : missing(inner, held, `${path}.${name}`)
  })
}
