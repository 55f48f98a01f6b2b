import { expect, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { describe as sentence } from "../../src/protocol/Problem.js"

const problem = <A, I>(schema: Schema.Schema<A, I>, value: unknown): string => {
  const result = ParseResult.decodeUnknownEither(schema)(value)
  return Either.isLeft(result) ? sentence(result.left, "input") : "fine"
}

const Item = Schema.Struct({ name: Schema.NonEmptyString, size: Schema.optional(Schema.Int) })

it("names the path of the first thing wrong, and never a value", () => {
  const schema = Schema.Struct({
    items: Schema.optional(Schema.Array(Item)),
    limit: Schema.optionalWith(Schema.Int.pipe(Schema.between(1, 9, { description: "1 to 9" })), {
      default: () => 1
    }),
    mode: Schema.optional(Schema.Literal("a", "b")),
    cursor: Schema.optional(Schema.NullOr(Schema.String)),
    at: Schema.optional(Schema.NumberFromString)
  })
  expect(problem(schema, {})).toBe("fine")
  expect(problem(schema, "s3cret")).toMatch(/^input: expected /)
  for (const any of [
    schema,
    Schema.Int,
    Schema.NullOr(Schema.String),
    Schema.NumberFromString,
    Schema.NonEmptyString
  ])
    expect(problem(any as Schema.Schema<unknown>, undefined)).toBe("input: is missing")
  expect(problem(schema, { items: [{ name: "x" }, {}] })).toBe("input.items[1].name: is missing")
  expect(problem(schema, { items: [{ name: "" }] })).toBe("input.items[0].name: expected a non empty string")
  expect(problem(schema, { items: [{ name: "x", size: "s3cret" }] })).toBe(
    "input.items[0].size: expected a number"
  )
  expect(problem(schema, { limit: 10 })).toBe("input.limit: expected 1 to 9")
  expect(problem(schema, { mode: "s3cret" })).toBe('input.mode: expected "a" or "b"')
  expect(problem(schema, { cursor: 5 })).toBe("input.cursor: expected a string or null")
  for (const wrong of [
    "s3cret",
    { items: "s3cret" },
    { mode: "s3cret" },
    { cursor: ["s3cret"] },
    { at: "s3cret" }
  ])
    expect(problem(schema, wrong)).not.toContain("s3cret")
})

it("names the first things that are wrong, where all are looked for, and how many more there are", () => {
  const schema = Schema.Struct({
    name: Schema.String,
    size: Schema.Int,
    mode: Schema.Literal("a", "b"),
    tags: Schema.Array(Schema.String)
  })
  const all = (value: unknown): string => {
    const result = ParseResult.decodeUnknownEither(schema, { errors: "all" })(value)
    return Either.isLeft(result) ? sentence(result.left, "input") : "fine"
  }
  expect(all({ name: 1, size: "s3cret", mode: "a", tags: [] })).toBe(
    "input.name: expected a string; input.size: expected a number"
  )
  expect(all({ tags: [1, "x", 2, 3] })).toBe(
    "input.name: is missing; input.size: is missing; input.mode: is missing; and 3 more"
  )
  expect(all(3)).toMatch(/^input: expected /)
})

it("describes transformations and refinements of the user's own schemas", () => {
  const Even = Schema.Number.pipe(Schema.filter((n) => n % 2 === 0, { description: "an even number" }))
  expect(problem(Schema.Struct({ n: Even }), { n: 3 })).toBe("input.n: expected an even number")
  expect(problem(Schema.Date, "s3cret")).not.toContain("s3cret")
  expect(
    problem(Schema.Union(Schema.Struct({ a: Schema.Number }), Schema.Struct({ b: Schema.Number })), {})
  ).toMatch(/^input: expected /)
})
