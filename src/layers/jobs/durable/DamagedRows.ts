/** Jobs that are due and cannot be loaded, since something that is stored of them is damaged. */

/** Milliseconds between two tries with one: it may be restored from a backup meanwhile. */
export const damagedRest = 60_000

/** Of so many it is known: the oldest is tried again when there are more. */
const most = 10_000

/** Knows which of them are not tried now, and whom it was said of. */
export class DamagedRows {
  /** Epoch ms of the last try. */
  private readonly triedAt = new Map<string, number>()

  /** One was tried; returns whether it is the first time. */
  add(jobId: string, now: number): boolean {
    const isNew = !this.triedAt.delete(jobId)
    this.triedAt.set(jobId, now)
    for (const oldest of this.triedAt.keys()) {
      if (this.triedAt.size <= most) break
      this.triedAt.delete(oldest)
    }
    return isNew
  }
  /** One could be loaded. */
  delete(jobId: string): void {
    this.triedAt.delete(jobId)
  }
  /** Returns until when it is not to be tried, in epoch ms; nothing when it may be, as when the clock was put back. */
  restsUntil(jobId: string, now: number): number | undefined {
    const at = this.triedAt.get(jobId)
    return at !== undefined && now >= at && now - at < damagedRest ? at + damagedRest : undefined
  }
}
