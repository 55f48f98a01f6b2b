/**
 * Jobs that were open when their process ended, are not run again, and have something to undo: they are opened for that, and
 * end when it is done. What delegated to them ends after them.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as FiberId from "effect/FiberId"
import type { InternalError } from "../../../protocol/Errors.js"
import type { JobRecord } from "../../../services/store/Store.js"
import * as Faults from "../Faults.js"
import type { JobParts } from "../JobParts.js"
import type { Ending, TerminalMessage } from "../LiveJob.js"
import * as Terminal from "../Terminal.js"
import { Compensations } from "./Compensations.js"
import { Journal } from "./Journal.js"

/** How a job ends, when it is. */
export interface Settling {
  readonly terminal: TerminalMessage
  /** Whether it has ended, when nothing of it runs any more: otherwise the next process goes on with it. */
  readonly over: Deferred.Deferred<boolean>
}

/** What of a stored job is to be undone. */
export interface StoredUndoing {
  readonly isDue: boolean
  /** Returns the keys of the steps that have not been undone. */
  readonly left: () => ReadonlyArray<string>
}

/** Returns what of a stored job is to be undone when it does not succeed. */
export const compensationsOf = (
  { options, store, turn }: JobParts,
  { jobId, survival }: JobRecord
): Effect.Effect<StoredUndoing, InternalError> =>
  survival?.restart !== "steps"
    ? Effect.succeed(nothing)
    : Effect.map(Faults.storage(Journal.load(jobId, store, turn, options)), (journal) => {
        const compensations = new Compensations(journal, survival.ended?.unstored)
        return { isDue: compensations.due.length > 0, left: () => compensations.left }
      })

const nothing: StoredUndoing = { isDue: false, left: () => [] }

/** Returns how a job ends that is opened to be undone: as it was decided, unless it has been cancelled since. */
const terminalOf = ({ now, options }: JobParts, record: JobRecord, ending: Ending): TerminalMessage => {
  const ended = record.survival?.ended
  return ended === undefined || record.cancelRequested !== undefined
    ? Terminal.ended(ending, record, now(), options.maxOutboundFrameBytes)
    : Terminal.ofStored(ended)
}

/** Returns whether a job has something to undo. Where that is damaged it ends without: the others go on. */
const isDue = (parts: JobParts, record: JobRecord): Effect.Effect<boolean, InternalError> =>
  compensationsOf(parts, record).pipe(
    Effect.map(({ isDue }) => isDue),
    Effect.catchIf(Faults.isDamage, (error) =>
      Effect.as(
        Effect.logError(`what ${record.jobId} has to undo could not be read: ${error.message}`),
        false
      )
    )
  )

/** Returns those of these jobs that have something to undo. */
export const of = (
  parts: JobParts,
  records: ReadonlyArray<JobRecord>,
  endingOf: (record: JobRecord) => Ending
): Effect.Effect<ReadonlyMap<string, Settling>, InternalError> =>
  Effect.gen(function* () {
    const settling = new Map<string, Settling>()
    for (const record of records)
      if (record.survival?.ended !== undefined || (yield* isDue(parts, record)))
        settling.set(record.jobId, {
          terminal: terminalOf(parts, record, endingOf(record)),
          over: Deferred.unsafeMake(FiberId.none)
        })
    return settling
  })

/** Returns the jobs above these. */
export const above = (
  settling: ReadonlyMap<string, Settling>,
  byId: ReadonlyMap<string, JobRecord>
): ReadonlySet<string> => {
  const found = new Set<string>()
  for (const jobId of settling.keys())
    for (let up = byId.get(jobId)?.parentJobId; up !== undefined; up = byId.get(up)?.parentJobId)
      found.add(up)
  return found
}
