/**
 * The one that commits. Items are queued by anybody; one fiber takes whatever has arrived, lets it be
 * numbered (Transaction.ts), commits it as one batch, makes it visible, and answers. While a commit runs the
 * next batch gathers, so durability costs one transaction per batch. Between two batches it waits for a turn
 * of the event loop, so sockets and timers are served however much is emitted.
 *
 * If the process dies during a commit, the store has the batch whole or not at all, and nobody was told. If
 * an emitter is interrupted while its event is queued, the event is committed all the same. When the scope
 * closes, what is queued is committed first.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { InternalError } from "../../protocol/Errors.js"
import type { NewEvent } from "../../services/log/EventLog.js"
import { Turn } from "../../services/runtime/Turn.js"
import { type Op, type StoreService, toInternalError } from "../../services/store/Store.js"
import type { Report } from "./Account.js"
import type { JobState, Tail } from "./State.js"
import { Transaction } from "./Transaction.js"

export type Done = (exit: Exit.Exit<void, InternalError>) => void

export type Item =
  | {
      readonly _tag: "Change"
      /** Puts operations into the transaction; may return what undoes it if the commit fails. */
      readonly change: (tx: Transaction) => (() => void) | void
      readonly done: Done
    }
  | {
      readonly _tag: "Append"
      readonly job: JobState
      readonly event: NewEvent
      /** For the terminal message: the final record. */
      readonly record?: ((tx: Transaction) => Op) | undefined
      readonly done: Done | undefined
    }

/** Most items, and most bytes of payload, in one batch. */
const maxItems = 1024
const maxBytes = 1024 * 1024

export interface Committer {
  readonly enqueue: (item: Item) => void
  /** Queues a change and waits until it is durable. */
  readonly change: (change: (tx: Transaction) => (() => void) | void) => Effect.Effect<void, InternalError>
  /** Items waiting. */
  readonly backlog: () => number
  /** Returns after the commit that takes what is queued now. */
  readonly nextCommit: Effect.Effect<void>
}

export const make = (
  store: StoreService,
  tail: Tail,
  report: (report: Report) => NewEvent,
  published: (touched: ReturnType<Transaction["apply"]>) => void
) =>
  Effect.gen(function* () {
    const turn = yield* Turn
    let queue: Array<Item> = []
    let head = 0
    let wake: (() => void) | undefined
    let waiting: Array<() => void> = []

    const enqueue = (item: Item) => {
      queue.push(item)
      wake?.()
    }

    const takeBatch = (): ReadonlyArray<Item> => {
      const from = head
      let bytes = 0
      while (head < queue.length && head - from < maxItems && bytes < maxBytes) {
        const item = queue[head++] as Item
        if (item._tag === "Append") bytes += item.event.payload.length
      }
      const batch = queue.slice(from, head)
      if (head === queue.length) {
        queue = []
        head = 0
      }
      return batch
    }

    /** Changes first, in order; then the events, grouped by job, so that they make few and long runs. */
    const assign = (
      tx: Transaction,
      batch: ReadonlyArray<Item>,
      undo: Array<() => void>
    ): ReadonlyArray<Op> => {
      const events = new Map<JobState, Array<NewEvent>>()
      const endings: Array<Item & { _tag: "Append" }> = []
      for (const item of batch) {
        if (item._tag === "Change") {
          const back = item.change(tx)
          if (back !== undefined) undo.push(back)
          continue
        }
        const list = events.get(item.job)
        if (list === undefined) events.set(item.job, [item.event])
        else list.push(item.event)
        if (item.record !== undefined) endings.push(item)
      }
      // Children first: what they spend may be reported on their parents, whose end may be in this batch too.
      const order = [...events]
      if (order.some(([job]) => job.depth > 0)) order.sort(([a], [b]) => b.depth - a.depth)
      for (const [job, list] of order) tx.append(job, list)
      const records: Array<Op> = []
      for (const { job, record } of endings) {
        if (record !== undefined) records.push(record(tx))
        tx.onApply(() => job.close())
      }
      return tx.seal(records)
    }

    const commit = (batch: ReadonlyArray<Item>) =>
      Effect.suspend(() => {
        const tx = new Transaction(report)
        const undo: Array<() => void> = []
        return Effect.suspend(() => store.commit(assign(tx, batch, undo))).pipe(
          Effect.matchCause({
            onSuccess: () => {
              published(tx.apply(tail))
              for (const item of batch) item.done?.(Exit.void)
            },
            onFailure: (cause) => {
              for (const back of undo.reverse()) back()
              const failure = Exit.fail(toInternalError("the log could not commit")(Cause.squash(cause)))
              for (const item of batch) item.done?.(failure)
            }
          }),
          Effect.ensuring(
            Effect.sync(() => {
              const resumed = waiting
              waiting = []
              for (const resume of resumed) resume()
            })
          )
        )
      }).pipe(Effect.uninterruptible)

    // Always one turn later: everything that this turn emits goes into one batch, and however fast an emitter
    // comes back after a commit, sockets and timers are served before the next.
    const work = Effect.async<void>((resume) => {
      const go = () => resume(Effect.void)
      if (queue.length > 0) turn.onNext(go)
      else
        wake = () => {
          wake = undefined
          turn.onNext(go)
        }
    })

    yield* Effect.addFinalizer(() =>
      Effect.whileLoop({ while: () => queue.length > 0, body: () => commit(takeBatch()), step: () => {} })
    )
    yield* work.pipe(
      Effect.zipRight(Effect.suspend(() => commit(takeBatch()))),
      Effect.forever,
      // A defect in what is called back would stop the log for good; it must not do so in silence.
      Effect.tapErrorCause((cause) =>
        Cause.isInterruptedOnly(cause)
          ? Effect.void
          : Effect.logFatal("the log has stopped; restart the runtime", cause)
      ),
      Effect.forkScoped
    )

    return {
      enqueue,
      change: (change) => Effect.async((resume) => enqueue({ _tag: "Change", change, done: resume })),
      backlog: () => queue.length - head,
      nextCommit: Effect.async((resume) => {
        waiting.push(() => resume(Effect.void))
      })
    } satisfies Committer as Committer
  })
