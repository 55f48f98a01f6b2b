/**
 * Drops sessions whose window has passed, in a fiber of its own. A resume looks at the window itself, so how late this
 * comes is nobody's concern; it only must not be in anybody's way.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type { InternalError } from "../../protocol/Errors.js"
import type { TurnService } from "../../services/runtime/Turn.js"
import type { SessionTable } from "./SessionTable.js"

/** Sessions whose drops go into one commit. */
const batch = 256

/** Timers longer than 2^31 ms do not fire in JavaScript. */
const longestSleep = Duration.days(1)

/** Returns the shortest time between two looks. */
const every = (resumeWindow: Duration.Duration): Duration.Duration =>
  Duration.millis(Math.min(30_000, Math.max(100, Duration.toMillis(resumeWindow) / 4)))

/** Closes sessions whose window has passed, for as long as it runs. */
export const run = (services: {
  readonly table: SessionTable
  /** Milliseconds that only go forward. */
  readonly elapsed: () => number
  readonly resumeWindow: Duration.Duration
  readonly turn: TurnService
  /** Returns when what was queued before it is committed. */
  readonly committed: Effect.Effect<void, InternalError>
}): Effect.Effect<never> => {
  const { table, elapsed, turn } = services
  const sweep: Effect.Effect<void> = Effect.gen(function* () {
    const over = table.expired(elapsed(), batch)
    if (over.length === 0) return
    for (const [entry, seen] of over) yield* table.drop(entry, seen)
    yield* turn.next
    // A drop that fails is tried again on its own; this only keeps the next batch from being queued at once.
    yield* Effect.ignoreLogged(services.committed)
    yield* sweep
  })
  /** Waits until a window may have passed: where nobody is detached there is none. */
  const due = Effect.suspend(() => {
    const until = table.nextUntil
    if (until === undefined) return table.left.wait
    const left = Duration.max(Duration.millis(until - elapsed()), every(services.resumeWindow))
    return Effect.sleep(Duration.min(left, longestSleep))
  })
  return Effect.forever(Effect.zipRight(due, sweep))
}
