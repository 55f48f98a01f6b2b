/**
 * Turns of the event loop, beside `Clock`. Effect's scheduler resumes fibers in microtasks, which starve sockets
 * and timers; whoever can be busy for long (the committer, writers, flat-out emitters) waits for a turn. It is a
 * service, so that a whole runtime can be driven by a scheduler of a test's own.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"

export interface TurnService {
  /** Calls back on the next turn, after pending I/O. The result takes the call back. */
  readonly onNext: (callback: () => void) => () => void
  /** Waits for the next turn. */
  readonly next: Effect.Effect<void>
  /**
   * Waits for a share of a turn: returns at once as long as what was shared of this turn is short, else on one of the
   * next turns, after everybody who has waited for longer. Thousands of peers that ask at once keep nobody else waiting
   * when each of their requests begins with this.
   */
  readonly share: Effect.Effect<void>
}

/** Milliseconds of one turn that are shared before the next begins. */
const maxShared = 5

/** Gives shares of turns, whoever comes first first. `now`: milliseconds that only go forward. */
const makeShare = (onNext: TurnService["onNext"], now: () => number): Effect.Effect<void> => {
  const waiting = new Set<() => void>()
  let until: number | undefined

  const begin = () => {
    until = now() + maxShared
    onNext(() => {
      until = undefined
      serve()
    })
  }
  /** One at a time: a fiber that is called back runs in a microtask, and the time that it takes counts. */
  const serve = (): void => {
    for (const resume of waiting) {
      if (until === undefined) begin()
      else if (now() >= until) return
      waiting.delete(resume)
      resume()
      return queueMicrotask(serve)
    }
  }
  return Effect.async<void>((resume) => {
    const isFirst = waiting.size === 0
    if (isFirst && until === undefined) begin()
    if (isFirst && until !== undefined && now() < until) return resume(Effect.void)
    const done = () => resume(Effect.void)
    waiting.add(done)
    return Effect.sync(() => waiting.delete(done))
  })
}

/** Turns over a function that calls back on the next one. By default a turn is never too long to be shared. */
export const make = (onNext: TurnService["onNext"], now: () => number = () => 0): TurnService => ({
  onNext,
  next: Effect.async<void>((resume) => {
    const cancel = onNext(() => resume(Effect.void))
    return Effect.sync(cancel)
  }),
  share: makeShare(onNext, now)
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
      },
  () => performance.now()
)

export class Turn extends Context.Reference<Turn>()("arcp/services/Turn", {
  defaultValue: (): TurnService => eventLoop
}) {}
