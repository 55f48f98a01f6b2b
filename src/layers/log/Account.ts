/**
 * A job's budget counters. They change where its events are numbered (Transaction.ts), in the same commit as
 * the `cost.*` metric that is counted, here and in every ancestor: so after a crash they are what the log says,
 * and a tree of jobs never spends more than its root was given.
 */
import * as BigDecimal from "effect/BigDecimal"
import * as Budget from "../../protocol/Budget.js"
import type { NewEvent } from "../../services/log/EventLog.js"
import type { JobRecord } from "../../services/store/Store.js"

interface CurrencyCounter {
  readonly initial: BigDecimal.BigDecimal
  readonly remaining: BigDecimal.BigDecimal
  /** As of the last `cost.budget.remaining`. */
  readonly reported: BigDecimal.BigDecimal
}

const zero = BigDecimal.fromBigInt(0n)
const twenty = BigDecimal.fromBigInt(20n)
const isExhausted = (counter: CurrencyCounter) => BigDecimal.lessThanOrEqualTo(counter.remaining, zero)

/** Returns whether at least 5 % of the initial amount was spent since the last report, or just crossed zero. */
const isMaterial = (before: CurrencyCounter, remaining: BigDecimal.BigDecimal): boolean =>
  (!isExhausted(before) && BigDecimal.lessThanOrEqualTo(remaining, zero)) ||
  BigDecimal.greaterThanOrEqualTo(
    BigDecimal.multiply(BigDecimal.subtract(before.reported, remaining), twenty),
    before.initial
  )

/** Counts what a job has spent of its budget (§9.6), with those of the jobs that it was delegated by. */
export class Account<Job = unknown> {
  private readonly counters = new Map<string, CurrencyCounter>()
  /** A currency of this job, not of an ancestor, whose counter is ≤ 0. */
  private empty: string | undefined

  constructor(
    readonly job: Job,
    /** As stored last, but for the counters and the numbers. */
    public record: JobRecord,
    /** That of the job that delegated to this one, as it was then. */
    private readonly above: Account<Job> | undefined,
    /** Returns the account that counts for a job by now: it may have been loaded again since. */
    private readonly current: (job: Job) => Account<Job> | undefined
  ) {
    for (const [currency, initial] of Budget.parse(record.lease["cost.budget"] ?? []))
      this.set(currency, { initial, remaining: initial, reported: initial })
  }

  /** Goes on from counters as they were stored. */
  restore(stored: NonNullable<JobRecord["budget"]>): void {
    const entries = Object.entries(stored).map(([currency, amount]) => `${currency}:${amount}`)
    for (const [currency, remaining] of Budget.parse(entries)) {
      const counter = this.counters.get(currency)
      if (counter !== undefined) this.set(currency, { ...counter, remaining, reported: remaining })
    }
  }
  /**
   * That of the next job above this one that is in memory. What a child spends after its end, which nobody above waits for, counts
   * there and nowhere else: an account from before its job was loaded again knows an older record.
   */
  get parent(): Account<Job> | undefined {
    for (let { above } = this; above !== undefined; above = above.above) {
      const current = this.current(above.job)
      if (current !== undefined) return current
    }
    return undefined
  }
  /** What is left of each of the job's own currencies, as committed. */
  get remaining(): ReadonlyMap<string, BigDecimal.BigDecimal> {
    return new Map(Array.from(this.counters, ([currency, { remaining }]) => [currency, remaining]))
  }
  /** The same of this job and of each above it that is in memory, nearest first, without those that have no budget. */
  get allRemaining(): ReadonlyArray<ReadonlyMap<string, BigDecimal.BigDecimal>> {
    const above = this.parent?.allRemaining ?? []
    return this.counters.size === 0 ? above : [this.remaining, ...above]
  }
  /** A currency whose counter, here or in an ancestor, is ≤ 0. */
  get exhausted(): string | undefined {
    return this.empty ?? this.parent?.exhausted
  }
  has(currency: string): boolean {
    return this.counters.has(currency) || this.parent?.has(currency) === true
  }
  counter(currency: string): CurrencyCounter | undefined {
    return this.counters.get(currency)
  }
  set(currency: string, counter: CurrencyCounter): void {
    this.counters.set(currency, counter)
    if (isExhausted(counter)) this.empty = currency
  }
}

/** What one transaction spends, until it is committed. */
export class Spending<Job> {
  private readonly changed = new Map<Account<Job>, Map<string, CurrencyCounter>>()

  /** Decrements a counter; the report to emit when that is a material change. */
  spend(account: Account<Job>, { currency, amount }: NonNullable<NewEvent["cost"]>): Report | undefined {
    const before = this.changed.get(account)?.get(currency) ?? account.counter(currency)
    if (before === undefined) return undefined
    const remaining = BigDecimal.subtract(before.remaining, amount)
    const material = isMaterial(before, remaining)
    const counters = this.changed.get(account) ?? new Map<string, CurrencyCounter>()
    this.changed.set(account, counters)
    counters.set(currency, { ...before, remaining, reported: material ? remaining : before.reported })
    return material ? { currency, remaining } : undefined
  }
  /** Returns the counters of an account as this transaction leaves them, in the form in which they are stored. */
  stored(account: Account<Job>): JobRecord["budget"] {
    if (account.remaining.size === 0) return undefined
    const counters = this.changed.get(account)
    return Object.fromEntries(
      Array.from(account.remaining, ([currency, remaining]) => [
        currency,
        Budget.format(counters?.get(currency)?.remaining ?? remaining)
      ])
    )
  }
  /** Whose counters have changed. */
  get accounts(): Iterable<Account<Job>> {
    return this.changed.keys()
  }
  apply(): void {
    for (const [account, counters] of this.changed)
      for (const [currency, counter] of counters) account.set(currency, counter)
  }
}

/** What is left of a currency, for `cost.budget.remaining`. */
export interface Report {
  readonly currency: string
  readonly remaining: BigDecimal.BigDecimal
}
