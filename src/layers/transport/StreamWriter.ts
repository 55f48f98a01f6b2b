/** The outbound side of transports that write to a Node stream. */

import type { Writable } from "node:stream"
import * as Effect from "effect/Effect"
import { PassingSet } from "../../services/runtime/Passing.js"
import { eventLoop } from "../../services/runtime/Turn.js"

/** Unwritten bytes above which a sender waits until the stream has drained. */
const highWaterBytes = 256 * 1024

/** Writes to a stream, and waits when its buffer is full. */
export class StreamWriter {
  private readonly waiting = new PassingSet<() => void>()
  private released = false

  constructor(
    private readonly output: Writable,
    private readonly write: (frames: ReadonlyArray<string>) => void
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

  private get writable(): boolean {
    return !this.released && this.output.writable
  }

  /** All frames in one write to the kernel; then room, or at least another turn of the event loop. */
  send(frames: ReadonlyArray<string>): Effect.Effect<void> {
    return Effect.async<void>((resume) => {
      if (this.writable && frames.length > 0) {
        this.output.cork()
        this.write(frames)
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
