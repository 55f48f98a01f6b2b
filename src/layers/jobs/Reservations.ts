/**
 * What is being decided right now: a submit that is not yet in the store. Whoever comes with the same key
 * waits until it is, and then finds it there. One process owns the store, so this needs no lock in it.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import { sequential } from "effect/ExecutionStrategy"
import * as FiberId from "effect/FiberId"
import * as Scope from "effect/Scope"

/** Keeps places under limits, and keys, for submits that are being decided. */
export interface Reservations {
  /** Waits until nobody holds the key, and takes it until the scope closes. */
  readonly take: (key: string, scope: Scope.Scope) => Effect.Effect<void>
}

interface Taken {
  waited?: Deferred.Deferred<void> | undefined
}

/** Returns reservations without any. */
export const make = (): Reservations => {
  const held = new Map<string, Taken>()
  const giveBack = (key: string, mine: Taken) =>
    Effect.sync(() => {
      held.delete(key)
      if (mine.waited !== undefined) Deferred.unsafeDone(mine.waited, Effect.void)
    })
  const take = (key: string, scope: Scope.Scope): Effect.Effect<void> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        const other = held.get(key)
        if (other !== undefined) {
          other.waited ??= Deferred.unsafeMake(FiberId.none)
          return restore(Effect.zipRight(Deferred.await(other.waited), take(key, scope)))
        }
        const mine: Taken = {}
        held.set(key, mine)
        return Scope.addFinalizer(scope, giveBack(key, mine))
      })
    )
  return { take }
}

/**
 * What one submit, or one delegation, has reserved. Closing `job` gives everything back; `keys` is closed with it, and
 * alone as soon as the job is stored, because then the store decides about a repetition.
 */
export interface Hold {
  readonly job: Scope.CloseableScope
  readonly keys: Scope.CloseableScope
  /** The job's own fiber closes it: set when there is one. */
  passedOn: boolean
}

/** Runs `use` with a hold, and gives it back unless a job has taken it over. */
export const withHold = <A, E, R>(use: (hold: Hold) => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.gen(function* () {
      const job = yield* Scope.make()
      const keys = yield* Scope.fork(job, sequential)
      const hold: Hold = { job, keys, passedOn: false }
      return yield* restore(use(hold)).pipe(
        Effect.onExit((exit) => (hold.passedOn ? Effect.void : Scope.close(job, exit)))
      )
    })
  )
