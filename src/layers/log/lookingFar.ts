/**
 * What a view has to come to: the logs of the jobs that it is behind in, and which of those are jobs of other nodes, that it looks at
 * for as long as they run there.
 */
import * as Effect from "effect/Effect"
import type { News, StoreService } from "../../services/store/Store.js"
import type { JobState } from "./JobState.js"
import type { LiveLogs } from "./Live.js"
import type { Place } from "./lateNumbering.js"
import type { Tail } from "./Tail.js"
import type { ViewState } from "./ViewState.js"

/** What it works on. */
interface Parts {
  readonly live: LiveLogs
  readonly store: StoreService
  readonly tail: Tail
}

/** Logs that are loaded at once. */
const loadedAtOnce = 16

const isOpen = (place: Place | undefined): boolean =>
  place !== undefined && !place.job.superseded && !place.job.closed && place.record.endedAt === undefined

/** Whether what is known of a job is what it is: that it has ended, or not, and which log it has. */
const isCurrent = ({ job, record }: Place): boolean =>
  !job.superseded && job.closed === (record.endedAt !== undefined)

/** Returns what finds and loads the jobs that views have to come to. */
export const make = ({ live, store, tail }: Parts) => {
  /**
   * Loads the log of a job that a view is behind in. Of one that is being opened, or dropped, it is known in a later round
   * what became of it; what is not stored any more the view cannot come to.
   */
  const load = (view: ViewState, jobId: string) =>
    Effect.gen(function* () {
      const { places } = view
      const known = places.get(jobId)
      if (known !== undefined && isCurrent(known)) return
      const record = yield* store.job(jobId)
      if (known?.job.superseded === false) {
        if (record !== undefined) places.set(jobId, { job: known.job, record })
        return
      }
      if (record === undefined) {
        if (view.watched.has(jobId)) view.unwatch(jobId)
        else if (live.jobs.get(jobId)?.dropped !== false && view.behind.has(jobId)) view.lose()
        return
      }
      const job = yield* live.loadJob(record)
      if (live.holds.isDropping(jobId)) return
      live.holds.keep(job)
      if (known !== undefined) live.holds.release(known.job)
      places.set(jobId, { job, record })
      if (job.foreignTo === undefined) {
        // It has ended since, or is this node's by now.
        view.watched.delete(jobId)
        return
      }
      if (!view.behind.has(jobId)) return
      view.watched.add(jobId)
      live.watching.add(view)
    })

  const loadAll = (view: ViewState) =>
    Effect.forEach([...view.behind.keys()], (jobId) => load(view, jobId), {
      concurrency: loadedAtOnce,
      discard: true
    })

  /**
   * Finds what the session observes on other nodes: what the jobs there have delegated to, and what is there no more. Returns
   * whether there is something new in what it looks at, and whether it looks at something that it did not.
   */
  const discover = (view: ViewState) =>
    Effect.gen(function* () {
      const observed = yield* store.observed(view.sessionId)
      const followed = new Set(Array.from(view.observed, ({ jobId }) => jobId))
      const found = { isNew: false, isMore: false }
      for (const { cursor, jobId, last, node } of observed) {
        if (cursor >= last || followed.has(jobId)) continue
        if (!view.behind.has(jobId)) {
          // Of this node's own it is told as they append.
          if (live.isOwn({ node })) continue
          view.watch(jobId, cursor)
          found.isMore = true
        }
        found.isNew = true
      }
      const stored = new Set(observed.map(({ jobId }) => jobId))
      for (const jobId of view.watched)
        if (!stored.has(jobId) && (yield* store.job(jobId)) === undefined) view.unwatch(jobId)
      return found
    })

  /** Notes how far jobs of other nodes have come, and keeps what was read of them for whoever sends it. */
  const arrived = (jobOf: (jobId: string) => JobState | undefined, page: News["events"]) => {
    for (const { audience, bytes, jobId, kind, payload, seq, type } of page) {
      const job = jobOf(jobId)
      if (job?.foreignTo === undefined) continue
      if (payload !== undefined && seq === job.last + 1)
        tail.push(job, [{ seq, type, kind, audience, payload }], bytes)
      live.advance(job, seq, type !== "job.event")
    }
  }

  /** Returns whether all that a view has to come to is jobs of other nodes, whose logs are here and have not ended. */
  const isSteady = ({ isLate, places, watched }: ViewState): boolean =>
    watched.size > 0 && !isLate && [...watched].every((jobId) => isOpen(places.get(jobId)))

  return { loadAll, discover, arrived, isSteady }
}
