/** Reading a job by its own numbers, a page at a time, without a view: for whoever keeps their place themselves. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { type InternalError, JobNotFound, ResumeWindowExpired } from "../../protocol/Errors.js"
import type { FollowedJob } from "../../services/log/EventLog.js"
import { Turn } from "../../services/runtime/Turn.js"
import { type StoreService, toInternalError } from "../../services/store/Store.js"
import { untilDamage } from "../store/untilDamage.js"
import { appended, eventsFrom } from "./History.js"
import type { JobState } from "./JobState.js"
import type { LiveLogs } from "./Live.js"
import { PageSize } from "./PageSize.js"

const noop = () => {}

const unread = toInternalError("the log could not be read")

const gap = (after: number, next: number) =>
  new ResumeWindowExpired({
    message: `events after ${after} are no longer retained; the oldest that is has the number ${next}`,
    details: { after, next }
  })

const dropped = new JobNotFound({ message: "the job was deleted, or is not retained any more" })

/** Reads a job that is loaded by `load`, and stays so for the scope. */
export const make = (
  { live, store }: { readonly live: LiveLogs; readonly store: StoreService },
  load: Effect.Effect<JobState, InternalError>
): Effect.Effect<FollowedJob, InternalError, Scope.Scope> =>
  Effect.gen(function* () {
    /** What is read: another log of the job, when it has been left to other nodes. */
    let job = yield* load
    let leave = noop
    // Whoever is followed is not forgotten; from the load on nothing has waited.
    yield* Effect.acquireRelease(
      Effect.sync(() => {
        leave = job.follow(noop)
      }),
      () =>
        Effect.sync(() => {
          leave()
          if (job.foreignTo !== undefined) live.forget(job)
        })
    )
    const refreshed = Effect.suspend(() =>
      job.foreignTo === undefined ? Effect.void : Effect.mapError(live.refresh(job), unread)
    )
    yield* refreshed
    const goOn = Effect.gen(function* () {
      const next = yield* Effect.mapError(live.loadAgain(job), unread)
      if (next.dropped) return yield* dropped
      leave()
      job = next
      leave = job.follow(noop)
      yield* refreshed
    })
    const page = new PageSize()
    const turn = yield* Turn

    const retained = Effect.map(Effect.mapError(store.boundsOf([job.jobId]), unread), (bounds) =>
      bounds.get(job.jobId)
    )
    const oldest = Effect.map(retained, (bounds) => bounds?.first ?? job.last + 1)
    /** Of a job that has ended at least the end is stored, unless it was dropped. */
    const missing = (after: number, next: number | undefined) =>
      Effect.gen(function* () {
        if (next !== undefined) return yield* gap(after, next)
        const bounds = yield* retained
        return yield* bounds === undefined && job.closed ? dropped : gap(after, bounds?.first ?? job.last + 1)
      })
    const read: FollowedJob["read"] = (after) =>
      Effect.gen(function* () {
        const from = after + 1
        yield* appended(job, after)
        if (from > job.last && job.superseded) return yield* Effect.zipRight(goOn, read(after))
        if (from > job.last) return { events: [], through: after, ended: job.closed }
        const limit = Math.min(page.count, job.last - from + 1)
        const events = yield* eventsFrom(store, job, from, limit).pipe(
          untilDamage(store, job.jobId, from),
          Effect.mapError(unread)
        )
        const [first] = events
        const newest = events[events.length - 1]
        if (first === undefined || newest === undefined || first.seq > from)
          return yield* missing(after, first?.seq)
        page.read(events)
        // Of what is there already there may be very much.
        if (newest.seq < job.last) yield* turn.next
        const seen = events.filter(({ audience }) => audience === undefined)
        const ended = job.closed && newest.seq >= job.last
        if (seen.length === 0 && !ended) return yield* read(newest.seq)
        return { events: seen, through: newest.seq, ended }
      })
    return {
      bounds: Effect.map(oldest, (first) => ({ first, last: job.last, ended: job.closed })),
      read
    }
  })
