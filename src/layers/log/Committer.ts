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
import type * as Scope from "effect/Scope"
import { InternalError } from "../../protocol/Errors.js"
import type { NewEvent } from "../../services/log/EventLog.js"
import { Turn } from "../../services/runtime/Turn.js"
import { within } from "../../services/runtime/within.js"
import { type Op, type StoreError, type StoreService, toInternalError } from "../../services/store/Store.js"
import type { Report } from "./Account.js"
import { type Change, type CommitItem, CommitQueue, failAll } from "./CommitQueue.js"
import type { JobState } from "./JobState.js"
import type { Limits } from "./Ledger.js"
import type { Tail } from "./Tail.js"
import { type Touched, Transaction } from "./Transaction.js"

/** Commits what is put to it, in order and in batches: one commit takes all that came during the one before. */
export interface Committer {
  readonly enqueue: (item: CommitItem) => void
  /** Queues a change and waits until it is durable. */
  readonly change: (change: Change) => Effect.Effect<void, InternalError>
  /** Returns how many items wait. */
  readonly backlog: () => number
  /** Returns after the commit that takes what is queued now. */
  readonly nextCommit: Effect.Effect<void>
  /** Fails when the log has stopped for good, and never returns otherwise. */
  readonly stopped: Effect.Effect<never, InternalError>
}

/** What a committer works on. */
interface Work {
  readonly store: StoreService
  readonly tail: Tail
  readonly report: (report: Report) => NewEvent
  /** What a run of a view holds at the most. */
  readonly maxRun: Limits
  /** Called after each commit, before anybody is answered. */
  readonly published: (touched: Touched) => void
  readonly queue: CommitQueue
  readonly stopped: Deferred.Deferred<never, InternalError>
}

/**
 * Puts a batch into a transaction: changes first, in order; then the events, grouped by job, so that they make few and
 * long runs; then the first events of new jobs. Returns the operations; `undo` gets what takes the changes back.
 */
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

/** Ends the log for good. */
const stop = ({ queue, stopped }: Work, batch: ReadonlyArray<CommitItem>, cause: Cause.Cause<unknown>) => {
  queue.end(broken)
  failAll(batch, broken)
  Deferred.unsafeDone(stopped, Exit.fail(broken))
  return Effect.logFatal("the log has stopped; restart the runtime", cause)
}

/**
 * Writes a batch and answers it. A mistake of one item does not count against the others: they are written again, each
 * by itself. Returns whether the store took the batch as it is.
 */
const commit = (work: Work, batch: ReadonlyArray<CommitItem>): Effect.Effect<boolean> =>
  Effect.suspend(() => {
    const tx = new Transaction(work.report, work.maxRun)
    const undo: Array<() => void> = []
    return Effect.suspend(() => work.store.commit(assign(tx, batch, undo))).pipe(
      Effect.matchCauseEffect({
        onSuccess: () =>
          Effect.sync(() => {
            work.published(tx.apply(work.tail))
            for (const item of batch) item.done?.(Exit.void)
          }).pipe(
            Effect.catchAllCause((cause) => stop(work, batch, cause)),
            Effect.as(true)
          ),
        onFailure: (cause) => {
          for (const back of undo.reverse()) back()
          return Effect.as(notCommitted(work, batch, cause), false)
        }
      })
    )
  })

const notCommitted = (work: Work, batch: ReadonlyArray<CommitItem>, cause: Cause.Cause<StoreError>) => {
  const mistake = isMistake(cause)
  if (mistake && batch.length > 1)
    return Effect.forEach(batch, (item) => commitAlone(work, item), { discard: true })
  failAll(batch, toInternalError("the log could not commit")(Cause.squash(cause)))
  return mistake ? Effect.logError("a change could not be written", cause) : Effect.void
}

const commitAlone = (work: Work, item: CommitItem): Effect.Effect<unknown> => {
  const { over } = work.queue
  return over === undefined ? commit(work, [item]) : Effect.sync(() => failAll([item], over))
}

/**
 * Ends a committer. What is queued is committed, as long as the store takes it; then, and whatever comes later, fails.
 * Beside a commit that the store has not answered nothing is committed: it would be given the same numbers.
 */
const close = (queue: CommitQueue, commitNext: Effect.Effect<boolean>, running: Fiber.RuntimeFiber<void>) =>
  Effect.gen(function* () {
    let answered = false
    running.addObserver(() => {
      answered = true
    })
    yield* within(Fiber.interrupt(running), closing)
    let taken = true
    yield* within(
      Effect.whileLoop({
        while: () => answered && taken && queue.length > 0,
        body: () => commitNext,
        step: (whole) => {
          taken = whole
        }
      }),
      closing
    )
    queue.end(closed)
  })

/** Starts a committer. It ends, and commits what waits, with the scope. */
export const make = (
  context: Pick<Work, "store" | "tail" | "report" | "maxRun" | "published">
): Effect.Effect<Committer, never, Scope.Scope> =>
  Effect.gen(function* () {
    const turn = yield* Turn
    const queue = new CommitQueue()
    const stopped = yield* Deferred.make<never, InternalError>()
    const work: Work = { ...context, queue, stopped }
    let waiting: Array<() => void> = []

    const commitNext = Effect.suspend(() => commit(work, queue.take())).pipe(
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
    const filled = Effect.async<void>((resume) =>
      queue.whenFilled(() => turn.onNext(() => resume(Effect.void)))
    )
    const running: Fiber.RuntimeFiber<void> = yield* filled.pipe(
      Effect.zipRight(commitNext),
      Effect.forever,
      Effect.catchAllCause((cause) => (Cause.isInterruptedOnly(cause) ? Effect.void : stop(work, [], cause))),
      Effect.forkDaemon
    )
    yield* Effect.addFinalizer(() => close(queue, commitNext, running))

    return {
      enqueue: (item) => queue.add(item),
      change: (change) => Effect.async((resume) => queue.add({ _tag: "Change", change, done: resume })),
      backlog: () => queue.length,
      nextCommit: Effect.async((resume) => {
        waiting.push(() => resume(Effect.void))
      }),
      stopped: Deferred.await(stopped)
    }
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

/** Returns whether it is the fault of what was to be written, and not of the store: a defect or a misuse. */
const isMistake = (cause: Cause.Cause<StoreError>): boolean => {
  const failure = Cause.failureOption(cause)
  return failure._tag === "None" || failure.value.misuse === true
}
