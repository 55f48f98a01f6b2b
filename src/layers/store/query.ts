/** The reads of a SQL store. Nothing that was dropped or trimmed is ever seen by one. */
import type { JobFilter, Run, StoredEvent } from "../../services/store/Store.js"
import type { Log, Statement } from "./plan.js"

/** A statement and its parameters; `A` is the type of its rows. */
export type Query<A> = readonly [sql: string, params: ReadonlyArray<unknown>] & { readonly _row?: A }

export interface RecordRow {
  readonly record: string
}

interface IdRow {
  readonly id: string
}

export const ids = (rows: ReadonlyArray<IdRow>): ReadonlyArray<string> => rows.map((row) => row.id)

/** Highest row of `events` and highest surrogate key of a job, dropped jobs included. */
export const writerStart: Query<{ readonly row: number; readonly job: number }> = [
  `SELECT coalesce((SELECT max(id) FROM events), 0) AS row,
          max(coalesce((SELECT max(id) FROM jobs), 0), coalesce((SELECT max(job) FROM event_trims), 0)) AS job`,
  []
]

interface LogRow {
  readonly jobId: string
  readonly id: number
  readonly seq: number | null
  readonly count: number | null
  readonly row: number | null
}

/** Where the logs of these jobs end. */
export const logs = (jobIds: ReadonlyArray<string>): Query<LogRow> => [
  `SELECT j.job_id AS jobId, j.id, x.seq, x.count, x.row
   FROM json_each(?) k CROSS JOIN jobs j ON j.job_id = k.value
   LEFT JOIN extents x ON x.job = j.id AND x.seq = (SELECT max(seq) FROM extents WHERE job = j.id)`,
  [JSON.stringify(jobIds)]
]

export const toLogs = (rows: ReadonlyArray<LogRow>): ReadonlyMap<string, Log> =>
  new Map(
    rows.map(({ count, id, jobId, row, seq }) => [
      jobId,
      { id, last: seq === null || count === null || row === null ? undefined : { seq, count, row } }
    ])
  )

type EventRow = readonly [
  seq: number,
  type: StoredEvent["type"],
  kind: string,
  audience: string | null,
  ownerSeq: number,
  payload: string
]

/**
 * Starts at the extent that holds the first event wanted and walks the extents in order; every step is
 * a seek by primary key, so a page costs what it holds however long the log is.
 */
export const events = (jobId: string, fromSeq: number, limit: number): Statement => [
  `WITH log AS (
     SELECT j.id AS job, max(?, coalesce(t.before, 1), coalesce(
       (SELECT min(seq) FROM extents WHERE job = j.id), 1)) AS low
     FROM jobs j LEFT JOIN event_trims t ON t.job = j.id WHERE j.job_id = ?
   )
   SELECT e.seq, e.type, e.kind, e.audience, e.owner_seq, e.payload
   FROM log
   CROSS JOIN extents x ON x.job = log.job AND x.seq < log.low + ? AND x.seq >= coalesce(
     (SELECT max(seq) FROM extents WHERE job = log.job AND seq <= log.low), 0)
   CROSS JOIN events e ON e.id >= x.row + max(0, log.low - x.seq)
     AND e.id < x.row + min(x.count, log.low + ? - x.seq)
   ORDER BY x.seq, e.id`,
  [fromSeq, jobId, limit, limit]
]

export const toEvents = (rows: ReadonlyArray<ReadonlyArray<unknown>>): ReadonlyArray<StoredEvent> =>
  (rows as ReadonlyArray<EventRow>).map(([seq, type, kind, audience, ownerSeq, payload]) => ({
    seq,
    type,
    kind,
    audience: audience ?? undefined,
    ownerSeq,
    payload
  }))

interface BoundsRow {
  readonly first: number
  readonly last: number
}

export const bounds = (jobId: string): Query<BoundsRow> => [
  `SELECT max(f.seq, coalesce(t.before, 1)) AS first, l.seq + l.count - 1 AS last
   FROM jobs j
   JOIN extents f ON f.job = j.id AND f.seq = (SELECT min(seq) FROM extents WHERE job = j.id)
   JOIN extents l ON l.job = j.id AND l.seq = (SELECT max(seq) FROM extents WHERE job = j.id)
   LEFT JOIN event_trims t ON t.job = j.id
   WHERE j.job_id = ?`,
  [jobId]
]

export const toBounds = (row: BoundsRow | undefined): BoundsRow => row ?? { first: 1, last: 0 }

const runColumns = "event_seq AS eventSeq, job_id AS jobId, job_seq AS jobSeq, count"

/** First `event_seq` that a run must reach to be retained. */
const runLow = "coalesce((SELECT before FROM run_trims WHERE session_id = ?), 0)"

export const lastRun = (sessionId: string): Query<Run> => [
  `SELECT ${runColumns} FROM runs
   WHERE session_id = ? AND event_seq + count - 1 >= ${runLow} ORDER BY event_seq DESC LIMIT 1`,
  [sessionId, sessionId]
]

/** Runs do not overlap, so of those that start at or below the bound only the last can reach it. */
export const runs = (sessionId: string, fromEventSeq: number, limit: number): Query<Run> => [
  `WITH bound AS (SELECT max(?, ${runLow}) AS low)
   SELECT ${runColumns} FROM bound CROSS JOIN runs
   WHERE session_id = ? AND event_seq >= coalesce(
       (SELECT max(event_seq) FROM runs WHERE session_id = ? AND event_seq <= low), 0)
     AND event_seq + count - 1 >= low
   ORDER BY event_seq LIMIT ?`,
  [fromEventSeq, sessionId, sessionId, sessionId, limit]
]

export const session = (sessionId: string): Query<RecordRow> => [
  "SELECT record FROM sessions WHERE session_id = ?",
  [sessionId]
]

export const sessions: Query<RecordRow> = ["SELECT record FROM sessions", []]

export const observers = (jobId: string): Query<IdRow> => [
  "SELECT session_id AS id FROM observers WHERE job_id = ?",
  [jobId]
]

export const job = (jobId: string): Query<RecordRow> => ["SELECT record FROM jobs WHERE job_id = ?", [jobId]]

export const jobBySubmit = (sessionId: string, submitId: string): Query<RecordRow> => [
  `SELECT record FROM jobs WHERE session_id = ? AND submit_id = ?
   ORDER BY created_at DESC, job_id DESC LIMIT 1`,
  [sessionId, submitId]
]

export const jobByKey = (principal: string, key: string): Query<RecordRow> => [
  `SELECT record FROM jobs WHERE principal = ? AND idempotency_key = ? AND rejected = 0
   ORDER BY created_at DESC, job_id DESC LIMIT 1`,
  [principal, key]
]

export const endedJobs = (endedBefore: number, limit: number): Query<IdRow> => [
  "SELECT job_id AS id FROM jobs WHERE ended_at < ? ORDER BY ended_at LIMIT ?",
  [endedBefore, limit]
]

const marks = (values: ReadonlyArray<unknown>): string => values.map(() => "?").join(", ")

export const jobs = (filter: JobFilter): Query<RecordRow> => {
  const conditions = ["rejected = 0"]
  const params: Array<unknown> = []
  const where = (condition: string, ...values: ReadonlyArray<unknown>): void => {
    conditions.push(condition)
    params.push(...values)
  }
  const { after, agent, createdAfter, createdBefore, parentJobId, principals, status } = filter
  if (principals !== "everyone") where(`principal IN (${marks(principals)})`, ...principals)
  if (status !== undefined) where(`status IN (${marks(status)})`, ...status)
  if (agent !== undefined)
    where("(agent = ? OR substr(agent, 1, ?) = ?)", agent, agent.length + 1, `${agent}@`)
  if (createdAfter !== undefined) where("created_at > ?", createdAfter)
  if (createdBefore !== undefined) where("created_at < ?", createdBefore)
  if (parentJobId !== undefined) where("record ->> '$.parentJobId' = ?", parentJobId)
  if (after !== undefined) where("(created_at, job_id) > (?, ?)", after.createdAt, after.jobId)
  return [
    `SELECT record FROM jobs WHERE ${conditions.join(" AND ")} ORDER BY created_at, job_id LIMIT ?`,
    [...params, filter.limit]
  ]
}

export const aliveAt: Query<{ readonly aliveAt: number }> = ["SELECT alive_at AS aliveAt FROM runtime", []]
