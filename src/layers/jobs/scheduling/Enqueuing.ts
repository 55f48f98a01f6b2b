/**
 * The way of a job that is accepted and does not begin yet: counted → stored, with its input → accepted → in line. What it
 * had in memory is let go of; it begins from what is stored (Beginning.ts), in this process or the next.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { ArcpError, InternalError } from "../../../protocol/Errors.js"
import type { Op } from "../../../services/store/Store.js"
import type { Candidate } from "../Candidate.js"
import type { JobParts } from "../JobParts.js"
import * as Measuring from "../measuring.js"
import * as OnWire from "../onWire.js"
import type { Hold } from "../Reservations.js"
import { Surroundings } from "../Surroundings.js"
import { QueuedJob, type QueuedRecord } from "./Queue.js"

/** Tells whether a job that is admitted waits: for its time, or for a place. A delegated one never does. */
export const waits = ({ running }: JobParts, { agent, parent, record, startAt }: Candidate): boolean =>
  parent === undefined && (startAt !== undefined || running.queue.mustWait(record, agent.concurrency))

/** Returns the record of a job that waits: what it is run again with is decided when it begins. */
export const queuedRecord = ({ forked, record, session, startAt }: Candidate): QueuedRecord => {
  const { principal: _, ...identity } = session.identity
  const { survival: __, ...rest } = record
  return {
    ...rest,
    status: "pending",
    queued: { identity, features: session.features, startAt, forked }
  }
}

/**
 * Counts a job that will wait, into its hold; fails with the cap that it would break. To be run at once after `waits`: who comes next
 * is in line after it, unless what its principal has on other nodes is to be read first.
 */
export const count = (
  { running }: Pick<JobParts, "running">,
  { record, startAt }: Pick<Candidate, "record" | "startAt">,
  hold: Hold,
  isRead = false
): Effect.Effect<void, InternalError> => {
  if (running.stopping) return running.shuttingDown
  const full = running.queue.room(record, hold, isRead)
  if (full === "unknown")
    return Effect.zipRight(
      running.readElsewhere(record.principal),
      Effect.suspend(() => count({ running }, { record, startAt }, hold, true))
    )
  if (full !== undefined) return full
  if (startAt === undefined) hold.keep(running.queue.places.store(record))
  return Effect.void
}

/** Stores a job that waits and puts it in line, in its own fiber: whoever submits next comes after it. */
export const enqueue = (
  parts: JobParts,
  { agent, keyed, session }: Candidate,
  record: QueuedRecord,
  ops: ReadonlyArray<Op>,
  hold: Hold,
  unstored: (error: InternalError) => Effect.Effect<void>
): Effect.Effect<void, ArcpError> => {
  const { log, metrics, now, running, underway } = parts
  const acceptance = OnWire.acceptance(record, record.submitId, [], undefined)
  const stored = log.openJob(record, session.view, {
    ops,
    freeKey: keyed?.freeKey,
    accepted: () => OnWire.accepted(record, record.submitId, []),
    onCommit: () => {
      running.queue.add(new QueuedJob(record, session, agent.concurrency), now())
      if (metrics !== undefined) Measuring.accepted(metrics, record.agent)
      session.send(acceptance)
    }
  })
  const storing = Effect.gen(function* () {
    const opened = yield* Effect.exit(stored)
    yield* hold.giveBack()
    if (Exit.isSuccess(opened)) {
      // It may have begun meanwhile.
      if (running.queue.get(record.jobId) !== undefined) log.letGo(opened.value)
    } else if (opened.cause._tag === "Fail") yield* unstored(opened.cause.error)
  })
  return Effect.map(Surroundings.of(record), (surroundings) => {
    hold.passedOn = true
    surroundings.forkUninterruptible(storing).addObserver(underway.begin())
  })
}
