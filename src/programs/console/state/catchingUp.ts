/** Whether events of the past are still coming, of a job that goes on. Where they end is not told. */
import type { Signal } from "@preact/signals"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** Milliseconds between two looks at how far the events have come. */
const every = 1_000

/**
 * Notes whether events of the past are still coming, by the times of those that have come, and returns when they are not: while they
 * come the newest one gets younger, and in what is live or silent it does not, whatever this clock and the runtime's say.
 */
export const catchingUp = (
  isBehind: Pick<Signal<boolean>, "value">,
  times: ReadonlyArray<number>
): Effect.Effect<void> =>
  Effect.gen(function* () {
    isBehind.value = false
    let before: number | undefined
    for (;;) {
      yield* Effect.sleep(every)
      const newest = times.at(-1)
      if (newest === undefined) continue
      const age = (yield* Clock.currentTimeMillis) - newest
      if (before !== undefined && age > before - every / 2) break
      isBehind.value = before !== undefined
      before = age
    }
    isBehind.value = false
  })
