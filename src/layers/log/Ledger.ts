/** Counts of what is retained in one numbering: of a job's events, or of a session's view. */

interface LedgerMark {
  readonly seq: number
  /** Bytes of everything up to and including `seq`. */
  readonly bytes: number
}

/** Events and bytes at the most. */
export interface Limits {
  readonly events: number
  readonly bytes: number
}

/** Returns how much comes between two marks: fine enough for small limits, coarse enough that marks stay few. */
export const granularityOf = (limits: Limits): Limits => ({
  events: Math.max(1, Math.min(1024, Math.floor(limits.events / 16))),
  bytes: Math.max(1, Math.min(256 * 1024, Math.floor(limits.bytes / 16)))
})

/**
 * Knows how many events and bytes are retained, and where one may cut. Cuts are possible at marks only, so that a
 * view always begins with a whole run (see Transaction.ts).
 */
export class Ledger {
  /** Ascending in both. */
  private marks: Array<LedgerMark> = []
  private total = 0
  private freed = 0

  constructor(
    private readonly granularity: Limits,
    /** The oldest number retained; `last + 1` when there is none. */
    public first: number,
    public last: number
  ) {}

  /** Returns how many numbers are retained. */
  get events(): number {
    return this.last - this.first + 1
  }
  /** Returns how many bytes are retained; what was freed inside a mark still counts. */
  get bytes(): number {
    return this.total - this.freed
  }
  private get newestMark(): LedgerMark {
    return this.marks[this.marks.length - 1] ?? { seq: this.first - 1, bytes: this.freed }
  }

  /** Makes a mark here if enough has come since the last one. */
  cut(): void {
    const { bytes, seq } = this.newestMark
    if (this.last - seq >= this.granularity.events || this.total - bytes >= this.granularity.bytes)
      this.marks.push({ seq: this.last, bytes: this.total })
  }
  add(last: number, bytes: number): void {
    this.total += bytes
    this.last = last
  }
  exceeds(limits: Limits): boolean {
    return this.events > limits.events || this.bytes > limits.bytes
  }
  /** Returns whether more than this follows `seq`. */
  exceedsAfter(seq: number, limits: Limits): boolean {
    return (
      this.last - seq > limits.events || (this.bytes > limits.bytes && this.bytesAfter(seq) > limits.bytes)
    )
  }
  /** Returns the bytes that follow `seq`, rounded up to a mark. */
  bytesAfter(seq: number): number {
    return this.total - (this.marks[this.indexAfter(seq) - 1]?.bytes ?? this.freed)
  }
  /** Returns the number to begin with so that what is retained keeps to the limits; `undefined` when it does. */
  target(limits: Limits): number | undefined {
    if (!this.exceeds(limits)) return undefined
    let target: number | undefined
    for (const mark of this.marks) {
      if (mark.seq >= this.last) break
      target = mark.seq + 1
      if (this.last - mark.seq <= limits.events && this.total - mark.bytes <= limits.bytes) break
    }
    return target
  }
  /** Returns the largest number, at most `seq`, that one may begin with. */
  boundary(seq: number): number {
    const mark = this.marks[this.indexAfter(seq - 1) - 1]
    return mark === undefined ? this.first : Math.max(this.first, mark.seq + 1)
  }
  /** Forgets what comes before `seq`. */
  free(seq: number): void {
    if (seq <= this.first) return
    const index = this.indexAfter(seq - 1)
    const mark = this.marks[index - 1]
    if (mark !== undefined) this.freed = mark.bytes
    this.marks = this.marks.slice(index)
    this.first = seq
    if (seq > this.last) this.freed = this.total
  }
  /** Returns the index of the first mark after `seq`. */
  private indexAfter(seq: number): number {
    let low = 0
    let high = this.marks.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.marks[middle]?.seq ?? 0) > seq) high = middle
      else low = middle + 1
    }
    return low
  }
}
