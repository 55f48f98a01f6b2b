/** What the writer of a SQLite store reads before it writes: where logs end, which epochs and keys there are. */
import type { FreeKey } from "../../services/store/Store.js"
import type { LogEnd } from "./plan.js"
import type { Query } from "./query.js"

/** Highest row of `events` and highest surrogate key of a job, dropped jobs included. */
export const writerStart: Query<{ readonly row: number; readonly job: number }> = [
  `SELECT coalesce((SELECT max(id) FROM {events}), 0) AS row,
          max(coalesce((SELECT max(id) FROM {jobs}), 0), coalesce((SELECT max(job) FROM {event_trims}), 0)) AS job`,
  []
]

interface LogRow {
  readonly jobId: string
  readonly id: number
  readonly epoch: number
  readonly seq: number | null
  readonly count: number | null
  readonly row: number | null
  readonly bytes: number | null
}

/** Selects where the logs of these jobs end. */
export const logs = (jobIds: ReadonlyArray<string>): Query<LogRow> => [
  `SELECT j.job_id AS jobId, j.id, j.epoch, x.seq, x.count, x.row, x.bytes
   FROM json_each(?) k CROSS JOIN {jobs} j ON j.job_id = k.value
   LEFT JOIN {extents} x ON x.job = j.id AND x.seq = (SELECT max(seq) FROM {extents} WHERE job = j.id)`,
  [JSON.stringify(jobIds)]
]

/** Returns where logs end, by job. */
export const toLogs = (rows: ReadonlyArray<LogRow>): ReadonlyMap<string, LogEnd> =>
  new Map(
    rows.map(({ bytes, count, epoch, id, jobId, row, seq }) => [
      jobId,
      {
        id,
        epoch,
        last:
          seq === null || count === null || row === null || bytes === null
            ? undefined
            : { seq, count, row, bytes }
      }
    ])
  )

/** Selects the epochs of these sessions. */
export const epochs = (
  sessionIds: ReadonlyArray<string>
): Query<{ readonly sessionId: string; readonly epoch: number }> => [
  `SELECT s.session_id AS sessionId, s.epoch
   FROM json_each(?) k CROSS JOIN {sessions} s ON s.session_id = k.value`,
  [JSON.stringify(sessionIds)]
]

/** Returns epochs, by session. */
export const toEpochs = (
  rows: ReadonlyArray<{ readonly sessionId: string; readonly epoch: number }>
): ReadonlyMap<string, number> => new Map(rows.map(({ epoch, sessionId }) => [sessionId, epoch]))

/** Selects a row when a key is not free. */
export const keyUsed = ({ key, principal, since }: FreeKey): Query<object> => [
  `SELECT 1 FROM {jobs} WHERE principal = ? AND idempotency_key = ? AND rejected = 0 AND created_at > ? LIMIT 1`,
  [principal, key, since]
]
