/** What the parts of the retention have in common. */
import type { Options } from "../../../services/runtime/RuntimeOptions.js"
import type { Signal } from "../../../services/runtime/Signal.js"
import type { TurnService } from "../../../services/runtime/Turn.js"
import type { StoreService } from "../../../services/store/Store.js"
import type { Committer } from "../Committer.js"
import type { Ledger, Limits } from "../Ledger.js"
import type { LiveLogs } from "../Live.js"
import type { Tail } from "../Tail.js"

/** What every part of retention works on. */
export interface RetentionParts {
  readonly store: StoreService
  readonly committer: Committer
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
  /** Given when something was dropped whose pages are to be freed. */
  readonly dropped: Signal
}

/** Jobs dropped, or looked at, in one go. */
export const batch = 256

/** Returns what something that could not be cut to its cap may grow to before it is looked at again. */
export const grown = (ledger: Ledger, limits: Limits, step: Limits): Limits => ({
  events: Math.max(limits.events, ledger.events + step.events),
  bytes: Math.max(limits.bytes, ledger.bytes + step.bytes)
})
