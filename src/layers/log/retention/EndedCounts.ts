/** How many jobs that have ended are kept, per principal and in all; in step with what the store holds. */
import { batch } from "./Parts.js"

/** Returns how much a cap may be exceeded before it is enforced: a batch is dropped in one go, not each job by itself. */
const slackOf = (max: number): number => Math.min(batch, Math.floor(max / 64))

/** Counts jobs that have ended against the caps. */
export class EndedCounts {
  private counts = new Map<string, number>()
  /** Who has more than the cap. */
  private over = new Set<string>()
  private all = 0

  constructor(
    private readonly maxPerPrincipal: number,
    private readonly maxInAll: number
  ) {}

  /** Counts one more, or one less. Returns whether a cap is exceeded by so much that it is to be enforced now. */
  add(principal: string, by: 1 | -1): boolean {
    const next = (this.counts.get(principal) ?? 0) + by
    this.all += by
    if (next <= 0) this.counts.delete(principal)
    else this.counts.set(principal, next)
    if (next > this.maxPerPrincipal) this.over.add(principal)
    else this.over.delete(principal)
    return (
      next > this.maxPerPrincipal + slackOf(this.maxPerPrincipal) ||
      this.all > this.maxInAll + slackOf(this.maxInAll)
    )
  }
  /** Begins with what is stored. Returns whether a cap is exceeded. */
  begin(stored: ReadonlyMap<string, number>): boolean {
    this.counts = new Map(stored)
    this.all = [...this.counts.values()].reduce((a, b) => a + b, 0)
    this.over = new Set([...this.counts].flatMap(([name, n]) => (n > this.maxPerPrincipal ? [name] : [])))
    return this.isOver
  }
  /** How many there are of all principals. */
  get inAll(): number {
    return this.all
  }
  /** Whether a cap is exceeded, if only by a little. */
  get isOver(): boolean {
    return this.over.size > 0 || this.surplusInAll > 0
  }
  /** Returns who has too many, and how many. */
  surplus(): ReadonlyArray<readonly [principal: string, surplus: number]> {
    return [...this.over].map(
      (principal) => [principal, (this.counts.get(principal) ?? 0) - this.maxPerPrincipal] as const
    )
  }
  /** How many too many there are in all; zero or less when there are none. */
  get surplusInAll(): number {
    return this.all - this.maxInAll
  }
  /** Returns who has most, and how many. */
  most(): readonly [principal: string, count: number] {
    return [...this.counts].reduce((a, b) => (b[1] > a[1] ? b : a), ["", 0])
  }
}
