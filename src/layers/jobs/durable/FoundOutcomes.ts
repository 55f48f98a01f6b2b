/** In which order what a journal has is handed out to a handler that is run again. */
import * as Effect from "effect/Effect"
import type { TurnService } from "../../../services/runtime/Turn.js"

/** Who waits for an outcome that was found, or for the go to begin. */
interface Asking {
  readonly ordinal: number
  readonly go: () => void
}

/** Hands out outcomes that were found. */
export class FoundOutcomes {
  private readonly asking = new Set<Asking>()
  private handing = false

  constructor(private readonly turn: TurnService) {}

  /**
   * Hands out what was found: one at a time, a turn of the event loop apart, and of what is being asked for the oldest
   * outcome first. So whoever races has the same winner as before. What was not found waits for all that were.
   */
  handOut<A, E>(ordinal: number, read: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        let resume: (() => void) | undefined
        let gone = false
        const own: Asking = {
          ordinal,
          go: () => {
            gone = true
            resume?.()
          }
        }
        this.asking.add(own)
        this.handNext()
        const turn = Effect.async<void>((wake) => {
          if (gone) return wake(Effect.void)
          resume = () => wake(Effect.void)
        })
        return Effect.ensuring(
          restore(Effect.zipRight(turn, read)),
          Effect.sync(() => {
            // It was its turn: the next one has its.
            if (!this.asking.delete(own)) this.handed()
          })
        )
      })
    )
  }
  private handNext(): void {
    if (this.handing || this.asking.size === 0) return
    this.handing = true
    this.turn.onNext(() => {
      let first: Asking | undefined
      for (const one of this.asking) if (first === undefined || one.ordinal < first.ordinal) first = one
      if (first === undefined) return this.handed()
      this.asking.delete(first)
      first.go()
    })
  }
  private handed(): void {
    this.handing = false
    this.handNext()
  }
}
