/** Values to be replaced by whoever copies a command line. */
import { isRecord } from "../../protocol/Json.js"

type Schema = Readonly<Record<string, unknown>>

/** A value of the kind that a schema wants, to be replaced by whoever copies it. */
export const placeholder = (schema: unknown): unknown => {
  if (!isRecord(schema)) return null
  const [first] = [schema["const"], schema["default"], ...[schema["enum"], schema["examples"]].flat()].filter(
    (value) => value !== undefined
  )
  if (first !== undefined) return first
  const either = schema["anyOf"] ?? schema["oneOf"]
  if (Array.isArray(either)) return placeholder(either[0])
  switch (schema["type"]) {
    case "object":
      return sample(schema)
    case "array":
      return []
    case "string":
      return "…"
    case "number":
    case "integer":
      return 0
    case "boolean":
      return false
    default:
      return null
  }
}

/** An input with what is required. */
const sample = (schema: Schema): Schema => {
  const properties = isRecord(schema["properties"]) ? schema["properties"] : {}
  const required: ReadonlyArray<unknown> = Array.isArray(schema["required"]) ? schema["required"] : []
  return Object.fromEntries(required.map((name) => [name, placeholder(properties[String(name)])]))
}

/** A value as a word of a shell's command line. */
export const quoted = (json: unknown) => `'${JSON.stringify(json).replaceAll("'", "'\\''")}'`
