/**
 * The store of tests and of runtimes that need not survive their process. It commits at once and
 * cannot fail, so the log commits to it without a fiber switch; one event costs a few array pushes.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import {
  type JobFilter,
  type JobRecord,
  type Op,
  type Run,
  type SessionRecord,
  Store,
  type StoredEvent,
  type StoreService
} from "../../services/store/Store.js"
import * as FrontTrimmed from "./FrontTrimmed.js"

interface Session {
  record: SessionRecord | undefined
  readonly runs: FrontTrimmed.FrontTrimmed<Run>
  readonly observed: Set<string>
}

interface Job {
  record: JobRecord | undefined
  /** `seq` of the oldest retained event. */
  first: number
  readonly events: FrontTrimmed.FrontTrimmed<StoredEvent>
  readonly observers: Set<string>
}

/** A job that has its record, and so a place in the indexes. */
type Known = Job & { record: JobRecord }

type Place = { readonly createdAt: number; readonly jobId: string }
const order = (a: Place, b: Place): number =>
  a.createdAt - b.createdAt || (a.jobId < b.jobId ? -1 : a.jobId > b.jobId ? 1 : 0)

/** First index in creation order whose job comes at or behind `place`. */
const lowerBound = (jobs: ReadonlyArray<Known>, place: Place): number => {
  let low = 0
  let high = jobs.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (order((jobs[middle] as Known).record, place) < 0) low = middle + 1
    else high = middle
  }
  return low
}

const endOf = (run: Run): number => run.eventSeq + run.count - 1

const matches = (job: JobRecord, filter: JobFilter): boolean =>
  !job.rejected &&
  (filter.principals === "everyone" || filter.principals.includes(job.principal)) &&
  (filter.status === undefined || filter.status.includes(job.status)) &&
  (filter.agent === undefined || job.agent === filter.agent || job.agent.startsWith(`${filter.agent}@`)) &&
  (filter.createdAfter === undefined || job.createdAt > filter.createdAfter) &&
  (filter.parentJobId === undefined || job.parentJobId === filter.parentJobId)

/** Jobs by a key that several may share, in creation order. */
const makeIndex = () => {
  const byKey = new Map<string, Array<Known>>()
  return {
    add: (key: string, job: Known) => {
      const jobs = byKey.get(key)
      if (jobs === undefined) byKey.set(key, [job])
      else jobs.splice(lowerBound(jobs, job.record), 0, job)
    },
    remove: (key: string, job: Known) => {
      const rest = byKey.get(key)?.filter((other) => other !== job) ?? []
      if (rest.length === 0) byKey.delete(key)
      else byKey.set(key, rest)
    },
    newest: (key: string): JobRecord | undefined => byKey.get(key)?.at(-1)?.record
  }
}

const submitKey = (sessionId: string, submitId: string): string => `${sessionId}\0${submitId}`
const idempotencyKey = (principal: string, key: string): string => `${principal}\0${key}`

const make = (): StoreService => {
  const sessions = new Map<string, Session>()
  const jobs = new Map<string, Job>()
  const created: Array<Known> = []
  const bySubmit = makeIndex()
  const byIdempotencyKey = makeIndex()
  let aliveAt = 0

  const sessionOf = (sessionId: string): Session => {
    let session = sessions.get(sessionId)
    if (session === undefined) {
      session = { record: undefined, runs: FrontTrimmed.make(), observed: new Set() }
      sessions.set(sessionId, session)
    }
    return session
  }

  const jobOf = (jobId: string): Job => {
    let job = jobs.get(jobId)
    if (job === undefined) {
      job = { record: undefined, first: 1, events: FrontTrimmed.make(), observers: new Set() }
      jobs.set(jobId, job)
    }
    return job
  }

  const index = (job: Known): void => {
    const { record } = job
    created.splice(lowerBound(created, record), 0, job)
    bySubmit.add(submitKey(record.sessionId, record.submitId), job)
    if (record.idempotencyKey !== undefined && !record.rejected && record.keyFreed !== true)
      byIdempotencyKey.add(idempotencyKey(record.principal, record.idempotencyKey), job)
  }

  const unindex = (job: Known): void => {
    const { record } = job
    created.splice(lowerBound(created, record), 1)
    bySubmit.remove(submitKey(record.sessionId, record.submitId), job)
    if (record.idempotencyKey !== undefined)
      byIdempotencyKey.remove(idempotencyKey(record.principal, record.idempotencyKey), job)
  }

  const sameKeys = (a: JobRecord, b: JobRecord): boolean =>
    a.createdAt === b.createdAt &&
    a.sessionId === b.sessionId &&
    a.submitId === b.submitId &&
    a.principal === b.principal &&
    a.idempotencyKey === b.idempotencyKey &&
    a.keyFreed === b.keyFreed &&
    a.rejected === b.rejected

  const putJob = (record: JobRecord): void => {
    const job = jobOf(record.jobId)
    if (job.record !== undefined && sameKeys(job.record, record)) {
      job.record = record
      return
    }
    if (job.record !== undefined) unindex(job as Known)
    job.record = record
    index(job as Known)
  }

  const putRun = (sessionId: string, run: Run): void => {
    const { runs } = sessionOf(sessionId)
    if (runs.last?.eventSeq === run.eventSeq) runs.replaceLast(run)
    else runs.push(run)
  }

  const append = (jobId: string, events: ReadonlyArray<StoredEvent>): void => {
    const log = jobOf(jobId).events
    for (let i = 0; i < events.length; i++) log.push(events[i] as StoredEvent)
  }

  const dropSession = (sessionId: string): void => {
    for (const jobId of sessions.get(sessionId)?.observed ?? []) jobs.get(jobId)?.observers.delete(sessionId)
    sessions.delete(sessionId)
  }

  const dropJob = (jobId: string): void => {
    const job = jobs.get(jobId)
    if (job === undefined) return
    for (const sessionId of job.observers) sessions.get(sessionId)?.observed.delete(jobId)
    if (job.record !== undefined) unindex(job as Known)
    jobs.delete(jobId)
  }

  const trimSession = (sessionId: string, eventSeq: number): void => {
    const runs = sessions.get(sessionId)?.runs
    // The newest run stays: it is where the session's numbering goes on.
    while (runs !== undefined && runs.length > 1 && endOf(runs.at(0) as Run) < eventSeq) runs.dropFront(1)
  }

  const trimJob = (jobId: string, seq: number): void => {
    const job = jobs.get(jobId)
    if (job === undefined) return
    const count = Math.min(seq - job.first, job.events.length)
    if (count <= 0) return
    job.events.dropFront(count)
    job.first += count
  }

  const apply = (op: Op): void => {
    switch (op._tag) {
      case "Append":
        append(op.jobId, op.events)
        break
      case "PutRun":
        putRun(op.sessionId, op.run)
        break
      case "PutSession":
        sessionOf(op.session.sessionId).record = op.session
        break
      case "DropSession":
        dropSession(op.sessionId)
        break
      case "PutJob":
        putJob(op.job)
        break
      case "DropJob":
        dropJob(op.jobId)
        break
      case "Observe":
        sessionOf(op.sessionId).observed.add(op.jobId)
        jobOf(op.jobId).observers.add(op.sessionId)
        break
      case "Unobserve":
        sessions.get(op.sessionId)?.observed.delete(op.jobId)
        jobs.get(op.jobId)?.observers.delete(op.sessionId)
        break
      case "TrimSession":
        trimSession(op.sessionId, op.eventSeq)
        break
      case "TrimJob":
        trimJob(op.jobId, op.seq)
        break
      case "Alive":
        aliveAt = op.at
        break
    }
  }

  const applyAll = (batch: ReadonlyArray<Op>): void => {
    for (let i = 0; i < batch.length; i++) apply(batch[i] as Op)
  }

  const runsFrom = (sessionId: string, fromEventSeq: number, limit: number): ReadonlyArray<Run> => {
    const runs = sessions.get(sessionId)?.runs
    if (runs === undefined) return []
    let low = 0
    let high = runs.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (endOf(runs.at(middle) as Run) < fromEventSeq) low = middle + 1
      else high = middle
    }
    return runs.slice(low, low + limit)
  }

  const list = (filter: JobFilter): ReadonlyArray<JobRecord> => {
    const found: Array<JobRecord> = []
    let i = 0
    if (filter.after !== undefined) {
      i = lowerBound(created, filter.after)
      const at = created[i]
      if (at !== undefined && order(at.record, filter.after) === 0) i++
    }
    for (; i < created.length && found.length < filter.limit; i++) {
      const { record } = created[i] as Known
      if (filter.createdBefore !== undefined && record.createdAt >= filter.createdBefore) break
      if (matches(record, filter)) found.push(record)
    }
    return found
  }

  const endedJobs = (endedBefore: number, limit: number): ReadonlyArray<string> => {
    const ids: Array<string> = []
    for (let i = 0; i < created.length && ids.length < limit; i++) {
      const { endedAt, jobId } = (created[i] as Known).record
      if (endedAt !== undefined && endedAt < endedBefore) ids.push(jobId)
    }
    return ids
  }

  const events = (jobId: string, fromSeq: number, limit: number): ReadonlyArray<StoredEvent> => {
    const job = jobs.get(jobId)
    if (job === undefined) return []
    const from = Math.max(0, fromSeq - job.first)
    return job.events.slice(from, from + limit)
  }

  const bounds = (jobId: string) => {
    const job = jobs.get(jobId)
    return job === undefined
      ? { first: 1, last: 0 }
      : { first: job.first, last: job.first + job.events.length - 1 }
  }

  return {
    kind: "memory",
    commit: (batch) => Effect.sync(() => applyAll(batch)),
    session: (sessionId) => Effect.sync(() => sessions.get(sessionId)?.record),
    sessions: Effect.sync(() =>
      Array.from(sessions.values(), (session) => session.record).filter((record) => record !== undefined)
    ),
    lastRun: (sessionId) => Effect.sync(() => sessions.get(sessionId)?.runs.last),
    runs: (sessionId, fromEventSeq, limit) => Effect.sync(() => runsFrom(sessionId, fromEventSeq, limit)),
    observers: (jobId) => Effect.sync(() => Array.from(jobs.get(jobId)?.observers ?? [])),
    job: (jobId) => Effect.sync(() => jobs.get(jobId)?.record),
    jobs: (filter) => Effect.sync(() => list(filter)),
    jobBySubmit: (sessionId, submitId) => Effect.sync(() => bySubmit.newest(submitKey(sessionId, submitId))),
    jobByKey: (principal, key) => Effect.sync(() => byIdempotencyKey.newest(idempotencyKey(principal, key))),
    endedJobs: (endedBefore, limit) => Effect.sync(() => endedJobs(endedBefore, limit)),
    events: (jobId, fromSeq, limit) => Effect.sync(() => events(jobId, fromSeq, limit)),
    bounds: (jobId) => Effect.sync(() => bounds(jobId)),
    aliveAt: Effect.sync(() => aliveAt),
    vacuum: Effect.succeed(false)
  }
}

/** A store in memory: commits cannot fail, nothing outlives the layer. */
export const layer: Layer.Layer<Store> = Layer.sync(Store, make)
