/**
 * Turns of the event loop, beside `Clock`. Effect's scheduler resumes fibers in microtasks, which starve sockets
 * and timers; whoever can be busy for long (the committer, writers, flat-out emitters) waits for a turn. It is a
 * service, so that a whole runtime can be driven by a scheduler of a test's own.
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import { called } from "./called.js"

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
  next: called(onNext)
})

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
