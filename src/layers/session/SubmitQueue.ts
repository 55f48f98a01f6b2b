/**
 * The submits of one connection, and its answers to what jobs ask: decided one after the other, beside whatever else its
 * reader does.
 */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"

/** Submits of one connection that wait to be decided, and what their frames hold: beyond it the reader waits. */
const maxWaitingSubmits = 256
const maxWaitingBytes = 1024 * 1024

/** Keeps the submits of one connection in order. Made with the first of them, since most connections never submit. */
export class SubmitQueue {
  private readonly waiting: Array<{ readonly decide: Effect.Effect<void>; readonly bytes: number }> = []
  private bytes = 0
  private onWork: (() => void) | undefined
  private onRoom: (() => void) | undefined

  /** `mayDecide` is waited for before each. */
  constructor(private readonly mayDecide: Effect.Effect<void>) {}

  private get full(): boolean {
    return this.waiting.length >= maxWaitingSubmits || this.bytes > maxWaitingBytes
  }

  /** Takes a submit that is to be decided, and the bytes of its frame; the effect waits until there is room for another. */
  add(decide: Effect.Effect<void>, bytes: number): Effect.Effect<void> {
    this.waiting.push({ decide, bytes })
    this.bytes += bytes
    this.onWork?.()
    this.onWork = undefined
    return this.full ? this.room : Effect.void
  }

  private get room(): Effect.Effect<void> {
    return Effect.async<void>((resume) => {
      if (!this.full) return resume(Effect.void)
      this.onRoom = () => resume(Effect.void)
    })
  }

  private get work(): Effect.Effect<void> {
    return Effect.async<void>((resume) => {
      if (this.waiting.length > 0) return resume(Effect.void)
      this.onWork = () => resume(Effect.void)
    })
  }

  private get decideAll(): Effect.Effect<never> {
    return Effect.gen(this, function* () {
      for (;;) {
        const next = this.waiting[0]
        if (next === undefined) {
          yield* this.work
          continue
        }
        yield* this.mayDecide
        this.waiting.shift()
        yield* next.decide
        this.bytes -= next.bytes
        if (this.full) continue
        this.onRoom?.()
        this.onRoom = undefined
      }
    })
  }

  /** Decides what is added, in a child of the fiber that this runs in. */
  get run(): Effect.Effect<Fiber.RuntimeFiber<never>> {
    return Effect.fork(this.decideAll)
  }
}
