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
 * may differ, stops the log: everybody who waits, now or later, is told. So does the end of the store itself. What another
 * process has taken is let go of, and the rest of its batch is committed without it.
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
import { keyUsed, takenAway } from "../../services/log/taken.js"
import { isOwnInterruption } from "../../services/runtime/interruption.js"
import { Turn } from "../../services/runtime/Turn.js"
import { within } from "../../services/runtime/within.js"
import type { Batch, Fenced, Op, Owner, StoreError, StoreService } from "../../services/store/Store.js"
import type { Report } from "./Account.js"
import { type Change, type CommitItem, CommitQueue, isKept, isTriedAgain } from "./CommitQueue.js"
import type { EmitWindows } from "./EmitWindows.js"
import type { JobState } from "./JobState.js"
import type { Limits } from "./Ledger.js"
import { Patience } from "./Patience.js"
import { fencedOf, isFenced, isMistake, undone } from "./refused.js"
import type { Tail } from "./Tail.js"
import { type Touched, Transaction } from "./Transaction.js"

/** Commits what is put to it, in order and in batches: one commit takes all that came during the one before. */
export interface Committer {
  readonly enqueue: (item: CommitItem) => void
  /** Returns how many items wait. */
  readonly queued: () => number
  /** Whether nothing waits, and nothing is on its way to the store. */
  readonly isIdle: () => boolean
  /** Queues a change and waits until it is durable. */
  readonly change: (change: Change) => Effect.Effect<void, InternalError>
  /** Returns why nothing is committed any more, once that is so. */
  readonly over: () => InternalError | undefined
  /** Fails when the log has stopped for good, and never returns otherwise. */
  readonly stopped: Effect.Effect<never, InternalError>
}

/** What a committer works on. */
interface Work {
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
  readonly stopped: Deferred.Deferred<never, InternalError>
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

/** What the store was given and has not answered. It may never, and whoever waits for it must not wait as long. */
class Unanswered {
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

/** Ends the log for good. */
const stop = ({ queue, stopped, unanswered, windows }: Work, cause: Cause.Cause<unknown>) => {
  queue.end(overForGood)
  queue.refuseAll(unanswered.giveUp(), overForGood)
  windows.relieve()
  Deferred.unsafeDone(stopped, Exit.fail(overForGood))
  return Effect.logFatal("the log has stopped; restart the runtime", cause)
}

/**
 * Writes a batch, whole or not at all, and answers it when it is written. Returns why it is not. What stands `after` it waits
 * for the same answer.
 */
const attempt = (
  work: Work,
  batch: ReadonlyArray<CommitItem>,
  after: ReadonlyArray<CommitItem> = []
): Effect.Effect<Cause.Cause<StoreError | Fenced> | undefined> =>
  Effect.suspend(() => {
    const tx = new Transaction(work.report, work.maxRun)
    const undo: Array<() => void> = []
    return Effect.suspend(() => {
      const sealed = assign(tx, batch, undo)
      work.unanswered.asked(after.length === 0 ? batch : [...batch, ...after])
      return sealed.ops.length === 0 ? Effect.void : work.store.commit(sealed)
    }).pipe(
      Effect.matchCauseEffect({
        onSuccess: () =>
          Effect.sync(() => {
            if (work.unanswered.givenUp) return
            work.patience.succeeded()
            work.published(tx.apply(work.tail))
            for (const item of batch) {
              if (item._tag === "Append") work.windows.leave(item.job, item.event)
              item.done?.(Exit.void)
            }
            work.unanswered.answered()
            work.windows.relieve()
          }).pipe(
            Effect.catchAllCause((cause) => stop(work, cause)),
            Effect.as(undefined)
          ),
        onFailure: (cause) => {
          for (const back of undo.reverse()) back()
          work.unanswered.answered()
          return Effect.succeed(work.unanswered.givenUp ? undefined : cause)
        }
      })
    )
  })

/**
 * Writes a batch and answers it. A mistake of one item does not count against the others: they are written again, each
 * by itself. Returns whether the store took the batch as it is.
 */
const commit = (work: Work, batch: ReadonlyArray<CommitItem>): Effect.Effect<boolean> =>
  Effect.flatMap(attempt(work, batch), (cause) => {
    if (cause === undefined) return Effect.succeed(true)
    const fenced = fencedOf(cause)
    if (fenced !== undefined) return letGo(work, batch, fenced, cause)
    const settled = isMistake(cause)
      ? batch.length > 1
        ? commitEach(work, batch)
        : mistaken(work, batch, cause)
      : work.patience.isLong
        ? apart(work, batch, cause)
        : postpone(work, batch, cause)
    return Effect.as(settled, false)
  })

/** Items that are tried before a store that takes none of them is known to be away. */
const triedApart = 3

/**
 * Answers a batch of a store that has taken nothing for long. A job may wait for one that is away, however long; one of which the
 * store takes nothing, while it takes what others have, would keep everything here from being committed: it is given up.
 */
const apart = (
  work: Work,
  batch: ReadonlyArray<CommitItem>,
  first: Cause.Cause<StoreError | Fenced>
): Effect.Effect<void> =>
  Effect.gen(function* () {
    let cause = first
    let failures = 0
    let isAway = true
    const refused = new Set<JobState>()
    const left: Array<CommitItem> = []
    // Nothing of a job is written after what was not; and that nothing has to be written says nothing of the store.
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
      if (work.unanswered.givenUp) return
      const fenced = failed === undefined ? undefined : fencedOf(failed)
      if (failed === undefined) isAway &&= item._tag === "Change"
      else if (fenced !== undefined) yield* letGo(work, [item], fenced, failed)
      else if (isMistake(failed)) yield* mistaken(work, [item], failed)
      else {
        cause = failed
        failures++
        left.push(item)
        if (item._tag !== "Change") refused.add(item.job)
      }
    }
    if (isAway) return yield* postpone(work, left, cause)
    // It may have come back in the middle.
    for (const job of refused) {
      const at = left.findIndex((item) => item._tag !== "Change" && item.job === job)
      const failed = yield* attempt(
        work,
        left.slice(at, at + 1),
        left.filter((_, i) => i !== at)
      )
      if (work.unanswered.givenUp) return
      if (failed === undefined) {
        refused.delete(job)
        left.splice(at, 1)
      } else cause = failed
    }
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

/**
 * Lets go of what another process has taken, and commits the rest of a batch. A change that goes on stating what was taken, or
 * states what this process does not have, is found by committing one by one.
 */
const letGo = (
  work: Work,
  batch: ReadonlyArray<CommitItem>,
  { owners }: Fenced,
  cause: Cause.Cause<StoreError | Fenced>
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

/** Writes the items of a batch one by one, up to the first that the store does not take. */
const commitEach = (work: Work, batch: ReadonlyArray<CommitItem>): Effect.Effect<void> =>
  Effect.gen(function* () {
    for (const [i, item] of batch.entries()) {
      if (work.unanswered.givenUp) return
      const refused = work.queue.over ?? (item._tag === "Change" ? undefined : item.job.broken)
      if (refused !== undefined) work.queue.refuseAll([item], refused)
      else {
        const cause = yield* attempt(work, [item], batch.slice(i + 1))
        if (cause === undefined) continue
        const fenced = fencedOf(cause)
        if (fenced !== undefined) yield* letGo(work, [item], fenced, cause)
        else if (!isMistake(cause)) return yield* postpone(work, batch.slice(i), cause)
        else yield* mistaken(work, [item], cause)
      }
    }
  })

/** Refuses what will never be committed. */
const mistaken = (work: Work, items: ReadonlyArray<CommitItem>, cause: Cause.Cause<StoreError | Fenced>) => {
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
const postpone = (work: Work, batch: ReadonlyArray<CommitItem>, cause: Cause.Cause<StoreError | Fenced>) =>
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
const lose = (
  { patience, queue, windows }: Work,
  cause: Cause.Cause<StoreError | Fenced>
): Effect.Effect<void> => {
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

/**
 * Ends a committer. What is queued is committed, as long as the store takes it; then, and whatever comes later, fails.
 * Beside a commit that the store has not answered nothing is committed: it would be given the same numbers. Whoever waits
 * for that one is told so too.
 */
const close = (
  { queue, unanswered, windows }: Work,
  commitNext: Effect.Effect<boolean>,
  running: Fiber.RuntimeFiber<void>
) =>
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
    queue.refuseAll(unanswered.giveUp(), closed)
    windows.relieve()
  })

/** Starts a committer. It ends, and commits what waits, with the scope. */
export const make = (
  context: Pick<Work, "store" | "tail" | "report" | "maxRun" | "published" | "taken" | "windows"> & {
    /** Milliseconds that only go forward. */
    readonly elapsed: () => number
    readonly patienceMs: number
  }
): Effect.Effect<Committer, never, Scope.Scope> =>
  Effect.gen(function* () {
    const turn = yield* Turn
    const { elapsed, patienceMs, ...parts } = context
    const queue = new CommitQueue(refusal(parts.windows))
    const stopped = yield* Deferred.make<never, InternalError>()
    const work: Work = {
      ...parts,
      queue,
      unanswered: new Unanswered(),
      stopped,
      patience: new Patience(patienceMs, elapsed)
    }

    const commitNext = Effect.uninterruptible(Effect.suspend(() => commit(work, queue.take())))

    // Always one turn later: everything that this turn emits goes into one batch, and however fast an emitter
    // comes back after a commit, sockets and timers are served before the next.
    const filled = Effect.async<void>((resume) =>
      queue.whenFilled(() => turn.onNext(() => resume(Effect.void)))
    )
    const running: Fiber.RuntimeFiber<void> = yield* filled.pipe(
      Effect.zipRight(commitNext),
      Effect.flatMap((taken) => (taken ? Effect.void : work.patience.pause)),
      Effect.forever,
      Effect.catchAllCause((cause) =>
        Effect.if(isOwnInterruption(cause), {
          onTrue: () => Effect.void,
          onFalse: () => stop(work, cause)
        })
      ),
      Effect.forkDaemon
    )
    yield* Effect.addFinalizer(() => close(work, commitNext, running))
    if (work.store.died !== undefined)
      yield* Effect.forkScoped(Effect.catchAll(work.store.died, (error) => stop(work, Cause.fail(error))))

    return {
      enqueue: (item) => queue.add(item),
      queued: () => queue.length,
      isIdle: () => queue.length === 0 && !work.unanswered.isWaiting,
      change: (change) => Effect.async((resume) => queue.add({ _tag: "Change", change, done: resume })),
      over: () => queue.over,
      stopped: Deferred.await(stopped)
    }
  })

/** Returns what refuses an item: whoever waits for it is told, and the job of one that nobody waits for is broken. */
const refusal =
  (windows: EmitWindows) =>
  (item: CommitItem, error: InternalError): void => {
    if (item._tag === "Append") windows.leave(item.job, item.event)
    if (isKept(item)) windows.break(item.job, error)
    // How a job ends that another process has taken is not this one's to say.
    if (item._tag === "End" && item.job.taken) item.job.close()
    item.done?.(item._tag === "End" && item.job.taken ? Exit.void : Exit.fail(error))
  }

/** What the end of the log waits for a store that does not answer. */
const closing = Duration.seconds(5)

const overForGood = new InternalError({
  message: "the log has stopped; the runtime must be restarted",
  details: { reason: "storage" }
})

const closed = new InternalError({
  message: "the runtime has stopped",
  details: { reason: "shutdown" }
})
