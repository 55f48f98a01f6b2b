/**
 * The one that commits. Items are queued by anybody; one fiber takes whatever has arrived, lets it be
 * numbered (Transaction.ts), commits it as one batch, makes it visible, and answers. While a commit runs the
 * next batch gathers, so durability costs one transaction per batch. Between two batches it waits for a turn
 * of the event loop, so sockets and timers are served however much is emitted.
 *
 * If the process dies during a commit, the store has the batch whole or not at all, and nobody was told. If
 * an emitter is interrupted while its event is queued, the event is committed all the same. When the scope
 * closes, what is queued is committed first. An item that throws, or that the store takes for a mistake, fails by
 * itself; what stands with it in the batch is committed without it. A defect after a commit, when memory and store
 * may differ, stops the log: everybody who waits, now or later, is told.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { InternalError } from "../../protocol/Errors.js"
import type { NewEvent } from "../../services/log/EventLog.js"
import { Turn } from "../../services/runtime/Turn.js"
import { within } from "../../services/runtime/within.js"
import { type Op, type StoreError, type StoreService, toInternalError } from "../../services/store/Store.js"
import type { Report } from "./Account.js"
import type { JobState } from "./JobState.js"
import type { Limits } from "./Ledger.js"
import type { Tail } from "./Tail.js"
import { type Touched, Transaction } from "./Transaction.js"

/** Called when the batch of an item is committed, or was not. */
export type Done = (exit: Exit.Exit<void, InternalError>) => void

/** What waits to be committed. */
export type CommitItem =
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

/** Commits what is put to it, in order and in batches: one commit takes all that came during the one before. */
export interface Committer {
  readonly enqueue: (item: CommitItem) => void
  /** Queues a change and waits until it is durable. */
  readonly change: (change: (tx: Transaction) => (() => void) | void) => Effect.Effect<void, InternalError>
  /** Items waiting. */
  readonly backlog: () => number
  /** Returns after the commit that takes what is queued now. */
  readonly nextCommit: Effect.Effect<void>
  /** Fails when the log has stopped for good, and never returns otherwise. */
  readonly stopped: Effect.Effect<never, InternalError>
}

/** Starts a committer. It ends, and commits what waits, with the scope. */
export const make = (
  store: StoreService,
  tail: Tail,
  report: (report: Report) => NewEvent,
  /** What a run of a view holds at the most. */
  maxRun: Limits,
  published: (touched: Touched) => void
) =>
  Effect.gen(function* () {
    const turn = yield* Turn
    let queue: Array<CommitItem> = []
    let head = 0
    let wake: (() => void) | undefined
    let waiting: Array<() => void> = []

    const stopped = yield* Deferred.make<never, InternalError>()
    let dead: InternalError | undefined
    /** Commits that have failed. */
    let failures = 0

    const enqueue = (item: CommitItem) => {
      if (dead !== undefined) return item.done?.(Exit.fail(dead))
      queue.push(item)
      wake?.()
    }

    const takeBatch = (): ReadonlyArray<CommitItem> => {
      const from = head
      let bytes = 0
      while (head < queue.length && head - from < maxItems && bytes < maxBytes) {
        const item = queue[head++] as CommitItem
        if (item._tag === "Append") bytes += item.event.payload.length
      }
      const batch = queue.slice(from, head)
      if (head === queue.length) {
        queue = []
        head = 0
      }
      return batch
    }

    /** Changes first, in order; then the events, grouped by job, so that they make few and long runs; then new jobs' first. */
    const assign = (
      tx: Transaction,
      batch: ReadonlyArray<CommitItem>,
      undo: Array<() => void>
    ): ReadonlyArray<Op> => {
      const events = new Map<JobState, Array<NewEvent>>()
      const endings: Array<CommitItem & { _tag: "Append" }> = []
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
      tx.appendBegun()
      const records: Array<Op> = []
      for (const { job, record } of endings) {
        if (record !== undefined) records.push(record(tx))
        tx.onApply(() => job.close())
      }
      return tx.seal(records)
    }

    const fail = (batch: ReadonlyArray<CommitItem>, error: InternalError) => {
      const failure = Exit.fail(error)
      for (const item of batch) item.done?.(failure)
    }

    /** What is queued fails, and whatever is queued from now on. */
    const end = (error: InternalError) => {
      dead ??= error
      const left = queue.slice(head)
      queue = []
      head = 0
      fail(left, error)
    }

    /** Ends the log for good. */
    const stop = (batch: ReadonlyArray<CommitItem>, cause: Cause.Cause<unknown>) => {
      end(broken)
      fail(batch, broken)
      Deferred.unsafeDone(stopped, Exit.fail(broken))
      return Effect.logFatal("the log has stopped; restart the runtime", cause)
    }

    /** Writes a batch; a mistake of one item does not count against the others. */
    const commit = (batch: ReadonlyArray<CommitItem>): Effect.Effect<void> =>
      Effect.suspend(() => {
        const tx = new Transaction(report, maxRun)
        const undo: Array<() => void> = []
        const takeBack = () => {
          for (const back of undo.reverse()) back()
        }
        return Effect.suspend(() => store.commit(assign(tx, batch, undo))).pipe(
          Effect.matchCauseEffect({
            onSuccess: () =>
              Effect.sync(() => {
                published(tx.apply(tail))
                for (const item of batch) item.done?.(Exit.void)
              }).pipe(Effect.catchAllCause((cause) => stop(batch, cause))),
            onFailure: (cause) => {
              takeBack()
              failures++
              if (batch.length > 1 && isMistake(cause))
                return Effect.forEach(batch, commitAlone, { discard: true })
              fail(batch, toInternalError("the log could not commit")(Cause.squash(cause)))
              return isMistake(cause) ? Effect.logError("a change could not be written", cause) : Effect.void
            }
          })
        )
      })
    const commitAlone = (item: CommitItem) =>
      dead === undefined ? commit([item]) : Effect.sync(() => fail([item], dead as InternalError))

    const commitNext = Effect.suspend(() => commit(takeBatch())).pipe(
      Effect.ensuring(
        Effect.sync(() => {
          const resumed = waiting
          waiting = []
          for (const resume of resumed) resume()
        })
      ),
      Effect.uninterruptible
    )

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

    const running = yield* work.pipe(
      Effect.zipRight(commitNext),
      Effect.forever,
      Effect.catchAllCause((cause) => (Cause.isInterruptedOnly(cause) ? Effect.void : stop([], cause))),
      Effect.forkDaemon
    )
    /**
     * What is queued is committed, as long as the store takes it; then, and whatever comes later, fails. Beside a commit
     * that the store has not answered nothing is committed: it would be given the same numbers.
     */
    const close = Effect.gen(function* () {
      let answered = false
      running.addObserver(() => {
        answered = true
      })
      yield* within(Fiber.interrupt(running), closing)
      failures = 0
      yield* within(
        Effect.whileLoop({
          while: () => answered && queue.length > 0 && failures === 0,
          body: () => commitNext,
          step: () => {}
        }),
        closing
      )
      end(closed)
    })
    yield* Effect.addFinalizer(() => close)

    return {
      enqueue,
      change: (change) => Effect.async((resume) => enqueue({ _tag: "Change", change, done: resume })),
      backlog: () => queue.length - head,
      nextCommit: Effect.async((resume) => {
        waiting.push(() => resume(Effect.void))
      }),
      stopped: Deferred.await(stopped)
    } satisfies Committer as Committer
  })

/** What the end of the log waits for a store that does not answer. */
const closing = Duration.seconds(5)

const broken = new InternalError({
  message: "the log has stopped; the runtime must be restarted",
  details: { reason: "storage" }
})

const closed = new InternalError({
  message: "the runtime has stopped",
  details: { reason: "shutdown" }
})

/** A defect or a misuse: the fault of what was to be written, not of the store. */
const isMistake = (cause: Cause.Cause<StoreError>): boolean => {
  const failure = Cause.failureOption(cause)
  return failure._tag === "None" || failure.value.misuse === true
}
