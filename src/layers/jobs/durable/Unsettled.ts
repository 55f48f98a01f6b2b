/** Jobs that the last process left open, and of which this one has not stored the end, nor run them again. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"

/** Lets whoever needs to know what becomes of such a job wait for it. */
export class Unsettled {
  private readonly jobs = new Map<string, Deferred.Deferred<void>>()

  /** Nothing when that is so already. */
  add(jobId: string): void {
    if (!this.jobs.has(jobId)) this.jobs.set(jobId, Deferred.unsafeMake(FiberId.none))
  }
  settle(jobId: string): void {
    const waited = this.jobs.get(jobId)
    this.jobs.delete(jobId)
    if (waited !== undefined) Deferred.unsafeDone(waited, Effect.void)
  }
  settleAll(): void {
    for (const jobId of [...this.jobs.keys()]) this.settle(jobId)
  }
  /** Waits until it is known; returns whether there was something to wait for. */
  settled(jobId: string): Effect.Effect<boolean> {
    return Effect.suspend(() => {
      const waited = this.jobs.get(jobId)
      return waited === undefined ? Effect.succeed(false) : Effect.as(Deferred.await(waited), true)
    })
  }
}
