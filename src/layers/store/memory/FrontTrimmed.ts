/** An array that grows at its end and forgets from its front, both in amortised constant time. */
export interface FrontTrimmed<A> {
  readonly length: number
  readonly last: A | undefined
  readonly at: (index: number) => A | undefined
  readonly push: (item: A) => void
  readonly replaceLast: (item: A) => void
  readonly dropFront: (count: number) => void
  readonly slice: (from: number, to: number) => ReadonlyArray<A>
}

/** Up to so many items a list has no room for more. */
const small = 3

class Impl<A> implements FrontTrimmed<A> {
  private items: Array<A> = []
  private head = 0

  get length(): number {
    return this.items.length - this.head
  }

  get last(): A | undefined {
    return this.length === 0 ? undefined : this.items[this.items.length - 1]
  }

  at(index: number): A | undefined {
    return index < 0 ? undefined : this.items[this.head + index]
  }

  push(item: A): void {
    // An array that grows gets room for 17: most lists of a small job have one item or two, and stay.
    if (this.items.length < small) this.items = [...this.items, item]
    else this.items.push(item)
  }

  replaceLast(item: A): void {
    this.items[this.items.length - 1] = item
  }

  dropFront(count: number): void {
    const head = Math.min(this.head + count, this.items.length)
    // Now, not when the array is cut: an item can hold much.
    this.items.fill(undefined as never, this.head, head)
    this.head = head
    // Copying when half is dead costs each item at most one move.
    if (this.head * 2 >= this.items.length) {
      this.items = this.items.slice(this.head)
      this.head = 0
    }
  }

  slice(from: number, to: number): ReadonlyArray<A> {
    return this.items.slice(this.head + from, this.head + to)
  }
}

/** Returns an empty list. */
export const make = <A>(): FrontTrimmed<A> => new Impl<A>()
