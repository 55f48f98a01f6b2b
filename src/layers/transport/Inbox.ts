/**
 * The inbound side that every transport shares. A socket's callback hands frames over synchronously; the
 * one reader takes whatever has come since.
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import { Closed, closeCode, type Inbound } from "../../services/transport/Transport.js"

/** Why a connection ended that was sent a frame larger than it takes. */
export const tooBig = (bytes: number) =>
  new Closed({ code: closeCode.tooBig, reason: `frame larger than ${bytes} bytes` })

/** Holds the frames that have arrived and were not taken. */
export class Inbox {
  #frames: Array<Inbound> = []
  #closed: Closed | undefined = undefined
  #wake: (() => void) | undefined = undefined
  /** Bytes that have arrived and were not taken. */
  held = 0

  /** `bytes` is the frame's size, exactly or nearly. Ignored once ended. */
  offer(frame: Inbound, bytes: number): void {
    if (this.#closed) return
    this.#frames.push(frame)
    this.held += bytes
    this.#wake?.()
  }
  /** Everything that was held is taken. */
  protected taken(): void {
    this.held = 0
  }

  /** Nothing more will come. The first reason stays; what is held can still be taken. */
  end(closed: Closed): void {
    if (this.#closed) return
    this.#closed = closed
    this.#wake?.()
  }

  get ended(): boolean {
    return this.#closed !== undefined
  }

  readonly take: Effect.Effect<Chunk.Chunk<Inbound>, Closed> = Effect.suspend(() => {
    if (this.#frames.length > 0) {
      const taken = this.#frames
      this.#frames = []
      this.taken()
      return Effect.succeed(Chunk.unsafeFromArray(taken))
    }
    if (this.#closed) return Effect.fail(this.#closed)
    return Effect.async<Chunk.Chunk<Inbound>, Closed>((resume) => {
      const wake = () => {
        if (this.#wake === wake) this.#wake = undefined
        // Taken when the fiber runs, so an interrupted take loses nothing and a burst is one chunk.
        resume(this.take)
      }
      this.#wake = wake
      // The reader may have let others go first since it looked, and nobody wakes it for what came then.
      if (this.#frames.length > 0 || this.#closed !== undefined) return wake()
      return Effect.sync(() => {
        if (this.#wake === wake) this.#wake = undefined
      })
    })
  })
}
