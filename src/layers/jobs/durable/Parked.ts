/** What is known of jobs that are parked, beside what is stored: which of them somebody is to look at again. */
import { Signal } from "../../../services/runtime/Signal.js"

/** Which of the jobs that are parked others are to be offered. */
export interface Offered {
  /** All that this node has, or those of which it has turned out that they cannot go on here. */
  readonly jobs: "all" | ReadonlySet<string>
}

/** Wakes who looks at jobs that are parked. */
export class Parked {
  /** Given when some have come here from other nodes: their agents may be here. */
  readonly came = new Signal()
  /** Given when there is something to offer to other nodes. */
  readonly offers = new Signal()
  private jobs: "all" | Set<string> = new Set()

  /** A job cannot go on here. */
  add(jobId: string): void {
    if (this.jobs !== "all") this.jobs.add(jobId)
    this.offers.give()
  }
  /** There is a node that was not there before: it may have what those need that are parked here. */
  offerAll(): void {
    this.jobs = "all"
    this.offers.give()
  }
  /** Returns what is to be offered; from here on that has been. */
  take(): Offered {
    const { jobs } = this
    this.jobs = new Set()
    return { jobs }
  }
}
