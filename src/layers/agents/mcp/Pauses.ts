/**
 * The pauses between the beginnings of a stream, which are ours: the SDK's timers keep the process, and its `close` clears only
 * the newest. So it is told to go on at once, and what it asks for then waits here, as long as somebody waits for that.
 */
import { setTimeout } from "node:timers/promises"

/** Milliseconds until a stream is begun again, if the server does not say. */
const retryAfter = 1_000

/** Milliseconds between two beginnings of a stream: a server may ask for none. */
const streamEvery = 500

/** Timers longer than 2^31 ms fire at once in JavaScript. */
const longestPause = 86_400_000

/** Of one stream, which ends and is begun again. */
export class Pauses {
  private retryMs = retryAfter

  /** `begunAt`: when it was begun, a `performance.now()`, if it was. */
  constructor(private begunAt?: number) {}

  /** The server says how long it wants not to be asked after a stream has ended, in milliseconds. */
  readonly retry = (ms: number): void => {
    this.retryMs = Math.min(ms, longestPause)
  }

  /** Waits until it may be begun again, or fails when nobody waits for it any more. */
  async begin(signal: AbortSignal | undefined): Promise<void> {
    if (this.begunAt !== undefined) {
      const left = Math.max(this.retryMs, this.begunAt + streamEvery - performance.now())
      await setTimeout(left, undefined, { signal, ref: false })
    }
    this.begunAt = performance.now()
  }
}
