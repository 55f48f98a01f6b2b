/** What is wrong with a value, as a sentence that names the path and never the value. */

import * as Option from "effect/Option"
import type * as ParseResult from "effect/ParseResult"
import * as SchemaAST from "effect/SchemaAST"
import { didYouMean } from "./suggest.js"

/** Annotation of a declared schema: says what is wrong with a value, without repeating it. */
export const explains: unique symbol = Symbol.for("arcp/protocol/explains")

/** An optional field is a union with `undefined`, which JSON cannot hold. */
const isUndefined = (ast: SchemaAST.AST): boolean => ast._tag === "UndefinedKeyword"

const expected = (ast: SchemaAST.AST): string =>
  Option.getOrElse(SchemaAST.getDescriptionAnnotation(ast), () =>
    ast._tag === "Union"
      ? ast.types
          .filter((member) => !isUndefined(member))
          .map(expected)
          .join(" or ")
      : String(ast)
  )

const at = (path: ReadonlyArray<PropertyKey>): string =>
  path
    .map((part, i) => (typeof part === "number" ? `[${part}]` : i === 0 ? String(part) : `.${String(part)}`))
    .join("")

const asArray = <A>(value: A | ReadonlyArray<A>): ReadonlyArray<A> =>
  Array.isArray(value) ? value : [value as A]

/** Something that is wrong, and where. */
interface Found {
  readonly path: ReadonlyArray<PropertyKey>
  readonly problem: string
}

/** Also of `undefined`, which JSON cannot hold. */
const missing = "is missing"

/** The members that a schema knows. */
const namesOf = (ast: SchemaAST.AST): ReadonlyArray<string> =>
  ast._tag === "TypeLiteral" ? ast.propertySignatures.map(({ name }) => String(name)) : []

const found = (
  issue: ParseResult.ParseIssue,
  path: ReadonlyArray<PropertyKey>,
  /** The members beside which it is. */
  known: ReadonlyArray<string> = []
): ReadonlyArray<Found> => {
  const here = (problem: string) => [{ path, problem }]
  switch (issue._tag) {
    case "Pointer":
      return found(issue.issue, [...path, ...asArray(issue.path)], known)
    case "Composite": {
      if (issue.actual === undefined) return here(missing)
      const issues = asArray(issue.issues).filter((part) => part._tag !== "Type" || !isUndefined(part.ast))
      return issues.length === 0 || (issue.ast._tag === "Union" && issues.length !== 1)
        ? here(`expected ${expected(issue.ast)}`)
        : issues.flatMap((part) => found(part, path, namesOf(issue.ast)))
    }
    case "Refinement":
      return issue.kind === "From" ? found(issue.issue, path) : here(`expected ${expected(issue.ast)}`)
    case "Transformation":
      return found(issue.issue, path)
    case "Missing":
      return here(missing)
    case "Unexpected":
      return here(`is not expected${didYouMean(String(path.at(-1)), known)}`)
    case "Forbidden":
      return here("cannot be decoded here")
    case "Type": {
      const explain = issue.ast.annotations[explains] as ((value: unknown) => string | undefined) | undefined
      if (issue.actual === undefined) return here(missing)
      return here(explain?.(issue.actual) ?? `expected ${expected(issue.ast)}`)
    }
  }
}

/** Wrong things that are told at once. */
const most = 3

/** One sentence about the first things wrong, below `root`: `payload.limit: expected …`. */
export const describe = (issue: ParseResult.ParseIssue, root: string): string => {
  const all = found(issue, [root])
  const told = all.slice(0, most).map(({ path, problem }) => `${at(path)}: ${problem}`)
  return [...told, ...(all.length > most ? [`and ${all.length - most} more`] : [])].join("; ")
}
