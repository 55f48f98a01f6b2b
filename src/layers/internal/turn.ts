/**
 * Turns of the event loop. Effect's scheduler resumes fibers in microtasks, which starve sockets and
 * timers; whoever can be busy for long (the committer, writers, flat-out emitters) waits for a turn.
 */
import * as Effect from "effect/Effect"

type Cancel = () => void

/** Calls back on the next turn, after pending I/O. */
export const onNextTurn: (callback: () => void) => Cancel =
  typeof setImmediate === "function"
    ? (callback) => {
        const handle = setImmediate(callback)
        return () => clearImmediate(handle)
      }
    : (callback) => {
        const handle = setTimeout(callback, 0)
        return () => clearTimeout(handle)
      }

/** Waits for the next turn. */
export const nextTurn: Effect.Effect<void> = Effect.async<void>((resume) => {
  const cancel = onNextTurn(() => resume(Effect.void))
  return Effect.sync(cancel)
})
