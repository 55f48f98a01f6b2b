/**
 * What is done once the store has taken nothing for long. It may be away, and then every job waits for it, however long. Or it takes what
 * others have and not what one job has: that one would keep everything here from being committed, and is found and ended.
 */
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import { type Fenced, Op, type StoreError } from "../../services/store/Store.js"
import { attempt, type Work } from "./Attempt.js"
import type { CommitItem } from "./CommitQueue.js"
import { postpone } from "./givingUp.js"
import type { JobState } from "./JobState.js"
import { undone } from "./refused.js"

/** Items that are tried before a store that takes none of them is known to be away. */
const triedApart = 3

/** How often what was refused is refused again, by a store that takes something else right after, before it is given up. */
const rounds = 2

type Refusal = Cause.Cause<StoreError | Fenced>

/** What has come of a batch whose items were tried one by one. */
interface Sorted {
  /** Nothing was taken. */
  readonly isAway: boolean
  /** Jobs of which something was refused. */
  readonly refused: Set<JobState>
  /** What is not answered, in order. */
  left: Array<CommitItem>
  /** Of the last refusal. */
  cause: Refusal
}

/** Tries items one by one; nothing of a job is written after what was not. `undefined` when nobody waits for the store any more. */
const oneByOne = (
  work: Work,
  batch: ReadonlyArray<CommitItem>,
  first: Refusal,
  settled: (work: Work, item: CommitItem, cause: Refusal) => Effect.Effect<unknown> | undefined
) =>
  Effect.gen(function* () {
    const refused = new Set<JobState>()
    const left: Array<CommitItem> = []
    let cause = first
    let failures = 0
    let isAway = true
    // That nothing has to be written for a flush says nothing of the store.
    const waits = (item: CommitItem) =>
      (isAway && (failures >= triedApart || item._tag === "Flush")) ||
      (item._tag !== "Change" && refused.has(item.job))
    for (const [i, item] of batch.entries()) {
      if (waits(item)) {
        left.push(item)
        continue
      }
      const over = work.queue.over ?? (item._tag === "Change" ? undefined : item.job.broken)
      if (over !== undefined) {
        work.queue.refuseAll([item], over)
        continue
      }
      const failed = yield* attempt(work, [item], [...left, ...batch.slice(i + 1)])
      if (work.unanswered.givenUp) return undefined
      if (failed === undefined) {
        // A change may have had nothing to write.
        isAway &&= item._tag === "Change"
        continue
      }
      const answered = settled(work, item, failed)
      if (answered !== undefined) {
        yield* answered
        continue
      }
      cause = failed
      failures++
      left.push(item)
      if (item._tag !== "Change") refused.add(item.job)
    }
    return { isAway, refused, left, cause } satisfies Sorted as Sorted
  })

/**
 * Tries again what was refused, and each time something that any store takes. A job of which something is taken now had only waited.
 * Returns whether the store was there all the time: else nothing is known of the jobs that are left.
 */
const isThere = (work: Work, sorted: Sorted) =>
  Effect.gen(function* () {
    for (let round = 0; round < rounds && sorted.refused.size > 0; round++) {
      for (const job of sorted.refused) {
        const at = sorted.left.findIndex((item) => item._tag !== "Change" && item.job === job)
        const others = sorted.left.filter((_, i) => i !== at)
        const failed = yield* attempt(work, sorted.left.slice(at, at + 1), others)
        if (work.unanswered.givenUp) return false
        if (failed === undefined) {
          sorted.refused.delete(job)
          sorted.left = others
        } else sorted.cause = failed
      }
      const failed = yield* attempt(work, [aliveAt(work.now())], sorted.left)
      if (failed !== undefined || work.unanswered.givenUp) return false
    }
    return true
  })

/** Says that the runtime is alive. */
const aliveAt = (at: number): CommitItem => ({
  _tag: "Change",
  change: (tx) => tx.add([Op.Alive({ at })]),
  done: () => {}
})

/** Answers a batch of a store that has taken nothing for long. `settled` answers what is refused for what it is. */
export const apart = (
  work: Work,
  batch: ReadonlyArray<CommitItem>,
  first: Refusal,
  settled: Parameters<typeof oneByOne>[3]
): Effect.Effect<void> =>
  Effect.gen(function* () {
    const sorted = yield* oneByOne(work, batch, first, settled)
    if (sorted === undefined) return
    const isAway = sorted.isAway || !(yield* isThere(work, sorted))
    if (work.unanswered.givenUp) return
    const { cause, left, refused } = sorted
    if (isAway) return yield* postpone(work, left, cause)
    const error = undone(cause)
    for (const job of refused) work.windows.break(job, error)
    work.queue.discard(refused, error)
    const isKept = (item: CommitItem) => item._tag !== "Change" && !refused.has(item.job)
    work.queue.refuseAll(
      left.filter((item) => !isKept(item)),
      error
    )
    work.queue.putBack(left.filter(isKept))
    work.windows.relieve()
    if (refused.size === 0) return
    yield* Effect.logError(`events could not be committed; ${refused.size} jobs that emitted them end`, cause)
  })
