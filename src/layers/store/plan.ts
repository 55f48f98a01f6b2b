/**
 * Turns a batch of operations into few SQL statements. Operations of one kind are collected, the later
 * one winning, and written as one multi-row insert per table; an operation that deletes or trims first
 * writes what was collected before it, so the order of the batch is kept where it matters.
 *
 * Pure: what a batch changes in the writer's state is handed back and adopted only after its commit.
 */
import {
  eventOverhead,
  type JobRecord,
  type Op,
  type Run,
  type SessionRecord,
  type StoredEvent
} from "../../services/store/Store.js"
import { isFull } from "./marks.js"

/** A statement and its parameters. */
export type Statement = readonly [sql: string, params: ReadonlyArray<unknown>]

/** `seq` … `seq` + count - 1 of a job are the rows `row` … `row` + count - 1 of `events`. */
interface Extent {
  readonly seq: number
  readonly count: number
  readonly row: number
  /** Of payload and overhead. */
  readonly bytes: number
}

/** Where a job's log is: its surrogate key, and the extent it ends in. */
export interface LogEnd {
  readonly id: number
  readonly last: Extent | undefined
}

/** What the one writer knows without asking the database. */
export interface WriterState {
  nextRow: number
  nextJob: number
  /** Logs of live jobs; loaded on first use, forgotten when the job ends. */
  readonly logs: Map<string, LogEnd>
}

/** Ids of jobs whose log the batch needs. */
export const jobsOf = (batch: ReadonlyArray<Op>): ReadonlySet<string> => {
  const ids = new Set<string>()
  for (const op of batch) {
    if (op._tag === "Append" || op._tag === "PutInput") ids.add(op.jobId)
    else if (op._tag === "PutJob") ids.add(op.job.jobId)
  }
  return ids
}

/** Upper bound of what is dropped whole. */
export const everything = Number.MAX_SAFE_INTEGER

/** Rows of one statement at most: the widest table stays far below SQLite's 32 766 variables. */
const maxRows = 1024

/** The multi-row inserts of a table. Row counts are powers of two, so that there are few texts to prepare. */
const makeInsert = (verb: string, table: string, columns: ReadonlyArray<string>, onConflict = "") => {
  const row = `(${columns.map(() => "?").join(",")})`
  const texts = new Map<number, string>()
  const textOf = (rows: number): string => {
    let text = texts.get(rows)
    if (text === undefined) {
      text = `${verb} INTO ${table} (${columns.join(",")}) VALUES ${Array(rows).fill(row).join(",")} ${onConflict}`
      texts.set(rows, text)
    }
    return text
  }
  /** `values` are the rows, flattened. */
  return (values: ReadonlyArray<unknown>, into: Array<Statement>): void => {
    const total = values.length / columns.length
    let done = 0
    while (done < total) {
      const left = Math.min(total - done, maxRows)
      const rows = 2 ** (31 - Math.clz32(left))
      const from = done * columns.length
      const to = from + rows * columns.length
      into.push([textOf(rows), rows === total ? values : values.slice(from, to)])
      done += rows
    }
  }
}

/** Only what changes in a job's life, so that the indexes of the rest are left alone. */
const jobChanges = `ON CONFLICT (id) DO UPDATE SET ${[
  "session_id",
  "submit_id",
  "idempotency_key",
  "status",
  "ended_at",
  "record"
]
  .map((column) => `${column} = excluded.${column}`)
  .join(", ")}`

const insertEvents = makeInsert("INSERT", "events", [
  "id",
  "job",
  "seq",
  "type",
  "kind",
  "audience",
  "owner_seq",
  "payload"
])
const putExtents = makeInsert("REPLACE", "extents", ["job", "seq", "count", "row", "bytes"])
const putRuns = makeInsert(
  "INSERT",
  "runs",
  ["session_id", "event_seq", "job_id", "job_seq", "count", "bytes"],
  "ON CONFLICT (session_id, event_seq) DO UPDATE SET count = excluded.count, bytes = excluded.bytes"
)
const putSessions = makeInsert(
  "INSERT",
  "sessions",
  ["session_id", "record"],
  "ON CONFLICT (session_id) DO UPDATE SET record = excluded.record"
)
const putInputs = makeInsert("REPLACE", "inputs", ["job", "input"])
const putObservers = makeInsert("REPLACE", "observers", ["session_id", "job_id"])
const putJobs = makeInsert(
  "INSERT",
  "jobs",
  [
    "id",
    "job_id",
    "session_id",
    "submit_id",
    "principal",
    "idempotency_key",
    "agent",
    "status",
    "rejected",
    "created_at",
    "ended_at",
    "trace_id",
    "record"
  ],
  jobChanges
)

const jobRow = (id: number, job: JobRecord): ReadonlyArray<unknown> => [
  id,
  job.jobId,
  job.sessionId,
  job.submitId,
  job.principal,
  job.keyFreed === true ? null : (job.idempotencyKey ?? null),
  job.agent,
  job.status,
  job.rejected ? 1 : 0,
  job.createdAt,
  job.endedAt ?? null,
  job.traceId,
  JSON.stringify(job)
]

/** Why a batch cannot be written: a mistake of the caller. */
export interface Misuse {
  readonly _tag: "Misuse"
  readonly message: string
}

/** The statements of a batch, and what the writer knows once they are committed. */
export interface Plan {
  readonly _tag: "Plan"
  readonly statements: ReadonlyArray<Statement>
  /** Brings the writer's state up to date; to be called once the statements are committed. */
  readonly adopt: () => void
}

/** @param loaded logs the batch needs that are in the database but not in `state` */
export const plan = (
  batch: ReadonlyArray<Op>,
  state: WriterState,
  loaded: ReadonlyMap<string, LogEnd>
): Plan | Misuse => {
  const statements: Array<Statement> = []
  let { nextJob, nextRow } = state
  /** Logs this batch changed; `undefined` when it dropped or ended the job. */
  const changed = new Map<string, LogEnd | undefined>()

  let jobs = new Map<string, JobRecord>()
  let sessions = new Map<string, SessionRecord>()
  let needs = new Map<string, number>()
  let inputs = new Map<string, string>()
  let observers: Array<unknown> = []
  let runs = new Map<string, Array<Run>>()
  let appended = new Map<string, Array<ReadonlyArray<StoredEvent>>>()

  const logOf = (jobId: string): LogEnd | undefined =>
    changed.has(jobId) ? changed.get(jobId) : (state.logs.get(jobId) ?? loaded.get(jobId))

  const writeJobs = (): void => {
    const rows: Array<unknown> = []
    for (const job of jobs.values()) {
      let log = logOf(job.jobId)
      if (log === undefined) {
        log = { id: nextJob++, last: undefined }
        changed.set(job.jobId, log)
      }
      rows.push(...jobRow(log.id, job))
    }
    putJobs(rows, statements)
    jobs = new Map()
  }

  /** The rows of one job's events, and the extent that then leads to them. */
  const writeLog = (
    jobId: string,
    parts: ReadonlyArray<ReadonlyArray<StoredEvent>>,
    rows: Array<unknown>,
    extents: Array<unknown>
  ): Misuse | undefined => {
    const log = logOf(jobId)
    if (log === undefined) return misuse(`events were appended to ${jobId}, of which there is no job record`)
    const first = log.last === undefined ? 1 : log.last.seq + log.last.count
    let seq = first
    const goesOn = log.last !== undefined && log.last.row + log.last.count === nextRow && !isFull(log.last)
    let extent = goesOn ? { ...log.last } : { seq, count: 0, row: nextRow, bytes: 0 }
    const write = () => extents.push(log.id, extent.seq, extent.count, extent.row, extent.bytes)
    for (const events of parts) {
      for (const event of events) {
        if (event.seq !== seq)
          return misuse(`event ${event.seq} of ${jobId} was appended where ${seq} follows`)
        if (isFull(extent)) {
          write()
          extent = { seq, count: 0, row: nextRow, bytes: 0 }
        }
        const { audience = null, kind, ownerSeq, payload, type } = event
        extent.count++
        extent.bytes += payload.length + eventOverhead
        rows.push(nextRow++, log.id, seq++, type, kind, audience, ownerSeq, payload)
      }
    }
    if (seq === first) return undefined
    write()
    changed.set(jobId, { id: log.id, last: extent })
    return undefined
  }

  const writeEvents = (): Misuse | undefined => {
    const rows: Array<unknown> = []
    const extents: Array<unknown> = []
    for (const [jobId, parts] of appended) {
      const problem = writeLog(jobId, parts, rows, extents)
      if (problem !== undefined) return problem
    }
    insertEvents(rows, statements)
    putExtents(extents, statements)
    appended = new Map()
    return undefined
  }

  const writeRuns = (): void => {
    const rows: Array<unknown> = []
    for (const [sessionId, list] of runs)
      for (const run of list) rows.push(sessionId, run.eventSeq, run.jobId, run.jobSeq, run.count, run.bytes)
    putRuns(rows, statements)
    runs = new Map()
  }

  const writeSessions = (): void => {
    const rows: Array<unknown> = []
    for (const session of sessions.values()) rows.push(session.sessionId, JSON.stringify(session))
    putSessions(rows, statements)
    sessions = new Map()
    if (needs.size > 0) statements.push(writeNeeds(needs))
    needs = new Map()
  }

  const writeInputs = (): Misuse | undefined => {
    const rows: Array<unknown> = []
    for (const [jobId, input] of inputs) {
      const log = logOf(jobId)
      if (log === undefined) return misuse(`the input was put of ${jobId}, of which there is no job record`)
      rows.push(log.id, input)
    }
    putInputs(rows, statements)
    inputs = new Map()
    return undefined
  }

  const writeObservers = (): void => {
    putObservers(observers, statements)
    observers = []
  }

  const writeCollected = (): Misuse | undefined => {
    writeJobs()
    writeObservers()
    writeSessions()
    writeRuns()
    return writeInputs() ?? writeEvents()
  }

  const collectRun = (sessionId: string, run: Run): void => {
    const list = runs.get(sessionId)
    if (list === undefined) runs.set(sessionId, [run])
    else if (list[list.length - 1]?.eventSeq === run.eventSeq) list[list.length - 1] = run
    else list.push(run)
  }

  const collectEvents = (jobId: string, events: ReadonlyArray<StoredEvent>): void => {
    const parts = appended.get(jobId)
    if (parts === undefined) appended.set(jobId, [events])
    else parts.push(events)
  }

  for (const op of batch) {
    switch (op._tag) {
      case "Append":
        collectEvents(op.jobId, op.events)
        continue
      case "PutRun":
        collectRun(op.sessionId, op.run)
        continue
      case "PutJob":
        jobs.set(op.job.jobId, op.job)
        continue
      case "PutSession":
        sessions.set(op.session.sessionId, op.session)
        continue
      case "Need":
        needs.set(op.sessionId, op.eventSeq)
        continue
      case "PutInput":
        inputs.set(op.jobId, op.input)
        continue
      case "Observe":
        observers.push(op.sessionId, op.jobId)
        continue
      case "Unobserve":
        writeObservers()
        statements.push([
          "DELETE FROM observers WHERE session_id = ? AND job_id = ?",
          [op.sessionId, op.jobId]
        ])
        continue
      case "Alive":
        statements.push(["REPLACE INTO runtime (id, alive_at) VALUES (0, ?)", [op.at]])
        continue
    }
    const problem = writeCollected()
    if (problem !== undefined) return problem
    switch (op._tag) {
      case "DropSession":
        statements.push(...dropSession(op.sessionId))
        break
      case "DropJob":
        statements.push(...dropJob(op.jobId))
        changed.set(op.jobId, undefined)
        break
      case "TrimSession":
        statements.push(trimSession(op.sessionId, op.eventSeq))
        break
      case "TrimJob":
        statements.push(trimJob(op.jobId, op.seq))
        break
    }
  }
  const problem = writeCollected()
  if (problem !== undefined) return problem

  const adopt = (): void => {
    state.nextRow = nextRow
    state.nextJob = nextJob
    for (const [jobId, log] of loaded) state.logs.set(jobId, log)
    for (const [jobId, log] of changed) {
      if (log === undefined) state.logs.delete(jobId)
      else state.logs.set(jobId, log)
    }
    for (const op of batch)
      if (op._tag === "PutJob" && op.job.endedAt !== undefined) state.logs.delete(op.job.jobId)
  }
  return { _tag: "Plan", statements, adopt }
}

const misuse = (message: string): Misuse => ({ _tag: "Misuse", message })

const dropSession = (sessionId: string): ReadonlyArray<Statement> => [
  ["DELETE FROM sessions WHERE session_id = ?", [sessionId]],
  ["DELETE FROM observers WHERE session_id = ?", [sessionId]],
  ["REPLACE INTO run_trims (session_id, before, freed) VALUES (?, ?, 0)", [sessionId, everything]]
]

const writeNeeds = (needs: ReadonlyMap<string, number>): Statement => [
  "UPDATE sessions SET need = k.value FROM json_each(?) k WHERE session_id = k.key",
  [JSON.stringify(Object.fromEntries(needs))]
]

const dropJob = (jobId: string): ReadonlyArray<Statement> => [
  ["REPLACE INTO event_trims (job, before) SELECT id, ? FROM jobs WHERE job_id = ?", [everything, jobId]],
  ["DELETE FROM jobs WHERE job_id = ?", [jobId]],
  ["DELETE FROM observers WHERE job_id = ?", [jobId]]
]

/** Never beyond the number that comes next. A dropped session stays so. */
const trimSession = (sessionId: string, eventSeq: number): Statement => [
  `INSERT INTO run_trims (session_id, before)
   SELECT session_id, min(?, event_seq + count) FROM runs WHERE session_id = ? ORDER BY event_seq DESC LIMIT 1
   ON CONFLICT (session_id) DO UPDATE SET before = max(before, excluded.before)`,
  [eventSeq, sessionId]
]

/** Never beyond the end of the log: it is where the job's numbering goes on. */
const trimJob = (jobId: string, seq: number): Statement => [
  `INSERT INTO event_trims (job, before)
   SELECT job, min(?, seq + count) FROM extents WHERE job = (SELECT id FROM jobs WHERE job_id = ?)
   ORDER BY seq DESC LIMIT 1
   ON CONFLICT (job) DO UPDATE SET before = max(before, excluded.before)`,
  [seq, jobId]
]
