/** Something to do: said by anybody, any number of times, and waited for by one fiber. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { Pending } from "./Pending.js"

/** Wakes whoever waits for something to change. */
export class Signal {
  private wake: (() => void) | undefined
  private given = false

  give(): void {
    this.given = true
    this.wake?.()
  }
  /** Waits until it is given, at once when that has been missed. */
  readonly wait: Effect.Effect<void> = new Pending<void>(
    (done) => this.whenGiven(() => done(Exit.void)),
    Effect.async<void>((resume) => {
      this.whenGiven(() => resume(Effect.void))
      return Effect.sync(() => {
        this.wake = undefined
      })
    })
  )

  private whenGiven(go: () => void): void {
    this.wake = () => {
      this.wake = undefined
      this.given = false
      go()
    }
    if (this.given) this.wake()
  }
}
