/**
 * Waits for a share of a turn of the event loop: returns at once as long as what was shared of this turn is short, else on
 * one of the next turns, after everybody who has waited for longer. Thousands of peers that ask at once keep nobody else
 * waiting when each of their requests begins with this, and small requests still share a turn, a commit and a write. There
 * is one event loop in a process, so runtimes of one process share too.
 *
 * The event loop accepts one connection a turn, so thousands that come at once would each wait for what is done in the
 * turns of all before them. While they come, whatever takes shares rests for three times as long as it took.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { PassingSet } from "./Passing.js"
import { Pending } from "./Pending.js"
import { eventLoop, type TurnService } from "./Turn.js"

/** Milliseconds of one turn that are shared before the next begins. */
const maxShared = 5

/** How many times as long as a turn took nothing is shared after it, as long as connections come. */
const restTimes = 3

/** The longest of such rests, in milliseconds. */
const longestRest = 50

/** Connections that servers of this process have accepted. */
let accepted = 0

/** Says that a server has accepted a connection. */
export const connected = (): void => {
  accepted++
}

/** Gives shares of turns, whoever comes first first. `now`: milliseconds that only go forward. */
export const make = (
  { onNext }: TurnService,
  now: () => number,
  connections: () => number = () => accepted
): Effect.Effect<void> => {
  const waiting = new PassingSet<() => void>()
  let until: number | undefined

  const begin = () => {
    const began = now()
    const before = connections()
    until = began + maxShared
    onNext(() => {
      const took = now() - began
      if (connections() === before) return next()
      rest(now(), Math.min(longestRest, restTimes * took))
    })
  }
  const next = () => {
    until = undefined
    serve()
  }
  /** Shares nothing until a turn has accepted nobody, or that has taken so many milliseconds. */
  const rest = (from: number, ms: number): void => {
    until = Number.NEGATIVE_INFINITY
    const before = connections()
    onNext(() => {
      if (connections() === before || now() - from >= ms) next()
      else rest(from, ms)
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
