/**
 * The inbound side that every transport shares. A socket's callback hands frames over synchronously; the
 * one reader takes whatever has come since. Full means the source is paused, not that frames are lost:
 * what it still had decoded at that moment is taken in as well.
 */
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import { Closed, closeCode, type Inbound } from "../../services/transport/Transport.js"

/** Frames and bytes held before the source is paused. */
const maxHeldFrames = 256
const maxHeldBytes = 1024 * 1024

/** Why a connection ended that was sent a frame larger than it takes. */
export const tooBig = (bytes: number) =>
  new Closed({ code: closeCode.tooBig, reason: `frame larger than ${bytes} bytes` })

const encoder = new TextEncoder()

/** Whether a text takes more than `bytes` bytes of UTF-8; encodes it only when its length cannot tell. */
export const exceeds = (text: string, bytes: number): boolean =>
  text.length > bytes || (text.length * 3 > bytes && encoder.encode(text).length > bytes)

/** Holds the frames that have arrived and were not taken. Above its marks the peer is not read. */
export class Inbox {
  #frames: Array<Inbound> = []
  #bytes = 0
  #closed: Closed | undefined = undefined
  #wake: (() => void) | undefined = undefined
  paused = false

  readonly #source: { readonly pause: () => void; readonly resume: () => void }

  constructor(source: { readonly pause: () => void; readonly resume: () => void }) {
    this.#source = source
  }

  /** `bytes` is the frame's size, exactly or nearly. Ignored once ended. */
  offer(frame: Inbound, bytes: number): void {
    if (this.#closed !== undefined) return
    this.#frames.push(frame)
    this.#bytes += bytes
    if (!this.paused && (this.#frames.length >= maxHeldFrames || this.#bytes >= maxHeldBytes)) {
      this.paused = true
      this.#source.pause()
    }
    this.#wake?.()
  }

  /** Nothing more will come. The first reason stays; what is held can still be taken. */
  end(closed: Closed): void {
    if (this.#closed !== undefined) return
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
      this.#bytes = 0
      if (this.paused) {
        this.paused = false
        this.#source.resume()
      }
      return Effect.succeed(Chunk.unsafeFromArray(taken))
    }
    if (this.#closed !== undefined) return Effect.fail(this.#closed)
    return Effect.async<Chunk.Chunk<Inbound>, Closed>((resume) => {
      const wake = () => {
        if (this.#wake === wake) this.#wake = undefined
        // Taken when the fiber runs, so an interrupted take loses nothing and a burst is one chunk.
        resume(this.take)
      }
      this.#wake = wake
      return Effect.sync(() => {
        if (this.#wake === wake) this.#wake = undefined
      })
    })
  })
}
