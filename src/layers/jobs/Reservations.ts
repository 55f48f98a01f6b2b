/**
 * What is being decided right now: a submit that is not yet in the store. Whoever comes with the same key
 * waits until it is, and then finds it there. One process owns the store, so this needs no lock in it.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"

export interface Reservations {
  /** Waits until nobody holds the key, and takes it. The result gives it back; calling that twice is fine. */
  readonly take: (key: string) => Effect.Effect<() => void>
}

export const make = (): Reservations => {
  const held = new Map<string, { waited?: Deferred.Deferred<void> }>()
  const take = (key: string): Effect.Effect<() => void> =>
    Effect.suspend(() => {
      const other = held.get(key)
      if (other !== undefined) {
        other.waited ??= Deferred.unsafeMake(FiberId.none)
        return Effect.zipRight(Deferred.await(other.waited), take(key))
      }
      const mine: { waited?: Deferred.Deferred<void> } = {}
      held.set(key, mine)
      return Effect.succeed(() => {
        if (held.get(key) !== mine) return
        held.delete(key)
        if (mine.waited !== undefined) Deferred.unsafeDone(mine.waited, Effect.void)
      })
    })
  return { take }
}

/** Counts by key, for caps. */
export class Counter {
  private readonly counts = new Map<string, number>()
  get(key: string): number {
    return this.counts.get(key) ?? 0
  }
  add(key: string, by: 1 | -1): void {
    const count = this.get(key) + by
    if (count <= 0) this.counts.delete(key)
    else this.counts.set(key, count)
  }
}
