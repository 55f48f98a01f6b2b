/** Decoding what others have written. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { assert, describe, it } from "vitest"
import { describe as problem } from "../../src/protocol/Problem.js"
import { decodeUnknown } from "../../src/services/agents/decoding.js"

const told = <A, I>(schema: Schema.Schema<A, I>, value: unknown): string => {
  const exit = Effect.runSyncExit(
    Effect.mapError(decodeUnknown(schema)(value), ({ issue }) => problem(issue, "input"))
  )
  return Exit.isSuccess(exit) ? "" : `${exit.cause._tag === "Fail" ? exit.cause.error : exit.cause}`
}

/** A schema that has two of itself, and counts how often its leaf is looked at. */
const counted = () => {
  let count = 0
  const leaf = Schema.String.pipe(
    Schema.filter((text) => {
      count++
      return text !== "wrong"
    })
  )
  type Op = { readonly arg: Op | string } & ({ readonly op: "and" | "or" } | { readonly op: "not" | "some" })
  const self = Schema.suspend((): Schema.Schema<Op | string> => formula)
  const formula: Schema.Schema<Op | string> = Schema.Union(
    Schema.Struct({ op: Schema.Literal("and", "or"), arg: self }),
    Schema.Struct({ op: Schema.Literal("not", "some"), arg: self }),
    leaf
  )
  return { formula, count: () => count }
}
/** Told from its end: what is wrong is looked for in a value of JSON, which has no cycles. */
const nested = (levels: number, leaf: unknown): unknown => {
  let value = leaf
  for (let i = 0; i < levels; i++) value = { op: i % 2 === 0 ? "and" : "not", arg: value }
  return value
}

describe("decoding", () => {
  it("looks once at what a union holds that holds itself, at any depth", () => {
    for (const [leaf, isGood] of [
      ["right", true],
      ["wrong", false]
    ] as const)
      for (const levels of [1, 6, 14]) {
        const { count, formula } = counted()
        assert.strictEqual(told(formula, nested(levels, leaf)) === "", isGood)
        assert.strictEqual(count(), 1)
      }
  })

  it("tells all that is wrong with what is small, also where a schema holds itself in one way", () => {
    interface List {
      readonly a: number
      readonly b: number
      readonly next?: List | undefined
    }
    const list: Schema.Schema<List> = Schema.Struct({
      a: Schema.Number,
      b: Schema.Number,
      next: Schema.optional(Schema.suspend((): Schema.Schema<List> => list))
    })
    assert.strictEqual(told(list, { a: "", b: 1 }), "input.a: expected a number")
    assert.strictEqual(told(list, { a: "", next: { a: 1 } }).split("; ").length, 3)
    let deep: unknown = { a: "" }
    for (let i = 0; i < 20; i++) deep = { a: 1, b: 2, next: deep }
    assert.strictEqual(told(list, deep).split("; ").length, 1)
  })

  it("does twice only what takes no time and no service", async () => {
    let count = 0
    const slow = Schema.transformOrFail(Schema.String, Schema.Number, {
      strict: true,
      decode: (text, _, ast) =>
        Effect.suspend(() => {
          count++
          return Effect.zipRight(Effect.yieldNow(), ParseResult.fail(new ParseResult.Type(ast, text)))
        }),
      encode: (n) => ParseResult.succeed(String(n))
    })
    const decode = decodeUnknown(Schema.Struct({ a: slow, b: slow }))
    assert.isTrue(Either.isLeft(await Effect.runPromise(Effect.either(decode({ a: "1", b: "2" })))))
    assert.strictEqual(count, 1)
    // What is known to be wrong without it stays what is told.
    const mixed = decodeUnknown(Schema.Struct({ a: Schema.Literal("x"), b: slow }))
    assert.isTrue(Either.isLeft(await Effect.runPromise(Effect.either(mixed({ a: "1", b: "2" })))))
    assert.strictEqual(count, 1)
  })
})
