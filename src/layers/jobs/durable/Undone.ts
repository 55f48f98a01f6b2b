/**
 * Between how a job ends and its end being written: what its steps have done is undone. How it ends is stored first, so the
 * next process goes on undoing, and does not run the handler. A cancel that comes meanwhile still ends it in `CANCELLED`.
 */
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import type { JobLog } from "../../../services/log/EventLog.js"
import { inRealTime } from "../../../services/runtime/within.js"
import type { Candidate } from "../Candidate.js"
import type { JobParts } from "../JobParts.js"
import * as Limits from "../Limits.js"
import type { LiveJob, TerminalMessage } from "../LiveJob.js"
import type { Surroundings } from "../Surroundings.js"
import * as Terminal from "../Terminal.js"
import type { Undoing } from "./Undoing.js"

/** A job whose handler has ended, and whose end is not written. */
export interface HandledJob {
  readonly parts: JobParts
  readonly live: LiveJob
  readonly job: JobLog
  readonly surroundings: Surroundings
  readonly undoing?: Undoing | undefined
  readonly compensateWithin: Duration.DurationInput | undefined
  /** See `Candidate`. */
  readonly begin: Candidate["begin"]
  readonly settled: Candidate["settled"]
}

/** Stores how a job ends, and what of it is not in its journal, as often as it takes. */
const decided = (
  { job, live, parts }: HandledJob,
  undoing: Undoing,
  terminal: TerminalMessage
): Effect.Effect<void> =>
  Terminal.untilStored(
    Effect.suspend(() => {
      const { survival } = live.record
      if (survival === undefined) return Effect.void
      const ended = { ...Terminal.toStored(terminal), unstored: undoing.unstored() }
      live.record = { ...live.record, survival: { ...survival, ended } }
      return parts.log.amend(job, live.record, () => {})
    }),
    parts.running
  ).pipe(Effect.ignore)

/** Waits for a fiber, which a shutdown interrupts: after the last grace, unless the next process goes on with it. */
const ended = (live: LiveJob, fiber: Fiber.RuntimeFiber<unknown, unknown>): Effect.Effect<void> =>
  Effect.gen(function* () {
    const inLastGrace = Effect.interruptible(Effect.exit(fiber.await)).pipe(
      Effect.timeoutOption(Limits.lastGrace),
      inRealTime
    )
    const over = Deferred.unsafeMake<void>(FiberId.none)
    const done = () => Deferred.unsafeDone(over, Effect.void)
    fiber.addObserver(done)
    if (!live.hurried) {
      live.hurry = done
      yield* Deferred.await(over)
    }
    if (fiber.unsafePoll() === null && !live.leaving) yield* inLastGrace
    if (fiber.unsafePoll() !== null) return
    fiber.unsafeInterruptAsFork(FiberId.none)
    yield* inLastGrace
  })

/** Returns how a job ends of which that was decided before: as decided, or cancelled since. */
export const unlessCancelled = (
  { live, parts: { now, options } }: Pick<HandledJob, "live" | "parts">,
  concluded: TerminalMessage
): TerminalMessage =>
  live.ending?._tag === "Cancel" && concluded.status !== "cancelled"
    ? Terminal.ended(live.ending, live.record, now(), options.maxOutboundFrameBytes)
    : concluded

/**
 * Undoes what the steps of a job have done that ends without success, and returns how it ends then: as before, or cancelled;
 * `undefined` when the next process goes on with it. `again` runs the handler for its compensations.
 */
export const undone = (
  ending: HandledJob,
  undoing: Undoing,
  concluded: TerminalMessage,
  again: () => Fiber.RuntimeFiber<unknown, unknown>
): Effect.Effect<TerminalMessage | undefined> => {
  const { begin, compensateWithin, job, live, parts, settled, surroundings } = ending
  const { options, running, store } = parts
  if (concluded.type === "job.result" || !undoing.isDue() || job.broken !== undefined)
    return Effect.succeed(concluded)
  const within = compensateWithin ?? options.cancelGrace
  const run = Effect.zipRight(
    settled === undefined ? Effect.void : (begin ?? Effect.void),
    Effect.timeoutOption(Effect.disconnect(undoing.run(again, within)), within)
  )
  return Effect.gen(function* () {
    live.undoing = true
    live.concluded = false
    yield* decided(ending, undoing, concluded)
    // A shutdown whose grace is over has asked jobs that were ending already to end.
    if (running.graceOver && live.survives && store.kind === "durable" && !live.leaving) {
      live.leaving = true
      parts.log.leaveJob(job)
    }
    if (!live.leaving) yield* ended(live, surroundings.forkInterruptible(Effect.exit(run)))
    if (live.leaving) return undefined
    live.undoing = false
    live.concluded = true
    return unlessCancelled(ending, concluded)
  })
}
