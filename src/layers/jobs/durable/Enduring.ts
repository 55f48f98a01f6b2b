/**
 * What a job that survives its process needs of the store while it runs: it is asked for again for as long as the store is away,
 * since a job must not end because of that. What it emits is kept by the log (`JobLog.endure`); this is for what is read, and for
 * what is stored beside its log: a job that it delegates to, a credential.
 *
 * Whoever waits is interrupted by what ends the job: a cancel, its limits, a shutdown.
 */
import * as Effect from "effect/Effect"
import * as Again from "../../../services/runtime/Again.js"
import type { JobRecord } from "../../../services/store/Store.js"
import * as Faults from "../Faults.js"
import type { RunningJobs } from "../RunningJobs.js"
import { pauses } from "../Terminal.js"

/** What tells that nobody waits for the store any more. */
export interface Parts {
  readonly running: Pick<RunningJobs, "abandoned">
}

/** Tries again while the store is away, unless the runtime has given up, or what it is for is over. */
export const whileAway = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  { running }: Parts,
  isOver: () => boolean = () => false
): Effect.Effect<A, E, R> =>
  Effect.suspend(() =>
    Effect.retry(Again.marked(effect), {
      schedule: pauses,
      while: (error) => Faults.isAway(error) && !running.abandoned && !isOver()
    })
  )

/** The same for what is asked for by a job, if that is one which survives. */
export const of = <A, E, R>(
  record: Pick<JobRecord, "survival"> | undefined,
  effect: Effect.Effect<A, E, R>,
  parts: Parts,
  isOver?: () => boolean
): Effect.Effect<A, E, R> => (record?.survival === undefined ? effect : whileAway(effect, parts, isOver))
