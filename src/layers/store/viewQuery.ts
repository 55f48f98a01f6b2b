/** The reads of a SQL store that views ask: pages of events, what a session has numbered of a job, and what it is still to number. */
import { eventOverhead } from "../../services/store/eventOverhead.js"
import type { LateEvent, News, Numbering, Run, StoredEvent, ViewEvent } from "../../services/store/Store.js"
import { eventProblem } from "./intactEvent.js"
import type { Query, Rows } from "./query.js"
import type { Statement } from "./statements.js"

type EventRow = readonly [
  seq: number,
  type: StoredEvent["type"],
  kind: string,
  audience: string | null,
  payload: string
]

/**
 * Starts at the extent that holds the first event wanted and walks the extents in order; every step is
 * a seek by primary key, so a page costs what it holds however long the log is.
 */
export const events = (jobId: string, fromSeq: number, limit: number): Statement => [
  `WITH log AS (
     SELECT j.id AS job, max(?, coalesce(t.before, 1), coalesce(
       (SELECT min(seq) FROM {extents} WHERE job = j.id), 1)) AS low
     FROM {jobs} j LEFT JOIN {event_trims} t ON t.job = j.id WHERE j.job_id = ?
   )
   SELECT e.seq, e.type, e.kind, e.audience, e.payload
   FROM log
   CROSS JOIN {extents} x ON x.job = log.job AND x.seq < log.low + ? AND x.seq >= coalesce(
     (SELECT max(seq) FROM {extents} WHERE job = log.job AND seq <= log.low), 0)
   CROSS JOIN {events} e ON e.id >= x.row + max(0, log.low - x.seq)
     AND e.id < x.row + min(x.count, log.low + ? - x.seq)
   ORDER BY x.seq, e.id`,
  [fromSeq, jobId, limit, limit]
]

/** Returns the events of rows. */
export const toEvents = (rows: Rows): ReadonlyArray<StoredEvent> =>
  (rows as ReadonlyArray<EventRow>).map(([seq, type, kind, audience, payload]) => ({
    seq,
    type,
    kind,
    audience: audience ?? undefined,
    payload
  }))

const runColumns = "event_seq AS eventSeq, job_id AS jobId, job_seq AS jobSeq, count, bytes"

/** The floor of a view; higher than any number when its session was dropped. */
const runLow = "coalesce((SELECT before FROM {run_trims} WHERE session_id = ?), 0)"

/** Runs do not overlap, so of those that start at or below the bound only the last can reach it. */
export const runs = (sessionId: string, fromEventSeq: number, limit: number): Query<Run> => [
  `WITH bound AS (SELECT max(?, ${runLow}) AS low)
   SELECT ${runColumns} FROM bound CROSS JOIN {runs}
   WHERE session_id = ? AND event_seq >= coalesce(
       (SELECT max(event_seq) FROM {runs} WHERE session_id = ? AND event_seq <= low), 0)
     AND event_seq + count - 1 >= low
   ORDER BY event_seq LIMIT ?`,
  [fromEventSeq, sessionId, sessionId, sessionId, limit]
]

/** Selects what of a view can be read; see `StoreService.view`. */
export const view = (sessionId: string): Query<{ readonly first: number; readonly last: number }> => [
  `WITH bound AS (SELECT ${runLow} AS low)
   SELECT max(f.event_seq, low) AS first, l.event_seq + l.count - 1 AS last
   FROM bound
   CROSS JOIN {runs} f ON f.session_id = ?
     AND f.event_seq = (SELECT min(event_seq) FROM {runs} WHERE session_id = f.session_id)
   CROSS JOIN {runs} l ON l.session_id = f.session_id
     AND l.event_seq = (SELECT max(event_seq) FROM {runs} WHERE session_id = f.session_id)
   WHERE low <= l.event_seq + l.count`,
  [sessionId, sessionId]
]

/**
 * Selects a page of a view: its runs, the stretches of extents that hold them, and as many of these as give the bytes
 * asked for, looked up by row. What is missing in between is found by the caller.
 */
export const page = (sessionId: string, after: number, limit: number, maxBytes: number): Statement => [
  `WITH bound AS (SELECT ? AS low, ? AS high),
   span AS (
     SELECT r.event_seq, r.job_id, r.job_seq - r.event_seq AS shift,
       r.job_seq + max(0, bound.low - r.event_seq) AS low,
       r.job_seq + min(r.count, bound.high - r.event_seq) AS high
     FROM bound CROSS JOIN {runs} r ON r.session_id = ? AND r.event_seq < bound.high
       AND r.event_seq >= coalesce(
         (SELECT max(event_seq) FROM {runs} WHERE session_id = ? AND event_seq <= bound.low), 0)
     WHERE bound.low >= ${runLow}
   ),
   stretch AS (
     SELECT span.event_seq, x.seq, span.shift, j.job_id, j.trace_id, j.session_id,
       x.row + max(0, span.low - x.seq, coalesce(t.before, 0) - x.seq) AS from_row,
       x.row + min(x.count, span.high - x.seq) AS to_row,
       sum(x.bytes * (min(x.count, span.high - x.seq) - max(0, span.low - x.seq)) / max(x.count, 1))
         OVER (ORDER BY span.event_seq, x.seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes
     FROM span
     CROSS JOIN {jobs} j ON j.job_id = span.job_id
     CROSS JOIN {extents} x ON x.job = j.id AND x.seq < span.high AND x.seq >= coalesce(
       (SELECT max(seq) FROM {extents} WHERE job = j.id AND seq <= span.low), 0)
     LEFT JOIN {event_trims} t ON t.job = j.id
   )
   SELECT e.seq - s.shift, s.job_id, s.trace_id, s.session_id,
     e.seq, e.type, e.kind, e.audience, e.payload
   FROM stretch s CROSS JOIN {events} e ON e.id >= s.from_row AND e.id < s.to_row
   WHERE coalesce(s.bytes, 0) < ?
   ORDER BY s.event_seq, s.seq, e.id`,
  [after + 1, after + 1 + limit, sessionId, sessionId, sessionId, maxBytes]
]

type PageRow = readonly [eventSeq: number, jobId: string, traceId: string, sessionId: string, ...EventRow]

/** Returns the rows up to the first that is missing, and to the first that exceeds the bytes. */
export const toPage = (rows: Rows, after: number, maxBytes: number): ReadonlyArray<ViewEvent> => {
  const found: Array<ViewEvent> = []
  let job: ViewEvent["job"] | undefined
  let bytes = 0
  for (const row of rows as ReadonlyArray<PageRow>) {
    const [eventSeq, jobId, traceId, sessionId, seq, type, kind, audience, payload] = row
    if (eventSeq !== after + found.length + 1 || bytes > maxBytes) break
    if (job?.jobId !== jobId) job = { jobId, traceId, sessionId }
    const event = { seq, type, kind, audience: audience ?? undefined, payload }
    found.push({ eventSeq, job, event })
    bytes += payload.length + eventOverhead
  }
  return found
}

/** What a session has numbered of a job, as a row of it is read. */
export interface NumberingRow {
  readonly last: number | null
  readonly through: number | null
  readonly next: number | null
}

/** Returns what a session has numbered of a job. */
export const toNumbering = (row: NumberingRow | undefined): Numbering => ({
  last: row?.last ?? 0,
  through: row?.through ?? 0,
  next: row?.next ?? undefined
})

/**
 * Selects what a session has numbered of a job; see `StoreService.numbering`. Where its runs ascend in the job the one that
 * holds a number is found by a seek; where history was asked for again all of them are looked at.
 */
export const numbering = (sessionId: string, jobId: string, after: number): Query<NumberingRow> => [
  `WITH own AS (SELECT ? AS session_id, ? AS job_id, ? AS low),
   seen AS (SELECT own.*, coalesce(iif(
     EXISTS (SELECT 1 FROM {runs} WHERE job_id = own.job_id AND session_id = own.session_id AND rejoin = 1),
     (SELECT max(job_seq + min(count, low + 1 - event_seq)) FROM {runs}
      WHERE job_id = own.job_id AND session_id = own.session_id AND event_seq <= low),
     (SELECT job_seq + min(count, low + 1 - event_seq) FROM {runs}
      WHERE session_id = own.session_id AND event_seq = (SELECT max(event_seq) FROM {runs}
        WHERE job_id = own.job_id AND session_id = own.session_id AND event_seq <= low))), 1) AS unseen FROM own),
   newest AS (SELECT r.event_seq + r.count - 1 AS last, r.job_seq + r.count - 1 AS through
     FROM seen JOIN {runs} r ON r.session_id = seen.session_id AND r.event_seq = (SELECT max(event_seq) FROM {runs}
       WHERE job_id = seen.job_id AND session_id = seen.session_id))
   SELECT (SELECT last FROM newest) AS last, (SELECT through FROM newest) AS through,
     (SELECT max(r.job_seq + max(0, low + 1 - r.event_seq), unseen) FROM {runs} r
      WHERE r.job_id = seen.job_id AND r.session_id = seen.session_id AND r.event_seq >= coalesce(
          (SELECT max(event_seq) FROM {runs}
           WHERE job_id = seen.job_id AND session_id = seen.session_id AND event_seq <= low), 0)
        AND r.event_seq + r.count > low + 1 AND r.job_seq + r.count > unseen
      ORDER BY r.event_seq LIMIT 1) AS next
   FROM seen`,
  [sessionId, jobId, after]
]

type LateRow = readonly [
  jobId: string,
  seq: number,
  type: StoredEvent["type"],
  kind: string,
  audience: string | null,
  bytes: number
]

/**
 * Selects what follows a place in each of some jobs. Rows are in the order of commits, and so are the stretches of them that
 * belong to one job: as many of these are read as there are events wanted, counted from what is retained.
 */
export const backlog = (
  after: ReadonlyArray<{ readonly jobId: string; readonly seq: number }>,
  limit: number
): Statement => [
  `WITH place AS (SELECT json_extract(value, '$[0]') AS job_id, json_extract(value, '$[1]') AS after FROM json_each(?)),
   log AS (
     SELECT p.job_id, j.id AS job, max(p.after + 1, coalesce(t.before, 1), coalesce(
       (SELECT min(seq) FROM {extents} WHERE job = j.id), 1)) AS low
     FROM place p CROSS JOIN {jobs} j ON j.job_id = p.job_id LEFT JOIN {event_trims} t ON t.job = j.id
   ),
   stretch AS (
     SELECT log.job_id, x.bytes / max(x.count, 1) AS bytes, x.row + x.count AS to_row,
       x.row + max(0, log.low - x.seq) AS from_row
     FROM log CROSS JOIN {extents} x ON x.job = log.job AND x.seq < log.low + ? AND x.seq >= coalesce(
       (SELECT max(seq) FROM {extents} WHERE job = log.job AND seq <= log.low), 0)
   ),
   placed AS (
     SELECT *, sum(to_row - from_row) OVER (ORDER BY from_row ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
     FROM stretch WHERE from_row < to_row
   )
   SELECT s.job_id, e.seq, e.type, e.kind, e.audience, s.bytes
   FROM placed s CROSS JOIN {events} e ON e.id >= s.from_row AND e.id < s.to_row
   WHERE coalesce(s.before, 0) < ? ORDER BY s.from_row, e.id LIMIT ?`,
  [JSON.stringify(after.map(({ jobId, seq }) => [jobId, seq])), limit, limit, limit]
]

/** Returns the events of rows. */
export const toBacklog = (rows: Rows): ReadonlyArray<LateEvent> =>
  (rows as ReadonlyArray<LateRow>).map(([jobId, seq, type, kind, audience, bytes]) => ({
    jobId,
    seq,
    type,
    kind,
    audience: audience ?? undefined,
    bytes
  }))

/** A row of {@link News}: what it tells of, in which order, and what that is. */
type NewsRow = readonly [
  what: number,
  order: number,
  id: string,
  seq: number,
  type: LateEvent["type"],
  kind: string,
  audience: string | null,
  bytes: number,
  payload: string | null
]

/** Returns what rows tell: events, sessions that have more to look at or have lost something, and jobs that are gone. */
export const toNews = (rows: Rows): News => {
  const events: Array<News["events"][number]> = []
  const named = [new Set<string>(), new Set<string>(), new Set<string>()] as const
  for (const [what, , id, seq, type, kind, audience, bytes, payload] of rows as ReadonlyArray<NewsRow>)
    if (what > 0) named[what - 1]?.add(id)
    else {
      const event = { jobId: id, seq, type, kind, audience: audience ?? undefined, bytes }
      // One that is damaged is left to whoever reads it for itself.
      const isSound = payload !== null && eventProblem({ ...event, payload }) === undefined
      events.push(isSound ? { ...event, payload } : event)
    }
  const [joined, lost, gone] = named
  return { events, joined, lost, gone }
}
