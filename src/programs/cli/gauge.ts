/** What is left of a job's budget, as far as this client was told. */
import * as BigDecimal from "effect/BigDecimal"
import * as Budget from "../../protocol/Budget.js"
import type { JobEvent } from "../../services/ArcpClient.js"

export interface Gauge {
  /** Whether the event changed it. */
  readonly take: (event: Pick<JobEvent, "kind" | "body">) => boolean
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
    take: ({ kind, body }) => {
      if (kind !== "metric") return false
      const { name, unit, value } = body as { name?: string; unit?: string; value?: number }
      const before = unit === undefined ? undefined : counters.get(unit)
      if (before === undefined || name?.startsWith("cost.") !== true) return false
      const amount = Budget.amount(value ?? 0)
      if (amount === undefined) return false
      counters.set(
        unit as string,
        name === "cost.budget.remaining" ? amount : BigDecimal.subtract(before, amount)
      )
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
