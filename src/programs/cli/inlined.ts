/** JSON Schemas for people: what is defined elsewhere in a schema is put where it is used, as long as it is short. */
import { isRecord } from "../../protocol/Json.js"

type Schema = Readonly<Record<string, unknown>>

/** Characters of a definition up to which it is put wherever it is used. */
const maxInlined = 400

/** The name that a reference is to, if it is to a definition of its own schema. */
const nameIn = (reference: unknown): string | undefined =>
  typeof reference === "string" && reference.startsWith("#/$defs/")
    ? reference.slice(8).replaceAll("~1", "/").replaceAll("~0", "~")
    : undefined

/** A copy in which whatever is an object has gone through `change`, from the inside out. */
const mapped = (value: unknown, change: (schema: Schema) => unknown): unknown =>
  Array.isArray(value)
    ? value.map((part) => mapped(part, change))
    : isRecord(value)
      ? change(Object.fromEntries(Object.entries(value).map(([key, part]) => [key, mapped(part, change)])))
      : value

const refersTo = (value: unknown): ReadonlySet<string> => {
  const names = new Set<string>()
  mapped(value, (schema) => {
    const name = nameIn(schema["$ref"])
    if (name !== undefined) names.add(name)
    return schema
  })
  return names
}

/** Returns the schema with short definitions in place of references to them; what is still referred to stays defined. */
export const inlined = (schema: Schema): Schema => {
  const { $defs, ...rest } = schema
  if (!isRecord($defs)) return schema
  const short = new Map(
    Object.entries($defs).filter(
      ([, definition]) => refersTo(definition).size === 0 && JSON.stringify(definition).length <= maxInlined
    )
  )
  const put = (value: unknown) =>
    mapped(value, ({ $ref, ...others }) => {
      const definition = short.get(nameIn($ref) ?? "")
      if (isRecord(definition)) return { ...definition, ...others }
      return $ref === undefined ? others : { $ref, ...others }
    }) as Schema
  const body = put(rest)
  const others = Object.fromEntries(
    Object.entries($defs).flatMap(([name, definition]) => (short.has(name) ? [] : [[name, put(definition)]]))
  )
  return Object.keys(others).length === 0 ? body : { ...body, $defs: others }
}
