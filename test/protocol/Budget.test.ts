import { describe, expect, it } from "@effect/vitest"
import * as BigDecimal from "effect/BigDecimal"
import * as FastCheck from "effect/FastCheck"
import * as Budget from "../../src/protocol/Budget.js"
import * as Lease from "../../src/protocol/Lease.js"

const formatted = (value: string | number) => {
  const amount = Budget.amount(value)
  return amount === undefined ? undefined : Budget.format(amount)
}

describe("amounts", () => {
  it.each([
    ["5.00", "5"],
    ["0.10", "0.1"],
    ["1000", "1000"],
    ["0", "0"],
    ["-0.5", "-0.5"],
    [0.1, "0.1"],
    [1e-7, "0.0000001"],
    [1e21, "1000000000000000000000"],
    [1.5e-3, "0.0015"],
    ["123456789012345678.123456789012345678", "123456789012345678.123456789012345678"]
  ])("%s is %s", (value, expected) => {
    expect(formatted(value)).toBe(expected)
  })
  it.each(["", ".", "1.", ".5", "0x10", "1,5", "NaN", "Infinity", "1e99", "1e-99", " 1", "--1"])(
    "%j is none",
    (text) => {
      expect(formatted(text)).toBeUndefined()
    }
  )
  it.each([Number.NaN, Number.POSITIVE_INFINITY, 1e300, 5e-324])("%s is none", (value) => {
    expect(formatted(value)).toBeUndefined()
  })
  it("of numbers are their shortest decimals", () => {
    FastCheck.assert(
      FastCheck.property(FastCheck.double({ noNaN: true, min: -1e15, max: 1e15 }), (value) => {
        const amount = Budget.amount(value)
        if (amount !== undefined) expect(Budget.toNumber(amount)).toBe(value === 0 ? 0 : value)
      })
    )
  })
})

describe("budgets", () => {
  it("add up exactly, whatever the scale", () => {
    const entry = FastCheck.tuple(
      FastCheck.constantFrom("USD", "credits"),
      FastCheck.bigInt({ min: 0n, max: 10n ** 12n }),
      FastCheck.integer({ min: 0, max: 9 })
    )
    FastCheck.assert(
      FastCheck.property(FastCheck.array(entry, { maxLength: 8 }), (entries) => {
        const texts = entries.map(
          ([currency, digits, scale]) => `${currency}:${Budget.format(BigDecimal.make(digits, scale))}`
        )
        const nanos = new Map<string, bigint>()
        for (const [currency, digits, scale] of entries)
          nanos.set(currency, (nanos.get(currency) ?? 0n) + digits * 10n ** BigInt(9 - scale))
        const budget = Budget.parse(texts)
        expect(new Set(budget.keys())).toEqual(new Set(nanos.keys()))
        for (const [currency, total] of nanos)
          expect(
            BigDecimal.equals(budget.get(currency) as BigDecimal.BigDecimal, BigDecimal.make(total, 9))
          ).toBe(true)
        const written = Budget.parse(Budget.entries(budget))
        expect(Budget.entries(written)).toEqual(Budget.entries(budget))
      })
    )
  })
  it("of children fit into what is left of their parents'", () => {
    const has = (...entries: ReadonlyArray<string>) => Budget.parse(entries)
    expect(Lease.budgetProblem(has("USD:5"), has("USD:5"))).toBeUndefined()
    expect(Lease.budgetProblem(has("USD:5.01"), has("USD:5"))).toMatch(/more than the 5/)
    expect(Lease.budgetProblem(has("EUR:1"), has("USD:5"))).toMatch(/no EUR/)
    expect(Lease.budgetProblem(has("EUR:1"), has())).toBeUndefined()
    expect(Lease.budgetProblem(has(), has("USD:5"))).toBeUndefined()
  })
  it("of an identity's ceiling are imposed, and never grow a request", () => {
    const ceiling = { "cost.budget": ["USD:2"], "fs.read": ["/work/**"] }
    expect(Lease.reduce({}, ceiling)).toEqual({ "cost.budget": ["USD:2"] })
    expect(Lease.reduce({ "cost.budget": ["USD:1.50"] }, ceiling)).toEqual({ "cost.budget": ["USD:1.5"] })
    expect(Lease.reduce({ "cost.budget": ["USD:9", "x:1"] }, ceiling)).toEqual({
      "cost.budget": ["USD:2", "x:1"]
    })
    expect(Lease.reduce({ "fs.read": ["/**", "/work/a", "/etc/a"] }, ceiling)["fs.read"]).toEqual([
      "/work/**",
      "/work/a"
    ])
  })
  it("keep hostile keys as data", () => {
    const lease = JSON.parse('{"__proto__":["/x"],"fs.read":["/x"]}')
    expect(Lease.subsetProblem(lease, { "fs.read": ["/x"] })).toMatch(/__proto__/)
    expect(Lease.subsetProblem({ "fs.read": ["/x"] }, {})).toMatch(/fs.read/)
  })
})
