/** What is left of a session's window after its process has died. */
import * as Duration from "effect/Duration"
import { transient } from "../../protocol/Features.js"
import type { SessionRecord } from "../../services/store/Store.js"
import { aliveEvery } from "./Records.js"

/** What was stored when the process died, and what time it is now. */
export interface Since {
  /** When it was last stored that the process lives, in epoch ms. */
  readonly aliveAt: number
  /** Now, in epoch ms. */
  readonly at: number
  readonly resumeWindow: Duration.Duration
}

/** Returns a stored session as it was last seen, and for how many milliseconds more it can be resumed: 0 or less, it cannot. */
export const surviving = (
  record: SessionRecord,
  { aliveAt, at, resumeWindow }: Since
): { readonly record: SessionRecord; readonly left: number } => {
  const windowMs = Duration.toMillis(resumeWindow)
  // The process may have lived on until the next time it would have said so.
  const aliveUntil = aliveAt + Duration.toMillis(aliveEvery(resumeWindow))
  const seenAt = record.attached ? Math.max(record.lastSeenAt, aliveUntil) : record.lastSeenAt
  // A wall clock that was set back meanwhile makes no window longer than it is.
  const left = record.features.includes(transient) ? 0 : Math.min(windowMs, seenAt + windowMs - at)
  return { record: { ...record, lastSeenAt: Math.min(seenAt, at) }, left }
}

/**
 * Returns what is known of the time of a session whose node may be gone, by what that node has stored of itself. Not by the list of
 * nodes: one that leaves is not there any more, also when it could not store how its sessions were, and what is silent for long
 * is forgotten there.
 */
export const sinceOf = (
  lives: ReadonlyMap<string, number>,
  { node = "" }: Pick<SessionRecord, "node">,
  at: number,
  { resumeWindow }: Pick<Since, "resumeWindow">
): Since => ({ aliveAt: lives.get(node) ?? 0, at, resumeWindow })
