/** The last line about a job: how it ended, how long it took, what it did and spent. */
import * as BigDecimal from "effect/BigDecimal"
import * as Budget from "../../protocol/Budget.js"
import type { JobEvent } from "../../services/client/ArcpClient.js"
import { took } from "./time.js"

/** When a job was accepted, and ended, as far as the runtime says. */
interface Times {
  readonly createdAt: string | undefined
  readonly completedAt: string | undefined
}

export interface Summary {
  readonly take: (event: JobEvent) => void
  /** The line. A job takes from its accept to its end, as listings have it; else its events tell how long it took. */
  readonly line: (status: string, times: Times) => string
}

export const make = (): Summary => {
  const spent = new Map<string, BigDecimal.BigDecimal>()
  /** Of each budget, what was left last. */
  const left = new Map<string, BigDecimal.BigDecimal>()
  let events = 0
  let first: number | undefined
  let last = 0
  return {
    take: (event) => {
      if (event.kind === "gap") return
      events++
      last = Date.parse(event.ts)
      first ??= last
      if (event.kind !== "metric") return
      const { name, unit, value } = event.body
      if (unit === undefined || !name.startsWith("cost.")) return
      const amount = Budget.amount(value)
      if (amount === undefined) return
      if (name === "cost.budget.remaining") left.set(unit, amount)
      else spent.set(unit, BigDecimal.sum(spent.get(unit) ?? BigDecimal.fromBigInt(0n), amount))
    },
    line: (status, { createdAt, completedAt }) => {
      const whole = Date.parse(completedAt ?? "") - Date.parse(createdAt ?? "")
      const ms = Number.isNaN(whole) ? last - (first ?? last) : whole
      const costs = Array.from(spent, ([currency, amount]) => `${currency} ${Budget.format(amount)}`)
      // What was done is paid, whatever it came to: a budget refuses what begins after it.
      const over = Array.from(left).filter(([, amount]) => BigDecimal.isNegative(amount))
      return [
        `${status} in ${took(Number.isFinite(ms) ? ms : 0)}`,
        `${events} ${events === 1 ? "event" : "events"}`,
        ...(costs.length === 0 ? [] : [`spent ${costs.join(" and ")}`]),
        ...over.map(
          ([currency, amount]) => `${currency} ${Budget.format(BigDecimal.abs(amount))} over its budget`
        )
      ].join(", ")
    }
  }
}
