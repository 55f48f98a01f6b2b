/** The reads of a SQL store that retention decides by: what is kept, for whom, and how much it is. */
import { parseJson } from "../../protocol/Json.js"
import { type Bounds, delegationKind, type Mark, type Viewer } from "../../services/store/Store.js"
import { cursor, newest } from "./cursors.js"
import { joined, share } from "./marks.js"
import { type IdRow, nodeOfRow, type ObservedRow, type Query } from "./query.js"
import { everything } from "./statements.js"

const keyed = (keys: ReadonlyArray<string>) => [JSON.stringify(keys)]

export interface RetainedRow {
  readonly jobId: string
  readonly low: number
  readonly seq: number
  readonly count: number
  readonly bytes: number
  readonly last: number
  readonly rest: number | null
}

/** Selects of each job the extent that its retained events begin in, and what follows it. */
export const retained = (jobIds: ReadonlyArray<string>): Query<RetainedRow> => [
  `WITH log AS (
     SELECT j.id, j.job_id, coalesce(t.before, 0) AS low
     FROM json_each(?) k CROSS JOIN {jobs} j ON j.job_id = k.value LEFT JOIN {event_trims} t ON t.job = j.id
   )
   SELECT log.job_id AS jobId, log.low, f.seq, f.count, f.bytes, l.seq + l.count - 1 AS last,
     (SELECT sum(bytes) FROM {extents} WHERE job = log.id AND seq > f.seq) AS rest
   FROM log
   CROSS JOIN {extents} f ON f.job = log.id AND f.seq = coalesce(
     (SELECT max(seq) FROM {extents} WHERE job = log.id AND seq <= log.low),
     (SELECT min(seq) FROM {extents} WHERE job = log.id))
   CROSS JOIN {extents} l ON l.job = log.id AND l.seq = (SELECT max(seq) FROM {extents} WHERE job = log.id)`,
  keyed(jobIds)
]

/** Returns what is retained, by job. */
export const toBoundsOf = (rows: ReadonlyArray<RetainedRow>): ReadonlyMap<string, Bounds> =>
  new Map(
    rows.map((row) => {
      const first = Math.max(row.seq, row.low)
      const bytes = share(row, row.seq + row.count - first) + (row.rest ?? 0)
      return [row.jobId, { first, last: row.last, bytes }]
    })
  )

export interface MarkRow {
  readonly low: number
  readonly seq: number
  readonly count: number
  readonly bytes: number
}

/** Selects the marks of a job; see `StoreService.marks`. */
export const marks = (jobId: string): Query<MarkRow> => [
  `WITH log AS (
     SELECT j.id, coalesce(t.before, 0) AS low
     FROM {jobs} j LEFT JOIN {event_trims} t ON t.job = j.id WHERE j.job_id = ?
   )
   SELECT log.low, x.seq, x.count, x.bytes
   FROM log CROSS JOIN {extents} x ON x.job = log.id
     AND x.seq >= coalesce((SELECT max(seq) FROM {extents} WHERE job = log.id AND seq <= log.low), 0)
   WHERE x.count > 0 AND x.seq + x.count > log.low
   ORDER BY x.seq`,
  [jobId]
]

/** Returns the marks of rows. */
export const toMarks = (rows: ReadonlyArray<MarkRow>): ReadonlyArray<Mark> =>
  joined(
    rows.map((row) => {
      const end = row.seq + row.count
      const count = end - Math.max(row.seq, row.low)
      return { seq: end - 1, count, bytes: share(row, count) }
    })
  )

/** Per session that has runs of a job, a seek: the sessions in order, each found from the one before. */
const pairs = `pair (job_id, session_id) AS (
     SELECT k.value, (SELECT min(session_id) FROM {runs} WHERE job_id = k.value) FROM json_each(?) k
     UNION ALL
     SELECT p.job_id, (SELECT min(session_id) FROM {runs} WHERE job_id = p.job_id AND session_id > p.session_id)
     FROM pair p WHERE p.session_id IS NOT NULL
   )`

/**
 * `event_seq` after the last run that the session of a pair has of its job. Where a run is, is asked for by `max` or
 * `min`: an ORDER BY would be taken from the primary key, and walk over the runs of all other jobs.
 */
const pairEnd = `(SELECT event_seq + count FROM {runs} WHERE session_id = p.session_id AND event_seq =
     (SELECT max(event_seq) FROM {runs} WHERE job_id = p.job_id AND session_id = p.session_id))`

/** Views that retain something of these jobs. */
export const viewers = (jobIds: ReadonlyArray<string>): Query<Viewer> => [
  `WITH RECURSIVE ${pairs}
   SELECT p.session_id AS sessionId, p.job_id AS jobId, ${pairEnd} AS "end"
   FROM pair p CROSS JOIN {sessions} s ON s.session_id = p.session_id
   LEFT JOIN {run_trims} t ON t.session_id = p.session_id
   WHERE ${pairEnd} > coalesce(t.before, 1)`,
  keyed(jobIds)
]

/** Those who observe a job and have not come to its newest event. */
const withObservers = `CROSS JOIN {observers} o ON o.job_id = j.job_id
   CROSS JOIN {sessions} s ON s.session_id = o.session_id AND s.lost = 0
   WHERE ${cursor} < ${newest}`

/**
 * Selects those of these jobs that the job above still needs. Of what is damaged it is not known what is above: it is no
 * reason to keep everything else.
 */
const keptAbove = `SELECT j.job_id AS id FROM json_each(?) k CROSS JOIN {jobs} j ON j.job_id = k.value
   CROSS JOIN {jobs} p ON p.job_id = iif(json_valid(j.record), j.record ->> '$.parentJobId', NULL) AND p.ended_at IS NULL
   WHERE EXISTS (SELECT 1 FROM {journal} WHERE job = p.id AND kind = '${delegationKind}')`

export const neededAbove = (jobId: string): Query<IdRow> => [keptAbove, keyed([jobId])]

/** Selects those of these jobs that a stored session, or the job above, needs something of. */
export const neededOf = (jobIds: ReadonlyArray<string>): Query<IdRow> => [
  `WITH RECURSIVE ${pairs}
   SELECT DISTINCT p.job_id AS id
   FROM pair p CROSS JOIN {sessions} s ON s.session_id = p.session_id AND s.lost = 0
   LEFT JOIN {run_trims} t ON t.session_id = p.session_id
   WHERE ${pairEnd} > max(s.need, coalesce(t.before, 1))
   UNION
   SELECT j.job_id FROM json_each(?) k CROSS JOIN {jobs} j ON j.job_id = k.value ${withObservers}
   UNION
   ${keptAbove}`,
  [...keyed(jobIds), ...keyed(jobIds), ...keyed(jobIds)]
]

/**
 * Selects, per session, the run that holds the first number needed, or the next; and where history was asked for again.
 */
export const needed = (jobId: string): Query<{ readonly seq: number | null }> => [
  `WITH RECURSIVE ${pairs},
   viewer (job_id, session_id, low) AS (
     SELECT p.job_id, p.session_id, max(s.need, coalesce(t.before, 1))
     FROM pair p CROSS JOIN {sessions} s ON s.session_id = p.session_id AND s.lost = 0
     LEFT JOIN {run_trims} t ON t.session_id = p.session_id
   )
   SELECT min(seq) AS seq FROM (
     SELECT coalesce(
       (SELECT iif(event_seq + count > low, job_seq + low - event_seq, NULL) FROM {runs}
        WHERE session_id = v.session_id AND event_seq = (SELECT max(event_seq) FROM {runs}
          WHERE job_id = v.job_id AND session_id = v.session_id AND event_seq <= low)),
       (SELECT job_seq FROM {runs}
        WHERE session_id = v.session_id AND event_seq = (SELECT min(event_seq) FROM {runs}
          WHERE job_id = v.job_id AND session_id = v.session_id AND event_seq > low))) AS seq FROM viewer v
     UNION ALL
     SELECT (SELECT min(job_seq) FROM {runs}
        WHERE job_id = v.job_id AND session_id = v.session_id AND event_seq > low AND rejoin = 1)
     FROM viewer v
     UNION ALL
     SELECT ${cursor} + 1 FROM {jobs} j ${withObservers} AND j.job_id = ?)`,
  [...keyed([jobId]), jobId]
]

/** Selects the sessions that have not come to the newest event of a job. */
export const lagging = (jobId: string): Query<IdRow> => [
  `SELECT o.session_id AS id FROM {jobs} j ${withObservers} AND j.job_id = ?`,
  [jobId]
]

/** Selects what a session observes, and how far it has come. */
export const observed = (sessionId: string): Query<ObservedRow> => [
  `WITH own AS (
     SELECT j.id, j.job_id, ${nodeOfRow} AS node, j.ended_at IS NOT NULL AS ended, ${cursor} AS cursor, ${newest} AS last
     FROM {observers} o CROSS JOIN {jobs} j ON j.job_id = o.job_id WHERE o.session_id = ?
   )
   SELECT own.job_id AS jobId, own.node, own.ended, own.cursor, own.last, iif(own.cursor < own.last, (
     SELECT sum(x.bytes * min(x.count, x.seq + x.count - 1 - own.cursor) / x.count) FROM {extents} x
     WHERE x.job = own.id AND x.count > 0 AND x.seq + x.count - 1 > own.cursor), 0) AS bytes
   FROM own ORDER BY own.job_id`,
  [sessionId]
]

/** Selects what a session still needs. */
export const need = (sessionId: string): Query<{ readonly need: number | null }> => [
  "SELECT need FROM {sessions} WHERE session_id = ?",
  [sessionId]
]

/** Selects whether a session has lost events that it had not numbered. */
export const hasLost = (sessionId: string): Query<{ readonly lost: number }> => [
  "SELECT lost FROM {sessions} WHERE session_id = ?",
  [sessionId]
]

/** Sessions that observe these jobs. */
export const observersOf = (
  jobIds: ReadonlyArray<string>
): Query<{ readonly jobId: string; readonly id: string }> => [
  `SELECT o.job_id AS jobId, o.session_id AS id
   FROM json_each(?) k CROSS JOIN {observers} o ON o.job_id = k.value`,
  keyed(jobIds)
]

/** Returns the ids of sessions, by job. */
export const toGroups = (
  rows: ReadonlyArray<{ readonly jobId: string; readonly id: string }>
): ReadonlyMap<string, ReadonlyArray<string>> => {
  const groups = new Map<string, Array<string>>()
  for (const { id, jobId } of rows) {
    const group = groups.get(jobId)
    if (group === undefined) groups.set(jobId, [id])
    else group.push(id)
  }
  return groups
}

/** A place in the order of ends. */
export interface EndedRow {
  readonly id: string
  readonly endedAt: number
  readonly key: number
}

/** Selects ended jobs after a place and before a time, oldest end first; of one principal, or of all. */
export const ended = (
  principal: string | undefined,
  after: Pick<EndedRow, "endedAt" | "key">,
  endedBefore: number,
  limit: number
): Query<EndedRow> => [
  `SELECT job_id AS id, ended_at AS endedAt, id AS key FROM {jobs}
   WHERE ${principal === undefined ? "" : "principal = ? AND"}
     ended_at IS NOT NULL AND (ended_at, id) > (?, ?) AND ended_at < ?
   ORDER BY ended_at, {jobs}.id LIMIT ?`,
  [...(principal === undefined ? [] : [principal]), after.endedAt, after.key, endedBefore, limit]
]

export interface EndedCountRow {
  /** As JSON: some drivers read text only up to its first NUL, and a name may have one. */
  readonly principal: string
  readonly count: number
}

/** How many ended jobs each principal has. */
export const endedCounts: Query<EndedCountRow> = [
  `SELECT json_quote(j.principal) AS principal, count(*) AS count FROM {jobs} j
   WHERE j.ended_at IS NOT NULL GROUP BY j.principal`,
  []
]

/** Returns the counts, by principal. */
export const toEndedCounts = (rows: ReadonlyArray<EndedCountRow>): ReadonlyMap<string, number> =>
  new Map(rows.map(({ count, principal }) => [String(parseJson(principal)), count]))

/** Trims that are looked at to tell what waits to be freed. */
const sample = 64

const waiting = (trims: string) => `SELECT count(*) AS jobs, sum(
     min(t.before, (SELECT seq + count FROM {extents}
       WHERE job = t.job AND seq = (SELECT max(seq) FROM {extents} WHERE job = t.job)))
     - (SELECT min(seq) FROM {extents} WHERE job = t.job)) AS events
   FROM (SELECT job, before FROM {event_trims} WHERE before ${trims} LIMIT ${sample}) t`

/** Of live jobs, which are few, what was trimmed; of dropped ones the average of some, as often as there are any. */
export const freeing: Query<{ readonly events: number }> = [
  `SELECT coalesce(live.events, 0) + coalesce(
     dropped.events * ((SELECT count(*) FROM {event_trims}) - live.jobs) / max(dropped.jobs, 1), 0) AS events
   FROM (${waiting(`< ${everything}`)}) live, (${waiting(`= ${everything}`)}) dropped`,
  []
]

/** Extents that are counted by one statement: some milliseconds. */
export const countedAtOnce = 4096

export interface CountedRow {
  readonly events: number | null
  readonly bytes: number | null
  readonly extents: number
  /** The last of them. */
  readonly job: number | null
  readonly seq: number | null
}

/** Counts what the extents after a place hold, so many of them. */
export const counted = (job: number, seq: number): Query<CountedRow> => [
  `WITH page AS (SELECT job, seq, count, bytes FROM {extents} WHERE (job, seq) > (?, ?) ORDER BY job, seq LIMIT ?),
     last AS (SELECT job, seq FROM page ORDER BY job DESC, seq DESC LIMIT 1)
   SELECT sum(count) AS events, sum(bytes) AS bytes, count(*) AS extents,
     (SELECT job FROM last) AS job, (SELECT seq FROM last) AS seq FROM page`,
  [job, seq, countedAtOnce]
]
