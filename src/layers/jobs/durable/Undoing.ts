/**
 * Running the compensations of a durable job whose handler has ended without success. What they are only the handler can say,
 * so when not all are known (the process has died since, or the job was ended while it was being run again) the handler is
 * run once more over what its journal has, and does nothing else: it waits for ever at the first thing that has no outcome,
 * and is interrupted when all compensations are known.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import { InternalError, isArcpError } from "../../../protocol/Errors.js"
import { failureMessage } from "../../../services/agents/Agent.js"
import * as Thrown from "../../../services/agents/Thrown.js"
import type { Step } from "../../../services/jobs/Job.js"
import { Compensations } from "./Compensations.js"
import * as Steps from "./Steps.js"

/** What a job has to undo. */
export interface Undoing {
  /** Tells whether there is anything to undo. */
  readonly isDue: () => boolean
  /** Returns the keys of the steps that have not been undone. */
  readonly left: () => ReadonlyArray<string>
  /** Undoes what is due, one after the other; `again` runs the handler. */
  readonly run: (again: () => Fiber.RuntimeFiber<unknown, unknown>) => Effect.Effect<void>
}

const logFailure = (key: string, cause: Cause.Cause<unknown>) =>
  Cause.isInterruptedOnly(cause)
    ? Effect.void
    : Effect.logError(`step ${key} could not be undone`, Thrown.whole(cause))

/** Undoes one step. A failure is an outcome; after a defect, the next process tries again. */
const undo = (
  context: Steps.StepContext,
  key: string,
  undoing: Effect.Effect<unknown, unknown, Step>
): Effect.Effect<void> =>
  Steps.compensate(
    context,
    Compensations.keyOf({ key }),
    undoing.pipe(
      Effect.tapErrorCause((cause) => logFailure(key, cause)),
      Effect.mapError((error) =>
        isArcpError(error) ? error : new InternalError({ message: failureMessage(error) })
      )
    )
  ).pipe(
    Effect.exit,
    Effect.flatMap((exit) =>
      Exit.isFailure(exit) && Exit.isInterrupted(exit) ? Effect.interrupt : Effect.void
    )
  )

/** Returns what undoes the steps of a job. */
export const make = (context: Steps.StepContext): Undoing => {
  const { compensations, journal } = context
  return {
    isDue: () => compensations.due.length > 0,
    left: () => compensations.left,
    run: (again) =>
      Effect.gen(function* () {
        journal.settling = true
        if (!compensations.areKnown) {
          const handler = again()
          yield* Effect.raceFirst(compensations.known, Fiber.await(handler)).pipe(
            Effect.ensuring(Fiber.interrupt(handler))
          )
        }
        for (const { key } of compensations.due) {
          const undoing = compensations.of({ key })
          if (undoing !== undefined) yield* undo(context, key, undoing)
        }
      })
  }
}
