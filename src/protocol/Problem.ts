/** What is wrong with a value, as a sentence that names the path and never the value. */
import type * as ParseResult from "effect/ParseResult"
import * as SchemaAST from "effect/SchemaAST"
import * as Option from "effect/Option"

const expected = (ast: SchemaAST.AST): string =>
  Option.getOrElse(SchemaAST.getDescriptionAnnotation(ast), () => String(ast))

const at = (path: ReadonlyArray<PropertyKey>): string =>
  path.map((part, i) => (typeof part === "number" ? `[${part}]` : i === 0 ? String(part) : `.${String(part)}`)).join("")

const asArray = <A>(value: A | ReadonlyArray<A>): ReadonlyArray<A> =>
  Array.isArray(value) ? value : [value as A]

const first = (
  issue: ParseResult.ParseIssue,
  path: ReadonlyArray<PropertyKey>
): { readonly path: ReadonlyArray<PropertyKey>; readonly problem: string } => {
  switch (issue._tag) {
    case "Pointer":
      return first(issue.issue, [...path, ...asArray(issue.path)])
    case "Composite":
      return issue.ast._tag === "Union"
        ? { path, problem: `expected ${expected(issue.ast)}` }
        : first(asArray(issue.issues)[0] as ParseResult.ParseIssue, path)
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
    case "Type":
      return { path, problem: `expected ${expected(issue.ast)}` }
  }
}

/** One sentence about the first thing wrong, below `root`: `payload.limit: expected …`. */
export const describe = (issue: ParseResult.ParseIssue, root: string): string => {
  const { path, problem } = first(issue, [root])
  return `${at(path)}: ${problem}`
}
