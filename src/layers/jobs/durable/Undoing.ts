/**
 * Running the compensations of a durable job whose handler has ended without success. What they are only the handler can say,
 * so when not all are known (the process has died since, or the job was ended while it was being run again) the handler is
 * run once more over what its journal has, and does nothing else. It is held at the first thing that has no outcome, and at the
 * last step that it is needed for; when all compensations are known it is interrupted, and what holds it lets go, for finalizers
 * come to things that have no outcome, too, and cannot be interrupted there.
 *
 * What it waits for outside of its job nobody can end, so half of the time for undoing is the handler's; after that what is
 * known is undone beside it, and what it still tells comes after.
 */
import type * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
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
  /** Returns those of them that are done, and have no outcome in the journal. */
  readonly unstored: () => ReadonlyArray<string>
  /** Undoes what is due, one after the other; `again` runs the handler, which has half of the time. */
  readonly run: (again: () => Handler, within: Duration.DurationInput) => Effect.Effect<void>
}

type Handler = Fiber.RuntimeFiber<unknown, unknown>

const logFailure = (key: string, cause: Cause.Cause<unknown>) =>
  Effect.logError(`step ${key} could not be undone`, Thrown.whole(cause))

/**
 * Undoes one step. A failure is an outcome; after a defect, the next process tries again. So it is with an interruption from within,
 * as of code that joins a fiber which somebody else has interrupted. Only that of the fiber itself ends it: then nothing that is said
 * here for its failures is run.
 */
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
  ).pipe(Effect.exit, Effect.asVoid)

/**
 * Runs the handler until all that is to be known is, and has it come to its end. What it holds by then is let go of before
 * anything is undone, as always; but whatever it does, it is waited for half of the time at most.
 */
const collect = (
  { compensations }: Steps.StepContext,
  over: Effect.Effect<unknown>,
  stop: Effect.Effect<void>,
  within: Duration.DurationInput
): Effect.Effect<unknown> =>
  Effect.raceFirst(compensations.known, over).pipe(
    Effect.zipRight(stop),
    Effect.zipRight(over),
    Effect.timeoutOption(Duration.times(within, 0.5)),
    Effect.tap(({ _tag }) => (_tag === "None" ? late : Effect.void))
  )

const late = Effect.logWarning(
  "the handler, run again for what undoes its steps, has not told all of it or has not ended in half of the time for that"
)

/** Returns what undoes the steps of a job. */
export const make = (context: Steps.StepContext): Undoing => {
  const { compensations, journal } = context

  /** Undoes each once that can be, also what becomes known meanwhile; for what cannot be, the handler is waited for. */
  const undoAll = (handler: Handler | undefined, stop: Effect.Effect<void>) =>
    Effect.gen(function* () {
      const tried = new Set<string>()
      for (;;) {
        if (compensations.areKnown) yield* stop
        const left = compensations.due.filter(({ key }) => !tried.has(key))
        const found = left.flatMap(({ key }) => {
          const undoing = compensations.of({ key })
          return undoing === undefined ? [] : [{ key, undoing }]
        })
        for (const { key, undoing } of found) {
          tried.add(key)
          yield* undo(context, key, undoing)
        }
        if (found.length > 0) continue
        if (left.length === 0 || handler === undefined || handler.unsafePoll() !== null) return
        yield* Effect.raceFirst(compensations.added.wait, Fiber.await(handler))
      }
    })

  return {
    isDue: () => compensations.due.length > 0,
    left: () => compensations.left,
    unstored: () => compensations.unstored,
    run: (again, within) =>
      Effect.suspend(() => {
        const halt = journal.settle()
        const handler = compensations.areKnown ? undefined : again()
        const stop = Effect.sync(() => {
          // First, so that it learns why what it waits for ends.
          if (handler?.unsafePoll() === null) handler.unsafeInterruptAsFork(FiberId.none)
          halt()
        })
        const collected = handler === undefined ? stop : collect(context, Fiber.await(handler), stop, within)
        return Effect.ensuring(Effect.zipRight(collected, undoAll(handler, stop)), stop)
      })
  }
}
