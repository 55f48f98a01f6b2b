/** JSON Schemas of contracts. */
import * as JSONSchema from "effect/JSONSchema"
import type * as Schema from "effect/Schema"

/** A JSON Schema, as data. */
export type JsonSchema = Readonly<Record<string, unknown>>

/** Returns a schema as JSON Schema; one that cannot be expressed, or that takes anything, as an empty one. */
export const jsonSchema = (schema: Schema.Schema.All): JsonSchema => {
  if (schema.ast._tag === "UnknownKeyword") return {}
  try {
    return JSONSchema.make(schema as Schema.Schema<unknown>) as unknown as JsonSchema
  } catch {
    return {}
  }
}
