/** The numbers of a session's events, over all its connections: each is taken exactly once, and none is missed. */

/**
 * What an event's number says of it:
 * - `next`: it is the next one
 * - `again`: it has been taken before
 * - `gap`: others are missing before it
 * - `lost`: they are missing also after they were asked for again
 */
export type Continuity = "next" | "again" | "gap" | "lost"

/** Checks that events come in order and once, and knows which to acknowledge. */
export class Numbering {
  /** The newest event received, over all connections. */
  declare last: number
  /** The newest event acknowledged. */
  declare acked: number
  /** The event after which the connection was asked to begin. */
  from = 0
  /** The event that comes next on the connection; before `last` while what was skipped comes again. */
  declare expected: number
  /** The runtime counts the events of each job by themselves: their order is known to their handles only. */
  declare perJob: boolean | undefined
  /** Where a gap was seen; a second one at the same place is the runtime's. */
  #gapAt: number | undefined

  /** Goes on after the event `last` of a session that another process had. */
  constructor(last: number) {
    this.last = this.acked = last
    this.giveUp()
  }

  /** The newest event before which none has been left out on purpose: what is asked for next follows it. */
  get reached(): number {
    return this.expected - 1
  }
  /** What is missing before `last` cannot be had again. */
  giveUp(): void {
    this.expected = this.last + 1
  }

  /** A connection was welcomed: what comes on it begins after `from`. */
  begin(): void {
    this.expected = this.from + 1
  }

  /** Takes the next event, if it is that. One without a number is where it came. */
  take(seq: number | undefined): Continuity {
    if (seq === undefined || this.perJob) return "next"
    if (seq < this.expected) return "again"
    if (seq > this.expected) {
      const place = this.#gapAt === this.expected ? "lost" : "gap"
      this.#gapAt = this.expected
      return place
    }
    this.expected = seq + 1
    this.last = Math.max(this.last, seq)
    return "next"
  }

  /** Another session begins. */
  reset(): void {
    this.last = this.acked = 0
    this.giveUp()
    this.perJob = false
  }
}
