/** What can be read of the tables of a store in memory: views, events, jobs. */
import { byteLength } from "../../../protocol/Utf8.js"
import { dueAt } from "../../../services/store/dueAt.js"
import {
  type Bounds,
  type DueQuery,
  epochOf,
  eventOverhead,
  type HookEvent,
  type JobFilter,
  type JobRecord,
  type JournalEntry,
  type JournalIndexEntry,
  type LateEvent,
  type News,
  type NewsQuery,
  type Numbering,
  noJobs,
  type OpenJobs,
  type Place,
  type PlacedWish,
  type Run,
  type SessionFilter,
  type SessionRecord,
  type StoredEvent,
  type ViewEvent
} from "../../../services/store/Store.js"
import { type ListingPlace, type ListingStep, stepSize } from "../listing.js"
import { byCreation, byDue, nodeOf } from "./JobIndexes.js"
import { byName, endOf, firstRunAt } from "./state.js"
import type { Tables } from "./Tables.js"

/** Returns the runs of a view from a number on, at most `limit`. */
export const runsFrom = (
  { sessions }: Tables,
  sessionId: string,
  fromEventSeq: number,
  limit: number
): ReadonlyArray<Run> => {
  const session = sessions.get(sessionId)
  if (session === undefined) return []
  const from = firstRunAt(session.runs, Math.max(fromEventSeq, session.floor))
  return session.runs.slice(from, from + limit)
}

/** Returns the events of a view that follow `after`, as `StoreService.page` says. */
export const page = (
  { jobs, sessions }: Tables,
  sessionId: string,
  after: number,
  limit: number,
  maxBytes: number
): ReadonlyArray<ViewEvent> => {
  const found: Array<ViewEvent> = []
  const session = sessions.get(sessionId)
  if (session === undefined || after + 1 < session.floor) return found
  let bytes = 0
  let seq = after + 1
  for (let i = firstRunAt(session.runs, seq); ; i++) {
    const run = session.runs.at(i)
    if (run === undefined) return found
    const job = jobs.get(run.jobId)
    if (run.eventSeq > seq || job?.record === undefined) return found
    const { jobId, sessionId, traceId } = job.record
    const owner = { jobId, traceId, sessionId }
    for (; seq <= endOf(run); seq++) {
      const event = job.events.at(run.jobSeq + (seq - run.eventSeq) - job.first)
      if (event === undefined || found.length >= limit || bytes > maxBytes) return found
      found.push({ eventSeq: seq, job: owner, event })
      bytes += event.payload.length + eventOverhead
    }
  }
}

/** Returns what a session has numbered of a job, as `StoreService.numbering` says. */
export const numbering = ({ jobs }: Tables, sessionId: string, jobId: string, after: number): Numbering =>
  jobs.get(jobId)?.shares.get(sessionId)?.numbering(after) ?? unnumbered

const unnumbered: Numbering = { last: 0, through: 0, next: undefined }

/** Returns what follows a place in each of some jobs, as `StoreService.backlog` says. */
export const backlog = (
  { jobs }: Tables,
  after: ReadonlyArray<{ readonly jobId: string; readonly seq: number }>,
  limit: number
): ReadonlyArray<LateEvent> => {
  const stretches = after.flatMap(({ jobId, seq }) => {
    const job = jobs.get(jobId)
    return job === undefined
      ? []
      : job.stretchesAfter(seq, limit).map((stretch) => ({ ...stretch, job, jobId }))
  })
  stretches.sort((a, b) => a.order - b.order)
  const found: Array<LateEvent> = []
  for (const { end, job, jobId, seq: from } of stretches)
    for (let seq = from; seq < end; seq++) {
      const event = job.events.at(seq - job.first)
      if (event === undefined || found.length >= limit) return found
      const { audience, kind, payload, type } = event
      found.push({ jobId, seq, type, kind, audience, bytes: payload.length + eventOverhead })
    }
  return found
}

/** Returns what there is for sessions of a node, as `StoreService.news` says. */
export const news = (tables: Tables, { after, limit, maxBytes, node, sessions }: NewsQuery): News => {
  const asked = new Set(after.map(({ jobId }) => jobId))
  /** A session has come to nothing of it yet, although there is something. */
  const isFresh = (sessionId: string, jobId: string, cursor: number) => {
    const job = tables.jobs.get(jobId)
    const hasEvents = job !== undefined && job.first + job.events.length > 1
    return cursor === 0 && hasEvents && numbering(tables, sessionId, jobId, 0).last === 0
  }
  const isFar = (jobId: string) => !["", node].includes(tables.jobs.get(jobId)?.record?.node ?? "")
  let taken = 0
  return {
    events: backlog(tables, after, limit).map((event) => {
      taken += event.bytes
      const [stored] = taken > maxBytes ? [] : events(tables, event.jobId, event.seq, 1)
      return { ...event, payload: stored?.payload }
    }),
    joined: new Set(
      sessions.filter((sessionId) =>
        [...(tables.sessions.get(sessionId)?.observed ?? [])].some(
          ([jobId, cursor]) => isFar(jobId) && (!asked.has(jobId) || isFresh(sessionId, jobId, cursor))
        )
      )
    ),
    lost: new Set(sessions.filter((sessionId) => tables.sessions.get(sessionId)?.lost === true)),
    gone: new Set([...asked].filter((jobId) => !tables.jobs.has(jobId)))
  }
}

/** Returns the events of a job from `fromSeq` on, at most `limit`. */
export const events = (
  { jobs }: Tables,
  jobId: string,
  fromSeq: number,
  limit: number
): ReadonlyArray<StoredEvent> => {
  const job = jobs.get(jobId)
  if (job === undefined) return []
  const from = Math.max(0, fromSeq - job.first)
  return job.events.slice(from, from + limit)
}

/** Returns what is retained of each of these jobs that ever had an event. */
export const boundsOf = ({ jobs }: Tables, jobIds: ReadonlyArray<string>): ReadonlyMap<string, Bounds> => {
  const found = new Map<string, Bounds>()
  for (const jobId of jobIds) {
    const bounds = jobs.get(jobId)?.bounds
    if (bounds !== undefined && bounds.last > 0) found.set(jobId, bounds)
  }
  return found
}

const waits = (job: JobRecord, how: Exclude<JobFilter["waiting"], undefined>): boolean => {
  if (dueAt(job) === undefined) return how === "held"
  return how === "rows" || (how === "held" ? job.parentJobId : job.survival?.parked) !== undefined
}

const matches = (job: JobRecord, filter: JobFilter): boolean =>
  !job.rejected &&
  (filter.principals === "everyone" || filter.principals.includes(job.principal)) &&
  (filter.status === undefined || filter.status.includes(job.status)) &&
  (filter.agent === undefined || job.agent === filter.agent || job.agent.startsWith(`${filter.agent}@`)) &&
  (filter.parentJobId === undefined || job.parentJobId === filter.parentJobId) &&
  (filter.node === undefined || nodeOf(job) === filter.node) &&
  (filter.waiting === undefined || waits(job, filter.waiting))

/** Looks at the jobs that follow a place in the order of listings, a step's worth of them. */
export const listingStep = (
  { indexes: { created } }: Tables,
  filter: JobFilter,
  after: ListingPlace
): ListingStep<JobRecord> => {
  const found: Array<JobRecord> = []
  const from = created.lowerBound((job) => byCreation(job.record, after) || -1)
  for (let i = from; i < from + stepSize && found.length < filter.limit; i++) {
    const record = created.at(i)?.record
    if (record === undefined || record.createdAt >= (filter.createdBefore ?? Number.POSITIVE_INFINITY))
      return { found, next: undefined }
    if (matches(record, filter)) found.push(record)
  }
  return { found, next: created.at(from + stepSize - 1)?.record }
}

/** Returns jobs that wait and are due, as `StoreService.due` says. */
export const due = (
  { indexes: { waiting } }: Tables,
  { after, by, limit, node }: DueQuery
): ReadonlyArray<JobRecord> => {
  const found: Array<JobRecord> = []
  const from = after === undefined ? 0 : waiting.lowerBound((job) => byDue(job, after) || -1)
  for (let i = from; found.length < limit; i++) {
    const job = waiting.at(i)
    if (job === undefined || job.dueAt > by) break
    if (node === undefined || nodeOf(job.record) === node) found.push(job.record)
  }
  return found
}

/** Returns the nodes that have jobs which have not ended. */
export const jobNodes = ({ jobs }: Tables): ReadonlyArray<string> => {
  const found = new Set<string>()
  for (const { record } of jobs.values())
    if (record !== undefined && record.endedAt === undefined && !record.rejected) found.add(nodeOf(record))
  return [...found].sort()
}

/** Returns what principals have on these nodes, as `StoreService.openOn` says. */
export const openOn = (
  { jobs }: Tables,
  nodes: ReadonlyArray<string>,
  principals: ReadonlyArray<string>
): ReadonlyMap<string, OpenJobs> => {
  const wanted = new Set(principals)
  const found = new Map<string, OpenJobs>()
  for (const { record } of jobs.values()) {
    if (record === undefined || record.endedAt !== undefined || record.rejected) continue
    if (!nodes.includes(nodeOf(record)) || !wanted.has(record.principal)) continue
    const isRow = dueAt(record) !== undefined
    const { pending, running } = found.get(record.principal) ?? noJobs
    const isPending = record.status === "pending"
    found.set(record.principal, {
      pending: pending + (isPending ? 1 : 0),
      running: running + (isPending || isRow ? 0 : 1)
    })
  }
  return found
}

const placeOf = (record: Parameters<typeof epochOf>[0] & { readonly node?: string | undefined }): Place => ({
  epoch: epochOf(record),
  node: record.node ?? ""
})

/** Returns where jobs are. */
export const jobPlaces = ({ jobs }: Tables, jobIds: ReadonlyArray<string>): ReadonlyMap<string, Place> =>
  new Map(
    jobIds.flatMap((jobId) => {
      const record = jobs.get(jobId)?.record
      return record === undefined ? [] : [[jobId, placeOf(record)]]
    })
  )

/** Returns where sessions are. */
export const sessionPlaces = (
  { sessions }: Tables,
  sessionIds: ReadonlyArray<string>
): ReadonlyMap<string, Place> =>
  new Map(
    sessionIds.flatMap((sessionId) => {
      const record = sessions.get(sessionId)?.record
      return record === undefined ? [] : [[sessionId, placeOf(record)]]
    })
  )

/** Returns sessions, by id. */
export const sessionPage = (
  { sessions }: Tables,
  { after = "", limit, node, notOf = [] }: SessionFilter
): ReadonlyArray<SessionRecord> =>
  [...sessions.values()]
    .flatMap(({ record }) => (record === undefined || record.sessionId <= after ? [] : [record]))
    .filter((record) => (node === undefined || nodeOf(record) === node) && !notOf.includes(nodeOf(record)))
    .sort((a, b) => (a.sessionId < b.sessionId ? -1 : 1))
    .slice(0, limit)

/** Returns what a node wants, and what is wanted of it, or all wishes; oldest first. */
export const wishes = (
  { jobs, wishes }: Tables,
  node: string | undefined,
  limit: number
): ReadonlyArray<PlacedWish> =>
  Array.from(wishes.values(), (wish): PlacedWish => {
    const record = jobs.get(wish.jobId)?.record
    const job = record && { node: nodeOf(record), ended: record.endedAt !== undefined }
    return { ...wish, job }
  })
    .filter(
      ({ answer, from, job }) =>
        node === undefined || from === node || (answer === undefined && job?.node === node && !job.ended)
    )
    .sort((a, b) => a.at - b.at || (a.id < b.id ? -1 : 1))
    .slice(0, limit)

/** Returns the jobs that wait and that a session observes. */
export const waitingObserved = ({ jobs, sessions }: Tables, sessionId: string): ReadonlyArray<string> =>
  [...(sessions.get(sessionId)?.observed.keys() ?? [])].filter((jobId) => {
    const record = jobs.get(jobId)?.record
    return record !== undefined && dueAt(record) !== undefined
  })

/** Returns entries of a journal after a place, without their values. */
export const journal = (
  { jobs }: Tables,
  jobId: string,
  after: Pick<JournalEntry, "kind" | "key">,
  limit: number
): ReadonlyArray<JournalIndexEntry> => {
  const found: Array<JournalIndexEntry> = []
  for (const entry of jobs.get(jobId)?.journalEntries ?? []) {
    if (found.length >= limit) break
    const { about, key, kind, ordinal, value } = entry
    if (byName(entry, after) > 0)
      found.push({ kind, key, ordinal, about, size: value === undefined ? undefined : byteLength(value) })
  }
  return found
}

const byPlace = (a: Omit<HookEvent, "text">, b: Omit<HookEvent, "text">): number =>
  a.jobId < b.jobId ? -1 : a.jobId > b.jobId ? 1 : a.seq - b.seq

/** Returns the calls of hooks that are owed after a place, by job and `seq`. */
export const hookEvents = (
  { hookEvents }: Tables,
  after: Omit<HookEvent, "text">,
  limit: number
): ReadonlyArray<HookEvent> =>
  [...hookEvents.values()]
    .filter((event) => byPlace(event, after) > 0)
    .sort(byPlace)
    .slice(0, limit)

/** Returns how much each node has, as `StoreService.nodeCounts` says. */
export const nodeCounts = ({ jobs, sessions }: Tables) => {
  const count = (nodes: ReadonlyArray<string>): ReadonlyMap<string, number> => {
    const counts = new Map<string, number>()
    for (const node of nodes) counts.set(node, (counts.get(node) ?? 0) + 1)
    return counts
  }
  return {
    jobs: count(
      [...jobs.values()].flatMap(({ record }) =>
        record === undefined || record.rejected || record.endedAt !== undefined ? [] : [nodeOf(record)]
      )
    ),
    sessions: count(
      [...sessions.values()].flatMap(({ record }) => (record?.attached === true ? [record.node ?? ""] : []))
    )
  }
}
