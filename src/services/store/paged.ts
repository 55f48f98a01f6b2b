/**
 * Jobs and sessions that are read a page after the other, with a turn of the event loop between two: all of a store's at once would hold
 * the process, and whoever else waits for the store.
 */
import * as Effect from "effect/Effect"
import { Turn } from "../runtime/Turn.js"
import type { JobFilter, JobRecord, SessionFilter, SessionRecord, StoreError, StoreService } from "./Store.js"

/** Records that the store is asked for at once. */
const atOnce = 500

/** Returns what `of` makes of each record; `read` gives at most so many of those after one. */
const mapPages = <Row, A>(
  read: (after: Row | undefined, limit: number) => Effect.Effect<ReadonlyArray<Row>, StoreError>,
  of: (row: Row) => A
): Effect.Effect<ReadonlyArray<A>, StoreError> =>
  Effect.gen(function* () {
    const turn = yield* Turn
    const made: Array<A> = []
    let after: Row | undefined
    do {
      const some: ReadonlyArray<Row> = yield* read(after, atOnce)
      for (const row of some) made.push(of(row))
      after = some.length < atOnce ? undefined : some.at(-1)
      if (after !== undefined) yield* turn.next
    } while (after !== undefined)
    return made
  })

/** Returns what `of` makes of each job that is meant, oldest first. What is submitted meanwhile may be among them, or not. */
export const mapJobs = <A>(
  store: Pick<StoreService, "jobs">,
  filter: Omit<JobFilter, "after" | "limit">,
  of: (job: JobRecord) => A
): Effect.Effect<ReadonlyArray<A>, StoreError> =>
  mapPages((after: JobRecord | undefined, limit) => store.jobs({ ...filter, after, limit }), of)

/** Returns what `of` makes of each session that is meant, by id; without those whose record is damaged. */
export const mapSessions = <A>(
  store: Pick<StoreService, "sessionPage">,
  filter: Omit<SessionFilter, "after" | "limit">,
  of: (session: SessionRecord) => A
): Effect.Effect<ReadonlyArray<A>, StoreError> =>
  mapPages(
    (after: SessionRecord | undefined, limit) =>
      store.sessionPage({ ...filter, after: after?.sessionId, limit }),
    of
  )
