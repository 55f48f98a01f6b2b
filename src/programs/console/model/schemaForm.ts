/** A form made from a JSON Schema: its fields, and the value that they hold. What no field is for stays JSON. */
import { membersOf } from "../../../protocol/Json.js"
import { Unreadable } from "./typed.js"
import { field, isRecord, textIn } from "./values.js"

export type Field =
  | { readonly type: "text"; readonly long: boolean }
  | {
      readonly type: "number"
      readonly integer: boolean
      readonly least: number | undefined
      readonly most: number | undefined
    }
  | { readonly type: "choice"; readonly choices: ReadonlyArray<unknown> }
  | { readonly type: "object"; readonly members: ReadonlyArray<Member> }
  | { readonly type: "list"; readonly of: Field }
  /** One of several, each by a name. */
  | {
      readonly type: "union"
      readonly variants: ReadonlyArray<{ readonly name: string; readonly field: Field }>
    }
  | { readonly type: "json" }

export interface Member {
  readonly name: string
  /** What people call it, where the schema says so. */
  readonly title: string | undefined
  readonly required: boolean
  readonly says: string
  /** What it is when nobody gives it, where the schema says so. */
  readonly otherwise: unknown
  readonly field: Field
}

/** Levels of a form beyond which a value is given as JSON. */
const deepest = 4

/** Schemas that one form is made of; what more there are is given as JSON. References make many, and endless ones, of a few. */
const mostSchemas = 2_000

/** Members of one object that a form has fields for; one with more is given as JSON. */
const mostMembers = 200

/** The schema that references lead into, and how many more schemas are looked at. */
interface Root {
  readonly schema: unknown
  left: number
}

/** Follows references; what is said beside one is said of its target, too. */
const resolved = (schema: unknown, root: Root, hops = 0): unknown => {
  const ref = textIn(schema, "$ref")
  if (ref === undefined || hops > 8 || !isRecord(schema)) return schema
  const target = ref
    .replace(/^#\/?/, "")
    .split("/")
    .filter((part) => part !== "")
    .reduce<unknown>((found, part) => field(found, unescaped(part)), root.schema)
  const { $ref: _ref, $defs: _defs, definitions: _definitions, ...beside } = schema
  const found = resolved(target, root, hops + 1)
  return isRecord(found) ? { ...found, ...beside } : found
}

/** A name within a reference. */
const unescaped = (part: string): string => {
  try {
    return decodeURIComponent(part).replace(/~1/g, "/").replace(/~0/g, "~")
  } catch {
    return part
  }
}

/** Returns a schema with what its `allOf` adds to it: bounds, for example, and members. */
const whole = (schema: unknown, root: Root): unknown => {
  const all = field(schema, "allOf")
  if (!isRecord(schema) || !Array.isArray(all) || all.length > 20) return schema
  const { allOf: _all, ...own } = schema
  let merged: Readonly<Record<string, unknown>> = {}
  for (const part of [...all.map((one: unknown) => resolved(one, root)), own]) {
    if (!isRecord(part)) continue
    const properties = { ...membersOf(merged["properties"]), ...membersOf(part["properties"]) }
    const required = [merged, part].flatMap(({ required }) => (Array.isArray(required) ? required : []))
    merged = {
      ...merged,
      ...part,
      ...(Object.keys(properties).length === 0 ? {} : { properties }),
      ...(required.length === 0 ? {} : { required })
    }
  }
  return merged
}

const choicesOf = (schema: unknown, root: Root, depth = 0): ReadonlyArray<unknown> | undefined => {
  if (depth > deepest || root.left-- <= 0) return undefined
  const values = field(schema, "enum")
  if (Array.isArray(values) && values.length > 0) return values
  const constant = field(schema, "const")
  if (constant !== undefined) return [constant]
  const any = field(schema, "anyOf") ?? field(schema, "oneOf")
  if (!Array.isArray(any)) return undefined
  const each = any.map((one) => choicesOf(resolved(one, root), root, depth + 1))
  return each.every((one) => one !== undefined) ? each.flat() : undefined
}

/** What a variant of a union is called: by its title, by what tells it apart, by its members, or by its type. */
const variantName = (schema: unknown, i: number): string => {
  const title = textIn(schema, "title")
  if (title !== undefined) return title
  const properties = field(schema, "properties")
  if (isRecord(properties))
    for (const [name, inner] of Object.entries(properties)) {
      const all = field(inner, "enum")
      const only = field(inner, "const") ?? (Array.isArray(all) ? all[0] : undefined)
      if (typeof only === "string") return `${name}: ${only}`
    }
  const names = Object.keys(membersOf(properties))
  if (names.length > 0) return names.slice(0, 3).join(", ")
  return textIn(schema, "type") ?? `form ${i + 1}`
}

/** Variants of a union that can be chosen from. */
const mostVariants = 30

const unionOf = (schema: unknown, root: Root, depth: number): Field | undefined => {
  const types = field(schema, "type")
  const any = Array.isArray(types)
    ? types.map((type: unknown) => ({ ...(isRecord(schema) ? schema : {}), type }))
    : (field(schema, "anyOf") ?? field(schema, "oneOf"))
  if (!Array.isArray(any) || any.length === 0 || any.length > mostVariants || depth >= deepest)
    return undefined
  const variants = any.map((one: unknown, i) => {
    const found = resolved(one, root)
    return { name: variantName(found, i), field: fieldIn(found, root, depth + 1) }
  })
  const [only] = variants
  return variants.length === 1 ? only?.field : { type: "union", variants }
}

/** Tells whether a value is of the form of a field, whatever else is wrong with it; of an object, whether it is of that kind. */
const isLike = (of: Field, value: unknown): boolean => {
  if (value instanceof Unreadable) return true
  switch (of.type) {
    case "text":
      return typeof value === "string"
    case "number":
      return typeof value === "number"
    case "choice":
      return of.choices.some((choice) => JSON.stringify(choice) === JSON.stringify(value))
    case "list":
      return Array.isArray(value)
    case "object":
      return (
        isRecord(value) &&
        of.members.every(({ field: inner, name }) => {
          const held = field(value, name)
          return inner.type !== "choice" || held === undefined || isLike(inner, held)
        })
      )
    case "union":
      return of.variants.some((variant) => isLike(variant.field, value))
    default:
      return true
  }
}

const numberOf = (schema: unknown, name: string): number | undefined => {
  const found = field(schema, name)
  return typeof found === "number" ? found : undefined
}

/** The title of a schema, unless it is the name of a type or of a check (`int`, `between(1, 5)`), which generators give. */
const titleIn = (schema: unknown): string | undefined => {
  const title = textIn(schema, "title")
  return title === undefined || /^[a-z]\w*(\(.*\))?$/.test(title) ? undefined : title
}

const ofType = (schema: unknown, root: Root, depth: number): Field => {
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
      // Of a box that is checked or not nobody can tell whether somebody has chosen.
      return { type: "choice", choices: [true, false] }
    case "null":
      return { type: "choice", choices: [null] }
    case "array": {
      const items = field(schema, "items")
      return isRecord(items) && depth < deepest
        ? { type: "list", of: fieldIn(items, root, depth + 1) }
        : { type: "json" }
    }
    case "object": {
      const properties = field(schema, "properties")
      const required = field(schema, "required")
      if (!isRecord(properties) || depth >= deepest) return { type: "json" }
      if (Object.keys(properties).length > mostMembers) return { type: "json" }
      const members = Object.entries(properties).map(([name, inner]) => {
        const about = resolved(inner, root)
        const of = fieldIn(inner, root, depth + 1)
        const otherwise = field(about, "default")
        return {
          name,
          title: titleIn(about),
          required: Array.isArray(required) && required.includes(name),
          says: textIn(about, "description") ?? "",
          otherwise: otherwise !== undefined && missing(of, otherwise).length === 0 ? otherwise : undefined,
          field: of
        }
      })
      return members.length === 0 && field(schema, "additionalProperties") !== false
        ? { type: "json" }
        : { type: "object", members }
    }
    default:
      return { type: "json" }
  }
}

const fieldIn = (schema: unknown, root: Root, depth: number): Field => {
  if (root.left-- <= 0) return { type: "json" }
  const found = whole(resolved(schema, root), root)
  const choices = choicesOf(found, root)
  if (choices !== undefined && choices.length <= 100) return { type: "choice", choices }
  return unionOf(found, root, depth) ?? ofType(found, root, depth)
}

/** Returns the field for a schema. */
export const fieldOf = (schema: unknown): Field => fieldIn(schema, { schema, left: mostSchemas }, 0)

/**
 * What is in a field before anybody has touched it. `undefined`: nothing is given. Nothing is chosen for anybody, and an empty box
 * holds no text: what is sent was meant.
 */
export const initial = (of: Field, required: boolean): unknown => {
  if (!required) return undefined
  switch (of.type) {
    case "choice":
      return of.choices.length === 1 ? of.choices[0] : undefined
    case "list":
      return []
    case "object": {
      const value: Record<string, unknown> = {}
      for (const { field: inner, name, otherwise, required: needed } of of.members) {
        const held = (needed ? otherwise : undefined) ?? initial(inner, needed)
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

const numberProblems = (
  { integer, least, most }: Extract<Field, { type: "number" }>,
  value: unknown,
  path: string
): ReadonlyArray<string> => {
  if (value === undefined) return [`${path} is missing`]
  if (typeof value !== "number" || !Number.isFinite(value)) return [`${path} needs a number`]
  if (integer && !Number.isInteger(value)) return [`${path} needs a whole number`]
  if (least !== undefined && value < least) return [`${path} is at least ${least}`]
  return most !== undefined && value > most ? [`${path} is at most ${most}`] : []
}

/** What a value of another form is not. */
const forms: Readonly<Record<"text" | "list" | "object" | "choice" | "union", string>> = {
  text: "is no text",
  list: "is no list",
  object: "is no object",
  choice: "is none of its choices",
  union: "is of none of its forms"
}

/** Returns what of a value JSON cannot say, wherever it is in it. */
export const unsendable = (value: unknown, path = "input"): ReadonlyArray<string> => {
  if (value instanceof Unreadable) return [`${path} ${value.says}`]
  if (typeof value === "number" && !Number.isFinite(value)) return [`${path} is no number`]
  if (Array.isArray(value))
    return value.flatMap((item: unknown, i) =>
      item === undefined ? [`${path}[${i}] is missing`] : unsendable(item, `${path}[${i}]`)
    )
  if (!isRecord(value)) return []
  return Object.entries(value).flatMap(([name, inner]) => unsendable(inner, `${path}.${name}`))
}

/**
 * What is missing or wrong in a value as one of a union. Of variants that are alike nobody can tell which is meant, but by what the
 * value lacks: the one that it lacks least of, and each of them where there are several.
 */
const missingOf = (
  { variants }: Extract<Field, { type: "union" }>,
  value: unknown,
  path: string
): { readonly at: number; readonly lacks: ReadonlyArray<string> } => {
  const each = variants.flatMap(({ field: inner }, at) =>
    isLike(inner, value) ? [{ at, lacks: missing(inner, value, path) }] : []
  )
  const least = Math.min(...each.map(({ lacks }) => lacks.length))
  const [nearest, ...others] = each.filter(({ lacks }) => lacks.length === least)
  if (nearest === undefined) return { at: 0, lacks: [`${path} ${forms.union}`] }
  const firsts = new Set([nearest, ...others].map(({ lacks }) => lacks[0]))
  return firsts.size > 1 ? { ...nearest, lacks: [[...firsts].join(", or ")] } : nearest
}

/** Returns the place of the variant of a union that a value is one of, or is nearest to. */
export const variantAt = (of: Extract<Field, { type: "union" }>, value: unknown): number =>
  missingOf(of, value, "").at

/** Returns what is missing or wrong in a value, as sentences with its place: what a field does not show is not sent, either. */
export const missing = (of: Field, value: unknown, path = "input"): ReadonlyArray<string> => {
  if (value instanceof Unreadable || of.type === "json") return unsendable(value, path)
  if (of.type === "number") return numberProblems(of, value, path)
  if (of.type === "union" && value !== undefined) return missingOf(of, value, path).lacks
  if (of.type === "list" && Array.isArray(value))
    return value.flatMap((item: unknown, i) => missingIn(of.of, item, `${path}[${i}]`))
  if (of.type === "object" && isRecord(value))
    return of.members.flatMap(({ field: inner, name, required }) => {
      const held = field(value, name)
      return held === undefined && !required ? [] : missingIn(inner, held, `${path}.${name}`)
    })
  if (value !== undefined && isLike(of, value)) return []
  return [`${path} ${value === undefined || value === null ? "is missing" : forms[of.type]}`]
}

/** The same of what is within another value: what is not there is no JSON, either. */
const missingIn = (of: Field, value: unknown, path: string): ReadonlyArray<string> =>
  value === undefined ? [`${path} is missing`] : missing(of, value, path)

/** Returns the places of what is in a value and in no field: it would be sent without being seen. */
export const unshown = (of: Field, value: unknown, path = "input"): ReadonlyArray<string> => {
  if (of.type === "union") {
    const variant = value === undefined ? undefined : of.variants[variantAt(of, value)]
    return variant === undefined ? [] : unshown(variant.field, value, path)
  }
  if (of.type === "list" && Array.isArray(value))
    return value.flatMap((item: unknown, i) => unshown(of.of, item, `${path}[${i}]`))
  if (of.type !== "object" || !isRecord(value) || value instanceof Unreadable) return []
  return Object.keys(value).flatMap((name) => {
    const member = of.members.find((one) => one.name === name)
    return member === undefined
      ? [`${path}.${name}`]
      : unshown(member.field, field(value, name), `${path}.${name}`)
  })
}
