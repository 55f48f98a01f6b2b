/**
 * Leaving a job to other nodes, which nobody tells its log of: it would find out by its next write, and of a job that rests there is none.
 * So whoever leaves one does it here.
 */
import * as Effect from "effect/Effect"
import type { InternalError } from "../../protocol/Errors.js"
import { type JobRecord, type StoreError, toInternalError } from "../../services/store/Store.js"
import type { LogParts } from "./LogParts.js"

const unread = toInternalError("the log could not be read")

/**
 * Lets all look at a job as at one of another node. Between two commits, since what is on its way to the store may be of this job; a
 * store that fails has no say in it.
 */
const left = ({ committer, live }: Pick<LogParts, "committer" | "live">, jobId: string) =>
  committer
    .change((tx) => tx.onApply(() => live.left(jobId)))
    .pipe(Effect.retry({ while: () => committer.over() === undefined }), Effect.ignore)

/** Runs what leaves a job to others; see `EventLog.leaving`. */
export const leaving = <A, E>(
  parts: Pick<LogParts, "committer" | "live">,
  record: JobRecord,
  move: Effect.Effect<A, E>
): Effect.Effect<A, E | InternalError> => {
  const { live } = parts
  const { jobId } = record
  // Also when it fails: it may have been done all the same, and whoever looks finds what is so.
  const moving = Effect.ensuring(move, left(parts, jobId))
  return Effect.acquireUseRelease(
    // Who finds out what it observes from here on catches up with it.
    Effect.sync(() => live.leaving.add(jobId)),
    (): Effect.Effect<A, E | InternalError> =>
      // Of a session that has come to its end nothing says that it observes it but the store: the log finds out when it is loaded.
      live.isSeen(jobId)
        ? live.holds.holding(
            Effect.mapError(live.loadJob(record), (error: StoreError) => unread(error)),
            () => moving
          )
        : moving,
    () => Effect.sync(() => live.leaving.delete(jobId))
  )
}
