/** What a durable job has besides what every job has: its journal, its steps, and where it may emit. */
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type { ArcpError, InternalError, PermissionDenied } from "../../../protocol/Errors.js"
import type { JobService } from "../../../services/jobs/Job.js"
import type { JobLog } from "../../../services/log/EventLog.js"
import type { Candidate } from "../Candidate.js"
import { maxEventBytes } from "../fitting.js"
import type { JobParts } from "../JobParts.js"
import type { LiveJob } from "../LiveJob.js"
import { Compensations } from "./Compensations.js"
import * as Input from "./Input.js"
import { Inputs } from "./Inputs.js"
import { Journal, type KeyedKind, type Known } from "./Journal.js"
import { Presence } from "./Presence.js"
import { type RunningStep, Whereabouts } from "./Running.js"
import * as Steps from "./Steps.js"
import * as Undoing from "./Undoing.js"

/** The durable part of a job that runs. */
export interface Durable extends Pick<JobService, "step" | "sleep" | "hold" | "input"> {
  readonly journal: Journal
  readonly presence: Presence
  readonly whereabouts: Whereabouts
  readonly undoing: Undoing.Undoing
  /** See `Lease.make`. */
  readonly misplaced: (
    fiber: Fiber.RuntimeFiber<unknown, unknown>,
    capability: string
  ) => PermissionDenied | undefined
  /** See Steps.ts. */
  readonly keyed: <A, E, R>(
    kind: KeyedKind,
    key: string,
    use: (known: Known, within: RunningStep | undefined) => Effect.Effect<A, E, R>
  ) => Effect.Effect<A, E | InternalError, R>
  /** See Steps.ts. */
  readonly handedOut: (known: Known) => Effect.Effect<string, InternalError>
  readonly afterFound: Effect.Effect<void>
  /** Marks the fiber that a handler runs in, and fails one that has returned and did other things than before. */
  readonly handler: <R>(run: Effect.Effect<unknown, ArcpError, R>) => Effect.Effect<unknown, ArcpError, R>
}

/** Returns the journal of a job that survives: new, or the one that it is run again with. */
export const journalOf = (
  { options, store, turn }: JobParts,
  { journal, record }: Pick<Candidate, "journal" | "record">
): Journal | undefined =>
  record.survival === undefined ? undefined : (journal ?? new Journal(record.jobId, store, turn, options))

/** Returns the questions of a job that runs: whoever answers finds them before its handler has begun. */
export const inputsOf = (
  { hooks, log, now, options }: JobParts,
  live: LiveJob,
  job: JobLog,
  journal: Journal
): Inputs => {
  if (live.inputs !== undefined) return live.inputs
  live.inputs = new Inputs({
    log,
    job,
    journal,
    now,
    hooks,
    holder: live,
    maxEventBytes: maxEventBytes(options),
    rests: false
  })
  // What an answer that was not stored has left in memory is not so.
  const { open } = live.inputs
  const { waitingFor: _, ...record } = live.record
  live.record = open.length === 0 ? record : { ...record, waitingFor: open }
  return live.inputs
}

/** Returns the durable part of a job. */
export const make = (
  parts: JobParts,
  job: JobLog,
  journal: Journal,
  { agent: { awaitEmits } }: Pick<Candidate, "agent">,
  live: LiveJob
): Durable => {
  const { ids, log, now, options, running, secrets, waits } = parts
  const whereabouts = new Whereabouts(journal)
  const presence = new Presence((isIdle) => waits.idles(job.jobId, isIdle))
  const context: Steps.StepContext = {
    log,
    job,
    journal,
    whereabouts,
    compensations: new Compensations(journal, live.record.survival?.ended?.unstored),
    presence,
    running,
    now,
    awaitEmits: options.awaitEmits || awaitEmits
  }
  return {
    journal,
    whereabouts,
    undoing: Undoing.make(context),
    presence,
    ...Steps.make(context),
    input: Input.make({
      ...context,
      inputs: inputsOf(parts, live, job, journal),
      inputId: () => ids.unsafeMake("inp"),
      digest: secrets.digest,
      maxEventBytes: maxEventBytes(options)
    }),
    keyed: (kind, key, use) => Steps.keyed(context, kind, key, use),
    handedOut: (known) => Steps.handedOut(context, known),
    afterFound: Steps.afterFound(journal),
    misplaced: (fiber, capability) => whereabouts.paid(fiber, capability),
    handler: (run) =>
      Effect.withFiberRuntime((fiber) => {
        whereabouts.begin(fiber)
        return Effect.flatMap(run, (output) => journal.leftOver ?? Effect.succeed(output))
      })
  }
}
