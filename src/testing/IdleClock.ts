/** A clock that stands until it is moved to its next timer. Timers of interrupted fibers are gone. */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

interface Timer {
  /** Epoch ms. */
  readonly at: number
  readonly wake: () => void
}

/** Begins in 1970. */
export class IdleClock implements Clock.Clock {
  readonly [Clock.ClockTypeId]: Clock.ClockTypeId = Clock.ClockTypeId
  private readonly timers = new Set<Timer>()
  private time = 0

  readonly currentTimeMillis = Effect.sync(() => this.unsafeCurrentTimeMillis())
  readonly currentTimeNanos = Effect.sync(() => this.unsafeCurrentTimeNanos())

  unsafeCurrentTimeMillis(): number {
    return this.time
  }
  unsafeCurrentTimeNanos(): bigint {
    return BigInt(Math.trunc(this.time)) * 1_000_000n
  }
  sleep(duration: Duration.Duration): Effect.Effect<void> {
    return Effect.async<void>((resume) => {
      const timer: Timer = { at: this.time + Duration.toMillis(duration), wake: () => resume(Effect.void) }
      this.timers.add(timer)
      return Effect.sync(() => {
        this.timers.delete(timer)
      })
    })
  }

  /** When the next timer is due, in epoch ms. */
  get next(): number {
    let next = Number.POSITIVE_INFINITY
    for (const { at } of this.timers) next = Math.min(next, at)
    return next
  }
  /** Goes on to a time, and wakes whoever waits for it. */
  moveTo(time: number): void {
    this.time = Math.max(this.time, time)
    for (const timer of [...this.timers].sort((a, b) => a.at - b.at)) {
      if (timer.at > this.time) return
      this.timers.delete(timer)
      timer.wake()
    }
  }
}
