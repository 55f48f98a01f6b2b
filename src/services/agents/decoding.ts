/** Decoding what peers and models have written by the schema of a contract. */
import type * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import type { ParseOptions } from "effect/SchemaAST"

/** Returns whether something in it cannot be made a text of: JSON may have a member `toString`, which is no function then. */
const isWithoutText = (value: unknown): boolean =>
  typeof value === "object" &&
  value !== null &&
  (("toString" in value && typeof value.toString !== "function") || Object.values(value).some(isWithoutText))

/**
 * As `Schema.decodeUnknown`. Of what should be the tag of a union that makes a text, and throws for `{"toString": 1}`: here such a
 * value is refused as any other. What else throws is a fault of the schema.
 */
export const decodeUnknown = <A, I, R>(schema: Schema.Schema<A, I, R>, options?: ParseOptions) => {
  const decode = Schema.decodeUnknown(schema, options)
  return (value: unknown): Effect.Effect<A, ParseResult.ParseError, R> => {
    try {
      return decode(value)
    } catch (error) {
      if (!(error instanceof TypeError && isWithoutText(value))) throw error
      return Either.left(new ParseResult.ParseError({ issue: new ParseResult.Type(schema.ast, value) }))
    }
  }
}
