/**
 * Looks at things when they are due: one fiber and one timer for all connections of a runtime, since thousands of them
 * wait at any time. What is kept is in a heap, the next that is due on top.
 */
import * as Effect from "effect/Effect"
import { Signal } from "../../services/runtime/Signal.js"

/** Timers longer than 2^31 ms do not fire in JavaScript. */
const longestSleep = 86_400_000

/** What a keeper looks at. */
export class Kept {
  /** When it is looked at next, and where the keeper has it, if it has: both are the keeper's. */
  at = 0
  place = -1

  constructor(
    /** Looks, without waiting for anything. Returns the milliseconds until the next look; `Infinity` when there is none. */
    readonly look: () => number
  ) {}
}

/** Keeps what is due at some time, in milliseconds of a clock that only goes forward. */
export class Keeper {
  private readonly heap: Array<Kept> = []
  /** Given when something is due earlier than anything was. */
  private readonly earlier = new Signal()

  constructor(
    private readonly elapsed: () => number,
    /** See TurnShare.ts. */
    private readonly share: Effect.Effect<void>
  ) {}

  /** How many are kept. */
  get size(): number {
    return this.heap.length
  }
  /** Looks at `kept` after so many milliseconds; never, when they are `Infinity`. */
  keep(kept: Kept, left: number): void {
    if (left === Infinity) return this.drop(kept)
    kept.at = this.elapsed() + left
    if (kept.place < 0) kept.place = this.heap.push(kept) - 1
    this.settle(kept)
    if (kept.place === 0) this.earlier.give()
  }
  /** Looks at it no more. */
  drop(kept: Kept): void {
    const { place } = kept
    if (place < 0) return
    kept.place = -1
    const last = this.heap.pop()
    if (last === undefined || last === kept) return
    this.put(last, place)
    this.settle(last)
  }

  /** Looks at what is due, for as long as it runs. */
  get run(): Effect.Effect<never> {
    const next = Effect.suspend(() => {
      const [first] = this.heap
      if (first === undefined) return this.earlier.wait
      const left = first.at - this.elapsed()
      if (left <= 0) return Effect.zipRight(this.share, this.lookAtFirst)
      // Never shorter than a timer can be, or a fraction of a millisecond would be waited for in a loop.
      const sleep = Effect.sleep(Math.min(longestSleep, Math.ceil(left)))
      return Effect.raceFirst(sleep, this.earlier.wait)
    })
    return Effect.forever(next)
  }

  private readonly lookAtFirst: Effect.Effect<void> = Effect.suspend(() => {
    const [first] = this.heap
    // Dropped, or put off, while this waited for its share.
    if (first === undefined || first.at > this.elapsed()) return Effect.void
    return Effect.sync(() => this.keep(first, first.look())).pipe(
      Effect.catchAllCause((cause) => {
        this.drop(first)
        return Effect.logError("what was due failed, and is not looked at again", cause)
      })
    )
  })

  private put(kept: Kept, place: number): void {
    this.heap[place] = kept
    kept.place = place
  }
  /** Moves one to where it belongs, up or down. */
  private settle(kept: Kept): void {
    const { heap } = this
    let { place } = kept
    for (;;) {
      const above = heap[(place - 1) >> 1]
      if (above === undefined || above.at <= kept.at) break
      this.put(above, place)
      place = (place - 1) >> 1
    }
    for (;;) {
      const [left, right] = [heap[2 * place + 1], heap[2 * place + 2]]
      const below = right !== undefined && left !== undefined && right.at < left.at ? right : left
      if (below === undefined || below.at >= kept.at) break
      const free = below.place
      this.put(below, place)
      place = free
    }
    this.put(kept, place)
  }
}
