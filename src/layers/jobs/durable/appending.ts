/**
 * How what a durable job says comes into its log together with its journal. An entry is made in the step in which its event takes
 * its place, and nowhere else: one that was made before would be in memory only when the event is refused, or when whoever waits
 * for its place is interrupted.
 */
import * as Effect from "effect/Effect"
import type { InternalError } from "../../../protocol/Errors.js"
import type { EventLog, JobLog, NewEvent } from "../../../services/log/EventLog.js"
import * as Faults from "../Faults.js"

/**
 * Appends an event with its entries; `refused` is called when the log refuses it before they are asked for. Returns whether they
 * were asked for: a log that has ended takes nothing, and nothing is remembered then.
 */
export const append = (
  { job, log }: { readonly job: JobLog; readonly log: Pick<EventLog["Type"], "append"> },
  event: NewEvent,
  refused?: () => void
): Effect.Effect<boolean, InternalError> =>
  Effect.suspend(() => {
    let isAsked = false
    let isRefused = false
    const makeJournal = () => {
      const made = event.makeJournal?.()
      isAsked = true
      isRefused = Effect.isEffect(made)
      return made
    }
    return log.append(job, { ...event, makeJournal }).pipe(
      Effect.tapError((error) => {
        if (!isAsked) refused?.()
        // What the journal has no room for is not the runtime's fault.
        return isRefused ? Effect.void : Faults.blamed(error)
      }),
      Effect.map(() => isAsked)
    )
  })

/** The same, for what begins something: in a log that has ended nothing is begun any more. */
export const begin = (
  home: Parameters<typeof append>[0],
  event: NewEvent
): Effect.Effect<void, InternalError> =>
  Effect.flatMap(append(home, event), (isAsked) => (isAsked ? Effect.void : Effect.interrupt))
