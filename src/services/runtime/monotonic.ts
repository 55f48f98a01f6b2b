/**
 * Time that only goes forward (§4.5, "Time"). Intervals, windows and graces are measured on it, so that a wall clock
 * that is set closes no session; points in time (expiry, timestamps, what a restart must know) stay on the wall clock.
 */
import type * as Clock from "effect/Clock"

/** Returns a reader of `clock`'s monotonic time, in milliseconds since an arbitrary start. */
export const monotonic =
  (clock: Clock.Clock): (() => number) =>
  // Effect's clock takes its nanoseconds from `performance` or `hrtime`, and a `TestClock` from its own time.
  () =>
    Number(clock.unsafeCurrentTimeNanos()) / 1e6
