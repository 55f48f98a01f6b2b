/** What retention asks the tables of a store in memory: who sees, who needs, and what has ended. */
import type { Observed, Viewer } from "../../../services/store/Store.js"
import type { Ended, EndPlace } from "../ended.js"
import { byEnd } from "./JobIndexes.js"
import type { Tables } from "./Tables.js"

/** Returns the ids of the sessions that observe each of these jobs. */
export const observersOf = (
  { jobs }: Tables,
  jobIds: ReadonlyArray<string>
): ReadonlyMap<string, ReadonlyArray<string>> => {
  const found = new Map<string, ReadonlyArray<string>>()
  for (const jobId of jobIds) {
    const observers = jobs.get(jobId)?.observers
    if (observers !== undefined && observers.size > 0) found.set(jobId, Array.from(observers))
  }
  return found
}

/** Returns the stored sessions whose views retain something of these jobs. */
export const viewers = ({ jobs, sessions }: Tables, jobIds: ReadonlyArray<string>): ReadonlyArray<Viewer> => {
  const found: Array<Viewer> = []
  for (const jobId of jobIds)
    for (const [sessionId, { end }] of jobs.get(jobId)?.shares ?? []) {
      const session = sessions.get(sessionId)
      if (session?.record !== undefined && end > session.floor) found.push({ sessionId, jobId, end })
    }
  return found
}

/** Returns the lowest `seq` of a job that a stored session still needs. */
export const needed = ({ jobs, sessions }: Tables, jobId: string): number | undefined => {
  let lowest: number | undefined
  for (const [sessionId, share] of jobs.get(jobId)?.shares ?? []) {
    const session = sessions.get(sessionId)
    if (session?.record === undefined || session.lost) continue
    const seq = share.lowest(session.low)
    if (seq !== undefined && (lowest === undefined || seq < lowest)) lowest = seq
  }
  for (const cursor of cursorsBehind({ jobs, sessions }, jobId).values())
    if (lowest === undefined || cursor < lowest) lowest = cursor + 1
  return lowest
}

/** Returns the cursors of the stored sessions that have not come to the newest event of a job, and have lost nothing. */
const cursorsBehind = (
  { jobs, sessions }: Pick<Tables, "jobs" | "sessions">,
  jobId: string
): ReadonlyMap<string, number> => {
  const found = new Map<string, number>()
  const job = jobs.get(jobId)
  for (const sessionId of job?.observers ?? []) {
    const session = sessions.get(sessionId)
    if (job === undefined || session?.record === undefined || session.lost) continue
    const cursor = session.cursorOf(job, jobId, sessionId)
    if (cursor < job.bounds.last) found.set(sessionId, cursor)
  }
  return found
}

/** Returns who has not come to the newest event of a job, as `StoreService.lagging` says. */
export const lagging = (tables: Tables, jobId: string): ReadonlyArray<string> =>
  Array.from(cursorsBehind(tables, jobId).keys())

/** Returns what a session observes, by job id. */
export const observed = ({ jobs, sessions }: Tables, sessionId: string): ReadonlyArray<Observed> => {
  const session = sessions.get(sessionId)
  return Array.from(session?.observed.keys() ?? [])
    .sort()
    .flatMap((jobId) => {
      const job = jobs.get(jobId)
      if (session === undefined || job === undefined) return []
      const cursor = session.cursorOf(job, jobId, sessionId)
      const { record } = job
      return [
        {
          ...{ jobId, node: record?.node ?? "", ended: record?.endedAt !== undefined },
          ...{ cursor, last: job.bounds.last, bytes: job.bytesAfter(cursor) }
        }
      ]
    })
}

/** Says whether the job that delegated to this one still needs it, as `StoreService.neededAbove` says. */
export const neededAbove = ({ jobs }: Tables, jobId: string): boolean => {
  const above = jobs.get(jobs.get(jobId)?.record?.parentJobId ?? "")
  return above?.record !== undefined && above.record.endedAt === undefined && above.delegates
}

/** Says whether a stored session, or the job above, still needs something of a job. */
export const isNeeded = (tables: Tables, jobId: string): boolean => {
  const { jobs, sessions } = tables
  if (neededAbove(tables, jobId)) return true
  for (const [sessionId, { end }] of jobs.get(jobId)?.shares ?? []) {
    const session = sessions.get(sessionId)
    if (session?.record !== undefined && !session.lost && end > session.low) return true
  }
  return cursorsBehind(tables, jobId).size > 0
}

/** Returns jobs that ended after a place and before a time, oldest end first, at most `limit`. */
export const endedAfter = (
  { indexes }: Tables,
  principal: string | undefined,
  after: EndPlace,
  endedBefore: number,
  limit: number
): ReadonlyArray<Ended> => {
  const list = indexes.endedOf(principal)
  const found: Array<Ended> = []
  if (list === undefined) return found
  for (let i = list.lowerBound((job) => byEnd(job, after) || -1); found.length < limit; i++) {
    const job = list.at(i)
    if (job === undefined || job.endedAt >= endedBefore) break
    found.push(job)
  }
  return found
}

/** Counts the events that are kept, and their bytes. */
export const retained = ({ jobs }: Tables): { readonly events: number; readonly bytes: number } => {
  let events = 0
  let bytes = 0
  for (const { bounds } of jobs.values()) {
    events += bounds.last - bounds.first + 1
    bytes += bounds.bytes
  }
  return { events, bytes }
}
