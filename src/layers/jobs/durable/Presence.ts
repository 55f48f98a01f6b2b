/** Whether a durable job does anything but wait. One that only waits need not be in memory. */
import * as Effect from "effect/Effect"

/** Something that a job waits for. */
export interface Wait {
  /** Epoch ms at which the wait is over at the latest. */
  readonly until?: number | undefined
  /** Of an input. */
  readonly inputId?: string | undefined
}

/** What a job that only waits waits for. */
export interface WaitsFor {
  /** Epoch ms at which the first of its sleeps ends. */
  readonly sleepingUntil: number | undefined
  /** Epoch ms at which the first wait of whatever kind is over. */
  readonly until: number
  readonly inputs: ReadonlyArray<string>
}

/** Counts what a job does, and what it waits for. */
export class Presence {
  private busy = 0
  private readonly waits = new Set<Wait>()

  /** @param changed called when the job begins to only wait, and when it does anything else again */
  constructor(private readonly changed: (idle: boolean) => void) {}

  /** Whether it does nothing but wait. */
  get isIdle(): boolean {
    return this.busy === 0 && this.waits.size > 0
  }
  /** Returns what it waits for. */
  get current(): WaitsFor {
    const waits = [...this.waits]
    const ends = (of: ReadonlyArray<Wait>) =>
      of.reduce((first, { until = Infinity }) => Math.min(first, until), Infinity)
    const sleeps = waits.filter(({ inputId }) => inputId === undefined)
    return {
      sleepingUntil: sleeps.length === 0 ? undefined : ends(sleeps),
      until: ends(waits),
      inputs: waits.flatMap(({ inputId = [] }) => inputId)
    }
  }

  /** The job does something, until {@link end}. */
  begin(): void {
    const wasIdle = this.isIdle
    this.busy++
    this.tell(wasIdle)
  }
  end(): void {
    const wasIdle = this.isIdle
    this.busy--
    this.tell(wasIdle)
  }
  /** Keeps the job in memory while an effect runs. */
  hold<A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.acquireUseRelease(
      Effect.sync(() => this.begin()),
      () => effect,
      () => Effect.sync(() => this.end())
    )
  }
  /** Runs an effect of something that the job does, and in which it only waits. */
  waiting<A, E, R>(wait: Wait, effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.acquireUseRelease(
      Effect.sync(() => {
        this.waits.add(wait)
        this.end()
      }),
      () => effect,
      () =>
        Effect.sync(() => {
          const wasIdle = this.isIdle
          this.waits.delete(wait)
          this.busy++
          this.tell(wasIdle)
        })
    )
  }
  /** It has just been given what it may go on with. */
  touch(): void {
    this.tell(false)
  }
  private tell(wasIdle: boolean): void {
    const { isIdle } = this
    if (isIdle !== wasIdle) this.changed(isIdle)
  }
}
