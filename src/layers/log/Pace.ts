/**
 * How fast a job may emit for whoever reads it (§4.5). Only the owner sets the pace, and only while it gets on: a
 * stalled reader does not hold its jobs for longer than `patienceMs`, an absent one not at all, and nobody else ever.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { eventPayload, timestamp } from "../../protocol/EventText.js"
import type { Slow } from "../../services/log/EventLog.js"
import type { Committer } from "./Committer.js"
import { Congestion } from "./Congestion.js"
import type { EmitWindows } from "./EmitWindows.js"
import type { JobState } from "./JobState.js"
import type { Limits } from "./Ledger.js"
import type { LiveLogs } from "./Live.js"
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
  /** A session that is on another node reads a job of this one slowly, or fast enough again. */
  readonly slow: (job: JobState, sessionId: string, slow: Slow) => void
}

/** Returns what sets the pace of a job. */
const ownerOf = ({ farOwner, ownerView }: JobState): Congestion | undefined => ownerView ?? farOwner

/** Waits as long as the owner of a job is congested and gets on; one that does not is stalled, and held for no longer. */
export const waitForOwner = (job: JobState): Effect.Effect<void> =>
  Effect.suspend(() => {
    const owner = ownerOf(job)
    if (owner?.congested !== true) return Effect.void
    return Effect.async<void>((resume) => {
      const leave = owner.onRelief(() => resume(Effect.void))
      return Effect.sync(leave)
    }).pipe(
      Effect.timeoutTo({
        duration: Duration.millis(patienceMs),
        onSuccess: () => {},
        onTimeout: () => {
          owner.stalled = true
          owner.relieve()
        }
      })
    )
  })

/** Returns what makes emitters wait for readers of their own session. */
export const make = (parts: {
  readonly committer: Committer
  readonly windows: EmitWindows
  readonly live: Pick<LiveLogs, "jobs" | "onSlow">
  /** What a view retains at the most. */
  readonly limits: Limits
  /** Unacknowledged events at which a session is told. */
  readonly backPressureLag: number
  /** Epoch ms. */
  readonly now: () => number
}): Pace => {
  const congestedAt = part(parts.limits, 2)
  const relievedAt = part(parts.limits, 4)

  const isOpen = (job: JobState) => job.loaded && !job.ended && job.broken === undefined

  const emit = (job: JobState, sessionId: string, lag: number) => {
    const message = "events are not acknowledged as fast as they come"
    const body = JSON.stringify({ phase: "back_pressure", message, lag })
    const payload = eventPayload("status", timestamp(parts.now()), body)
    const event = { type: "job.event", kind: "status", audience: sessionId, payload } as const
    parts.windows.enter(job, event)
    parts.committer.enqueue({ _tag: "Append", job, event, returned: true, done: undefined })
  }

  /** Jobs of other nodes that a view looks at, and that have not ended. */
  const farJobs = (view: ViewState) =>
    [...view.watched].flatMap((jobId) => {
      const job = parts.live.jobs.get(jobId)
      return job === undefined || job.foreignTo === undefined || job.closed ? [] : [job]
    })

  /** Has one `status` event emitted on a live job of the session, and none again until its lag has halved. */
  const tell = (view: ViewState) => {
    const lag = view.last - view.acked
    if (lag <= parts.backPressureLag) return
    const { sessionId } = view
    const job = [...view.observed].find(isOpen)
    if (job !== undefined) {
      view.signalled = true
      return emit(job, sessionId, lag)
    }
    const far = farJobs(view)[0]
    if (far === undefined) return
    view.signalled = true
    parts.live.onSlow(far, sessionId, { lag })
  }

  /** Has the nodes of the jobs that a session owns told that it is congested, and when it is no more. */
  const holdFar = (view: ViewState) => {
    const { sessionId } = view
    const own = farJobs(view).filter(({ owner }) => owner === sessionId)
    if (own.length === 0) return
    const say = (held: boolean) => {
      for (const job of own) if (!job.closed) parts.live.onSlow(job, sessionId, { held })
    }
    say(true)
    view.onRelief(() => say(false))
  }

  return {
    published: (view) => {
      if (view.wake === undefined) return
      if (view.measuresLag && !view.signalled) tell(view)
      if (view.congested || view.stalled) return
      view.congested = view.ledger.exceedsAfter(view.delivered, congestedAt)
      if (view.congested) holdFar(view)
    },
    reached: (view, after) => {
      if (view.congested && !view.ledger.exceedsAfter(after, relievedAt)) view.relieve()
    },
    acknowledged: (view) => {
      if (view.last - view.acked <= parts.backPressureLag / 2) view.signalled = false
    },
    holds: (job) => ownerOf(job)?.congested === true,
    wait: waitForOwner,
    slow: (job, sessionId, slow) => {
      if (!isOpen(job)) return
      if ("lag" in slow) return emit(job, sessionId, slow.lag)
      if (job.owner !== sessionId) return
      job.farOwner ??= new Congestion()
      if (slow.held) job.farOwner.congested = true
      else job.farOwner.relieve()
    }
  }
}
