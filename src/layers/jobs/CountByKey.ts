/** Counts by key; a key without any is forgotten. */
export class CountByKey {
  private readonly counts = new Map<string, number>()
  get(key: string): number {
    return this.counts.get(key) ?? 0
  }
  add(key: string, by: number): void {
    const count = this.get(key) + by
    if (count <= 0) this.counts.delete(key)
    else this.counts.set(key, count)
  }
}
