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

/** Values in an input up to which everything that is wrong with it is looked for, and not the first thing only. */
const fewValues = 200

/** Returns whether a value of JSON has no more than `fewValues` in it. */
const isSmall = (value: unknown): boolean => {
  const left = [value]
  for (let seen = 0; left.length > 0; seen++) {
    const next = left.pop()
    if (typeof next === "object" && next !== null)
      for (const key in next) {
        if (seen + left.length >= fewValues) return false
        left.push(next[key as never])
      }
  }
  return true
}

/**
 * As `Schema.decodeUnknown`, and all that is wrong is found where that is soon done. Of what should be the tag of a union that makes a text, and throws for `{"toString": 1}`: here such a
 * value is refused as any other. What else throws is a fault of the schema.
 */
export const decodeUnknown = <A, I, R>(schema: Schema.Schema<A, I, R>, options: ParseOptions = {}) => {
  const decode = Schema.decodeUnknown(schema, options)
  const thoroughly: ParseOptions = { ...options, errors: "all" }
  return (value: unknown): Effect.Effect<A, ParseResult.ParseError, R> => {
    try {
      return isSmall(value) ? decode(value, thoroughly) : decode(value)
    } catch (error) {
      if (!(error instanceof TypeError && isWithoutText(value))) throw error
      return Either.left(new ParseResult.ParseError({ issue: new ParseResult.Type(schema.ast, value) }))
    }
  }
}
