/**
 * The door of a server: how many peers may be inside that have not said who they are, and who waits until there is a place.
 * When a server comes back its clients come all at once, and they are not to be refused for that: they wait for a moment
 * before anything is made for them, and come in one by one, in shares of turns, beside those who are at work.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Runtime from "effect/Runtime"
import type * as Scope from "effect/Scope"
import { Signal } from "../../services/runtime/Signal.js"

/** How many wait at the door: a socket and a request each, and no longer than `patience`. */
const maxOutside = 4096

/** How long a connection waits until others have said hello: half as long as each of them may take. */
export const patience = (helloTimeout: Duration.Duration): Duration.Duration =>
  Duration.times(helloTimeout, 0.5)

/** Somebody who wants to come in. Exactly one of the two is called, unless it goes away before. */
export interface Visitor {
  /** It may come in. `leave`, called any number of times, gives its place to another. */
  readonly admit: (leave: () => void) => void
  /** It has waited for too long, or too many wait already. */
  readonly refuse: () => void
}

/** Lets visitors in. */
export interface Door {
  /** Returns what takes a visitor away that has not come in. */
  readonly arrive: (visitor: Visitor) => () => void
}

/** Opens a door, which lets nobody in any more when the scope has closed. */
export const make = (options: {
  /** How many may be inside. */
  readonly places: number
  /** How long a visitor waits for a place. */
  readonly patience: Duration.Duration
  /** See TurnShare.ts. */
  readonly share: Effect.Effect<void>
}): Effect.Effect<Door, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { places, share } = options
    const patienceMs = Duration.toMillis(options.patience)
    const outside = new Map<Visitor, ReturnType<typeof setTimeout>>()
    const changed = new Signal()
    let inside = 0
    let closed = false

    const fork = Runtime.runFork(yield* Effect.runtime<never>())
    /** A visitor that throws is its own concern: the others are let in all the same. */
    const tell = (say: () => void, failed: () => void = () => {}) => {
      try {
        say()
      } catch (error) {
        fork(Effect.logError("a connection that waited failed", Cause.die(error)))
        failed()
      }
    }
    const takeAway = (visitor: Visitor): boolean => {
      clearTimeout(outside.get(visitor))
      return outside.delete(visitor)
    }
    /** Takes a place. What gives it back is held as long as the connection is, and must not hold the visitor's request. */
    const enter = () => {
      inside++
      let left = false
      return () => {
        if (left) return
        left = true
        inside--
        changed.give()
      }
    }
    const admitNext = Effect.sync(() => {
      const [next] = outside.keys()
      if (next === undefined) return
      takeAway(next)
      const leave = enter()
      tell(() => next.admit(leave), leave)
    })
    const mayAdmit = Effect.catchAllCause(share, (cause) =>
      Effect.logError("a share of a turn failed; a connection is let in without", cause)
    )
    yield* Effect.forkScoped(
      Effect.forever(
        Effect.suspend(() =>
          outside.size === 0 || inside >= places ? changed.wait : Effect.zipRight(mayAdmit, admitNext)
        )
      )
    )
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        closed = true
        for (const visitor of [...outside.keys()]) if (takeAway(visitor)) tell(visitor.refuse)
      })
    )

    return {
      arrive: (visitor) => {
        if (closed || outside.size >= maxOutside) {
          tell(visitor.refuse)
          return () => {}
        }
        outside.set(
          visitor,
          setTimeout(() => {
            if (takeAway(visitor)) tell(visitor.refuse)
          }, patienceMs)
        )
        changed.give()
        return () => takeAway(visitor)
      }
    }
  })
