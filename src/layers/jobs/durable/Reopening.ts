/**
 * The way of a job that is in the log already: it was open when its process ended, was unloaded, or waited to begin. Counted →
 * its place below its parent → minted anew → run.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { ArcpError, InternalError } from "../../../protocol/Errors.js"
import type { JobLog } from "../../../services/log/EventLog.js"
import type { Errand } from "../../../services/runtime/Pending.js"
import type { Candidate } from "../Candidate.js"
import type { JobParts } from "../JobParts.js"
import { LiveJob, orphaned } from "../LiveJob.js"
import * as Opening from "../Opening.js"
import { over } from "../over.js"
import { Hold } from "../Reservations.js"
import * as Supervising from "../Supervising.js"
import { Surroundings } from "../Surroundings.js"
import * as Durable from "./Durable.js"
import * as Enduring from "./Enduring.js"

/** Of a job that is loaded, and not run again at the start. */
export interface Loaded {
  /** Of a job that has its place below its parent. */
  readonly resting: LiveJob | undefined
  /** Called when it has a place among the running jobs, which its hold gives back. */
  readonly keep: (hold: Hold) => void
}

/** A job that is in the log already, and is run again here. */
export interface Reopened {
  readonly candidate: Candidate
  readonly job: JobLog
  /** Its handler runs now, and so it needs its credentials. */
  readonly runs: boolean
  /**
   * Waits until what was open below it has its place there again, or has ended: only then is it known what is to end before it
   * does, whatever ends it.
   */
  readonly below?: Effect.Effect<void> | undefined
  /** Of one that has waited unloaded. */
  readonly loaded?: Loaded | undefined
  /** See `Settling`. */
  readonly over?: Deferred.Deferred<boolean> | undefined
  /** Of one that has waited, and begins for the first time. */
  readonly first?:
    | {
        /** Called in the step in which it comes to run; gives whether it does. */
        readonly enter: () => boolean
        /** Stores that it runs: it does from there on. */
        readonly stored: Effect.Effect<void, InternalError>
      }
    | undefined
}

/** Runs a job that is in the log already: it is counted, has its fiber, and takes its parent's place for it. */
export type Reopen = (reopened: Reopened) => Effect.Effect<void>

/** Returns what runs such jobs. */
export const make = (parts: JobParts): Reopen => {
  const open = Opening.make(parts)
  return ({ below, candidate, first, job, loaded, over: isOver, runs }) =>
    Effect.suspend(() => {
      if (first?.enter() === false) return Effect.void
      const { journal, parent, record, session } = candidate
      // Something has begun to end it meanwhile, and goes on with that.
      if (loaded?.resting?.ending !== undefined && candidate.settled === undefined) return Effect.void
      const hold = new Hold()
      const resting = loaded?.resting
      const live = resting ?? new LiveJob(record, session, parent?.live, candidate.submitter)
      parts.running.admit(record, hold)
      loaded?.keep(hold)
      if (parent !== undefined) {
        parent.live.childCount++
        hold.keepPlace(() => {
          parent.live.childCount--
        })
      }
      if (resting === undefined) {
        // Its parent may have ended since, or be about to.
        const isTaken = parent?.live.takeChild(live) === true
        if (record.parentJobId !== undefined && !isTaken && candidate.settled === undefined)
          live.end(orphaned(parts.running))
        if (live.ending?._tag === "Leave") parts.log.leaveJob(job)
        hold.keep(() => over(parts, candidate, live))
        hold.keep(parts.owners.own(live))
      } else hold.keep(resting.over)
      if (isOver !== undefined)
        hold.keep(() => Deferred.unsafeDone(isOver, Exit.succeed(live.status !== "running")))
      live.rests = undefined
      live.status = "running"
      if (live.awaited !== undefined) Deferred.unsafeDone(live.awaited.opened, Exit.succeed(job))
      if (journal !== undefined) Durable.inputsOf(parts, live, job, journal)
      parts.running.add({ live, log: job })
      const surrounded = Effect.flatMap(Surroundings.of(record), (surroundings) =>
        Effect.map(Supervising.spanOf(candidate, surroundings), (span) => ({ span, surroundings }))
      )
      return Effect.map(surrounded, ({ span, surroundings }) => {
        live.span = span
        const again = function* (): Errand<Exit.Exit<unknown, ArcpError>> {
          if (below !== undefined) yield* below
          const stored = yield* Effect.exit(first?.stored ?? Effect.void)
          const isStored = Exit.isSuccess(stored)
          const minting =
            runs && isStored ? Supervising.minting(parts, candidate, record, hold, job) : undefined
          const decided = isStored
            ? candidate
            : { ...candidate, begin: undefined, run: Effect.failCause(stored.cause) }
          const begun = { candidate: decided, hold, live }
          return yield* Supervising.run(parts, open, begun, span, surroundings, job, {
            // The job is stored, and nobody is there whom a failure would have ask again.
            minting: minting && Enduring.whileAway(minting, parts),
            isFirst: first !== undefined
          })
        }
        Supervising.supervise(parts, candidate, hold, live, span, surroundings, again())
      })
    })
}
