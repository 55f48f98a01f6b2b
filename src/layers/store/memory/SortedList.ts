/** A list kept in order; adding at its end, the usual case, costs no move. */
export interface SortedList<A> {
  readonly length: number
  readonly at: (index: number) => A | undefined
  /** Index of the first item that does not come before a place. */
  readonly lowerBound: (compare: (item: A) => number) => number
  readonly add: (item: A) => void
  /** Removes an item that compares equal. */
  readonly remove: (item: A) => void
}

/** Returns an empty list in this order. */
export const make = <A>(order: (a: A, b: A) => number): SortedList<A> => {
  const items: Array<A> = []
  const lowerBound = (compare: (item: A) => number): number => {
    let low = 0
    let high = items.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (compare(items[middle] as A) < 0) low = middle + 1
      else high = middle
    }
    return low
  }
  return {
    get length() {
      return items.length
    },
    at: (index) => items[index],
    lowerBound,
    add: (item) => {
      items.splice(
        lowerBound((other) => order(other, item)),
        0,
        item
      )
    },
    remove: (item) => {
      const i = lowerBound((other) => order(other, item))
      if (i < items.length && order(items[i] as A, item) === 0) items.splice(i, 1)
    }
  }
}
