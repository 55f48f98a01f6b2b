/** The reads of a store in Postgres that retention asks: what is kept, who needs it, and what may be freed. */
import { delegationKind, type Viewer } from "../../../services/store/Store.js"
import { maxBytes as markBytes, maxEvents as markEvents } from "../marks.js"
import type { EndedRow, Queries } from "../queries.js"
import type { IdRow, ObservedRow, Query } from "../query.js"
import { cursor, newest, withObservers } from "./cursors.js"
import { everything } from "./parts.js"
import { toStored } from "./text.js"

/** Selects what is retained of each job, as one stretch that begins where the job does. */
export const retained = (jobIds: ReadonlyArray<string>): ReturnType<Queries["retained"]> => [
  `SELECT j.job_id AS "jobId", j.first::float8 AS low, j.first::float8 AS seq, coalesce(l.last, j.first - 1)::float8 AS last,
     (coalesce(l.last, j.first - 1) - j.first + 1)::float8 AS count, coalesce(b.bytes, 0)::float8 AS bytes, 0 AS rest
   FROM {jobs} j
   CROSS JOIN LATERAL (SELECT max(seq) AS last FROM {events} WHERE job = j.id) l
   CROSS JOIN LATERAL (SELECT sum(bytes) AS bytes FROM {events} WHERE job = j.id AND seq >= j.first) b
   WHERE j.job_id = ANY($1::text[]) AND (l.last IS NOT NULL OR j.first > 1)`,
  [jobIds]
]

/** Stretches that are cut where either bound of a mark is reached. */
export const marks = (jobId: string): ReturnType<Queries["marks"]> => [
  `WITH log AS (SELECT id, first FROM {jobs} WHERE job_id = $1),
   weighed AS (
     SELECT e.seq, e.bytes,
       coalesce(sum(e.bytes) OVER (ORDER BY e.seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)::bigint AS before
     FROM log JOIN {events} e ON e.job = log.id AND e.seq >= log.first
   )
   SELECT 0 AS low, min(seq)::float8 AS seq, count(*)::float8 AS count, sum(bytes)::float8 AS bytes
   FROM weighed GROUP BY seq / ${markEvents}, before / ${markBytes} ORDER BY min(seq)`,
  [jobId]
]

export const viewers = (jobIds: ReadonlyArray<string>): Query<Viewer> => [
  `SELECT r.session_id AS "sessionId", r.job_id AS "jobId", max(r.event_seq + r.count)::float8 AS "end"
   FROM {runs} r JOIN {sessions} s ON s.session_id = r.session_id
   LEFT JOIN {run_trims} t ON t.session_id = r.session_id
   WHERE r.job_id = ANY($1::text[]) AND r.event_seq + r.count > coalesce(t.before, 1)
   GROUP BY r.session_id, r.job_id`,
  [jobIds]
]

/** First `event_seq` that a session needs and that is retained. */
const low = "greatest(coalesce(s.need, 1), coalesce(t.before, 1))"

/** Whether the job above `j` has not ended, and finds by its journal what it has delegated to. */
const keptAbove = `EXISTS (SELECT 1 FROM {jobs} p JOIN {journal} d ON d.job = p.id AND d.kind = '${delegationKind}'
   WHERE p.job_id = j.parent_job_id AND p.ended_at IS NULL)`

export const neededAbove = (jobId: string): Query<IdRow> => [
  `SELECT j.job_id AS id FROM {jobs} j WHERE j.job_id = $1 AND ${keptAbove}`,
  [jobId]
]

export const neededOf = (jobIds: ReadonlyArray<string>): Query<IdRow> => [
  `SELECT k.id FROM unnest($1::text[]) AS k (id) WHERE EXISTS (
     SELECT 1 FROM {runs} r JOIN {sessions} s ON s.session_id = r.session_id AND NOT s.lost
     LEFT JOIN {run_trims} t ON t.session_id = r.session_id
     WHERE r.job_id = k.id AND r.event_seq + r.count > ${low})
   OR EXISTS (SELECT 1 FROM {jobs} j ${withObservers} WHERE j.job_id = k.id)
   OR EXISTS (SELECT 1 FROM {jobs} j WHERE j.job_id = k.id AND ${keptAbove})`,
  [jobIds]
]

export const needed = (jobId: string): Query<{ readonly seq: number | null }> => [
  `SELECT least(
     (SELECT min(r.job_seq + greatest(0, ${low} - r.event_seq))
      FROM {runs} r JOIN {sessions} s ON s.session_id = r.session_id AND NOT s.lost
      LEFT JOIN {run_trims} t ON t.session_id = r.session_id
      WHERE r.job_id = $1 AND r.event_seq + r.count > ${low}),
     (SELECT min(${cursor} + 1) FROM {jobs} j ${withObservers} WHERE j.job_id = $1))::float8 AS seq`,
  [jobId]
]

export const lagging = (jobId: string): Query<IdRow> => [
  `SELECT o.session_id AS id FROM {jobs} j ${withObservers} WHERE j.job_id = $1`,
  [jobId]
]

export const observed = (sessionId: string): Query<ObservedRow> => [
  `WITH own AS (
     SELECT j.id, j.job_id, j.node, j.ended_at, ${cursor} AS cursor, ${newest} AS last
     FROM {observers} o JOIN {jobs} j ON j.job_id = o.job_id WHERE o.session_id = $1
   )
   SELECT job_id AS "jobId", to_json(node)::text AS node, (ended_at IS NOT NULL)::integer AS ended, cursor::float8, last::float8,
     coalesce((SELECT sum(bytes) FROM {events} WHERE job = own.id AND seq > own.cursor), 0)::float8 AS bytes
   FROM own ORDER BY job_id`,
  [sessionId]
]

export const need = (sessionId: string): ReturnType<Queries["need"]> => [
  "SELECT need::float8 FROM {sessions} WHERE session_id = $1",
  [sessionId]
]

export const hasLost = (sessionId: string): ReturnType<Queries["hasLost"]> => [
  "SELECT lost::integer FROM {sessions} WHERE session_id = $1",
  [sessionId]
]

export const observersOf = (
  jobIds: ReadonlyArray<string>
): Query<{ readonly jobId: string; readonly id: string }> => [
  `SELECT job_id AS "jobId", session_id AS id FROM {observers} WHERE job_id = ANY($1::text[])`,
  [jobIds]
]

export const ended = (
  principal: string | undefined,
  after: Pick<EndedRow, "endedAt" | "key">,
  endedBefore: number,
  limit: number
): Query<EndedRow> => [
  `SELECT job_id AS id, ended_at::float8 AS "endedAt", id::float8 AS key FROM {jobs}
   WHERE ended_at IS NOT NULL AND (ended_at, {jobs}.id) > ($1::bigint, $2::bigint) AND ended_at < $3::bigint
     ${principal === undefined ? "" : "AND principal = $5"}
   ORDER BY ended_at, {jobs}.id LIMIT $4::bigint`,
  [after.endedAt, after.key, endedBefore, limit, ...(principal === undefined ? [] : [toStored(principal)])]
]

/** As JSON, as in the record: it may have what text cannot. */
export const endedCounts: ReturnType<() => Queries["endedCounts"]> = [
  "SELECT to_json(principal)::text AS principal, count(*)::float8 FROM {jobs} WHERE ended_at IS NOT NULL GROUP BY {jobs}.principal",
  []
]

/** Trims that are looked at to tell what waits to be freed. */
const sample = 64

const waiting = (
  trims: string
) => `SELECT count(*) AS jobs, sum(least(t.before, l.last + 1) - l.first) AS events
   FROM (SELECT job, before FROM {event_trims} WHERE before ${trims} LIMIT ${sample}) t
   CROSS JOIN LATERAL (SELECT min(seq) AS first, max(seq) AS last FROM {events} WHERE job = t.job) l`

export const freeing: Query<{ readonly events: number }> = [
  `SELECT (coalesce(live.events, 0) + coalesce(
     dropped.events * ((SELECT count(*) FROM {event_trims}) - live.jobs) / greatest(dropped.jobs, 1), 0))::float8 AS events
   FROM (${waiting(`< ${everything}`)}) live, (${waiting(`= ${everything}`)}) dropped`,
  []
]

/** Events that are counted by one statement: some milliseconds. */
export const countedAtOnce = 16_384

export const counted = (job: number, seq: number): ReturnType<Queries["counted"]> => [
  `WITH page AS (SELECT job, seq, bytes FROM {events} WHERE (job, seq) > ($1::bigint, $2::bigint)
       ORDER BY job, seq LIMIT ${countedAtOnce}),
     last AS (SELECT job, seq FROM page ORDER BY job DESC, seq DESC LIMIT 1)
   SELECT count(*)::float8 AS events, sum(bytes)::float8 AS bytes, count(*)::float8 AS extents,
     (SELECT job FROM last)::float8 AS job, (SELECT seq FROM last)::float8 AS seq FROM page`,
  [job, seq]
]
