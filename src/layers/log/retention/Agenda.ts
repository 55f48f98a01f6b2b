/** What the next pass of the retention looks at, and who waits for it. */
import * as Effect from "effect/Effect"
import { Signal } from "../../../services/runtime/Signal.js"
import type { JobState } from "../JobState.js"
import type { ViewState } from "../ViewState.js"

/** Collects what is to be looked at until the next pass takes it. */
export class Agenda {
  readonly views = new Set<ViewState>()
  readonly jobs = new Set<JobState>()
  private readonly waiting = new Set<() => void>()
  /** Given when there is a reason for a pass. */
  readonly signal = new Signal()

  /** Takes everything that is to be looked at. */
  take(): { readonly views: ReadonlyArray<ViewState>; readonly jobs: ReadonlyArray<JobState> } {
    const taken = { views: [...this.views], jobs: [...this.jobs] }
    this.views.clear()
    this.jobs.clear()
    return taken
  }
  /** Asks for a pass and waits for the end of the next one. */
  readonly nextPass = Effect.async<void>((resume) => {
    const go = () => {
      this.waiting.delete(go)
      resume(Effect.void)
    }
    this.waiting.add(go)
    this.signal.give()
    return Effect.sync(() => this.waiting.delete(go))
  })
  /** Tells those who wait that a pass has ended. */
  passed(): void {
    for (const resume of [...this.waiting]) resume()
  }
}
