/** A binary heap: whatever comes before everything else in it is at hand, in O(log n). */

/** Keeps items so that the first of them can be taken. */
export class Heap<A extends NonNullable<unknown>> {
  private items: Array<A> = []

  constructor(
    /** Tells whether one item comes before another. */
    private readonly before: (a: A, b: A) => boolean
  ) {}

  get size(): number {
    return this.items.length
  }
  /** The first item. */
  get first(): A | undefined {
    return this.items[0]
  }

  push(item: A): void {
    let at = this.items.push(item) - 1
    while (at > 0) {
      const above = (at - 1) >> 1
      const other = this.items[above]
      if (other === undefined || !this.before(item, other)) break
      this.items[at] = other
      at = above
    }
    this.items[at] = item
  }

  /** Takes the first item out. */
  pop(): A | undefined {
    const first = this.items[0]
    const last = this.items.pop()
    if (last !== undefined && this.items.length > 0) this.sink(last, 0)
    return first
  }

  /** Keeps only the items that are wanted. */
  retain(wanted: (item: A) => boolean): void {
    const kept = this.items.filter(wanted)
    this.items = []
    for (const item of kept) this.push(item)
  }

  /** Puts an item at a place, or below it, where it comes before what is below. */
  private sink(item: A, from: number): void {
    let at = from
    for (;;) {
      const below = 2 * at + 1
      const left = this.items[below]
      const right = this.items[below + 1]
      if (left === undefined) break
      const isRight = right !== undefined && this.before(right, left)
      const other = isRight ? right : left
      if (!this.before(other, item)) break
      this.items[at] = other
      at = isRight ? below + 1 : below
    }
    this.items[at] = item
  }
}
