/** Decoding what peers and models have written by the schema of a contract. */
import type * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import type { AST, ParseOptions } from "effect/SchemaAST"

/** Returns whether something in it cannot be made a text of: JSON may have a member `toString`, which is no function then. */
const isWithoutText = (value: unknown): boolean =>
  typeof value === "object" &&
  value !== null &&
  (("toString" in value && typeof value.toString !== "function") || Object.values(value).some(isWithoutText))

/** Values in an input, and levels of them, up to which everything that is wrong with it is looked for, and not the first thing only. */
const fewValues = 200
const fewLevels = 8

/** Returns whether a value of JSON has no more in it than that. */
const isSmall = (value: unknown): boolean => {
  const left: Array<readonly [value: unknown, level: number]> = [[value, 1]]
  for (let seen = 0; left.length > 0; seen++) {
    const [next, level] = left.pop() ?? [undefined, 0]
    if (typeof next === "object" && next !== null)
      for (const key in next) {
        if (level >= fewLevels || seen + left.length >= fewValues) return false
        left.push([next[key as never], level + 1])
      }
  }
  return true
}

/** What a schema is made of. */
const parts = (ast: AST): ReadonlyArray<AST> => {
  switch (ast._tag) {
    case "Declaration":
      return ast.typeParameters
    case "Union":
      return ast.types
    case "Refinement":
      return [ast.from]
    case "Transformation":
      return [ast.from, ast.to]
    case "Suspend":
      return [ast.f()]
    case "TupleType":
      return [...ast.elements, ...ast.rest].map(({ type }) => type)
    case "TypeLiteral":
      return [...ast.propertySignatures, ...ast.indexSignatures].map(({ type }) => type)
    default:
      return []
  }
}

/** Returns everything that a schema is made of; of what is suspended only where `through` says so. */
const within = (root: AST, through: boolean): ReadonlySet<AST> => {
  const found = new Set([root])
  for (const ast of found)
    if (through || ast._tag !== "Suspend") for (const part of parts(ast)) found.add(part)
  return found
}

/**
 * Returns whether a schema goes on below more than one member of a union: for each level that a value has of it, looking for all
 * that is wrong may take as many times as long.
 */
const branches = (root: AST): boolean => {
  const recurses = (ast: AST) => [...within(ast, false)].some(({ _tag }) => _tag === "Suspend")
  return [...within(root, true)].some((ast) => ast._tag === "Union" && ast.types.filter(recurses).length > 1)
}

/**
 * As `Schema.decodeUnknown`; of what is refused all that is wrong is told where that is soon found. It is looked for only then,
 * since it tries every member of a union to its end, and without what takes time or services, which would be done twice.
 * Of what should be the tag of a union Effect makes a text, and throws for `{"toString": 1}`: here such a value is refused as any
 * other. What else throws is a fault of the schema.
 */
export const decodeUnknown = <A, I, R>(schema: Schema.Schema<A, I, R>, options: ParseOptions = {}) => {
  const decode = Schema.decodeUnknown(schema, options)
  const thoroughly: ParseOptions = { ...options, errors: "all" }
  let isSimple: boolean | undefined
  return (value: unknown): Effect.Effect<A, ParseResult.ParseError, R> => {
    try {
      const first = decode(value)
      if (!Either.isEither(first) || Either.isRight(first) || !isSmall(value)) return first
      isSimple ??= !branches(schema.ast)
      const all = isSimple ? decode(value, thoroughly) : first
      return Either.isEither(all) ? all : first
    } catch (error) {
      if (!(error instanceof TypeError && isWithoutText(value))) throw error
      return Either.left(new ParseResult.ParseError({ issue: new ParseResult.Type(schema.ast, value) }))
    }
  }
}
