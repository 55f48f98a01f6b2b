/** The numbers of a session's events, over all its connections: each is taken exactly once, and none is missed. */

/**
 * What an event's number says of it:
 * - `next`: it is the next one
 * - `again`: it has been taken before
 * - `gap`: others are missing before it
 */
export type Continuity = "next" | "again" | "gap"

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
  /** The newest event heard of: one after a gap was not taken. */
  #heard = 0
  /** After which event others were missing; if they are a second time, that is the runtime's. */
  #missedAt: number | undefined

  constructor(last: number) {
    this.follow(last)
  }

  /** Another session begins, or one that another process had goes on after its event `last`. */
  follow(last: number): void {
    this.last = this.acked = this.seen = this.#heard = last
    this.perJob = false
    this.#missedAt = undefined
  }

  /** Takes the next event, if it is that. One without a number is where it came. */
  take(seq: number | undefined): Continuity {
    if (seq === undefined || this.perJob) return "next"
    if (seq <= this.seen) return "again"
    this.#heard = Math.max(this.#heard, seq)
    if (seq > this.seen + 1) return "gap"
    if (this.seen === this.#missedAt) this.#missedAt = undefined
    this.seen = seq
    this.last = Math.max(this.last, seq)
    return "next"
  }
  /** There are events that this connection has not brought yet. */
  get owed(): boolean {
    return !this.perJob && this.seen < this.#heard
  }
  /** What follows is missing. Returns whether to ask for it: not where it was asked for before. */
  asks(): boolean {
    const isFirst = this.#missedAt !== this.seen
    this.#missedAt = this.seen
    return isFirst
  }
}
