/**
 * Leaving a job to other nodes, which nobody tells its log of: it would find out by its next write, and of a job that rests there is none.
 * So whoever leaves one does it here.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type { InternalError } from "../../protocol/Errors.js"
import { type JobRecord, type StoreError, toInternalError } from "../../services/store/Store.js"
import type { LogParts } from "./LogParts.js"

const unread = toInternalError("the log could not be read")

/**
 * Lets all look at jobs as at ones of other nodes. Between two commits, since what is on its way to the store may be of them; a store
 * that fails has no say in it.
 */
const letGo = (
  { committer, live }: Pick<LogParts, "committer" | "live">,
  jobIds: ReadonlyArray<string>
): Effect.Effect<void> =>
  Effect.suspend(() =>
    committer.change((tx) =>
      tx.onApply(() => {
        for (const jobId of jobIds) live.left(jobId)
      })
    )
  ).pipe(Effect.retry({ while: () => committer.over() === undefined }), Effect.ignore)

/**
 * Waits for what goes on beside. Whoever is interrupted waits no longer, wherever that is: it is done when the store is back, and a runtime
 * that is closed while the store is away has nobody to tell any more.
 */
const patiently = (fiber: Fiber.RuntimeFiber<unknown>): Effect.Effect<void> =>
  Effect.asVoid(Effect.interruptible(Fiber.await(fiber)))

/** Lets go of jobs that were left to others; see `EventLog.left`. */
export const left = (
  parts: Pick<LogParts, "committer" | "live">,
  jobIds: ReadonlyArray<string>
): Effect.Effect<void> =>
  Effect.suspend(() => {
    const seen = jobIds.filter((jobId) => parts.live.isSeen(jobId))
    return seen.length === 0 ? Effect.void : Effect.flatMap(Effect.forkDaemon(letGo(parts, seen)), patiently)
  })

/** Runs what leaves a job to others; see `EventLog.leaving`. */
export const leaving = <A, E>(
  parts: Pick<LogParts, "committer" | "live">,
  record: JobRecord,
  move: Effect.Effect<A, E>
): Effect.Effect<A, E | InternalError> =>
  Effect.gen(function* () {
    const { live } = parts
    const { jobId } = record
    const moved = yield* Deferred.make<A, E | InternalError>()
    // Also when it fails: it may have been done all the same, and whoever looks finds what is so.
    const moving = Effect.zipRight(Effect.intoDeferred(move, moved), letGo(parts, [jobId]))
    const going = Effect.acquireUseRelease(
      // Who finds out what it observes from here on catches up with it.
      Effect.sync(() => live.leaving.add(jobId)),
      (): Effect.Effect<void, InternalError> =>
        // Of a session that has come to its end nothing says that it observes it but the store: the log finds out when it is loaded.
        live.isSeen(jobId)
          ? live.holds.holding(
              Effect.mapError(live.loadJob(record), (error: StoreError) => unread(error)),
              () => moving
            )
          : moving,
      () => Effect.sync(() => live.leaving.delete(jobId))
    )
    // The log is held, and said to be leaving, until all have let go of it.
    const fiber = yield* Effect.forkDaemon(
      Effect.catchAllCause(going, (cause) => Deferred.failCause(moved, cause))
    )
    const exit = yield* Effect.exit(Deferred.await(moved))
    yield* patiently(fiber)
    return yield* exit
  })
