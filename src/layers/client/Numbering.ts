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
  declare from: number
  /** The newest event of the connection, whose next has to follow it; before `last` while what was skipped comes again. */
  declare seen: number
  /** The runtime counts the events of each job by themselves: their order is known to their handles only. */
  declare perJob: boolean | undefined
  /** Where a gap was seen; a second one at the same place is the runtime's. */
  #gapAt: number | undefined

  constructor(last: number) {
    this.follow(last)
  }

  /** Another session begins, or one that another process had goes on after its event `last`. */
  follow(last: number): void {
    this.last = this.acked = this.seen = last
    this.perJob = false
  }

  /** Takes the next event, if it is that. One without a number is where it came. */
  take(seq: number | undefined): Continuity {
    if (seq === undefined || this.perJob) return "next"
    if (seq <= this.seen) return "again"
    if (seq > this.seen + 1) {
      const place = this.#gapAt === this.seen ? "lost" : "gap"
      this.#gapAt = this.seen
      return place
    }
    this.seen = seq
    this.last = Math.max(this.last, seq)
    return "next"
  }
}
