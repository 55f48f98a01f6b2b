/**
 * The one that commits. Items are queued by anybody; one fiber takes whatever has arrived, lets it be
 * numbered and committed as one batch, made visible, and answered (Attempt.ts, Commit.ts). While a commit runs the
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
import { isOwnInterruption } from "../../services/runtime/interruption.js"
import { Turn } from "../../services/runtime/Turn.js"
import { within } from "../../services/runtime/within.js"
import { stop, Unanswered, type Work } from "./Attempt.js"
import { commit } from "./Commit.js"
import { type Change, type CommitItem, CommitQueue, isKept } from "./CommitQueue.js"
import type { EmitWindows } from "./EmitWindows.js"
import { Patience } from "./Patience.js"

/** Commits what is put to it, in order and in batches: one commit takes all that came during the one before. */
export interface Committer {
  readonly enqueue: (item: CommitItem) => void
  /** Returns how many items wait. */
  readonly queued: () => number
  /** Whether nothing waits, and nothing is on its way to the store. */
  readonly isIdle: () => boolean
  /** Queues a change and waits until it is durable; `size` is that of what it puts that can be large. */
  readonly change: (change: Change, size?: number) => Effect.Effect<void, InternalError>
  /** Returns why nothing is committed any more, once that is so. */
  readonly over: () => InternalError | undefined
  /** Fails when the log has stopped for good, and never returns otherwise. */
  readonly stopped: Effect.Effect<never, InternalError>
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
  context: Pick<Work, "store" | "tail" | "report" | "maxRun" | "published" | "taken" | "windows" | "now"> & {
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
      change: (change, size = 0) =>
        Effect.async((resume) => queue.add({ _tag: "Change", change, size, done: resume })),
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

const closed = new InternalError({
  message: "the runtime has stopped",
  details: { reason: "shutdown" }
})
