/** What a session's view may lose: the oldest of its own, over the session's cap. */
import * as Effect from "effect/Effect"
import { Op } from "../../../services/store/Store.js"
import type { ViewState } from "../ViewState.js"
import { grown, type RetentionParts, type StoreWork } from "./Parts.js"

/** Keeps the views of sessions to their caps. */
export interface ViewCaps {
  /** Raises the floor of a view: what is before it is gone for its session. */
  readonly raise: (view: ViewState, to: number) => StoreWork
  /** Returns the floor of a view that is over its cap. */
  readonly floorOf: (view: ViewState, evenIfRead: boolean) => number
  /** Cuts a view to its cap, as far as it may be cut. */
  readonly lookAt: (view: ViewState) => StoreWork
  /** Returns whether what a view needs is alone over its cap. */
  readonly isOver: (view: ViewState) => boolean
  /** Stores what sessions that are in memory need, so that the store can tell who needs what. */
  readonly storeNeeds: (sessionIds: Iterable<string>) => StoreWork
}

/** Returns what keeps the views of sessions to their caps. */
export const make = ({ committer, dropped, live, monotonic, windowMs }: RetentionParts): ViewCaps => {
  const { granularity, limits } = live

  const raise = (view: ViewState, to: number): StoreWork =>
    to <= view.first
      ? Effect.void
      : committer.change((tx) => {
          if (view.dropped) return
          tx.ownsView(view)
          tx.ops.push(Op.TrimSession({ sessionId: view.sessionId, eventSeq: to }))
          tx.onApply(() => {
            view.ledger.free(to)
            dropped.give()
          })
        })

  /** The floor of a view that is over its cap: what is not needed goes first; what is needed, unless it is being read. */
  const floorOf = (view: ViewState, evenIfRead: boolean): number => {
    const now = monotonic()
    const target = view.ledger.target(limits)
    if (target === undefined) return view.first
    const need = view.need(now, windowMs)
    return target <= need || evenIfRead || !view.reads(now) ? target : view.ledger.boundary(need)
  }

  const lookAt = (view: ViewState) =>
    Effect.suspend(() => {
      if (view.dropped) return Effect.void
      const floor = floorOf(view, false)
      const isRead = floor < floorOf(view, true)
      view.allowance = limits
      return Effect.tap(raise(view, floor), () => {
        // What is read stays; it is looked at again when there is more of it. Counted now: what went does not count.
        if (isRead) view.allowance = grown(view.ledger, limits, granularity)
      })
    })

  /** Stores what the sessions that are in memory need, so that the store can tell who needs what. */
  const storeNeeds = (sessionIds: Iterable<string>) =>
    committer.change((tx) => {
      for (const sessionId of new Set(sessionIds)) {
        const view = live.views.get(sessionId)
        if (view === undefined || view.dropped) continue
        const need = view.need(monotonic(), windowMs)
        if (need <= view.storedNeed) continue
        tx.ownsView(view)
        tx.ops.push(Op.Need({ sessionId, eventSeq: need }))
        tx.onApply(() => {
          view.storedNeed = Math.max(view.storedNeed, need)
        })
      }
    })

  return {
    raise,
    floorOf,
    lookAt,
    storeNeeds,
    isOver: (view) => view.ledger.exceedsAfter(view.need(monotonic(), windowMs) - 1, limits)
  }
}
