/**
 * The sessions that own jobs which are run again: such a job begins before its session has come back, with what is stored
 * of it, and knows the session itself from then on.
 */
import * as Effect from "effect/Effect"
import type { InternalError } from "../../../protocol/Errors.js"
import type { JobSession } from "../../../services/jobs/Jobs.js"
import type { EventLog } from "../../../services/log/EventLog.js"
import type { JobRecord, Store, Survival } from "../../../services/store/Store.js"
import * as Faults from "../Faults.js"
import type { LiveJob } from "../LiveJob.js"
import * as Survivals from "./Survival.js"

/** Returns the owner of a job as far as it is stored: nothing can be sent to it. */
export const absentOwner = (
  { log, store }: { readonly log: EventLog["Type"]; readonly store: Store["Type"] },
  record: Pick<JobRecord, "principal" | "sessionId">,
  stored: Pick<Survival, "features" | "identity">
): Effect.Effect<JobSession, InternalError> =>
  Effect.gen(function* () {
    const { sessionId } = record
    const submitter = Survivals.submitter(record, stored)
    const session = yield* Faults.storage(store.session(sessionId))
    return {
      ...submitter,
      sessionId,
      exposed: false,
      view: session === undefined ? log.goneView(sessionId, stored.features) : log.absentView(session),
      send: () => {},
      sendAgain: () => {}
    }
  })

/** Brings jobs that are run again and the sessions that own them together, whichever is here first. */
export class Owners {
  /** Sessions that have been here since the start, and have not ended. */
  private readonly sessions = new Map<string, JobSession>()
  private readonly jobs = new Map<string, Set<LiveJob>>()

  /** Returns the session when it is here already. */
  session(sessionId: string): JobSession | undefined {
    return this.sessions.get(sessionId)
  }
  /** Gives a job its session, now or when that comes; returns what ends the wait. */
  own(live: LiveJob): () => void {
    const { sessionId } = live.owner
    const here = this.sessions.get(sessionId)
    // It may have come while what is stored of it was read.
    if (here !== undefined) {
      live.owner = here
      return () => {}
    }
    const jobs = this.jobs.get(sessionId) ?? new Set()
    this.jobs.set(sessionId, jobs)
    jobs.add(live)
    return () => {
      jobs.delete(live)
      if (jobs.size === 0 && this.jobs.get(sessionId) === jobs) this.jobs.delete(sessionId)
    }
  }
  attach(session: JobSession): void {
    this.sessions.set(session.sessionId, session)
    const jobs = this.jobs.get(session.sessionId)
    if (jobs === undefined) return
    this.jobs.delete(session.sessionId)
    // Somebody else may have taken it over meanwhile.
    for (const live of jobs) if (live.owner.sessionId === session.sessionId) live.owner = session
  }
  /** A session has ended. */
  drop(sessionId: string): void {
    this.sessions.delete(sessionId)
  }
}
