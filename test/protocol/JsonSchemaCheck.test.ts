import { describe, expect, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as fc from "effect/FastCheck"
import * as JSONSchema from "effect/JSONSchema"
import * as Schema from "effect/Schema"
import * as JsonSchemaCheck from "../../src/protocol/JsonSchemaCheck.js"
import { decodeUnknown } from "../../src/services/agents/decoding.js"

interface Tree {
  readonly name: string
  readonly parts: ReadonlyArray<Tree>
}
const Tree: Schema.Schema<Tree> = Schema.Struct({
  name: Schema.NonEmptyString,
  parts: Schema.Array(Schema.suspend(() => Tree))
}).annotations({ identifier: "Tree" })

/** Schemas that JSON Schema says all of. */
const whole: Readonly<Record<string, Schema.Schema<unknown>>> = {
  text: Schema.String,
  literal: Schema.Literal("yes", "no", 1, null, true),
  bounded: Schema.String.pipe(Schema.minLength(2), Schema.maxLength(4)),
  number: Schema.Number.pipe(Schema.finite()),
  integer: Schema.Int.pipe(Schema.between(-3, 12)),
  multiple: Schema.Int.pipe(Schema.multipleOf(3), Schema.greaterThan(0), Schema.lessThan(99)),
  boolean: Schema.Boolean,
  struct: Schema.Struct({
    a: Schema.String,
    b: Schema.optional(Schema.Int),
    c: Schema.NullOr(Schema.Boolean)
  }),
  list: Schema.Array(Schema.Int).pipe(Schema.minItems(1), Schema.maxItems(3)),
  tuple: Schema.Tuple(Schema.String, Schema.optionalElement(Schema.Int)),
  rest: Schema.Tuple([Schema.String], Schema.Boolean),
  record: Schema.Record({ key: Schema.String, value: Schema.Int }),
  union: Schema.Union(
    Schema.TaggedStruct("A", { n: Schema.Int }),
    Schema.TaggedStruct("B", { s: Schema.String }),
    Schema.Array(Schema.String)
  ),
  tree: Tree,
  enums: Schema.Enums({ A: "a", B: 7 }),
  anything: Schema.Unknown,
  nested: Schema.Struct({ list: Schema.Array(Schema.Struct({ x: Schema.Union(Schema.Int, Schema.Null) })) })
} as never

const json = fc.jsonValue({ maxDepth: 3 })

describe("what is wrong with a member", () => {
  it("is well-formed Unicode, however long its name is", () => {
    const schema = { type: "object", additionalProperties: false }
    const problem = JsonSchemaCheck.problem(schema, { [`${"a".repeat(63)}😀`]: 1 }, "value")
    expect(problem).toMatch(/^value\.a{63}: /)
  })
})

describe("a value, by the JSON Schema that Effect makes", () => {
  for (const [name, schema] of Object.entries(whole))
    it(`is what the schema takes, and nothing else: ${name}`, () => {
      const described = JSONSchema.make(schema) as unknown as Record<string, unknown>
      const decode = decodeUnknown(schema, { onExcessProperty: "error" })
      const good = Arbitrary.make(Schema.encodedSchema(schema)).map(
        (value): unknown => JSON.parse(JSON.stringify(value ?? null)) as unknown
      )
      const broken = fc.tuple(good, json, fc.nat()).map(([value, other, at]): unknown => {
        if (typeof value !== "object" || value === null) return other
        const keys = [...Object.keys(value), "another"]
        const copy = structuredClone(value) as Record<string, unknown>
        copy[keys[at % keys.length] as string] = other
        return JSON.parse(JSON.stringify(copy)) as unknown
      })
      fc.assert(
        fc.property(fc.oneof(good, broken, json), (value) => {
          const problem = JsonSchemaCheck.problem(described, value, "value")
          expect(problem === undefined, `${JSON.stringify(value)}: ${problem}`).toBe(
            Exit.isSuccess(Effect.runSyncExit(decode(value)))
          )
        }),
        { numRuns: 300 }
      )
    })

  it("is refused, too, when no text can be made of what should be a tag", () => {
    const decode = decodeUnknown(whole["union"] as Schema.Schema<unknown>)
    for (const tag of [{ toString: false }, { toString: null }, [{ toString: 1 }]])
      expect(Exit.isSuccess(Effect.runSyncExit(decode({ _tag: tag, n: 0 })))).toBe(false)
    const faulty = Schema.transform(Schema.Unknown, Schema.Unknown, {
      decode: () => {
        throw new TypeError("a fault")
      },
      encode: (value) => value
    })
    expect(() => decodeUnknown(faulty)({ n: 0 })).toThrow("a fault")
  })

  it("names the place, and never the value", () => {
    const schema = JSONSchema.make(Schema.Struct({ a: Schema.Array(Schema.Struct({ n: Schema.Int })) }))
    const problem = (value: unknown) => JsonSchemaCheck.problem({ ...schema }, value, "value")
    expect(problem({ a: [{ n: 1 }, { n: "secret" }] })).toBe("value.a[1].n: expected integer")
    expect(problem({ a: [{}] })).toBe("value.a[0].n: is missing")
    expect(problem({ a: [], secret: 1 })).toBe("value.secret: is not expected")
  })

  it("takes a bounded time, whatever the alternatives are", () => {
    const level = { anyOf: [{ $ref: "#/$defs/A" }, { $ref: "#/$defs/B" }] }
    const either = (more: object) => ({
      type: "object",
      properties: { a: level },
      ...more
    })
    const schema = { ...level, $defs: { A: either({ required: ["b"] }), B: either({ required: ["c"] }) } }
    let value: unknown = {}
    for (let i = 0; i < 60; i++) value = { a: value }
    expect(JsonSchemaCheck.problem(schema, value, "value")).toBeDefined()
    expect(
      JsonSchemaCheck.problem({ $ref: "#/$defs/A", $defs: { A: { $ref: "#/$defs/A" } } }, 1, "v")
    ).toBeDefined()
  })
})
