/** What a durable job has besides what every job has: its journal, its steps, and where it may emit. */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { ArcpError, PermissionDenied } from "../../../protocol/Errors.js"
import type { JobService } from "../../../services/jobs/Job.js"
import type { JobLog } from "../../../services/log/EventLog.js"
import type { Candidate } from "../Candidate.js"
import type { JobParts } from "../JobParts.js"
import { Journal } from "./Journal.js"
import { Whereabouts } from "./Running.js"
import * as Steps from "./Steps.js"

/** The durable part of a job that runs. */
export interface Durable extends Pick<JobService, "step" | "sleep"> {
  readonly journal: Journal
  readonly whereabouts: Whereabouts
  /** See `Lease.make`. */
  readonly misplaced: (
    fiber: Fiber.RuntimeFiber<unknown, unknown>,
    capability: string
  ) => PermissionDenied | undefined
  /** Marks the fiber that a handler runs in, and fails one that has returned and did other things than before. */
  readonly handler: <R>(run: Effect.Effect<unknown, ArcpError, R>) => Effect.Effect<unknown, ArcpError, R>
}

/** Returns the durable part of a job: new, or with the journal that it is run again with. */
export const make = (
  { log, now, options, store, turn }: JobParts,
  job: JobLog,
  { awaitEmits, journal: loaded }: Pick<Candidate, "awaitEmits" | "journal">
): Durable => {
  const journal = loaded ?? new Journal(job.jobId, store, turn, options)
  const whereabouts = new Whereabouts(journal)
  return {
    journal,
    whereabouts,
    ...Steps.make({
      log,
      job,
      journal,
      whereabouts,
      now,
      awaitEmits: options.awaitEmits || awaitEmits
    }),
    misplaced: (fiber, capability) => whereabouts.paid(fiber, capability),
    handler: (run) =>
      Effect.withFiberRuntime((fiber) => {
        whereabouts.begin(fiber)
        return Effect.flatMap(run, (output) => journal.leftOver ?? Effect.succeed(output))
      })
  }
}
