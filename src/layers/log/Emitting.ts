/** How events get into the logs of jobs: whatever a job emits, and the one message that ends it. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { InternalError } from "../../protocol/Errors.js"
import type { NewEvent } from "../../services/log/EventLog.js"
import { type JobRecord, Op } from "../../services/store/Store.js"
import type { Done } from "./CommitQueue.js"
import type { Publisher } from "./Committed.js"
import type { Committer } from "./Committer.js"
import type { JobState } from "./JobState.js"
import type { LogParts } from "./LogParts.js"

/** In memory, what may be queued before an emitter waits for the commit: short turns, so that others get theirs. */
const volatileEvents = 64
const volatileBytes = 128 * 1024

/** Queues something as soon as every consumer that must lose nothing has room for it. Returns when it is committed. */
export const admitted = (publisher: Publisher, queue: (done: Done) => void) =>
  Effect.async<void, InternalError>((resume) =>
    publisher.admit((settled) =>
      queue((exit) => {
        settled()
        resume(exit)
      })
    )
  )

/**
 * Returns what queues an event and returns when it counts as committed: when it is stored, or in memory, where nothing
 * can fail and nothing is durable, when it is queued. Then only who gets ahead of the committer waits for it.
 */
const queueing = (kind: "memory" | "durable", committer: Committer) => {
  let queuedBytes = 0
  return (job: JobState, event: NewEvent): Effect.Effect<void, InternalError> => {
    // Whoever asks for the budget right after a cost must see it counted.
    if (kind !== "memory" || event.cost !== undefined)
      return Effect.async<void, InternalError>((resume) =>
        committer.enqueue({ _tag: "Append", job, event, done: resume })
      )
    committer.enqueue({ _tag: "Append", job, event, done: undefined })
    queuedBytes += event.payload.length
    if (committer.backlog() < volatileEvents && queuedBytes < volatileBytes) return Effect.void
    return Effect.zipRight(
      committer.nextCommit,
      Effect.sync(() => {
        queuedBytes = 0
      })
    )
  }
}

/** Returns what appends to the log of a job: `EventLog.append` and `EventLog.end`. */
export const make = ({ committer, pace, publisher, retention, store }: LogParts) => {
  const enqueue = queueing(store.kind, committer)

  const appending = (job: JobState, event: NewEvent) => (done: Done) =>
    job.ended ? done(Exit.void) : committer.enqueue({ _tag: "Append", job, event, done })

  const append = (job: JobState, event: NewEvent): Effect.Effect<void, InternalError> =>
    Effect.suspend(() => {
      if (job.ended) return Effect.void
      if (retention.isBlocked(job)) return Effect.zipRight(retention.room(job), append(job, event))
      const committed = publisher.suspends ? admitted(publisher, appending(job, event)) : enqueue(job, event)
      return pace.holds(job) ? Effect.zipRight(committed, pace.wait(job)) : committed
    })

  const end = (
    job: JobState,
    event: NewEvent,
    record: (lastEventSeq: number) => JobRecord,
    onCommit?: () => void
  ) =>
    Effect.async<void, InternalError>((resume) => {
      job.ended = true
      let principal = ""
      committer.enqueue({
        _tag: "Append",
        job,
        event,
        record: (tx) => {
          const final = record(tx.lastEventSeqOf(job))
          principal = final.principal
          if (onCommit !== undefined) tx.onApply(onCommit)
          return Op.PutJob({ job: tx.withBudget(job, final) })
        },
        done: (exit) => {
          if (exit._tag === "Success") retention.ended(job.jobId, principal)
          resume(exit)
        }
      })
    })

  return { append, end }
}
