/** What retention asks the tables of a store in memory: who sees, who needs, and what has ended. */
import type { Viewer } from "../../../services/store/Store.js"
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
    if (session?.record === undefined) continue
    const seq = share.lowest(session.low)
    if (seq !== undefined && (lowest === undefined || seq < lowest)) lowest = seq
  }
  return lowest
}

/** Says whether a stored session still needs something of a job. */
export const isNeeded = ({ jobs, sessions }: Tables, jobId: string): boolean => {
  for (const [sessionId, { end }] of jobs.get(jobId)?.shares ?? []) {
    const session = sessions.get(sessionId)
    if (session?.record !== undefined && end > session.low) return true
  }
  return false
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
