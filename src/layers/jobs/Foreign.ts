/**
 * The end of a session's subscriptions to jobs of other principals, when its token ends (§4.1 of the protocol page). From that
 * moment nothing of such jobs is numbered for the session, whatever the store does; that they are over is stored as soon as it can
 * be. The session may be resumed meanwhile, and whoever subscribes then waits for that, or the new subscription would end with the
 * old ones. One that was asked for before and is not stored by then is refused in its commit (Lookup.ts).
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { InternalError } from "../../protocol/Errors.js"
import type { JobSession } from "../../services/jobs/Jobs.js"
import { isTaken } from "../../services/log/taken.js"
import * as Faults from "./Faults.js"
import type { JobParts } from "./JobParts.js"
import type { Lookup } from "./Lookup.js"

/** When a try that failed is followed by another: soon at first, then every 5 s. */
const again = Schedule.union(Schedule.exponential("100 millis"), Schedule.spaced("5 seconds"))

/** Ends subscriptions to jobs of other principals. */
export interface Foreign {
  /** Ends those that the session has. Does not wait until that is stored. */
  readonly end: (session: JobSession) => Effect.Effect<void>
  /** Returns when those that were to end are stored as ended. */
  readonly ended: (session: JobSession) => Effect.Effect<void, InternalError>
  /** A session has ended, and all that it observes with it. */
  readonly dropped: (sessionId: string) => void
}

/** Returns what ends subscriptions to jobs of other principals. */
export const make = ({ asking, log, store }: JobParts, lookup: Pick<Lookup, "job">): Foreign => {
  /** Of sessions whose subscriptions are to end: what stores that, once. */
  const ending = new Map<string, Effect.Effect<void, InternalError>>()

  /** One that cannot be ended keeps none of the others. */
  const endAll = ({ identity: { principal }, sessionId, view }: JobSession) =>
    Effect.gen(function* () {
      const waiting = yield* Faults.storage(store.waitingObserved(sessionId))
      const [failures] = yield* Effect.partition(new Set([...view.observedJobs, ...waiting]), (jobId) =>
        Effect.flatMap(lookup.job(jobId), (record) =>
          record === undefined || record.principal === principal ? Effect.void : log.unobserve(view, jobId)
        )
      )
      const failure = failures.find(isTaken) ?? failures[0]
      if (failure !== undefined) return yield* failure
    })

  const begin = (session: JobSession) => {
    const { identity, sessionId, view } = session
    const isWanted = (): boolean => ending.get(sessionId) === attempt
    const over = Effect.sync(() => {
      ending.delete(sessionId)
      view.seeOnly(undefined)
    })
    const one = Effect.unsafeMakeSemaphore(1).withPermits(1)
    const attempt: Effect.Effect<void, InternalError> = one(
      Effect.suspend(() => (isWanted() ? Effect.zipRight(endAll(session), over) : Effect.void))
    )
    ending.set(sessionId, attempt)
    view.seeOnly(identity.principal)
    return attempt.pipe(
      Effect.tapError((error) =>
        Effect.annotateLogs(
          Effect.logWarning(
            "subscriptions that end with a token could not be stored as ended; will try again",
            error.message
          ),
          { session: sessionId, principal: identity.principal }
        )
      ),
      Effect.retry({ schedule: again, while: (error) => isWanted() && !isTaken(error) })
    )
  }

  return {
    end: (session) =>
      Effect.sync(() => {
        if (!ending.has(session.sessionId))
          asking.later("subscriptions ended with a token", begin(session), () => {})
      }),
    ended: ({ sessionId }) => Effect.suspend(() => ending.get(sessionId) ?? Effect.void),
    dropped: (sessionId) => {
      ending.delete(sessionId)
    }
  }
}
