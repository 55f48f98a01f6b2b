/** How long a committer tries again what its store does not take. */
import * as Effect from "effect/Effect"
import type { JobState } from "./JobState.js"

/** How long a store that fails is tried again, and how often. */
export class Patience {
  private since: number | undefined
  private tries = 0

  constructor(
    private readonly patienceMs: number,
    private readonly elapsed: () => number
  ) {}
  succeeded(): void {
    this.since = undefined
    this.tries = 0
  }
  /** Returns whether it is the first failure after a success. */
  failed(): boolean {
    this.tries++
    const isFirst = this.since === undefined
    this.since ??= this.elapsed()
    return isFirst
  }
  /** Whether the store has taken nothing for so long. */
  get isLong(): boolean {
    return this.since !== undefined && this.elapsed() - this.since >= this.patienceMs
  }
  /** Returns whether what a job has emitted has been tried for long enough. */
  isOver({ window }: JobState): boolean {
    const since = Math.max(this.since ?? Infinity, window?.since ?? 0)
    return this.elapsed() - since >= this.patienceMs
  }
  /** Nothing is to be tried again. */
  rest(): void {
    this.tries = 0
  }
  /** Waits before the next try, longer each time; not at all when nothing is to be tried again. */
  readonly pause: Effect.Effect<void> = Effect.suspend(() =>
    this.tries === 0
      ? Effect.void
      : // What is still there after that waits for as long as the store is away.
        Effect.sleep(
          Math.min(
            maxPauseMs,
            this.isLong ? maxPauseMs : this.patienceMs,
            firstPauseMs * 2 ** (this.tries - 1)
          )
        )
  )
}

const firstPauseMs = 20
const maxPauseMs = 1000
