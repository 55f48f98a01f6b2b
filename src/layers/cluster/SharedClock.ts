/**
 * The time of a node: that of whoever keeps the list of nodes, so it is the same on all of them. How long a session can be
 * resumed is stored by one node and decided by another; by clocks of their own, one that is an hour ahead would forget what
 * the others hold. Clocks of machines that are wrong, or are set, move nothing here; that of Postgres has to be right.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { monotonic } from "../../services/runtime/monotonic.js"

/** Between two looks at the shared time. */
const betweenLooks = Duration.seconds(10)

/** Milliseconds by which the pace of two clocks may differ, for each millisecond: twice what crystals do. */
const drift = 200e-6

/** What one look has told: the shared time lies within `error` of the time that only goes forward and `offset`, in ms. */
interface Look {
  readonly at: number
  readonly offset: number
  readonly error: number
}

/**
 * Of two looks, what to go by: the later one, unless the earlier is still the more exact. When they cannot both be right the
 * shared clock was set.
 */
export const better = (before: Look, now: Look): Look => {
  const grown = before.error + (now.at - before.at) * drift
  const agree = Math.abs(now.offset - before.offset) <= grown + now.error
  return agree && grown < now.error ? before : now
}

/**
 * Returns a clock that tells the shared time. Sleeps and intervals are those of the clock that the fiber has. It is looked at
 * again and again for as long as the scope; while it cannot be asked, time goes on from the last look.
 */
export const make = <E>(time: Effect.Effect<number, E>): Effect.Effect<Clock.Clock, E, Scope.Scope> =>
  Effect.gen(function* () {
    const own = yield* Effect.clock
    const elapsed = monotonic(own)
    const look = Effect.suspend(() => {
      const asked = elapsed()
      return Effect.map(time, (shared): Look => {
        const at = elapsed()
        return { at, offset: shared - (asked + at) / 2, error: (at - asked) / 2 }
      })
    })
    let known = yield* look
    const again = Effect.map(look, (now) => {
      // No number is no time.
      if (Number.isFinite(now.offset)) known = better(known, now)
    })
    // The first had to wait for a connection, and what is stored by it would be taken back by a later one.
    yield* Effect.repeatN(again, 1)
    yield* again.pipe(
      // Also what only a defect of a driver says: time goes on.
      Effect.catchAllCause(() => Effect.void),
      Effect.delay(betweenLooks),
      Effect.forever,
      Effect.forkScoped
    )
    const now = () => Math.round(elapsed() + known.offset)
    return {
      [Clock.ClockTypeId]: Clock.ClockTypeId,
      unsafeCurrentTimeMillis: now,
      currentTimeMillis: Effect.sync(now),
      unsafeCurrentTimeNanos: () => own.unsafeCurrentTimeNanos(),
      currentTimeNanos: own.currentTimeNanos,
      sleep: (duration) => own.sleep(duration)
    }
  })

/**
 * Gives the shared time to whatever is built after it, in this scope and by the same fiber. Under a clock that is not of this machine, a
 * test's, it does nothing.
 */
export const use = <E>(time: Effect.Effect<number, E>): Effect.Effect<void, E, Scope.Scope> =>
  Effect.clockWith((own) =>
    Math.abs(own.unsafeCurrentTimeMillis() - Date.now()) < 1_000
      ? Effect.flatMap(make(time), Effect.withClockScoped)
      : Effect.void
  )
