/** What is wrong with a value, as a sentence that names the path and never the value. */

import * as Option from "effect/Option"
import type * as ParseResult from "effect/ParseResult"
import * as SchemaAST from "effect/SchemaAST"

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

const first = (
  issue: ParseResult.ParseIssue,
  path: ReadonlyArray<PropertyKey>
): { readonly path: ReadonlyArray<PropertyKey>; readonly problem: string } => {
  switch (issue._tag) {
    case "Pointer":
      return first(issue.issue, [...path, ...asArray(issue.path)])
    case "Composite": {
      const issues = asArray(issue.issues).filter((part) => part._tag !== "Type" || !isUndefined(part.ast))
      return issue.ast._tag === "Union" && issues.length !== 1
        ? { path, problem: `expected ${expected(issue.ast)}` }
        : first(issues[0] as ParseResult.ParseIssue, path)
    }
    case "Refinement":
      return issue.kind === "From"
        ? first(issue.issue, path)
        : { path, problem: `expected ${expected(issue.ast)}` }
    case "Transformation":
      return first(issue.issue, path)
    case "Missing":
      return { path, problem: "is missing" }
    case "Unexpected":
      return { path, problem: "is not expected" }
    case "Forbidden":
      return { path, problem: "cannot be decoded here" }
    case "Type": {
      const explain = issue.ast.annotations[explains] as ((value: unknown) => string | undefined) | undefined
      return { path, problem: explain?.(issue.actual) ?? `expected ${expected(issue.ast)}` }
    }
  }
}

/** One sentence about the first thing wrong, below `root`: `payload.limit: expected …`. */
export const describe = (issue: ParseResult.ParseIssue, root: string): string => {
  const { path, problem } = first(issue, [root])
  return `${at(path)}: ${problem}`
}
