/** The outbound side of transports that write to a Node stream. */

import type { Writable } from "node:stream"
import * as Effect from "effect/Effect"
import { PassingSet } from "../../services/runtime/Passing.js"
import { eventLoop } from "../../services/runtime/Turn.js"

/** Unwritten bytes above which a sender waits until the stream has drained. */
const highWaterBytes = 256 * 1024

/** What is below a stream of Node's, as far as it tells: a socket, or TLS, which has a socket below it. */
interface Handle {
  readonly writeQueueSize?: number | undefined
  readonly _parent?: Handle | undefined
}

/**
 * Returns the bytes that the system has not taken yet of a write that it has begun with. Streams tell only when it has taken
 * all of it; this is what Node's own timeout of sockets goes by. Where there is none, nothing is told before that.
 */
const begun = (output: Writable & { readonly _handle?: Handle | null | undefined }): string => {
  const sizes: Array<number> = []
  for (let handle = output._handle; handle != null; handle = handle._parent)
    sizes.push(handle.writeQueueSize ?? 0)
  return sizes.join(" ")
}

/** What was written to several streams together, in bytes. */
export interface Traffic {
  sent: number
}

/** Writes to a stream, and waits when its buffer is full. */
export class StreamWriter {
  private readonly waiting = new PassingSet<() => void>()
  private released = false
  /** How many writes the system has taken all of. */
  private taken = 0

  /** `write` calls back whenever the system has taken something of the frames. Whoever counts the bytes gives a `traffic`. */
  constructor(
    private readonly output: Writable,
    private readonly write: (frames: ReadonlyArray<string>, taken: () => void) => void,
    private readonly traffic?: Traffic | undefined
  ) {
    const wake = () => {
      for (const resume of [...this.waiting]) resume()
    }
    output.on("drain", wake)
    output.on("close", wake)
    output.on("error", wake)
  }

  /** From now on frames are dropped and nobody waits. */
  release(): void {
    this.released = true
    for (const resume of [...this.waiting]) resume()
  }

  private readonly count = (): void => {
    this.taken++
  }
  /** See `Connection.progress`. */
  readonly progress = (): string => `${this.taken} ${begun(this.output)}`

  private get writable(): boolean {
    return !this.released && this.output.writable
  }

  /** All frames in one write to the kernel; then room, or at least another turn of the event loop. */
  send(frames: ReadonlyArray<string>): Effect.Effect<void> {
    return Effect.async<void>((resume) => {
      if (this.writable && frames.length > 0) {
        this.output.cork()
        const before = this.output.writableLength
        this.write(frames, this.count)
        // Corked, the stream holds all of it.
        if (this.traffic !== undefined) this.traffic.sent += this.output.writableLength - before
        this.output.uncork()
      }
      const done = () => {
        this.waiting.delete(done)
        resume(Effect.void)
      }
      if (this.writable && this.output.writableLength > highWaterBytes) {
        this.waiting.add(done)
        return Effect.sync(() => this.waiting.delete(done))
      }
      return Effect.sync(eventLoop.onNext(done))
    })
  }
}
