/** Whether a reader has come so far behind that emitters wait for it, and who waits. */

/** A reader that sets the pace of jobs. */
export class Congestion {
  /** Set when what the reader has not read would soon be evicted. */
  congested = false
  /** It has not got on for so long that nobody waits for it. */
  stalled = false
  private relieved = new Set<() => void>()

  /** Calls back once, when it is congested no more: at once when it is not. Returns what takes that back. */
  onRelief(resume: () => void): () => void {
    // It may have been relieved since whoever asks has looked.
    if (!this.congested) {
      resume()
      return () => {}
    }
    this.relieved.add(resume)
    return () => this.relieved.delete(resume)
  }
  relieve(): void {
    this.congested = false
    const waiting = this.relieved
    this.relieved = new Set()
    for (const resume of waiting) resume()
  }
}
