import { describe, expect, it } from "@effect/vitest"
import * as fc from "effect/FastCheck"
import * as Ids from "../../src/protocol/Ids.js"

const wire = /^([a-z]+_)?[0-9A-HJKMNP-TV-Z]{26}$/

/** A repeatable source of 32-bit integers. */
const lcg = (seed: number) => () => {
  seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
  return seed
}

const bits32 = fc.integer({ min: 0, max: 2 ** 32 - 1 })

describe("ulidFactory", () => {
  it.prop(
    "makes increasing ids of the wire's form, whatever the clock does",
    [fc.array(fc.integer({ min: 0, max: 2 ** 48 - 1 }), { minLength: 1, maxLength: 50 }), bits32],
    ([times, seed]) => {
      let at = 0
      const next = Ids.ulidFactory(() => times[at++] as number, lcg(seed))
      const ids = times.map(() => next())
      for (const id of ids) {
        expect(id).toMatch(wire)
        expect(id).toMatch(Ids.idPattern)
        expect(`job_${id}`).toMatch(Ids.idPattern)
      }
      expect([...new Set(ids)].sort()).toEqual(ids)
    }
  )

  it("begins with the time and counts up within a millisecond", () => {
    const next = Ids.ulidFactory(
      () => 1_700_000_000_000,
      () => 0
    )
    expect([next(), next(), next()]).toEqual([
      "01HF7YAT000000000000000000",
      "01HF7YAT000000000000000001",
      "01HF7YAT000000000000000002"
    ])
  })

  it("carries from the low half of the random part into the high one", () => {
    const draws = [0, 0, 0xffffffff, 0xffffffff]
    const next = Ids.ulidFactory(
      () => 1,
      () => draws.shift() as number
    )
    expect(next().slice(10)).toBe("00000000ZZZZZZZZ")
    expect(next().slice(10)).toBe("0000000100000000")
  })
})

it.prop("base32 is positional and sortable", [fc.nat(2 ** 30 - 1), fc.nat(2 ** 30 - 1)], ([a, b]) => {
  expect(Ids.base32(a, 6)).toHaveLength(6)
  expect(Ids.base32(a, 6) < Ids.base32(b, 6)).toBe(a < b)
})

describe("eventIds", () => {
  const session = (seed: number) =>
    `sess_${Ids.ulidFactory(() => 1_700_000_000_000 + (seed % 1_000), lcg(seed))()}`

  it("are a function of session and number, in any order, across instances", () => {
    const id = session(7)
    const forward = Ids.eventIds(id)
    const numbers = [1, 2, 1_023, 1_024, 1_025, 1_000_000, 2 ** 39]
    const first = numbers.map(forward)
    expect(numbers.slice().reverse().map(Ids.eventIds(id)).reverse()).toEqual(first)
    for (const made of first) expect(made).toMatch(wire)
  })

  it("increase with the number and never repeat", () => {
    const idOf = Ids.eventIds(session(1))
    const ids = Array.from({ length: 10_000 }, (_, i) => idOf(i + 1))
    expect([...new Set(ids)].sort()).toEqual(ids)
  })

  it("differ between sessions, also those made in one millisecond", () => {
    const next = Ids.ulidFactory(() => 1_700_000_000_000, lcg(3))
    const ids = Array.from({ length: 20_000 }, () => Ids.eventIds(`sess_${next()}`)(1))
    expect(new Set(ids).size).toBe(ids.length)
  })
})
