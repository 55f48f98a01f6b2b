/** Counts by key; a key without any is forgotten. */
export class CountByKey {
  private readonly counts = new Map<string, number>()
  get(key: string): number {
    return this.counts.get(key) ?? 0
  }
  get all(): Iterable<readonly [key: string, count: number]> {
    return this.counts
  }
  add(key: string, by: number): void {
    const count = this.get(key) + by
    if (count <= 0) this.counts.delete(key)
    else this.counts.set(key, count)
  }
}
