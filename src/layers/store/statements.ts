/**
 * The statements that write: multi-row inserts per table, and what drops and trims. Nothing here knows of batches; what
 * a batch needs of them, and in which order, is in `plan.ts`.
 */
import { dueAt } from "../../services/store/dueAt.js"
import { epochOf } from "../../services/store/epoch.js"
import type { JobRecord, SessionRecord, Wish } from "../../services/store/Store.js"
import { behind } from "./cursors.js"

/** A statement and its parameters. */
export type Statement = readonly [sql: string, params: ReadonlyArray<unknown>]

/** Upper bound of what is dropped whole. */
export const everything = Number.MAX_SAFE_INTEGER

/** Rows of one statement at most: the widest table stays far below SQLite's 32 766 variables. */
const maxRows = 1024

/** Returns the multi-row inserts of a table. Row counts are powers of two, so that there are few texts to prepare. */
const makeInsert = (verb: string, table: string, columns: ReadonlyArray<string>, onConflict = "") => {
  const row = `(${columns.map(() => "?").join(",")})`
  const texts = new Map<number, string>()
  const textOf = (rows: number): string => {
    let text = texts.get(rows)
    if (text === undefined) {
      text = `${verb} INTO {${table}} (${columns.join(",")}) VALUES ${Array(rows).fill(row).join(",")} ${onConflict}`
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
  "due_at",
  "epoch",
  "record"
]
  .map((column) => `${column} = excluded.${column}`)
  .join(", ")}`

/** Inserts events: rows are only ever appended. */
export const insertEvents = makeInsert("INSERT", "events", [
  "id",
  "job",
  "seq",
  "type",
  "kind",
  "audience",
  "payload"
])
/** Puts extents: one grows in place while its job appends alone. */
export const putExtents = makeInsert("REPLACE", "extents", ["job", "seq", "count", "row", "bytes"])
/** Puts runs of views: the newest grows in place. */
export const putRuns = makeInsert(
  "INSERT",
  "runs",
  ["session_id", "event_seq", "job_id", "job_seq", "count", "bytes"],
  "ON CONFLICT (session_id, event_seq) DO UPDATE SET count = excluded.count, bytes = excluded.bytes"
)
/** Puts the records of sessions. */
export const putSessions = makeInsert(
  "INSERT",
  "sessions",
  ["session_id", "epoch", "record"],
  "ON CONFLICT (session_id) DO UPDATE SET epoch = excluded.epoch, record = excluded.record"
)
/** Puts the inputs of jobs. */
export const putInputs = makeInsert("REPLACE", "inputs", ["job", "input"])
/** Puts entries of journals. */
export const putJournal = makeInsert("REPLACE", "journal", [
  "job",
  "kind",
  "key",
  "ordinal",
  "about",
  "size",
  "value"
])
/** Puts calls of hooks that are owed. */
export const putHookEvents = makeInsert("REPLACE", "hook_events", ["job_id", "seq", "text"])
/** Puts which sessions observe which jobs. */
export const putObservers = makeInsert(
  "INSERT",
  "observers",
  ["session_id", "job_id", "cursor"],
  "ON CONFLICT (session_id, job_id) DO UPDATE SET cursor = max(cursor, excluded.cursor)"
)
/** Puts the records of jobs, with the columns that jobs are looked up by. */
export const putJobs = makeInsert(
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
    "due_at",
    "trace_id",
    "epoch",
    "record"
  ],
  jobChanges
)

/** Returns the row of a job for {@link putJobs}. */
export const jobRow = (id: number, job: JobRecord): ReadonlyArray<unknown> => [
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
  dueAt(job) ?? null,
  job.traceId,
  epochOf(job),
  JSON.stringify(job)
]

/** Returns the row of a session for {@link putSessions}. */
export const sessionRow = (session: SessionRecord): ReadonlyArray<unknown> => [
  session.sessionId,
  epochOf(session),
  JSON.stringify(session)
]

/** Drops a session; its runs are invisible at once, and freed later, those over its own jobs with these. */
export const dropSession = (sessionId: string): ReadonlyArray<Statement> => [
  ["DELETE FROM {sessions} WHERE session_id = ?", [sessionId]],
  ["DELETE FROM {observers} WHERE session_id = ?", [sessionId]],
  ["REPLACE INTO {run_trims} (session_id, before, freed) VALUES (?, ?, 0)", [sessionId, everything]]
]

/** Stores the first `event_seq` that each session still needs. */
export const writeNeeds = (needs: ReadonlyMap<string, number>): Statement => [
  "UPDATE {sessions} SET need = k.value FROM json_each(?) k WHERE session_id = k.key",
  [JSON.stringify(Object.fromEntries(needs))]
]

/** Gives a session to a node. */
export const takeSession = ({
  epoch,
  node,
  sessionId
}: {
  readonly sessionId: string
  readonly node: string
  readonly epoch: number
}): Statement => [
  "UPDATE {sessions} SET epoch = ?, record = json_set(record, '$.epoch', ?, '$.node', json(?)) WHERE session_id = ?",
  [epoch, epoch, JSON.stringify(node), sessionId]
]

/** Changes members of the record of a job that has not ended. */
export const moveJob = (jobId: string, epoch: number, members: object): Statement => [
  "UPDATE {jobs} SET epoch = ?, record = json_patch(record, ?) WHERE job_id = ? AND ended_at IS NULL",
  [epoch, JSON.stringify(members), jobId]
]

/** Notes that a session has lost events that it had not numbered. */
export const lose = (sessionId: string): Statement => [
  "UPDATE {sessions} SET lost = 1 WHERE session_id = ?",
  [sessionId]
]

/** Notes which sessions had not come to a `seq` of a job, or to its end when that is before it. */
const loseBefore = (jobId: string, seq: number): Statement => [
  `UPDATE {sessions} SET lost = 1 WHERE session_id IN (${behind})`,
  [jobId, seq]
]

/** Drops a job; its events are invisible at once, and freed later, as the runs over them that nobody looks at any more. */
export const dropJob = (jobId: string): ReadonlyArray<Statement> => [
  loseBefore(jobId, everything),
  [
    `WITH RECURSIVE viewer (session_id) AS (
       SELECT (SELECT min(session_id) FROM {runs} WHERE job_id = ?)
       UNION ALL
       SELECT (SELECT min(session_id) FROM {runs} WHERE job_id = ? AND session_id > v.session_id)
       FROM viewer v WHERE v.session_id IS NOT NULL
     )
     INSERT OR IGNORE INTO {run_drops} (job_id, session_id)
     SELECT ?, session_id FROM viewer WHERE session_id IS NOT NULL`,
    [jobId, jobId, jobId]
  ],
  ["REPLACE INTO {event_trims} (job, before) SELECT id, ? FROM {jobs} WHERE job_id = ?", [everything, jobId]],
  ["DELETE FROM {jobs} WHERE job_id = ?", [jobId]],
  ["DELETE FROM {observers} WHERE job_id = ?", [jobId]]
]

/** Drops calls of hooks that are owed no more. */
export const dropHookEvents = (
  events: ReadonlyArray<{ readonly jobId: string; readonly seq: number }>
): Statement => [
  `DELETE FROM {hook_events} WHERE (job_id, seq) IN (
     SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))`,
  [JSON.stringify(events.map(({ jobId, seq }) => [jobId, seq]))]
]

/** Keeps what a node wants of another. */
export const putWish = ({ answer, at, body, from, id, jobId, kind }: Wish): Statement => [
  "REPLACE INTO {wishes} (id, job_id, kind, body, node, at, answer) VALUES (?, ?, ?, ?, ?, ?, ?)",
  [id, jobId, kind, body, JSON.stringify(from), at, answer ?? null]
]

/** Keeps what came of a wish. */
export const answerWish = (id: string, answer: string): Statement => [
  "UPDATE {wishes} SET answer = ? WHERE id = ? AND answer IS NULL",
  [answer, id]
]

/** Drops wishes. */
export const dropWishes = (ids: ReadonlyArray<string>): Statement => [
  "DELETE FROM {wishes} WHERE id IN (SELECT value FROM json_each(?))",
  [JSON.stringify(ids)]
]

/** Raises the floor of a view, never beyond the number that comes next. A dropped session stays so. */
export const trimSession = (sessionId: string, eventSeq: number): Statement => [
  `INSERT INTO {run_trims} (session_id, before)
   SELECT session_id, min(?, event_seq + count) FROM {runs} WHERE session_id = ? ORDER BY event_seq DESC LIMIT 1
   ON CONFLICT (session_id) DO UPDATE SET before = max(before, excluded.before)`,
  [eventSeq, sessionId]
]

/** Trims a job, never beyond the end of the log: it is where the job's numbering goes on. */
export const trimJob = (jobId: string, seq: number): ReadonlyArray<Statement> => [
  loseBefore(jobId, seq),
  [
    `INSERT INTO {event_trims} (job, before)
     SELECT job, min(?, seq + count) FROM {extents} WHERE job = (SELECT id FROM {jobs} WHERE job_id = ?)
     ORDER BY seq DESC LIMIT 1
     ON CONFLICT (job) DO UPDATE SET before = max(before, excluded.before)`,
    [seq, jobId]
  ],
  [
    "INSERT OR IGNORE INTO {run_drops} (job_id, session_id) SELECT job_id, session_id FROM {jobs} WHERE job_id = ?",
    [jobId]
  ]
]

/** Ends a session's observing of a job. One each: a list of them takes several times as long. */
export const unobserve = (sessionId: string, jobId: string): Statement => [
  "DELETE FROM {observers} WHERE session_id = ? AND job_id = ?",
  [sessionId, jobId]
]

/** Stores that a runtime was alive at this time, in epoch ms. */
export const putAlive = (at: number): Statement => [
  "REPLACE INTO {runtime} (id, alive_at) VALUES (0, ?)",
  [at]
]
