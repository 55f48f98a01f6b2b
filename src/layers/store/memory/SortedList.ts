/** A list kept in order; adding at its end, the usual case, costs no move. */
export class SortedList<A> {
  private readonly items: Array<A> = []

  constructor(private readonly order: (a: A, b: A) => number) {}

  get length(): number {
    return this.items.length
  }
  at(index: number): A | undefined {
    return this.items[index]
  }
  /** Returns the index of the first item that does not come before a place. */
  lowerBound(compare: (item: A) => number): number {
    let low = 0
    let high = this.items.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (compare(this.items[middle] as A) < 0) low = middle + 1
      else high = middle
    }
    return low
  }
  add(item: A): void {
    const { items } = this
    const last = items.length - 1
    if (last < 0 || this.order(items[last] as A, item) < 0) items.push(item)
    else items.splice(this.placeOf(item), 0, item)
  }
  /** Removes an item that compares equal. */
  remove(item: A): void {
    const i = this.placeOf(item)
    if (i < this.items.length && this.order(this.items[i] as A, item) === 0) this.items.splice(i, 1)
  }
  private placeOf(item: A): number {
    return this.lowerBound((other) => this.order(other, item))
  }
}
