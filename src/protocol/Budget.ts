/** Amounts of money and of anything else that is counted: exact decimals, never floats (§9.6). */
import * as BigDecimal from "effect/BigDecimal"
import * as Option from "effect/Option"

/** Currency → amount. */
export type Budget = ReadonlyMap<string, BigDecimal.BigDecimal>

/** Digits before or after the point beyond which a number is not an amount: arithmetic on it would explode. */
export const maxDigits = 64

/**
 * The exact decimal of a text or a number; a number is its shortest decimal (0.1 is 0.1). `undefined` when it is
 * not finite, not a decimal, or has more than 64 digits on a side.
 */
export const amount = (value: string | number | BigDecimal.BigDecimal): BigDecimal.BigDecimal | undefined =>
  BigDecimal.isBigDecimal(value) ? bounded(value) : decimal(String(value), maxDigits)

const decimal = (text: string, digits: number): BigDecimal.BigDecimal | undefined => {
  const match = /^-?(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d{1,3}))?$/.exec(text)
  if (match === null) return undefined
  const [, whole = "", fraction = "", exponent = "0"] = match
  if (whole.length + Math.max(0, Number(exponent)) > digits) return undefined
  if (fraction.length - Math.min(0, Number(exponent)) > digits) return undefined
  return Option.getOrUndefined(BigDecimal.fromString(text))
}

const limit = 10n ** BigInt(2 * maxDigits)

const bounded = (value: BigDecimal.BigDecimal): BigDecimal.BigDecimal | undefined => {
  // Before anything whose time grows with the number of digits.
  if (value.value >= limit || value.value <= -limit) return undefined
  const normal = BigDecimal.normalize(value)
  const whole = normal.value.toString().replace("-", "").length - normal.scale
  return normal.scale <= maxDigits && whole <= maxDigits ? normal : undefined
}

/** The largest amount, and the smallest that is not nothing. */
const largest = BigDecimal.make(10n ** BigInt(maxDigits) - 1n, 0)
const smallest = BigDecimal.make(1n, maxDigits)

/**
 * What counts of an amount that is reckoned after the work, when it is too late to refuse: zeros that say nothing are left out, what
 * has too many digits is rounded up to as many as there may be, and what is too large is the largest. `undefined` when it is no
 * decimal, or negative and not exact.
 */
export const countable = (
  value: string | number | BigDecimal.BigDecimal
): BigDecimal.BigDecimal | undefined => {
  const exact = amount(value)
  if (exact !== undefined) return exact
  const given = BigDecimal.isBigDecimal(value) ? value : decimal(String(value), 1024)
  if (given === undefined) return roundedUp(String(value))
  if (BigDecimal.isNegative(given)) return undefined
  if (given.value >= 10n ** 2048n) return largest
  const normal = BigDecimal.normalize(given)
  const { scale, value: digits } = normal
  const whole = digits.toString().length - scale
  if (whole > maxDigits) return largest
  // Written with more digits than it has.
  if (scale <= maxDigits) return normal
  if (whole < -maxDigits) return smallest
  const divisor = 10n ** BigInt(scale - maxDigits)
  return BigDecimal.make((digits + divisor - 1n) / divisor, maxDigits)
}

/** What counts of a text of any length, or with any exponent. */
const roundedUp = (text: string): BigDecimal.BigDecimal | undefined => {
  const match = /^(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text)
  if (match === null) return undefined
  const [, whole = "", fraction = "", exponent = "0"] = match
  const first = (whole + fraction).search(/[1-9]/)
  if (first < 0) return BigDecimal.make(0n, 0)
  const magnitude = whole.length - first + Number(exponent)
  if (magnitude > maxDigits) return largest
  if (magnitude < -maxDigits) return smallest
  const digits = (whole + fraction).slice(first)
  const kept = magnitude + maxDigits
  const more = /[1-9]/.test(digits.slice(kept)) ? 1n : 0n
  return BigDecimal.make(BigInt(digits.slice(0, kept).padEnd(kept, "0")) + more, maxDigits)
}

/** What sums and differences of amounts, however many, stay below. */
const maxSumDigits = 512

/**
 * Entries as a lease has them, `["USD:5.00", "USD:1", "credits:10"]`; those of one currency add up. The grammar must
 * have been checked: an entry that breaks it gives nothing to spend, rather than no limit.
 */
export const parse = (entries: ReadonlyArray<string>): Budget => {
  const budget = new Map<string, BigDecimal.BigDecimal>()
  for (const entry of entries) {
    const [currency = ""] = entry.split(":", 1)
    const value = decimal(entry.slice(currency.length + 1), maxSumDigits) ?? nothing
    budget.set(currency, BigDecimal.sum(budget.get(currency) ?? nothing, value))
  }
  return budget
}

const nothing = BigDecimal.make(0n, 0)

/** The least of each currency that one of these budgets has: what may be spent that counts for all of them. */
export const least = (budgets: Iterable<Budget>): Budget => {
  const all = new Map<string, BigDecimal.BigDecimal>()
  for (const budget of budgets)
    for (const [currency, value] of budget)
      all.set(currency, BigDecimal.min(all.get(currency) ?? value, value))
  return all
}

/** As a plain decimal: no exponent, no trailing zeros. */
export const format = (value: BigDecimal.BigDecimal): string => {
  const { value: digits, scale } = BigDecimal.normalize(value)
  const sign = digits < 0n ? "-" : ""
  const text = (digits < 0n ? -digits : digits).toString()
  if (scale <= 0) return sign + text + "0".repeat(digits === 0n ? 0 : -scale)
  const padded = text.padStart(scale + 1, "0")
  return `${sign}${padded.slice(0, -scale)}.${padded.slice(-scale)}`
}

/** For the wire, where amounts are JSON numbers. */
export const toNumber = (value: BigDecimal.BigDecimal): number => Number(format(value))

/** As a lease holds it: `["USD:5"]`. */
export const entries = (budget: Budget): ReadonlyArray<string> =>
  Array.from(budget, ([currency, value]) => `${currency}:${format(value)}`)

/** As `job.accepted` and `job.subscribed` show it: `{"USD": 5}`. */
export const wire = (budget: Budget): Readonly<Record<string, number>> =>
  Object.fromEntries(Array.from(budget, ([currency, value]) => [currency, toNumber(value)]))
