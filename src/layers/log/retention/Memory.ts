/** The one limit, in bytes, of a log in memory for all its jobs and views. A store on disk holds nothing in memory. */
import * as Effect from "effect/Effect"
import type { StoreService } from "../../../services/store/Store.js"
import type { ViewState } from "../ViewState.js"
import { type FinishedJob, type FinishedJobs, isKept, type Keeping } from "./Finished.js"
import type { JobCaps } from "./Jobs.js"
import type { RetentionParts, StoreWork } from "./Parts.js"
import type { ViewCaps } from "./Views.js"

/** Keeps a log in memory to its bytes. */
export interface MemoryCap {
  /** Returns whether the limit is exceeded. */
  readonly isOver: () => boolean
  /** Returns whether so much is over the limit that emitters have to wait. */
  readonly isFull: () => boolean
  /** Forgets until the limit is kept, or only what was not sent yet to those who read is left. */
  readonly relieve: StoreWork
}

/** Finished jobs dropped between two looks at the memory. */
const step = 16
/** Finished jobs looked at in one go: when all of these are needed, something else goes first. */
const maxLooked = 4096

/** Forgets up to `most` finished jobs, but for those that `keeping` says, oldest first. Returns whether there was one. */
const forgetFinished = (store: StoreService, finished: FinishedJobs, keeping: Keeping, most: number) =>
  Effect.gen(function* () {
    const unneeded: Array<FinishedJob> = []
    const { kept } = finished
    let left = Math.min(kept.size, maxLooked)
    for (const job of kept.values()) {
      if (unneeded.length >= most || left-- === 0) break
      if (!(yield* isKept(store, job.jobId, keeping))) unneeded.push(job)
      else {
        // Others are looked at before it the next time.
        kept.delete(job.jobId)
        kept.set(job.jobId, job)
      }
    }
    return unneeded.length > 0 && (yield* finished.drop(unneeded, keeping)) > 0
  })

/** Returns the largest view that is not being read. */
const largestUnread = (views: Iterable<ViewState>, now: number): ViewState | undefined => {
  let largest: ViewState | undefined
  for (const view of views)
    if (!view.reads(now) && view.ledger.bytes > (largest?.ledger.bytes ?? 0)) largest = view
  return largest
}

/** Returns the view that was sent most of what it still holds, and where what was not sent begins. */
const mostSent = (views: Iterable<ViewState>) => {
  let found: { readonly view: ViewState; readonly unsent: number } | undefined
  let most = 0
  for (const view of views) {
    const bytes = view.ledger.bytes - view.ledger.bytesAfter(view.delivered)
    const unsent = view.ledger.boundary(view.delivered + 1)
    if (bytes <= most || unsent <= view.first) continue
    most = bytes
    found = { view, unsent }
  }
  return found
}

/** Returns what keeps a log in memory to its bytes. */
export const make = (
  parts: RetentionParts,
  views: ViewCaps,
  jobs: JobCaps,
  finished: FinishedJobs
): MemoryCap => {
  const { live, monotonic, store, turn } = parts
  const { limits } = live
  const maxHeld = parts.options.maxMemoryLogBytes

  /** Cuts running jobs to what views need. Returns whether anything went. */
  const trimRunning = Effect.gen(function* () {
    const before = store.held()
    yield* jobs.trimAll
    return store.held() < before
  })

  /** Returns what a view begins with after it has lost its oldest part: what is over the limit, at least an eighth. */
  const afterCut = ({ ledger }: ViewState): number => {
    const excess = Math.max(store.held() - maxHeld, ledger.bytes / 8)
    const to =
      ledger.target({ events: limits.events, bytes: Math.max(0, ledger.bytes - excess) }) ?? ledger.last + 1
    return Math.max(to, ledger.first + 1)
  }

  /** Cuts the oldest part off the largest view that is not being read. Returns whether there was one. */
  const shrinkLargest = Effect.suspend(() => {
    const view = largestUnread(live.views.values(), monotonic())
    return view === undefined ? Effect.succeed(false) : Effect.as(views.raise(view, afterCut(view)), true)
  })

  /**
   * Cuts off what was sent, of the view that was sent most: it could not be resumed from there, but no emitter waits for
   * an acknowledgement that never comes. Returns whether there was one.
   */
  const shrinkSent = Effect.suspend(() => {
    const found = mostSent(live.views.values())
    if (found === undefined) return Effect.succeed(false)
    return Effect.as(views.raise(found.view, Math.min(afterCut(found.view), found.unsent)), true)
  })

  const relieve = Effect.gen(function* () {
    if (store.held() <= maxHeld) return
    yield* views.storeNeeds(live.views.keys())
    while (store.held() > maxHeld) {
      const freed =
        (yield* forgetFinished(store, finished, "needed", step)) ||
        (yield* trimRunning) ||
        (yield* shrinkLargest) ||
        (yield* shrinkSent)
      if (!freed) break
      yield* turn.next
    }
    // Rather than that nobody can emit any more a job finds less of what it has delegated to, but of no more than it takes.
    while (store.held() > maxHeld && (yield* forgetFinished(store, finished, "needed by a session", 1)))
      yield* turn.next
  })

  return {
    isOver: () => store.held() > maxHeld,
    isFull: () => store.held() > maxHeld + maxHeld / 8,
    relieve
  }
}
