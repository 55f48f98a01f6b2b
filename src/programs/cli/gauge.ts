/** What is left of a job's budget, as far as this client was told. */
import * as BigDecimal from "effect/BigDecimal"
import * as Budget from "../../protocol/Budget.js"
import type { JobEvent } from "../../services/client/ArcpClient.js"

export interface Gauge {
  /** Whether the event changed it. */
  readonly take: (event: JobEvent) => boolean
  /** `USD 0.6 of 1 left`; empty without a budget. */
  readonly toString: () => string
}

/** `left`, currency → number, is what was left when watching began, if that was not at the job's beginning. */
export const make = (terms: ReadonlyArray<string>, left: unknown = {}): Gauge => {
  const initial = Budget.parse(terms)
  const now = new Map(Object.entries(left ?? {}))
  const counters = new Map(
    Array.from(initial, ([currency, amount]) => {
      const value = now.get(currency)
      return [currency, (typeof value === "number" ? Budget.amount(value) : undefined) ?? amount]
    })
  )
  return {
    take: (event) => {
      if (event.kind !== "metric") return false
      const { name, unit, value } = event.body
      if (unit === undefined || !name.startsWith("cost.")) return false
      const before = counters.get(unit)
      const amount = Budget.amount(value)
      if (before === undefined || amount === undefined) return false
      counters.set(unit, name === "cost.budget.remaining" ? amount : BigDecimal.subtract(before, amount))
      return true
    },
    toString: () =>
      Array.from(
        counters,
        ([currency, amount]) =>
          `${currency} ${Budget.format(amount)} of ${Budget.format(initial.get(currency) ?? amount)} left`
      ).join(", ")
  }
}
