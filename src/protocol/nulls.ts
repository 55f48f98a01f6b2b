/**
 * Clients in other languages write an optional field that they leave out as `null`: it is taken as left out. Not so what
 * bounds a job's authority: an expiry that is `null` is refused, for whoever meant one would get a lease without end.
 */
import * as SchemaAST from "effect/SchemaAST"
import { LeaseConstraints } from "./LeaseGrammar.js"

const takesNull = (ast: SchemaAST.AST): boolean =>
  SchemaAST.isUnknownKeyword(ast) ||
  SchemaAST.isAnyKeyword(ast) ||
  (SchemaAST.isLiteral(ast) && ast.literal === null) ||
  (SchemaAST.isUnion(ast) && ast.types.some(takesNull))

/** A member of an object that may be `null`, and what is within it. */
interface Member {
  readonly name: PropertyKey
  readonly optional: boolean
  readonly within: Drop | undefined
}

/** Deletes the members of a value, which nobody else holds, that stand for nothing. */
export type Drop = (value: unknown) => void

const isObject = (u: unknown): u is Record<PropertyKey, unknown> =>
  typeof u === "object" && u !== null && !Array.isArray(u)

/**
 * Returns what deletes `null` members where the schema has an optional field that is never null; `undefined` when it has none.
 * What is in fields of any type is not looked at.
 */
export const dropping = (ast: SchemaAST.AST): Drop | undefined => {
  if (SchemaAST.isRefinement(ast)) return dropping(ast.from)
  if (SchemaAST.isUnion(ast)) {
    const within = ast.types.map(dropping).filter((drop) => drop !== undefined)
    return within.length === 1 ? within[0] : undefined
  }
  if (!SchemaAST.isTypeLiteral(ast) || ast === LeaseConstraints.ast) return undefined
  const members = ast.propertySignatures
    .map(
      ({ isOptional, name, type }): Member => ({
        name,
        optional: isOptional && !takesNull(type),
        within: dropping(type)
      })
    )
    .filter(({ optional, within }) => optional || within !== undefined)
  if (members.length === 0) return undefined
  return (value) => {
    if (!isObject(value)) return
    for (const { name, optional, within } of members) {
      const member = Object.hasOwn(value, name) ? value[name] : undefined
      if (member !== null) within?.(member)
      else if (optional) delete value[name]
    }
  }
}
