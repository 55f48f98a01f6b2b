/**
 * The store of tests and of runtimes that need not survive their process. It commits at once and
 * cannot fail, so the log commits to it without a fiber switch; one event costs a few array pushes.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Turn } from "../../services/runtime/Turn.js"
import {
  type Bounds,
  eventOverhead,
  type JobFilter,
  type JobRecord,
  type Op,
  type Run,
  Store,
  type StoredEvent,
  type StoreService,
  type ViewEvent,
  type Viewer
} from "../../services/store/Store.js"
import { type Ended, type EndPlace, firstPlace, makeSearch } from "./ended.js"
import { type ListingStep, list, stepSize } from "./listing.js"
import { byCreation, byEnd, JobIndexes, type ListingPlace, type RecordedJob } from "./memory/JobIndexes.js"
import { endOf, firstRunAt, MemoryJob, MemorySession } from "./memoryState.js"

const isKnown = (job: MemoryJob): job is RecordedJob => job.record !== undefined

const matches = (job: JobRecord, filter: JobFilter): boolean =>
  !job.rejected &&
  (filter.principals === "everyone" || filter.principals.includes(job.principal)) &&
  (filter.status === undefined || filter.status.includes(job.status)) &&
  (filter.agent === undefined || job.agent === filter.agent || job.agent.startsWith(`${filter.agent}@`)) &&
  (filter.parentJobId === undefined || job.parentJobId === filter.parentJobId)

const make = Effect.gen(function* () {
  const turn = yield* Turn
  return makeOver(turn.next)
})

const makeOver = (pause: Effect.Effect<void>): StoreService => {
  const sessions = new Map<string, MemorySession>()
  const jobs = new Map<string, MemoryJob>()
  const indexes = new JobIndexes()
  let nextKey = 1
  let aliveAt = 0
  let held = 0

  const sessionOf = (sessionId: string): MemorySession => {
    let session = sessions.get(sessionId)
    if (session === undefined) {
      session = new MemorySession()
      sessions.set(sessionId, session)
    }
    return session
  }

  const jobOf = (jobId: string): MemoryJob => {
    let job = jobs.get(jobId)
    if (job === undefined) {
      job = new MemoryJob(nextKey++)
      jobs.set(jobId, job)
    }
    return job
  }

  const putJob = (record: JobRecord): void => {
    const job = jobOf(record.jobId)
    if (isKnown(job)) indexes.replace(job, record)
    else indexes.add(Object.assign(job, { record }))
  }

  const putRun = (sessionId: string, run: Run): void => {
    const { runs } = sessionOf(sessionId)
    if (runs.last?.eventSeq === run.eventSeq) runs.replaceLast(run)
    else runs.push(run)
    jobOf(run.jobId).shareOf(sessionId).put(run)
  }

  const dropSession = (sessionId: string): void => {
    const session = sessions.get(sessionId)
    if (session === undefined) return
    for (const jobId of session.observed) jobs.get(jobId)?.observers.delete(sessionId)
    for (let i = 0; i < session.runs.length; i++)
      jobs.get((session.runs.at(i) as Run).jobId)?.shares.delete(sessionId)
    sessions.delete(sessionId)
  }

  const dropJob = (jobId: string): void => {
    const job = jobs.get(jobId)
    if (job === undefined) return
    for (const sessionId of job.observers) sessions.get(sessionId)?.observed.delete(jobId)
    if (isKnown(job)) indexes.remove(job)
    jobs.delete(jobId)
  }

  const trimSession = (sessionId: string, eventSeq: number): void => {
    const session = sessions.get(sessionId)
    if (session === undefined) return
    session.floor = Math.max(session.floor, Math.min(eventSeq, session.last + 1))
    // The newest run stays: it is where the session's numbering goes on.
    while (session.runs.length > 1) {
      const oldest = session.runs.at(0) as Run
      if (endOf(oldest) >= session.floor) break
      session.runs.dropFront(1)
      jobs.get(oldest.jobId)?.dropRun(sessionId, oldest)
    }
  }

  const apply = (op: Op): void => {
    switch (op._tag) {
      case "Append":
        jobOf(op.jobId).append(op.events)
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
        jobs.get(op.jobId)?.trim(op.seq)
        break
      case "Need": {
        const session = sessions.get(op.sessionId)
        if (session?.record !== undefined) session.need = op.eventSeq
        break
      }
      case "PutInput":
        jobOf(op.jobId).input = op.input
        break
      case "Alive":
        aliveAt = op.at
        break
    }
  }

  /** The job whose memory an operation changes. */
  const touched = (op: Op): string | undefined =>
    op._tag === "PutJob"
      ? op.job.jobId
      : op._tag === "Append" || op._tag === "TrimJob" || op._tag === "DropJob" || op._tag === "PutInput"
        ? op.jobId
        : undefined

  const applyAll = (batch: ReadonlyArray<Op>): void => {
    for (let i = 0; i < batch.length; i++) {
      const op = batch[i] as Op
      const jobId = touched(op)
      if (jobId === undefined) apply(op)
      else {
        const before = jobs.get(jobId)?.held ?? 0
        apply(op)
        held += (jobs.get(jobId)?.held ?? 0) - before
      }
    }
  }

  const runsFrom = (sessionId: string, fromEventSeq: number, limit: number): ReadonlyArray<Run> => {
    const session = sessions.get(sessionId)
    if (session === undefined) return []
    const from = firstRunAt(session.runs, Math.max(fromEventSeq, session.floor))
    return session.runs.slice(from, from + limit)
  }

  const page = (
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
    for (let i = firstRunAt(session.runs, seq); i < session.runs.length; i++) {
      const run = session.runs.at(i) as Run
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
    return found
  }

  const viewers = (jobIds: ReadonlyArray<string>): ReadonlyArray<Viewer> => {
    const found: Array<Viewer> = []
    for (const jobId of jobIds)
      for (const [sessionId, { end }] of jobs.get(jobId)?.shares ?? []) {
        const session = sessions.get(sessionId)
        if (session?.record !== undefined && end > session.floor) found.push({ sessionId, jobId, end })
      }
    return found
  }

  const needed = (jobId: string): number | undefined => {
    let lowest: number | undefined
    for (const [sessionId, share] of jobs.get(jobId)?.shares ?? []) {
      const session = sessions.get(sessionId)
      if (session?.record === undefined) continue
      const seq = share.lowest(session.low)
      if (seq !== undefined && (lowest === undefined || seq < lowest)) lowest = seq
    }
    return lowest
  }

  const isNeeded = (jobId: string): boolean => {
    for (const [sessionId, { end }] of jobs.get(jobId)?.shares ?? []) {
      const session = sessions.get(sessionId)
      if (session?.record !== undefined && end > session.low) return true
    }
    return false
  }

  const endedAfter = (
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

  const unneeded = makeSearch({
    ended: (...query) => Effect.sync(() => endedAfter(...query)),
    neededOf: (jobIds) => Effect.sync(() => new Set(jobIds.filter(isNeeded))),
    pause
  })

  const listed = (filter: JobFilter, after: ListingPlace): ListingStep<JobRecord> => {
    const found: Array<JobRecord> = []
    const from = indexes.created.lowerBound((job) => byCreation(job.record, after) || -1)
    for (let i = from; i < from + stepSize && found.length < filter.limit; i++) {
      const record = indexes.created.at(i)?.record
      if (record === undefined || record.createdAt >= (filter.createdBefore ?? Number.POSITIVE_INFINITY))
        return { found, next: undefined }
      if (matches(record, filter)) found.push(record)
    }
    return { found, next: indexes.created.at(from + stepSize - 1)?.record }
  }

  const events = (jobId: string, fromSeq: number, limit: number): ReadonlyArray<StoredEvent> => {
    const job = jobs.get(jobId)
    if (job === undefined) return []
    const from = Math.max(0, fromSeq - job.first)
    return job.events.slice(from, from + limit)
  }

  return {
    kind: "memory",
    commit: (batch) => Effect.sync(() => applyAll(batch)),
    session: (sessionId) => Effect.sync(() => sessions.get(sessionId)?.record),
    sessions: Effect.sync(() =>
      Array.from(sessions.values(), (session) => session.record).filter((record) => record !== undefined)
    ),
    runs: (sessionId, fromEventSeq, limit) => Effect.sync(() => runsFrom(sessionId, fromEventSeq, limit)),
    job: (jobId) => Effect.sync(() => jobs.get(jobId)?.record),
    jobs: (filter) => list(filter, (after) => Effect.sync(() => listed(filter, after)), pause),
    jobBySubmit: (sessionId, submitId) => Effect.sync(() => indexes.ofSubmit(sessionId, submitId)),
    jobByKey: (principal, key) => Effect.sync(() => indexes.ofKey(principal, key)),
    events: (jobId, fromSeq, limit) => Effect.sync(() => events(jobId, fromSeq, limit)),
    boundsOf: (jobIds) =>
      Effect.sync(() => {
        const found = new Map<string, Bounds>()
        for (const jobId of jobIds) {
          const bounds = jobs.get(jobId)?.bounds
          if (bounds !== undefined && bounds.last > 0) found.set(jobId, bounds)
        }
        return found
      }),
    marks: (jobId) => Effect.sync(() => jobs.get(jobId)?.retainedMarks() ?? []),
    retired: ({ endedBefore, limit }) => unneeded(undefined, endedBefore, limit),
    surplus: ({ limit, needed, principal }) =>
      needed
        ? Effect.sync(() =>
            endedAfter(principal, firstPlace, Number.MAX_SAFE_INTEGER, limit).map((job) => job.id)
          )
        : unneeded(principal, Number.MAX_SAFE_INTEGER, limit),
    endedCounts: Effect.sync(() => indexes.endedCounts()),
    input: (jobId) => Effect.sync(() => jobs.get(jobId)?.input),
    view: (sessionId) => Effect.sync(() => sessions.get(sessionId)?.view ?? { first: 1, last: 0 }),
    page: (sessionId, after, limit, maxBytes) => Effect.sync(() => page(sessionId, after, limit, maxBytes)),
    observersOf: (jobIds) =>
      Effect.sync(() => {
        const found = new Map<string, ReadonlyArray<string>>()
        for (const jobId of jobIds) {
          const observers = jobs.get(jobId)?.observers
          if (observers !== undefined && observers.size > 0) found.set(jobId, Array.from(observers))
        }
        return found
      }),
    viewers: (jobIds) => Effect.sync(() => viewers(jobIds)),
    needed: (jobId) => Effect.sync(() => needed(jobId)),
    aliveAt: Effect.sync(() => aliveAt),
    freeing: Effect.succeed(0),
    vacuum: Effect.succeed(false),
    held: () => held
  }
}

/** A store in memory: commits cannot fail, nothing outlives the layer. */
export const layer: Layer.Layer<Store> = Layer.effect(Store, make)
