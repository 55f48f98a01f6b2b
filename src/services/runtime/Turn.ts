/**
 * Turns of the event loop, beside `Clock`. Effect's scheduler resumes fibers in microtasks, which starve sockets
 * and timers; whoever can be busy for long (the committer, writers, flat-out emitters) waits for a turn. It is a
 * service, so that a whole runtime can be driven by a scheduler of a test's own.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"

/** Lets whoever is busy wait for the next turn of the event loop. */
export interface TurnService {
  /** Calls back on the next turn, after pending I/O. The result takes the call back. */
  readonly onNext: (callback: () => void) => () => void
  /** Waits for the next turn. */
  readonly next: Effect.Effect<void>
}

/** Returns turns over a function that calls back on the next one. */
export const make = (onNext: TurnService["onNext"]): TurnService => ({
  onNext,
  next: Effect.async<void>((resume) => {
    const cancel = onNext(() => resume(Effect.void))
    return Effect.sync(cancel)
  })
})

/** How long work that comes in many small pieces may hold the event loop, in milliseconds. */
const sliceMs = 2

/**
 * Returns a pause for between two pieces of work: it costs nothing until the work of this turn has taken its slice, and
 * waits for the next turn then. So small pieces still share a turn, and with it a commit and a write, and large ones
 * leave room for others. `elapsed` is in milliseconds and only goes forward.
 */
export const makePause = (turn: TurnService, elapsed: () => number): Effect.Effect<void> => {
  let startedAt: number | undefined
  return Effect.suspend(() => {
    if (startedAt === undefined) {
      startedAt = elapsed()
      turn.onNext(() => {
        startedAt = undefined
      })
      return Effect.void
    }
    return elapsed() - startedAt < sliceMs ? Effect.void : turn.next
  })
}

/** The turns of the event loop that this process runs in. */
export const eventLoop: TurnService = make(
  typeof setImmediate === "function"
    ? (callback) => {
        const handle = setImmediate(callback)
        return () => clearImmediate(handle)
      }
    : (callback) => {
        const handle = setTimeout(callback, 0)
        return () => clearTimeout(handle)
      }
)

/** The turns that fibers in this context wait for; by default those of the process's event loop. */
export class Turn extends Context.Reference<Turn>()("arcp/services/Turn", {
  defaultValue: (): TurnService => eventLoop
}) {}
