/** What a log tells of itself to whoever keeps metrics. */
import * as Effect from "effect/Effect"
import { families, type MetricsService, type Sample, type Source } from "../../services/runtime/Metrics.js"
import type { StoreError, StoreService } from "../../services/store/Store.js"
import type { Committer } from "./Committer.js"
import type { EmitWindows } from "./EmitWindows.js"
import type { LiveLogs } from "./Live.js"
import type { Touched } from "./Transaction.js"

/** Returns what commits to the store and measures how long that takes. */
export const timed = (
  { commit }: StoreService,
  /** Milliseconds that only go forward. */
  elapsed: () => number
): StoreService["commit"] => {
  const took = (began: number) => families.commitSeconds.update((elapsed() - began) / 1_000)
  return (batch) =>
    Effect.suspend(() => {
      const began = elapsed()
      return Effect.matchCauseEffect(commit(batch), {
        onSuccess: () => {
          took(began)
          return Effect.void
        },
        onFailure: (cause) => {
          took(began)
          families.commitsFailed.update(1)
          return Effect.failCause(cause)
        }
      })
    })
}

/** Counts what a commit has added. */
export const committed = ({ appended }: Touched): void => {
  let count = 0
  let bytes = 0
  for (const added of appended.values()) {
    count += added.events.length
    bytes += added.bytes
  }
  if (count === 0) return
  families.events.update(count)
  families.eventBytes.update(bytes)
  families.commitEvents.update(count)
}

/** Returns how far connections are behind what their sessions are to be sent: all of them, and the last. */
const lagOf = ({ views }: LiveLogs): ReadonlyArray<Sample> => {
  let all = 0
  let most = 0
  for (const view of views.values()) {
    if (view.wake === undefined) continue
    const lag = Math.max(0, view.last - view.delivered)
    all += lag
    most = Math.max(most, lag)
  }
  return [
    [families.lag, all, "all"],
    [families.lag, most, "last"]
  ]
}

/** What is retained is counted again after so many milliseconds, and after so many times the time that it took. */
const countAgain = { ms: 15_000, times: 200 }

/** Counts what the store retains, now and then: it looks at every extent. */
const retained = (store: StoreService, elapsed: () => number): Source => {
  let known: ReadonlyArray<Sample> = []
  let again = Number.NEGATIVE_INFINITY
  return Effect.suspend(() => {
    const began = elapsed()
    if (store.retained === undefined || began < again) return Effect.succeed(known)
    return store.retained.pipe(
      Effect.tap(({ bytes, events }) => {
        known = [
          [families.retainedEvents, events],
          [families.retainedBytes, bytes]
        ]
      }),
      // A store that fails is told by its commits.
      Effect.catchAll((_: StoreError) => Effect.void),
      Effect.map(() => {
        again = elapsed() + Math.max(countAgain.ms, countAgain.times * (elapsed() - began))
        return known
      })
    )
  })
}

/** Has one node tell what is the same for all: so it is counted once, and what all tell adds up to it. */
const byOne = (keeps: Effect.Effect<boolean, StoreError> | undefined, source: Source): Source =>
  keeps === undefined
    ? source
    : Effect.if(
        Effect.catchAll(keeps, () => Effect.succeed(false)),
        { onTrue: () => source, onFalse: () => Effect.succeed([]) }
      )

/** Has the gauges of a log told for as long as the scope. */
export const watch = (
  metrics: MetricsService,
  parts: {
    readonly committer: Committer
    readonly live: LiveLogs
    readonly windows: EmitWindows
    readonly store: StoreService
    readonly elapsed: () => number
    /** Whether this node is the one that does what one does for all; of a runtime that is alone it is not asked. */
    readonly keeps: Effect.Effect<boolean, StoreError> | undefined
  }
) => {
  const { committer, elapsed, keeps, live, store, windows } = parts
  const counts = Effect.sync(
    (): ReadonlyArray<Sample> => [
      [families.queued, committer.queued()],
      [families.uncommitted, windows.uncommittedBytes],
      [families.congested, windows.waiting],
      ...(store.kind === "memory" ? [[families.storeMemory, store.held()] as const] : []),
      ...lagOf(live)
    ]
  )
  return Effect.zipRight(metrics.watch(counts), metrics.watch(byOne(keeps, retained(store, elapsed))))
}
