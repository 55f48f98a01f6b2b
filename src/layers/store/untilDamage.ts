/** Reading a log that may be damaged somewhere: as far as it goes. */
import * as Effect from "effect/Effect"
import type { StoredEvent, StoreError, StoreService } from "../../services/store/Store.js"

/**
 * Completes a read of a job's events from `from` on: when one of them is damaged, those before it are given, and it is the next
 * read that fails. So whoever reads knows after which event to go on, and can leave out the damaged one.
 */
export const untilDamage =
  ({ events }: Pick<StoreService, "events">, jobId: string, from: number) =>
  (read: Effect.Effect<ReadonlyArray<StoredEvent>, StoreError>) =>
    Effect.catchAll(read, (error) => {
      const seq = error.damaged?.seq ?? from
      return seq > from ? events(jobId, from, seq - from) : error
    })
