/**
 * Looks at jobs of other nodes for all sessions of this one together: one read of what is new in whatever they observe, and one
 * commit that numbers it for each. So what a wake costs does not grow with those who watch, and an event that another node has
 * committed is two statements away from whoever sees it.
 *
 * That is for sessions that only have to go on. One with something that it does not know yet, that is far behind, or catches up with
 * jobs of this node, is seen to by itself (Sequencer.ts), and comes back.
 */
import * as Effect from "effect/Effect"
import type { InternalError } from "../../protocol/Errors.js"
import type { News, StoreError, StoreService } from "../../services/store/Store.js"
import type { Committer } from "./Committer.js"
import type { LiveLogs } from "./Live.js"
import { numbering } from "./lateNumbering.js"
import type { ViewState } from "./ViewState.js"

/** Events, and bytes of their payloads, that are read at once: whoever is further behind catches up without the others. */
const maxEvents = 512
const maxBytes = 256 * 1024

/** What it works on. */
interface Parts {
  /** Of this node. */
  readonly node: string
  readonly news: NonNullable<StoreService["news"]>
  readonly committer: Committer
  readonly live: LiveLogs
  readonly arrived: (page: News["events"]) => void
}

/** Returns how far all of these have come with each job. */
const cursorsOf = (views: ReadonlyArray<ViewState>) => {
  const cursors = new Map<string, number>()
  for (const { behind } of views)
    for (const [jobId, seq] of behind) cursors.set(jobId, Math.min(seq, cursors.get(jobId) ?? seq))
  return cursors
}

/** Returns the newest `seq` of each job of a page. */
const newestOf = ({ events }: News) => new Map(events.map(({ jobId, seq }) => [jobId, seq]))

/** Returns what numbers for some views what is new; it gives those that have to be seen to by themselves. */
export const make =
  ({ arrived, committer, live, news, node }: Parts) =>
  (views: ReadonlyArray<ViewState>): Effect.Effect<ReadonlySet<ViewState>, StoreError | InternalError> =>
    Effect.gen(function* () {
      for (const view of views) view.isDue = false
      const sessions = views.map(({ sessionId }) => sessionId)
      const asked = cursorsOf(views)
      const after = Array.from(asked, ([jobId, seq]) => ({ jobId, seq }))
      const found = yield* news({ node, sessions, after, limit: maxEvents, maxBytes })
      arrived(found.events)
      const newest = newestOf(found)
      const isFull = found.events.length >= maxEvents
      const alone = new Set<ViewState>()
      const numbered = views.filter((view) => {
        if (found.lost.has(view.sessionId)) view.lose()
        if (view.lost || view.dropped) return false
        // What a job has delegated to comes before what it has said since.
        if (
          isFull ||
          found.joined.has(view.sessionId) ||
          [...view.watched].some((job) => found.gone.has(job))
        )
          alone.add(view)
        return !alone.has(view) && [...view.behind].some(([jobId, seq]) => seq < (newest.get(jobId) ?? 0))
      })
      for (const view of alone) view.isDue = true
      yield* Effect.forEach(
        numbered,
        (view) => committer.change(numbering(view, live, found.events, asked)),
        { concurrency: "unbounded", discard: true }
      )
      return alone
    })
