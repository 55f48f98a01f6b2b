/**
 * Jobs that are read a page after the other, with a turn of the event loop between two: all of a store's at once would hold the process,
 * and whoever else waits for the store.
 */
import * as Effect from "effect/Effect"
import { Turn } from "../runtime/Turn.js"
import type { JobFilter, JobRecord, StoreError, StoreService } from "./Store.js"

/** Jobs that the store is asked for at once. */
const atOnce = 500

/** Returns what `of` makes of each job that is meant, oldest first. What is submitted meanwhile may be among them, or not. */
export const mapJobs = <A>(
  store: Pick<StoreService, "jobs">,
  filter: Omit<JobFilter, "after" | "limit">,
  of: (job: JobRecord) => A
): Effect.Effect<ReadonlyArray<A>, StoreError> =>
  Effect.gen(function* () {
    const turn = yield* Turn
    const made: Array<A> = []
    let after: JobRecord | undefined
    do {
      const some: ReadonlyArray<JobRecord> = yield* store.jobs({ ...filter, after, limit: atOnce })
      for (const job of some) made.push(of(job))
      after = some.length < atOnce ? undefined : some.at(-1)
      if (after !== undefined) yield* turn.next
    } while (after !== undefined)
    return made
  })
