/** In which order requests have their turn. */
import { assert, describe, it } from "@effect/vitest"
import { Turns } from "../../../src/layers/transport/requestLine.js"

const all = <A>(turns: Turns<A>): ReadonlyArray<A> => {
  const taken: Array<A> = []
  for (let next = turns.next(); next !== undefined; next = turns.next()) taken.push(next)
  return taken
}

describe("the line of requests", () => {
  it("gives addresses turns, and of one address the tokens that it shows", () => {
    const turns = new Turns<string>(100)
    for (let i = 0; i < 4; i++) turns.add("10.0.0.1", "flood", `flood ${i}`)
    turns.add("10.0.0.1", "other", "same address")
    turns.add("10.0.0.2", "", "elsewhere 0")
    turns.add("10.0.0.2", "", "elsewhere 1")
    assert.deepStrictEqual(all(turns), [
      "flood 0",
      "elsewhere 0",
      "same address",
      "elsewhere 1",
      "flood 1",
      "flood 2",
      "flood 3"
    ])
    assert.strictEqual(turns.size, 0)
  })

  it("is never longer for one who comes later than by one of each other's", () => {
    const turns = new Turns<string>(10_000)
    for (let i = 0; i < 3_000; i++) turns.add("10.0.0.1", "flood", "flood")
    for (let i = 0; i < 1_000; i++) assert.strictEqual(turns.next(), "flood")
    turns.add("10.0.0.1", "mine", "mine")
    assert.deepStrictEqual([turns.next(), turns.next()], ["flood", "mine"])
  })

  it("when it is full, refuses those who have their part of it, and nobody else until it is twice as long", () => {
    const turns = new Turns<number>(10)
    for (let i = 0; i < 10; i++) assert.isTrue(turns.add("10.0.0.1", "flood", i))
    assert.isFalse(turns.add("10.0.0.1", "flood", 10))
    assert.isTrue(turns.add("10.0.0.1", "other", 11))
    assert.isTrue(turns.add("10.0.0.2", "flood", 12))
    assert.isFalse(turns.add("10.0.0.1", "flood", 13))
    for (let i = 0; i < 100; i++) turns.add("10.0.0.3", `made up ${i}`, i)
    assert.strictEqual(turns.size, 20)
    assert.strictEqual(all(turns).length, 20)
    assert.isTrue(turns.add("10.0.0.1", "flood", 14))
  })
})
