/**
 * What is being decided right now: a submit that is not yet in the store. Whoever comes with the same key
 * waits until it is, and then finds it there. One process owns the store, so this needs no lock in it.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import { PassingMap } from "../../services/runtime/Passing.js"

/** Keeps keys for submits that are being decided. */
export interface Reservations {
  /** Takes the key until the hold gives it back: at once when nobody holds it, else the effect waits for it. */
  readonly take: (key: string, hold: Hold) => Effect.Effect<void>
}

interface Taken {
  waited?: Deferred.Deferred<void> | undefined
}

/** Returns reservations without any. */
export const make = (): Reservations => {
  const held = new PassingMap<string, Taken>()
  const take = (key: string, hold: Hold): Effect.Effect<void> => {
    const other = held.get(key)
    if (other !== undefined) {
      other.waited ??= Deferred.unsafeMake(FiberId.none)
      return Effect.flatMap(Deferred.await(other.waited), () => take(key, hold))
    }
    const mine: Taken = {}
    held.set(key, mine)
    hold.keepKey(() => {
      held.delete(key)
      if (mine.waited !== undefined) Deferred.unsafeDone(mine.waited, Effect.void)
    })
    return Effect.void
  }
  return { take }
}

/**
 * What one submit, or one delegation, has reserved. It is not a `Scope`, because nearly all of it is given back by a
 * plain call, and every job has one.
 */
export class Hold {
  /** The job's own fiber gives it back: set when there is one. */
  passedOn = false
  private readonly keys: Array<() => void> = []
  private readonly places: Array<() => void> = []
  private readonly held: Array<() => void> = []
  private settling: Effect.Effect<void> = Effect.void

  /** Keeps a key, until {@link giveBackKeys} or {@link giveBack}. */
  keepKey(giveBack: () => void): void {
    this.keys.push(giveBack)
  }
  /** Keeps a place under a cap, until {@link giveBackPlaces} or {@link giveBack}. */
  keepPlace(giveBack: () => void): void {
    this.places.push(giveBack)
  }
  /** Keeps something until {@link giveBack}: what is kept last is given back first. */
  keep(giveBack: () => void): void {
    this.held.push(giveBack)
  }
  /** Has something done when all is given back. */
  finally(settling: Effect.Effect<void>): void {
    this.settling = Effect.zipRight(settling, this.settling)
  }
  /** The job is stored: from here on the store decides about a repetition. */
  giveBackKeys(): void {
    for (const giveBack of this.keys.splice(0)) giveBack()
  }
  /** The end of the job is stored: whoever reads of it finds its places free. */
  giveBackPlaces(): void {
    for (const giveBack of this.places.splice(0)) giveBack()
  }
  /** Returns what gives back what is kept, which is not this hold's any more. */
  handOver(): () => void {
    const held = this.held.splice(0).reverse()
    return () => {
      for (const giveBack of held) giveBack()
    }
  }
  /** Gives back what is kept, now; the effect settles what takes longer. */
  giveBack(): Effect.Effect<void> {
    for (const giveBack of this.held.splice(0).reverse()) giveBack()
    this.giveBackPlaces()
    this.giveBackKeys()
    return this.settling
  }
}

/** Runs `use` with a hold, and gives it back unless a job has taken it over. */
export const withHold = <A, E, R>(use: (hold: Hold) => Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.suspend(() => {
    const hold = new Hold()
    return Effect.onExit(use(hold), () => (hold.passedOn ? Effect.void : hold.giveBack()))
  })
