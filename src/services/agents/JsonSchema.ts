/** JSON Schemas of contracts. */
import * as JSONSchema from "effect/JSONSchema"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"

/** A JSON Schema, as data. */
export type JsonSchema = Readonly<Record<string, unknown>>

/** Returns whether a schema is annotated as one that leaves out, or keeps, what it does not know. */
const takesMore = ({ ast }: Schema.Schema.All): boolean =>
  Option.exists(
    SchemaAST.getParseOptionsAnnotation(ast),
    ({ onExcessProperty = "error" }) => onExcessProperty !== "error"
  )

/**
 * Returns a schema as JSON Schema; one that cannot be expressed, or that takes anything, as an empty one. Members that a schema does
 * not know are not allowed, unless it is annotated otherwise.
 */
export const jsonSchema = (schema: Schema.Schema.All): JsonSchema => {
  if (schema.ast._tag === "UnknownKeyword") return {}
  try {
    const $defs: Record<string, JSONSchema.JsonSchema7> = {}
    const made = JSONSchema.fromAST(schema.ast, {
      definitions: $defs,
      additionalPropertiesStrategy: takesMore(schema) ? "allow" : "strict"
    })
    const definitions = Object.keys($defs).length === 0 ? {} : { $defs }
    return { $schema: "http://json-schema.org/draft-07/schema#", ...definitions, ...made } as JsonSchema
  } catch {
    return {}
  }
}
