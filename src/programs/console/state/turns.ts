/** Subscriptions to a job, one at a time: another handle on it is in the way of one that is to get its history. */
import * as Effect from "effect/Effect"

interface Turns {
  readonly semaphore: Effect.Semaphore
  /** Who has a subscription, or waits for one. */
  users: number
}

const turns = new Map<string, Turns>()

/** Runs what subscribes to a job when nobody else does any more. */
export const inTurn = <A, E, R>(jobId: string, use: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      const known = turns.get(jobId) ?? { semaphore: Effect.unsafeMakeSemaphore(1), users: 0 }
      known.users++
      turns.set(jobId, known)
      return known
    }),
    ({ semaphore }) => semaphore.withPermits(1)(use),
    (known) =>
      Effect.sync(() => {
        known.users--
        if (known.users === 0) turns.delete(jobId)
      })
  )
