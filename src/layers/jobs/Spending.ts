/** The costs that a job tells of: metrics `cost.…`, exact, and counted against its budget in the commit that stores them. */
import * as BigDecimal from "effect/BigDecimal"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Budget from "../../protocol/Budget.js"
import { InvalidRequest } from "../../protocol/Errors.js"
import type * as Event from "../../protocol/Event.js"
import { timestamp } from "../../protocol/EventText.js"
import * as Vendor from "../../protocol/Vendor.js"
import type { EmitError, EmitOptions } from "../../services/jobs/Job.js"
import type { Cost } from "../../services/lease/Lease.js"
import type { JobLog, NewEvent } from "../../services/log/EventLog.js"
import * as EventWriter from "./EventWriter.js"

/** How a job tells costs. */
export interface Spending {
  /** `Job.metric`: a metric named `cost.…` is a cost. */
  readonly metric: (body: Event.Body<"metric">, options?: EmitOptions) => Effect.Effect<void, EmitError>
  /** `Lease.spend` */
  readonly spend: (cost: Cost) => Effect.Effect<void, EmitError>
}

/** Told of each cost that is counted, and whether a budget counts it; default: nobody is. */
export type OnSpent = (
  currency: string | undefined,
  amount: BigDecimal.BigDecimal,
  isBudgeted: boolean
) => void

const uncountable = (what: string) =>
  new InvalidRequest({
    message: `${what}: a cost is a decimal number with at most ${Budget.maxDigits} digits before and after the point`
  })

const reserved = () => new InvalidRequest({ message: "cost.budget.remaining is the runtime's own metric" })

/** Returns how a job tells costs. */
export const make = (
  context: {
    readonly job: JobLog
    readonly now: () => number
    readonly onSpent?: OnSpent | undefined
  },
  { emit, fromHandler, write }: EventWriter.EventWriter
): Spending => {
  const { job } = context

  /** What has a cost waits for its commit, also where no budget counts it. */
  const costOf = (currency: string | undefined, amount: BigDecimal.BigDecimal): Partial<NewEvent> => {
    const cost = currency !== undefined && job.budgets(currency) ? { currency, amount } : undefined
    const onCommit = context.onSpent && (() => context.onSpent?.(currency, amount, cost !== undefined))
    return cost === undefined ? { awaited: true, onCommit } : { awaited: true, onCommit, cost }
  }

  const metric: Spending["metric"] = (body, more) => {
    const { name, value, unit } = body
    if (typeof name !== "string" || !name.startsWith("cost.")) return emit("metric", body, undefined, more)
    if (name === "cost.budget.remaining") return reserved()
    if (!(value >= 0)) return new InvalidRequest({ message: `${name}: a cost is a number, and not negative` })
    const amount = Budget.amount(value)
    return amount === undefined ? uncountable(name) : emit("metric", body, costOf(unit, amount), more)
  }

  const spend: Spending["spend"] = (cost) => {
    const amount = Budget.amount(cost.amount)
    if (amount === undefined) return uncountable("a cost")
    if (BigDecimal.isNegative(amount)) return new InvalidRequest({ message: "a cost is not negative" })
    const { currency: unit, dimensions, name: of = "other" } = cost
    const name = typeof of === "string" ? `cost.${of}` : of
    if (name === "cost.budget.remaining") return reserved()
    const rest = EventWriter.checked("metric", { body: { value: 0, name, unit, dimensions } })
    if (Either.isLeft(rest)) return rest.left
    // The decimal as it is: through a JavaScript number it would lose digits, and the log is what counts.
    const body = `{"value":${Budget.format(amount)}${rest.right.slice(`{"body":{"value":0`.length, -1)}`
    const counted = costOf(cost.currency, amount)
    if (job.ended && counted.cost === undefined) return Effect.void
    return fromHandler({}, true, ({ entry, step }) => {
      const tag = step === undefined ? "" : `"${Vendor.inStep}":${JSON.stringify(EventWriter.tagOf(step))},`
      const ts = timestamp(context.now())
      return write("metric", `{"kind":"metric","ts":"${ts}",${tag}"body":${body}}`, counted, entry)
    })
  }

  return { metric: EventWriter.looking("metric", metric), spend: EventWriter.looking("metric", spend) }
}
