/** The numbers of a session's events, over all its connections: each is taken exactly once, and none is missed. */

/** What an event's number says of it. */
export type Place =
  | { readonly _tag: "Next" }
  /** It has been taken before. */
  | { readonly _tag: "Again" }
  /** Others are missing before it; `repeated`: also after they were asked for again. */
  | { readonly _tag: "Gap"; readonly expected: number; readonly repeated: boolean }

const next: Place = { _tag: "Next" }
const again: Place = { _tag: "Again" }

export class Numbering {
  /** The newest event received, over all connections. */
  last: number
  /** The newest event acknowledged. */
  acked: number
  /** The event after which the connection was asked to begin. */
  from = 0
  private expected = 1
  /** Where a gap was seen; a second one at the same place is the runtime's. */
  private gapAt: number | undefined

  /** Goes on after the event `last` of a session that another process had. */
  constructor(last: number) {
    this.last = this.acked = last
  }

  /** A connection was welcomed: what comes on it begins after `from`. */
  begin(): void {
    this.expected = this.from + 1
  }

  isNext(seq: number): boolean {
    return seq === this.expected
  }

  /** Takes the next event, if it is that. */
  take(seq: number): Place {
    if (seq < this.expected) return again
    if (seq > this.expected) {
      const repeated = this.gapAt === this.expected
      this.gapAt = this.expected
      return { _tag: "Gap", expected: this.expected, repeated }
    }
    this.expected = seq + 1
    this.last = Math.max(this.last, seq)
    return next
  }

  /** Another session begins. */
  reset(): void {
    this.last = this.acked = 0
  }
}
