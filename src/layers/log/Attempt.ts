/**
 * One try to write a batch: it is numbered (Transaction.ts), given to the store, and once that has it made visible and answered. Where the
 * store does not take it nothing has changed, and why is for others to judge (Commit.ts).
 */
import type * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { InternalError } from "../../protocol/Errors.js"
import type { NewEvent } from "../../services/log/EventLog.js"
import type { Batch, Fenced, Op, Owner, StoreError, StoreService } from "../../services/store/Store.js"
import type { Report } from "./Account.js"
import type { CommitItem, CommitQueue } from "./CommitQueue.js"
import type { EmitWindows } from "./EmitWindows.js"
import type { JobState } from "./JobState.js"
import type { Limits } from "./Ledger.js"
import type { Patience } from "./Patience.js"
import type { Tail } from "./Tail.js"
import { type Touched, Transaction } from "./Transaction.js"

/** What a committer works on. */
export interface Work {
  readonly store: Pick<StoreService, "commit" | "died">
  readonly tail: Tail
  readonly report: (report: Report) => NewEvent
  /** What a run of a view holds at the most. */
  readonly maxRun: Limits
  /** Called after each commit, before anybody is answered. */
  readonly published: (touched: Touched) => void
  /** Another process has taken this; see `LiveLogs.taken`. */
  readonly taken: (owner: Owner) => { readonly job?: JobState | undefined; readonly lost: boolean }
  readonly queue: CommitQueue
  readonly unanswered: Unanswered
  readonly windows: EmitWindows
  readonly patience: Patience
  /** Epoch ms. */
  readonly now: () => number
  readonly stopped: Deferred.Deferred<never, InternalError>
}

/** What the store was given and has not answered. It may never, and whoever waits for it must not wait as long. */
export class Unanswered {
  private items: ReadonlyArray<CommitItem> = []
  /** Everybody was told: an answer that still comes is nobody's any more. */
  givenUp = false

  get isWaiting(): boolean {
    return this.items.length > 0
  }
  /** Something is given to the store. */
  asked(items: ReadonlyArray<CommitItem>): void {
    this.items = items
  }
  /** The store has answered. */
  answered(): void {
    this.items = []
  }
  /** Returns what is not waited for any longer. */
  giveUp(): ReadonlyArray<CommitItem> {
    const items = this.items
    this.items = []
    this.givenUp = true
    return items
  }
}

/**
 * Puts a batch into a transaction: changes first, in order; then the events, grouped by job, so that they make few and
 * long runs; then the first events of new jobs. Returns the operations; `undo` gets what takes the changes back.
 */
const assign = (tx: Transaction, batch: ReadonlyArray<CommitItem>, undo: Array<() => void>): Batch => {
  const events = new Map<JobState, Array<NewEvent>>()
  const endings: Array<CommitItem & { _tag: "End" }> = []
  const telling: Array<CommitItem & { _tag: "Append" }> = []
  for (const item of batch) {
    if (item._tag === "Change") {
      const back = item.change(tx)
      if (back !== undefined) undo.push(back)
      continue
    }
    if (item._tag === "Flush") continue
    const list = events.get(item.job)
    if (list === undefined) events.set(item.job, [item.event])
    else list.push(item.event)
    if (item._tag === "End") endings.push(item)
    else if (item.event.record !== undefined || item.event.onCommit !== undefined) telling.push(item)
  }
  // Children first: what they spend may be reported on their parents, whose end may be in this batch too.
  const order = [...events]
  if (order.some(([job]) => job.depth > 0)) order.sort(([a], [b]) => b.depth - a.depth)
  for (const [job, list] of order) tx.append(job, list)
  tx.appendBegun()
  for (const { event, job } of telling) {
    if (event.record !== undefined) undo.push(tx.putRecord(job, event.record()))
    if (event.onCommit !== undefined) tx.onApply(event.onCommit)
  }
  const records: Array<Op> = []
  for (const { job, record } of endings) {
    records.push(record(tx))
    tx.close(job)
    tx.onApply(() => job.close())
  }
  return tx.seal(records)
}

/** Ends the log for good. */
export const stop = ({ queue, stopped, unanswered, windows }: Work, cause: Cause.Cause<unknown>) => {
  queue.end(overForGood)
  queue.refuseAll(unanswered.giveUp(), overForGood)
  windows.relieve()
  Deferred.unsafeDone(stopped, Exit.fail(overForGood))
  return Effect.logFatal("the log has stopped; restart the runtime", cause)
}

/** Why a store has not taken something. */
export type Refusal = Cause.Cause<StoreError | Fenced>

/**
 * What has come of a try: it is written and answered, or the store has refused it, which leaves it to whoever tried. Or the log has
 * ended, and everything that waited for the try was told so.
 */
export type Tried = "written" | "ended" | Refusal

/**
 * Writes a batch, whole or not at all, and answers it when it is written. What stands `after` it waits for the same answer.
 */
export const attempt = (
  work: Work,
  batch: ReadonlyArray<CommitItem>,
  after: ReadonlyArray<CommitItem> = []
): Effect.Effect<Tried> =>
  Effect.suspend((): Effect.Effect<Tried> => {
    const waiting = after.length === 0 ? batch : [...batch, ...after]
    const { over } = work.queue
    if (over !== undefined) {
      // It has ended between two tries, when nothing waited.
      work.queue.refuseAll(waiting, over)
      work.windows.relieve()
      return Effect.succeed("ended")
    }
    const tx = new Transaction(work.report, work.maxRun)
    const undo: Array<() => void> = []
    return Effect.suspend(() => {
      const sealed = assign(tx, batch, undo)
      work.unanswered.asked(waiting)
      return sealed.ops.length === 0 ? Effect.void : work.store.commit(sealed)
    }).pipe(
      Effect.matchCauseEffect({
        onSuccess: () =>
          Effect.sync((): Tried => {
            if (work.unanswered.givenUp) return "ended"
            work.patience.succeeded()
            work.published(tx.apply(work.tail))
            for (const item of batch) {
              if (item._tag === "Append") work.windows.leave(item.job, item.event)
              item.done?.(Exit.void)
            }
            work.unanswered.answered()
            work.windows.relieve()
            return "written"
          }).pipe(Effect.catchAllCause((cause) => Effect.as(stop(work, cause), "ended" as const))),
        onFailure: (cause) => {
          for (const back of undo.reverse()) back()
          work.unanswered.answered()
          return Effect.succeed<Tried>(work.unanswered.givenUp ? "ended" : cause)
        }
      })
    )
  })

const overForGood = new InternalError({
  message: "the log has stopped; the runtime must be restarted",
  details: { reason: "storage" }
})
