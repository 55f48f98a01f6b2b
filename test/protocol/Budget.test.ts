import { describe, expect, it } from "@effect/vitest"
import * as BigDecimal from "effect/BigDecimal"
import * as FastCheck from "effect/FastCheck"
import * as Budget from "../../src/protocol/Budget.js"

const scale = 18

/** A whole number of 10⁻¹⁸, written as a lease writes it. */
const units = FastCheck.bigInt({ min: 0n, max: 10n ** 36n - 1n })
const written = (value: bigint): string => {
  const digits = value.toString().padStart(scale + 1, "0")
  return `${digits.slice(0, -scale)}.${digits.slice(-scale)}`
}
const format = (value: string | number | BigDecimal.BigDecimal) => {
  const amount = Budget.amount(value)
  return amount === undefined ? undefined : Budget.format(amount)
}

describe("a budget", () => {
  it("adds up exactly", () => {
    const entries = FastCheck.array(
      FastCheck.tuple(FastCheck.constantFrom("USD", "EUR", "constructor"), units),
      {
        maxLength: 20
      }
    )
    FastCheck.assert(
      FastCheck.property(entries, (all) => {
        const sums = new Map<string, bigint>()
        for (const [currency, value] of all) sums.set(currency, (sums.get(currency) ?? 0n) + value)
        const budget = Budget.parse(all.map(([currency, value]) => `${currency}:${written(value)}`))
        expect([...budget.keys()]).toEqual([...sums.keys()])
        for (const [currency, sum] of sums)
          expect(
            BigDecimal.Equivalence(budget.get(currency) as BigDecimal.BigDecimal, BigDecimal.make(sum, scale))
          ).toBe(true)
      })
    )
  })

  it("is written as a lease has it, and read again", () => {
    const budget = Budget.parse(["USD:5.00", "credits:1000", "USD:0.10"])
    expect(Budget.entries(budget)).toEqual(["USD:5.1", "credits:1000"])
    expect(Budget.wire(budget)).toEqual({ USD: 5.1, credits: 1000 })
    expect(Budget.entries(Budget.parse(Budget.entries(budget)))).toEqual(Budget.entries(budget))
    expect(Object.entries(Budget.wire(Budget.parse(["__proto__:1"])))).toEqual([["__proto__", 1]])
  })

  it("keeps what is left of it, however much it was overspent", () => {
    const left = BigDecimal.subtract(BigDecimal.make(1n, 18), BigDecimal.make(999n, -70))
    expect(Budget.entries(Budget.parse([`USD:${Budget.format(left)}`]))).toEqual([
      `USD:${Budget.format(left)}`
    ])
  })

  it.each(["USD:", "USD:x", "USD:1:2", "USD", "USD: 5", "USD:Infinity"])(
    "gives nothing to spend for %j, rather than no limit",
    (entry) => {
      expect(Budget.entries(Budget.parse([entry]))).toEqual(["USD:0"])
    }
  )
})

describe("an amount", () => {
  it("of a text is that decimal", () => {
    FastCheck.assert(
      FastCheck.property(units, FastCheck.boolean(), (value, negative) => {
        const amount = Budget.amount(`${negative ? "-" : ""}${written(value)}`)
        const expected = BigDecimal.make(negative ? -value : value, scale)
        expect(amount !== undefined && BigDecimal.Equivalence(amount, expected)).toBe(true)
      })
    )
  })

  it("of a number is its shortest decimal", () => {
    FastCheck.assert(
      FastCheck.property(FastCheck.double({ noNaN: true, min: -1e60, max: 1e60 }), (number) => {
        const amount = Budget.amount(number)
        // Numbers next to zero have more digits than an amount may have.
        if (amount === undefined) {
          expect(Math.abs(number)).toBeLessThan(1e-40)
          return
        }
        expect(Budget.toNumber(amount)).toBe(number === 0 ? 0 : number)
        const digits = amount.value.toString().replace(/^-|0+$/g, "")
        expect(digits.length).toBeLessThanOrEqual(number.toExponential().replace(/^-|e.*|\./g, "").length)
      }),
      { numRuns: 2000 }
    )
    expect(format(0.1)).toBe("0.1")
    expect(format(0.1 + 0.2)).toBe("0.30000000000000004")
    expect(format(1e-7)).toBe("0.0000001")
    expect(format(1e21)).toBe("1000000000000000000000")
    expect(format(-0)).toBe("0")
    expect(format(-1.5)).toBe("-1.5")
  })

  it("is the same however it was given", () => {
    for (const value of ["0", "5", "0.001", "123.456", "-7"])
      for (const given of [value, Number(value), BigDecimal.unsafeFromString(value)])
        expect(format(given)).toBe(value)
    expect(format("007.500")).toBe("7.5")
    expect(format("1.5e3")).toBe("1500")
    expect(format("1e64")).toBeUndefined()
    expect(format("1e63")).toBe(`1${"0".repeat(63)}`)
    expect(format("1e-64")).toBe(`0.${"0".repeat(63)}1`)
  })

  it.each([
    ...[Number.NaN, Infinity, -Infinity, 1e300, 5e-324],
    ...[
      "",
      " ",
      "1 ",
      "+1",
      ".5",
      "5.",
      "1,5",
      "0x10",
      "1_000",
      "NaN",
      "Infinity",
      "1e",
      "1e9999",
      "1e-65",
      "1n",
      "--1"
    ],
    ...["1\n", "\u0661"],
    "9".repeat(65),
    `0.${"1".repeat(65)}`,
    "9".repeat(1_000_000)
  ])("is not %.20s", (value) => {
    expect(Budget.amount(value)).toBeUndefined()
  })

  it("is no decimal of other ends of the scale", () => {
    for (const [value, places] of [
      [1n, 65],
      [1n, -64],
      [1n, 1_000_000_000],
      [1n, -1_000_000_000],
      [-(10n ** 64n), 0],
      [10n ** 64n + 1n, 0],
      [7n ** 100_000n, 0]
    ] as const)
      expect(Budget.amount(BigDecimal.make(value, places))).toBeUndefined()
    expect(format(BigDecimal.make(10n ** 70n, 70))).toBe("1")
    expect(Budget.amount(BigDecimal.make(-(10n ** 63n), 0))).toBeDefined()
  })
})

describe("as text", () => {
  it.each([
    [0n, 0, "0"],
    [0n, 5, "0"],
    [0n, -5, "0"],
    [5n, 0, "5"],
    [500n, 2, "5"],
    [5n, -3, "5000"],
    [5n, 3, "0.005"],
    [-5n, 3, "-0.005"],
    [-12345n, 2, "-123.45"],
    [1n, 30, `0.${"0".repeat(29)}1`]
  ] as const)("%d · 10^-%d is %s", (value, places, expected) => {
    expect(Budget.format(BigDecimal.make(value, places))).toBe(expected)
    expect(Budget.toNumber(BigDecimal.make(value, places))).toBe(Number(expected))
  })
})

it("an amount that is reckoned after the work is counted as far as it can be, and never as less", () => {
  const counted = (value: string | number) => {
    const amount = Budget.countable(value)
    return amount === undefined ? undefined : Budget.format(amount)
  }
  const largest = "9".repeat(64)
  expect(counted("0.10")).toBe("0.1")
  expect(counted(1e70)).toBe(largest)
  expect(counted(`1${"0".repeat(64)}`)).toBe(largest)
  expect(counted("1".repeat(5_000))).toBe(largest)
  expect(counted(`0.${"3".repeat(70)}`)).toBe(`0.${"3".repeat(63)}4`)
  expect(counted((0.25).toFixed(80))).toBe("0.25")
  expect(counted(`1.${"0".repeat(65)}`)).toBe("1")
  expect(counted(`${"0".repeat(70)}1`)).toBe("1")
  expect(counted("1000000e-66")).toBe(`0.${"0".repeat(59)}1`)
  expect(counted(`1${"0".repeat(63)}.${"0".repeat(70)}`)).toBe(`1${"0".repeat(63)}`)
  expect(counted("1e-100")).toBe(`0.${"0".repeat(63)}1`)
  for (const none of ["a", "1.2.3", "-1e70", Number.NaN, Infinity, ""]) expect(counted(none)).toBeUndefined()
})

describe("an amount of very many digits that is reckoned after the work", () => {
  const zeros = "0".repeat(2_000)
  const least = `0.${"0".repeat(63)}1`
  const cases: ReadonlyArray<[string, string, string]> = [
    ["next to nothing", `0.${zeros}1`, least],
    ["next to nothing, by its exponent", "1e-99999", least],
    ["nothing", zeros, "0"],
    ["nothing, by a large exponent", "0e99999", "0"],
    ["one", `${zeros}1.${zeros}`, "1"],
    ["one and next to nothing", `1.${zeros}1`, `1.${"0".repeat(63)}1`],
    ["one, by its exponent", `${"1"}${zeros}e-2000`, "1"],
    ["too much", `1${zeros}`, "9".repeat(64)],
    ["too much, by its exponent", "1e99999", "9".repeat(64)]
  ]
  for (const [name, text, counted] of cases)
    it(`counts as it is, rounded up: ${name}`, () => {
      const value = Budget.countable(text)
      expect(value && Budget.format(value)).toBe(counted)
    })
})
