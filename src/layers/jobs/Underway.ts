/** What goes on in the lifetime of the runtime, and what its end waits for: jobs that have not ended, and wishes to be stored. */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Runtime from "effect/Runtime"

/** Counts what is underway. */
export class Underway {
  private count = 0
  private readonly waiting = new Set<() => void>()

  /** How much is. */
  get size(): number {
    return this.count
  }
  /** Something begins, and ends when the returned function is called. */
  begin(): () => void {
    this.count++
    return () => {
      if (--this.count > 0) return
      for (const resume of [...this.waiting]) resume()
    }
  }
  /** Forks what goes on also when whoever forks it does not. */
  fork<A, E>(effect: Effect.Effect<A, E>): Effect.Effect<Fiber.RuntimeFiber<A, E>> {
    return Effect.map(Effect.forkDaemon(effect), (fiber) => {
      fiber.addObserver(this.begin())
      return fiber
    })
  }
  /** Does the same, and runs it at once until it waits for something: nothing else comes in between. */
  start<A, E>(effect: Effect.Effect<A, E>): Effect.Effect<Fiber.RuntimeFiber<A, E>> {
    return Effect.map(Effect.runtime<never>(), (runtime) => {
      const fiber = Runtime.runFork(runtime)(effect)
      fiber.addObserver(this.begin())
      return fiber
    })
  }
  /** Waits until nothing is. */
  readonly none: Effect.Effect<void> = Effect.async<void>((resume) => {
    if (this.count === 0) return resume(Effect.void)
    const done = () => {
      this.waiting.delete(done)
      resume(Effect.void)
    }
    this.waiting.add(done)
    return Effect.sync(() => this.waiting.delete(done))
  })
}
