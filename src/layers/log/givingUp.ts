/** Answers what is not committed: refused for good, kept for another try, or given up with the job that waits for it. */
import * as Effect from "effect/Effect"
import type { InternalError } from "../../protocol/Errors.js"
import { keyUsed, takenAway } from "../../services/log/taken.js"
import type { Refusal, Work } from "./Attempt.js"
import { type CommitItem, isKept, isTriedAgain } from "./CommitQueue.js"
import { fencedOf, isFenced, undone } from "./refused.js"

/** Refuses what will never be committed. */
export const mistaken = (work: Work, items: ReadonlyArray<CommitItem>, cause: Refusal) => {
  const owners = fencedOf(cause)?.owners
  // Of two that open a job with the same key one does, and the other finds it: nothing is wrong.
  const isBeaten = owners?.every((owner) => "key" in owner) === true
  giveUp(work, items, owners === undefined ? undone(cause) : isBeaten ? keyUsed : takenAway)
  work.windows.relieve()
  if (isBeaten) return Effect.void
  if (owners === undefined) return Effect.logError("a change could not be written", cause)
  // Of two that take something one is too late: nothing is wrong either, and whoever asked is told.
  const whose = owners.map((owner) =>
    "job" in owner ? owner.job : "session" in owner ? owner.session : "a key"
  )
  return Effect.logInfo(`a change was not written: another process has ${whose.slice(0, 8).join(", ")}`)
}

/** Refuses items, and with those that nobody waits for everything else of their jobs. */
const giveUp = ({ queue }: Work, items: ReadonlyArray<CommitItem>, error: InternalError): void => {
  queue.refuseAll(items, error)
  const broken = new Set(items.flatMap((item) => (isKept(item) ? [item.job] : [])))
  if (broken.size > 0) queue.discard(broken, error)
}

/**
 * Answers a batch that the store does not take. Whoever waits for an item is told, and decides; what nobody waits for is
 * kept, and tried again before anything that came later. What has been tried for long enough is given up.
 */
export const postpone = (work: Work, batch: ReadonlyArray<CommitItem>, cause: Refusal) =>
  Effect.suspend(() => {
    const { queue } = work
    const { over } = queue
    if (over !== undefined)
      return Effect.sync(() => {
        queue.refuseAll(batch, over)
        work.windows.relieve()
      })
    const kept = batch.filter(isTriedAgain)
    queue.refuseAll(
      batch.filter((item) => !isTriedAgain(item)),
      undone(cause)
    )
    queue.putBack(kept)
    const said = kept.length === 0 ? Effect.void : lose(work, cause)
    // What was refused has left its window, and no commit may follow.
    work.windows.relieve()
    return said
  })

/** Gives up jobs whose events have been tried for long enough. Returns what is logged of it. */
const lose = ({ patience, queue, windows }: Work, cause: Refusal): Effect.Effect<void> => {
  const error = undone(cause)
  const isFirst = patience.failed()
  const lost = [...queue.jobs()].filter((job) => isFenced(cause) || (!job.endures && patience.isOver(job)))
  for (const job of lost) windows.break(job, error)
  queue.discard(new Set(lost), error)
  if (queue.jobs().size === 0) patience.rest()
  const said = isFirst ? Effect.logWarning("events could not be committed; trying again", cause) : Effect.void
  return lost.length === 0
    ? said
    : Effect.logError(`events could not be committed; ${lost.length} jobs that emitted them end`, cause)
}
