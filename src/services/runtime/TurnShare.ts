/**
 * Waits for a share of a turn of the event loop: returns at once as long as what was shared of this turn is short, else on
 * one of the next turns, after everybody who has waited for longer. Thousands of peers that ask at once keep nobody else
 * waiting when each of their requests begins with this, and small requests still share a turn, a commit and a write. There
 * is one event loop in a process, so runtimes of one process share too.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { Pending } from "./Pending.js"
import { eventLoop, type TurnService } from "./Turn.js"

/** Milliseconds of one turn that are shared before the next begins. */
const maxShared = 5

/** Gives shares of turns, whoever comes first first. `now`: milliseconds that only go forward. */
export const make = ({ onNext }: TurnService, now: () => number): Effect.Effect<void> => {
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
  const wait = Effect.async<void>((resume) => {
    const done = () => resume(Effect.void)
    waiting.add(done)
    return Effect.sync(() => waiting.delete(done))
  })
  const share = Effect.suspend(() => {
    if (waiting.size > 0) return wait
    if (until === undefined) begin()
    return until !== undefined && now() < until ? Effect.void : wait
  })
  return new Pending<void>((done) => {
    if (waiting.size === 0 && (until === undefined || now() < until)) queueMicrotask(serve)
    waiting.add(() => done(Exit.void))
  }, share)
}

/** Waits for a share of a turn. */
export class TurnShare extends Context.Reference<TurnShare>()("arcp/services/TurnShare", {
  defaultValue: (): Effect.Effect<void> => make(eventLoop, () => performance.now())
}) {}
