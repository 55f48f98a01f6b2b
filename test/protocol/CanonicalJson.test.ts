import { expect, it } from "@effect/vitest"
import * as fc from "effect/FastCheck"
import { stringify } from "../../src/protocol/CanonicalJson.js"

/** The same value with the members of every object in another order. */
const reversed = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(reversed)
  if (typeof value !== "object" || value === null) return value
  const entries = Object.entries(value).reverse()
  return Object.fromEntries(entries.map(([key, member]) => [key, reversed(member)]))
}

it.prop("does not depend on the order of members", [fc.jsonValue()], ([value]) => {
  expect(stringify(reversed(value))).toBe(stringify(value))
})

it.prop("is JSON of the same value, so different values differ", [fc.jsonValue()], ([value]) => {
  expect(JSON.parse(stringify(value))).toEqual(JSON.parse(JSON.stringify(value)))
})

it("sorts by code unit, without white space, numbers as ECMAScript prints them", () => {
  expect(stringify({ b: 1, a: [1.0, -0, 1e21, 0.1], "": null })).toBe('{"":null,"a":[1,0,1e+21,0.1],"b":1}')
  // U+10000 is written with surrogates, which sort before U+FFFF.
  expect(stringify({ "\uffff": 1, "\u{10000}": 2 })).toBe('{"\u{10000}":2,"\uffff":1}')
  expect(stringify({ 10: 1, 9: 2 })).toBe('{"10":1,"9":2}')
})

it("leaves absent members out and keeps __proto__", () => {
  expect(stringify({ a: undefined, b: 1 })).toBe('{"b":1}')
  expect(stringify(undefined)).toBe("null")
  expect(stringify([undefined])).toBe("[null]")
  expect(stringify(JSON.parse('{"__proto__":{"x":1}}'))).toBe('{"__proto__":{"x":1}}')
})
