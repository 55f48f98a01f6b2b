/**
 * Commits a batch, whatever the store says of it: what is a mistake of one item, what another process has, and what is only the store's own
 * trouble are told apart here, so that an item answers for itself only.
 */
import * as Effect from "effect/Effect"
import { takenAway } from "../../services/log/taken.js"
import type { Fenced } from "../../services/store/Store.js"
import { apart } from "./Apart.js"
import { attempt, type Refusal, type Work } from "./Attempt.js"
import type { CommitItem } from "./CommitQueue.js"
import { mistaken, postpone } from "./givingUp.js"
import { fencedOf, isMistake } from "./refused.js"

/**
 * Writes a batch and answers it. A mistake of one item does not count against the others: they are written again, each
 * by itself. Returns whether the store took the batch as it is.
 */
export const commit = (work: Work, batch: ReadonlyArray<CommitItem>): Effect.Effect<boolean> =>
  Effect.flatMap(attempt(work, batch), (cause) => {
    if (cause === "written" || cause === "ended") return Effect.succeed(true)
    const fenced = fencedOf(cause)
    if (fenced !== undefined) return letGo(work, batch, fenced, cause)
    const answered = isMistake(cause)
      ? batch.length > 1
        ? commitEach(work, batch)
        : mistaken(work, batch, cause)
      : work.patience.isLong
        ? apart(work, batch, cause, settled)
        : postpone(work, batch, cause)
    return Effect.as(answered, false)
  })

/**
 * Lets go of what another process has taken, and commits the rest of a batch. A change that goes on stating what was taken, or
 * states what this process does not have, is found by committing one by one.
 */
const letGo = (
  work: Work,
  batch: ReadonlyArray<CommitItem>,
  { owners }: Fenced,
  cause: Refusal
): Effect.Effect<boolean> =>
  Effect.suspend(() => {
    const taken = owners.map(work.taken)
    const lost = new Set(taken.flatMap(({ job }) => (job === undefined ? [] : [job])))
    for (const job of lost) work.windows.break(job, takenAway)
    work.queue.discard(lost, takenAway)
    const isLost = (item: CommitItem) => item._tag !== "Change" && lost.has(item.job)
    work.queue.refuseAll(batch.filter(isLost), takenAway)
    const rest = lost.size === 0 ? batch : batch.filter((item) => !isLost(item))
    work.windows.relieve()
    if (taken.every(({ lost }) => lost)) return rest.length === 0 ? Effect.succeed(true) : commit(work, rest)
    return Effect.as(rest.length > 1 ? commitEach(work, rest) : mistaken(work, rest, cause), false)
  })

/** Answers one item that the store has refused for what it is; `undefined` when that says nothing of it. */
const settled = (work: Work, item: CommitItem, cause: Refusal): Effect.Effect<unknown> | undefined => {
  const fenced = fencedOf(cause)
  if (fenced !== undefined) return letGo(work, [item], fenced, cause)
  return isMistake(cause) ? mistaken(work, [item], cause) : undefined
}

/** Writes the items of a batch one by one, up to the first that the store does not take. */
const commitEach = (work: Work, batch: ReadonlyArray<CommitItem>): Effect.Effect<void> =>
  Effect.gen(function* () {
    for (const [i, item] of batch.entries()) {
      const broken = item._tag === "Change" ? undefined : item.job.broken
      if (broken !== undefined) work.queue.refuseAll([item], broken)
      else {
        const cause = yield* attempt(work, [item], batch.slice(i + 1))
        if (cause === "ended") return
        if (cause === "written") continue
        const answered = settled(work, item, cause)
        if (answered === undefined) return yield* postpone(work, batch.slice(i), cause)
        yield* answered
      }
    }
  })
