/**
 * Effects that only wait to be called back, and generators of effects that run without a fiber of their own as long as they
 * do nothing else. A fiber costs a small job more than all that is waited for in its supervisor. Whatever is made of a
 * `Pending` by `Effect.map` and the like is an effect as any other.
 */
import * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import * as Exit from "effect/Exit"
import { type YieldWrap, yieldWrapGet } from "effect/Utils"
import { decided } from "./decided.js"

/** Called once with what an effect has come to. */
export type Done<A, E = never> = (exit: Exit.Exit<A, E>) => void

/** An effect that can be started without a fiber. In one, it is not interrupted while it waits, unless `waiting` is given. */
export class Pending<A, E = never> extends Effectable.Class<A, E> {
  constructor(
    /** Begins, and calls back when it is done, now or later. */
    readonly start: (done: Done<A, E>) => void,
    /** The same, as a fiber waits for it. */
    private readonly waiting?: Effect.Effect<A, E>
  ) {
    super()
  }
  commit(): Effect.Effect<A, E> {
    return this.waiting ?? Effect.async<A, E>((resume) => this.start(resume))
  }
}

/** Returns what an effect comes to, as `Effect.exit` does; of one that needs no fiber, without one. */
export const exitOf = <A, E>(effect: Effect.Effect<A, E>): Effect.Effect<Exit.Exit<A, E>> =>
  effect instanceof Pending
    ? new Pending((done) => effect.start((exit: Exit.Exit<A, E>) => done(Exit.succeed(exit))))
    : Effect.exit(effect)

/** What is done one after the other: the effects of a generator as `Effect.gen` takes it. */
export type Errand<A> = Generator<YieldWrap<Effect.Effect<unknown>>, A, never>

/** Forks a fiber that nothing interrupts. */
type Fork = (effect: Effect.Effect<unknown>) => { readonly addObserver: (done: Done<unknown>) => void }

/**
 * Runs an errand, and calls back with its end; it cannot be interrupted. What is decided already goes on at
 * once; what only waits is started, and goes on in a microtask of its own when it calls back, whoever does; for anything
 * else a fiber is forked.
 */
export const runErrand = <A>(errand: Errand<A>, fork: Fork, over: Done<A>): void => {
  const go = (exit: Exit.Exit<unknown>): void => {
    let given = exit
    for (;;) {
      // None fails, so it is a defect.
      if (Exit.isFailure(given)) return over(Exit.failCause(given.cause))
      let next: IteratorResult<YieldWrap<Effect.Effect<unknown>>, A>
      try {
        next = errand.next(given.value as never)
      } catch (defect) {
        return over(Exit.die(defect))
      }
      if (next.done === true) return over(Exit.succeed(next.value))
      const effect = yieldWrapGet(next.value)
      const now = decided(effect)
      if (now === undefined) return later(effect, fork, go)
      given = now
    }
  }
  go(Exit.void)
}

const later = (effect: Effect.Effect<unknown>, fork: Fork, go: Done<unknown>): void => {
  const done: Done<unknown> = (exit) => queueMicrotask(() => go(exit))
  try {
    if (effect instanceof Pending) (effect as Pending<unknown>).start(done)
    else fork(effect).addObserver(done)
  } catch (defect) {
    done(Exit.die(defect))
  }
}
