/**
 * The sessions that own jobs which are run again: such a job begins before its session has come back, with what is stored
 * of it, and knows the session itself from then on.
 */
import type { JobSession } from "../../../services/jobs/Jobs.js"
import type { LiveJob } from "../LiveJob.js"

/** Brings jobs that are run again and the sessions that own them together, whichever is here first. */
export class Owners {
  /** Sessions that came while jobs were still to be run again. */
  private readonly sessions = new Map<string, JobSession>()
  private readonly jobs = new Map<string, Set<LiveJob>>()
  private isOver = false

  /** Returns the session when it is here already. */
  session(sessionId: string): JobSession | undefined {
    return this.sessions.get(sessionId)
  }
  /** Gives a job its session when that comes; returns what ends the wait. */
  own(live: LiveJob): () => void {
    const { sessionId } = live.owner
    const jobs = this.jobs.get(sessionId) ?? new Set()
    this.jobs.set(sessionId, jobs)
    jobs.add(live)
    return () => {
      jobs.delete(live)
      if (jobs.size === 0 && this.jobs.get(sessionId) === jobs) this.jobs.delete(sessionId)
    }
  }
  attach(session: JobSession): void {
    if (!this.isOver) this.sessions.set(session.sessionId, session)
    const jobs = this.jobs.get(session.sessionId)
    if (jobs === undefined) return
    this.jobs.delete(session.sessionId)
    // Somebody else may have taken it over meanwhile.
    for (const live of jobs) if (live.owner.sessionId === session.sessionId) live.owner = session
  }
  /** All jobs have been run again. */
  end(): void {
    this.isOver = true
    this.sessions.clear()
  }
}
