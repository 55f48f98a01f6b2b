/** The console's forms: what is in a box is what is sent, and nothing else is. */
import { assert, describe, it } from "@effect/vitest"
import * as fc from "effect/FastCheck"
import {
  type Field,
  fieldOf,
  initial,
  missing,
  unshown,
  variantAt
} from "../../src/programs/console/model/schemaForm.js"
import { numberIn, Unreadable, valueIn } from "../../src/programs/console/model/typed.js"

type Union = Extract<Field, { type: "union" }>
const integer = (minimum: number, maximum: number) => ({ type: "integer", minimum, maximum })

describe("a form", () => {
  it("takes a value that is one of a union's variants, also where others are of its type", () => {
    const field = fieldOf({ anyOf: [integer(0, 10), integer(100, 110)] }) as Union
    assert.deepStrictEqual([missing(field, 5), missing(field, 105)], [[], []])
    assert.deepStrictEqual([variantAt(field, 5), variantAt(field, 105)], [0, 1])
    assert.deepStrictEqual(missing(field, 50), ["input is at most 10, or input is at least 100"])
    // Of variants that differ, by the nearest.
    const of = (kind: string, more: object) => ({
      type: "object",
      required: ["kind", ...Object.keys(more)],
      properties: { kind: { const: kind }, ...more }
    })
    const tagged = fieldOf({
      anyOf: [of("file", { path: { type: "string" } }), of("web", { port: integer(1, 9) })]
    })
    assert.deepStrictEqual(missing(tagged, { kind: "web" }), ["input.port is missing"])
    assert.deepStrictEqual(missing(tagged, { kind: "file", path: "/" }), [])
    // By these somebody tells them apart.
    const untagged = fieldOf({
      anyOf: [
        { type: "object", properties: { iban: {} } },
        { type: "object", properties: { name: {}, age: {} } }
      ]
    }) as Union
    assert.deepStrictEqual(
      untagged.variants.map(({ name }) => name),
      ["iban", "name, age"]
    )
  })

  it("has nothing chosen of a union, nor in a list, that nobody has chosen", () => {
    const field = fieldOf({
      type: "object",
      required: ["sure", "items", "any"],
      properties: {
        sure: { anyOf: [{ type: "null" }, { type: "integer" }] },
        items: { type: "array", items: {} },
        any: {}
      }
    })
    const value = initial(field, true)
    assert.deepStrictEqual(value, { items: [] })
    assert.deepStrictEqual(missing(field, value), ["input.sure is missing", "input.any is missing"])
    const added = { sure: null, items: [1, undefined], any: 1 }
    assert.deepStrictEqual(missing(field, added), ["input.items[1] is missing"])
    // Also where it is shown as JSON, in which it would be a null.
    assert.deepStrictEqual(missing(fieldOf({}), added), ["input.items[1] is missing"])
    assert.deepStrictEqual(missing(field, { ...added, items: [null] }), [])
  })

  it("sends no number but the one that was written", () => {
    const rounded = [
      "9007199254740993",
      "12345678901234567890123",
      "0.1000000000000000055",
      "1e400",
      "-1e400",
      "1e-400"
    ]
    for (const text of rounded) {
      assert.instanceOf(numberIn(text), Unreadable, text)
      assert.instanceOf(valueIn(`{"a":["1",${text}]}`), Unreadable, text)
    }
    assert.deepStrictEqual(missing(fieldOf({ type: "integer" }), numberIn("9007199254740993"), "input.id"), [
      "input.id would be sent as 9007199254740992"
    ])
    for (const text of [
      "9007199254740992",
      "0.10",
      "1.50e3",
      "-0",
      "0",
      "0e9",
      "1e21",
      "1E+2",
      "1e-7",
      "123456789012345680000"
    ])
      assert.deepStrictEqual([numberIn(text), valueIn(`[${text}]`)], [Number(text), [Number(text)]], text)
    // In a text it is a text, also after quotes that are a part of one.
    const text = JSON.stringify({ "9007199254740993": '\\" 9007199254740993' })
    assert.deepStrictEqual(valueIn(text), JSON.parse(text))
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (n) => numberIn(String(n)) === n)
    )
    fc.assert(
      fc.property(fc.json(), (json) => {
        const read = valueIn(json)
        assert.deepStrictEqual(read instanceof Unreadable ? read.problem : read, JSON.parse(json))
      })
    )
  })

  it("tells what a value has that is in none of its fields", () => {
    const inner = { type: "object", properties: { a: { type: "string" } } }
    const field = fieldOf({
      type: "object",
      properties: {
        a: { type: "string" },
        l: { type: "array", items: inner },
        u: { anyOf: [{ type: "null" }, inner] }
      }
    })
    const value = { a: "x", b: 1, l: [{ a: "y" }, { c: 2 }], u: { a: "z", d: 3 } }
    assert.deepStrictEqual(unshown(field, value), ["input.b", "input.l[1].c", "input.u.d"])
    assert.deepStrictEqual(unshown(field, { a: "x", l: [], u: null }), [])
    assert.deepStrictEqual([unshown(fieldOf({}), value), unshown(field, undefined)], [[], []])
  })
})
