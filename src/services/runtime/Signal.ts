/** Something to do: said by anybody, any number of times, and waited for by one fiber. */
import * as Effect from "effect/Effect"

/** Wakes whoever waits for something to change. */
export class Signal {
  private wake: (() => void) | undefined
  private given = false

  give(): void {
    this.given = true
    this.wake?.()
  }
  /** Waits until it is given, at once when that has been missed. */
  readonly wait: Effect.Effect<void> = Effect.async<void>((resume) => {
    this.wake = () => {
      this.wake = undefined
      this.given = false
      resume(Effect.void)
    }
    if (this.given) this.wake()
    return Effect.sync(() => {
      this.wake = undefined
    })
  })
}
