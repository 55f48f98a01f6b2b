/** How long to wait before another attempt. */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"

/** Milliseconds that a session may be asked to wait before it is dialled again. */
const longest = 300_000

/** Returns the milliseconds that an error asks to wait before another attempt, at most `most`. */
export const askedToWait = (error: unknown, most = longest): number => {
  const { details, retryAfter = Number(details?.retry_after) * 1000 } = Object(error) as {
    readonly retryAfter?: number | undefined
    readonly details?: { readonly retry_after?: unknown } | undefined
  }
  return retryAfter > 0 ? Math.min(retryAfter, most) : 0
}

/** Returns the milliseconds before the attempt after `attempts` others: from 100, doubling, at most 5000, each a fifth shorter or longer. */
export const backoff = (attempts: number): Effect.Effect<number> =>
  Effect.map(Random.next, (random) => Math.min(5000, 100 * 2 ** attempts) * (0.8 + 0.4 * random))
