/**
 * How fast a job may emit for whoever reads it (§4.5). Only the owner sets the pace, and only while it gets on: a
 * stalled reader does not hold its jobs for longer than `patienceMs`, an absent one not at all, and nobody else ever.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { eventPayload, timestamp } from "../../protocol/EventText.js"
import type { Committer } from "./Committer.js"
import type { EmitWindows } from "./EmitWindows.js"
import type { JobState } from "./JobState.js"
import type { Limits } from "./Ledger.js"
import { patienceMs, type ViewState } from "./ViewState.js"

/** Returns the `share`-th part of limits. */
const part = (limits: Limits, share: number): Limits => ({
  events: limits.events / share,
  bytes: limits.bytes / share
})

/** Makes emitters wait for the connection of the session that owns their job. */
export interface Pace {
  /** Looks at a view to which something was added. */
  readonly published: (view: ViewState) => void
  /** Looks at a view whose connection has read up to `after`. */
  readonly reached: (view: ViewState, after: number) => void
  /** Looks at a view whose session has acknowledged events. */
  readonly acknowledged: (view: ViewState) => void
  /** Returns whether an emitter of this job has to wait for its owner. */
  readonly holds: (job: JobState) => boolean
  /** Waits until the owner has caught up, is gone, or has not got on for `patienceMs`. */
  readonly wait: (job: JobState) => Effect.Effect<void>
}

/** Waits as long as the owner of a job is congested and gets on; one that does not is stalled, and held for no longer. */
const waitForOwner = (job: JobState): Effect.Effect<void> =>
  Effect.suspend(() => {
    const view = job.ownerView
    if (view?.congested !== true) return Effect.void
    return Effect.async<void>((resume) => view.onRelief(() => resume(Effect.void))).pipe(
      Effect.timeoutTo({
        duration: Duration.millis(patienceMs),
        onSuccess: () => {},
        onTimeout: () => {
          view.stalled = true
          view.relieve()
        }
      })
    )
  })

/** Returns what makes emitters wait for readers of their own session. */
export const make = (parts: {
  readonly committer: Committer
  readonly windows: EmitWindows
  /** What a view retains at the most. */
  readonly limits: Limits
  /** Unacknowledged events at which a session is told. */
  readonly backPressureLag: number
  /** Epoch ms. */
  readonly now: () => number
}): Pace => {
  const congestedAt = part(parts.limits, 2)
  const relievedAt = part(parts.limits, 4)

  /** Emits one `status` event on a live job of the session, and none again until its lag has halved. */
  const tell = (view: ViewState) => {
    const lag = view.last - view.acked
    if (lag <= parts.backPressureLag) return
    for (const job of view.observed) {
      if (!job.loaded || job.ended || job.broken !== undefined) continue
      view.signalled = true
      const message = "events are not acknowledged as fast as they come"
      const body = JSON.stringify({ phase: "back_pressure", message, lag })
      const payload = eventPayload("status", timestamp(parts.now()), body)
      const event = { type: "job.event", kind: "status", audience: view.sessionId, payload } as const
      parts.windows.enter(job, event)
      parts.committer.enqueue({ _tag: "Append", job, event, returned: true, done: undefined })
      return
    }
  }

  return {
    published: (view) => {
      if (view.wake === undefined) return
      if (view.measuresLag && !view.signalled) tell(view)
      if (!view.congested && !view.stalled)
        view.congested = view.ledger.exceedsAfter(view.delivered, congestedAt)
    },
    reached: (view, after) => {
      if (view.congested && !view.ledger.exceedsAfter(after, relievedAt)) view.relieve()
    },
    acknowledged: (view) => {
      if (view.last - view.acked <= parts.backPressureLag / 2) view.signalled = false
    },
    holds: (job) => job.ownerView?.congested === true,
    wait: waitForOwner
  }
}
