/** What the parts of the retention have in common. */
import type * as Effect from "effect/Effect"
import type { InternalError } from "../../../protocol/Errors.js"
import type { Options } from "../../../services/runtime/RuntimeOptions.js"
import type { Signal } from "../../../services/runtime/Signal.js"
import type { TurnService } from "../../../services/runtime/Turn.js"
import type { StoreError, StoreService } from "../../../services/store/Store.js"
import type { Change } from "../CommitQueue.js"
import type { Ledger, Limits } from "../Ledger.js"
import type { LiveLogs } from "../Live.js"
import type { Tail } from "../Tail.js"

/** Changes of what is stored, or looks at it. */
export type StoreWork<A = void> = Effect.Effect<A, InternalError | StoreError>

/** What every part of retention works on. */
export interface RetentionParts {
  readonly store: StoreService
  /** Makes a change durable. */
  readonly committer: { readonly change: (change: Change) => StoreWork }
  readonly live: LiveLogs
  readonly tail: Tail
  readonly options: Options
  readonly turn: TurnService
  /** Epoch ms. */
  readonly now: () => number
  /** Milliseconds of a clock that only goes forward. */
  readonly monotonic: () => number
  /** The resume window, in milliseconds. */
  readonly windowMs: number
  /**
   * Of a node of a cluster: whether it is the one that drops what has ended, and frees what was dropped. All nodes write to the
   * store, so what was counted here is not all. Nothing where a runtime is alone.
   */
  readonly keeps?: Effect.Effect<boolean, StoreError> | undefined
  /** Given when something was dropped whose pages are to be freed. */
  readonly dropped: Signal
}

/** Jobs dropped, or looked at, in one go. */
export const batch = 256

/**
 * Returns what a view, and a job's log, retain at the most: in memory a sixteenth of it, and no more than all of them
 * together. How finely they are cut, how much waits for a commit, and when emitters wait for a reader follow from it.
 */
export const retentionLimits = (
  kind: StoreService["kind"],
  { maxMemoryLogBytes, maxRetainedBytes, maxRetainedEvents }: Options
): Limits => {
  const share = kind === "memory" ? 16 : 1
  const bytes = Math.max(1, Math.floor(maxRetainedBytes / share))
  return {
    events: Math.max(1, Math.floor(maxRetainedEvents / share)),
    bytes: kind === "memory" ? Math.min(bytes, maxMemoryLogBytes) : bytes
  }
}

/** Returns what something that could not be cut to its cap may grow to before it is looked at again. */
export const grown = (ledger: Ledger, limits: Limits, step: Limits): Limits => ({
  events: Math.max(limits.events, ledger.events + step.events),
  bytes: Math.max(limits.bytes, ledger.bytes + step.bytes)
})
