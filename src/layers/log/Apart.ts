/**
 * What is done once the store has taken nothing for long. It may be away, and then every job waits for it, however long. Or it takes what
 * others have and not what one job has: that one would keep everything here from being committed, and is found and ended.
 */
import * as Effect from "effect/Effect"
import { Op } from "../../services/store/Store.js"
import { attempt, type Refusal, type Tried, type Work } from "./Attempt.js"
import type { CommitItem } from "./CommitQueue.js"
import { postpone } from "./givingUp.js"
import type { JobState } from "./JobState.js"
import { undone } from "./refused.js"

/** Items of which none is taken, one after the other, before a store is taken for one that is away. */
const triedApart = 3

/** How often what was refused is refused again, by a store that takes something else before and after it, before it is given up. */
const rounds = 2

/** Answers what is refused for what it is; `undefined` when a refusal says nothing of the item. */
type Settle = (work: Work, item: CommitItem, cause: Refusal) => Effect.Effect<unknown> | undefined

/** What has come of a batch whose items were tried one by one. */
interface Sorted {
  /** Nothing is taken. */
  isAway: boolean
  /** Jobs of which something was refused. */
  readonly refused: Set<JobState>
  /** What is not answered, in order. */
  left: Array<CommitItem>
  /** Of the last refusal. */
  cause: Refusal
}

/** Tries what any store takes: that the runtime is alive. */
const tryStore = (work: Work, left: ReadonlyArray<CommitItem>): Effect.Effect<Tried> =>
  attempt(
    work,
    [{ _tag: "Change", change: (tx) => tx.add([Op.Alive({ at: work.now() })]), size: 0, done: () => {} }],
    left
  )

/** Tries items one by one; nothing of a job is written after what was not. */
const oneByOne = (
  work: Work,
  batch: ReadonlyArray<CommitItem>,
  first: Refusal,
  settle: Settle
): Effect.Effect<Sorted | "ended"> =>
  Effect.gen(function* () {
    const sorted: Sorted = { isAway: true, refused: new Set(), left: [], cause: first }
    const { left, refused } = sorted
    let inARow = 0
    let isUnclear = false
    // That nothing has to be written for a flush says nothing of the store.
    const waits = (item: CommitItem) =>
      (sorted.isAway && (inARow >= triedApart || item._tag === "Flush")) ||
      (item._tag !== "Change" && refused.has(item.job))
    for (const [i, item] of batch.entries()) {
      if (waits(item)) {
        left.push(item)
        continue
      }
      const broken = item._tag === "Change" ? undefined : item.job.broken
      if (broken !== undefined) {
        work.queue.refuseAll([item], broken)
        continue
      }
      const rest = batch.slice(i + 1)
      const tried = yield* attempt(work, [item], [...left, ...rest])
      if (tried === "ended") return "ended"
      if (tried === "written") {
        // These may have had nothing to write, which says little.
        if (item._tag === "Change" || item._tag === "Flush") {
          isUnclear = true
          continue
        }
        inARow = 0
        sorted.isAway = false
        continue
      }
      const answer = settle(work, item, tried)
      if (answer !== undefined) {
        yield* answer
        continue
      }
      sorted.cause = tried
      inARow++
      left.push(item)
      if (item._tag !== "Change") refused.add(item.job)
      if (sorted.isAway || inARow < triedApart) continue
      // It may have gone away again, and each that is left would wait for as long as a commit may.
      const there = yield* tryStore(work, [...left, ...rest])
      if (there === "ended") return "ended"
      if (there === "written") inARow = 0
      else sorted.isAway = true
    }
    if (sorted.isAway && isUnclear && refused.size > 0) {
      const there = yield* tryStore(work, left)
      if (there === "ended") return there
      sorted.isAway = there !== "written"
    }
    return sorted
  })

/**
 * Tries again what was refused, between two times that the store takes what any store takes. A job of which something is taken now had
 * only waited; and when the store is not there all the time nothing is known of those that are left.
 */
const tryAgain = (work: Work, sorted: Sorted, settle: Settle): Effect.Effect<"ended" | undefined> =>
  Effect.gen(function* () {
    for (let round = 0; round <= rounds && sorted.refused.size > 0; round++) {
      let since = 0
      for (const job of sorted.refused) {
        // Before the first of a round, and after some of them; in the end once more.
        if (since++ % triedApart === 0) {
          const there = yield* tryStore(work, sorted.left)
          if (there === "ended") return there
          sorted.isAway = there !== "written"
          if (sorted.isAway) return undefined
        }
        if (round === rounds) break
        const at = sorted.left.findIndex((item) => item._tag !== "Change" && item.job === job)
        const others = sorted.left.filter((_, i) => i !== at)
        const item = sorted.left[at] as CommitItem
        const tried = yield* attempt(work, [item], others)
        if (tried === "ended") return tried
        const answer = tried === "written" ? Effect.void : settle(work, item, tried)
        if (answer === undefined) {
          sorted.cause = tried as Refusal
          continue
        }
        sorted.refused.delete(job)
        sorted.left = others
        yield* answer
      }
    }
    return undefined
  })

/** Answers a batch of a store that has taken nothing for long. */
export const apart = (
  work: Work,
  batch: ReadonlyArray<CommitItem>,
  first: Refusal,
  settle: Settle
): Effect.Effect<void> =>
  Effect.gen(function* () {
    const sorted = yield* oneByOne(work, batch, first, settle)
    if (sorted === "ended") return
    if (!sorted.isAway && (yield* tryAgain(work, sorted, settle)) === "ended") return
    const { cause, isAway, left, refused } = sorted
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
