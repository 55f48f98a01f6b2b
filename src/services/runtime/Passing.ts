/**
 * Maps and sets of what comes and goes at every job. V8 makes a new table for a `Map` or a `Set` each time the old one is full of
 * what was deleted, and lets the old one refer to it. Once one of them has been moved to the old generation, every later one is
 * kept there too, with what was in it, until the next full collection: with all jobs that were under way, and what those refer to.
 * So these begin anew, in a table that no other refers to, before there is more that was deleted than is left.
 */

/** A map whose entries do not stay. Whoever goes through it while it changes may still meet what was deleted meanwhile. */
export class PassingMap<K, V> {
  private entries = new Map<K, V>()
  private deleted = 0

  get size(): number {
    return this.entries.size
  }
  get(key: K): V | undefined {
    return this.entries.get(key)
  }
  has(key: K): boolean {
    return this.entries.has(key)
  }
  set(key: K, value: V): this {
    this.entries.set(key, value)
    return this
  }
  delete(key: K): boolean {
    if (!this.entries.delete(key)) return false
    if (++this.deleted <= this.entries.size) return true
    this.entries = new Map(this.entries)
    this.deleted = 0
    return true
  }
  clear(): void {
    this.entries = new Map()
    this.deleted = 0
  }
  keys(): MapIterator<K> {
    return this.entries.keys()
  }
  values(): MapIterator<V> {
    return this.entries.values()
  }
  [Symbol.iterator](): MapIterator<[K, V]> {
    return this.entries[Symbol.iterator]()
  }
}

/** A set whose values do not stay. Whoever goes through it while it changes may still meet what was deleted meanwhile. */
export class PassingSet<A> {
  private readonly entries = new PassingMap<A, undefined>()

  get size(): number {
    return this.entries.size
  }
  has(value: A): boolean {
    return this.entries.has(value)
  }
  add(value: A): this {
    this.entries.set(value, undefined)
    return this
  }
  delete(value: A): boolean {
    return this.entries.delete(value)
  }
  clear(): void {
    this.entries.clear()
  }
  [Symbol.iterator](): MapIterator<A> {
    return this.entries.keys()
  }
}
