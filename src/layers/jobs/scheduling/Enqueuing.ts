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
const waits = ({ running }: JobParts, { agent, parent, record, startAt }: Candidate): boolean =>
  parent === undefined && (startAt !== undefined || running.queue.mustWait(record, agent.concurrency))

/** Returns the record of a job that waits: what it is run again with is decided when it begins. */
export const queuedRecord = ({ forked, record, startAt, submitter }: Candidate): QueuedRecord => {
  const { principal: _, ...identity } = submitter.identity
  const { survival: __, ...rest } = record
  return {
    ...rest,
    status: "pending",
    queued: { identity, features: submitter.features, startAt, forked }
  }
}

/** Counts a job that will wait, into its hold; gives the cap that it would break, or that what others have is to be read first. */
const countWaiting = (
  { running }: JobParts,
  { record, startAt }: Candidate,
  hold: Hold,
  isRead: boolean
): InternalError | "unknown" | undefined => {
  if (running.stopping) return running.shuttingDown
  const full = running.queue.room(record, hold, isRead)
  if (full === undefined && startAt === undefined) hold.keep(running.queue.places.store(record))
  return full
}

/**
 * Counts a job that is admitted, and returns whether it waits; fails with the cap that it would break. Both are decided in one turn,
 * so that two never see the same place, and who comes next is in line after it: where what other nodes have is to be read first, it
 * is all decided anew.
 */
export const count = (
  parts: JobParts,
  given: Candidate,
  hold: Hold,
  isRead = false
): Effect.Effect<boolean, InternalError> => {
  const isWaiting = waits(parts, given)
  const full = isWaiting
    ? countWaiting(parts, given, hold, isRead)
    : parts.running.count(given.record, given.submitter.features, hold, isRead)
  if (full === "unknown")
    return Effect.zipRight(
      parts.running.readElsewhere(given.record.principal),
      Effect.suspend(() => count(parts, given, hold, true))
    )
  return full ?? Effect.succeed(isWaiting)
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
