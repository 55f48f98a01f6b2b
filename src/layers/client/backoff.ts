/** How long to wait before another attempt. */
import * as Effect from "effect/Effect"

/** Returns the milliseconds before the attempt after `attempts` others: from 100, doubling, at most 5000, each a fifth shorter or longer. */
export const backoff = (attempts: number): Effect.Effect<number> =>
  Effect.sync(() => Math.min(5000, 100 * 2 ** attempts) * (0.8 + 0.4 * Math.random()))
