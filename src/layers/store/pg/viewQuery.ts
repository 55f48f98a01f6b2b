/** The reads of a store in Postgres that views ask: pages of events, what a session has numbered, and what it is still to number. */
import type { NewsQuery, Run } from "../../../services/store/Store.js"
import type { Queries } from "../queries.js"
import type { Query } from "../query.js"
import type { Statement } from "../statements.js"
import { newest } from "./cursors.js"
import { toStored } from "./text.js"

/** The events of one log, as a seek: the index is walked from where they begin, whatever is thought of how many they are. */
const eventColumns = "e.seq::float8, e.type, e.kind, e.audience, e.payload"

export const events = (jobId: string, fromSeq: number, limit: number): Statement => [
  `SELECT ${eventColumns}
   FROM {jobs} j CROSS JOIN LATERAL (
     SELECT * FROM {events} WHERE job = j.id AND seq >= greatest(j.first, $2::bigint) ORDER BY seq LIMIT $3::bigint) e
   WHERE j.job_id = $1 ORDER BY e.seq`,
  [jobId, fromSeq, limit]
]

/** The floor of a view; higher than any number when its session was dropped. */
const runLow = (sessionId: string) =>
  `coalesce((SELECT before FROM {run_trims} WHERE session_id = ${sessionId}), 0)`

/** Runs do not overlap, so of those that start at or below the bound only the last can reach it. */
export const runs = (sessionId: string, fromEventSeq: number, limit: number): Query<Run> => [
  `WITH bound AS (SELECT greatest($2::bigint, ${runLow("$1")}) AS low)
   SELECT event_seq::float8 AS "eventSeq", job_id AS "jobId", job_seq::float8 AS "jobSeq", count::float8, bytes::float8
   FROM {runs} WHERE session_id = $1 AND event_seq >= coalesce(
       (SELECT max(event_seq) FROM {runs} WHERE session_id = $1 AND event_seq <= (SELECT low FROM bound)), 0)
     AND event_seq + count - 1 >= (SELECT low FROM bound)
   ORDER BY event_seq LIMIT $3::bigint`,
  [sessionId, fromEventSeq, limit]
]

export const view = (sessionId: string): Query<{ readonly first: number; readonly last: number }> => [
  `WITH bound AS (SELECT ${runLow("$1")} AS low),
   ends AS (
     SELECT (SELECT event_seq FROM {runs} WHERE session_id = $1 ORDER BY event_seq LIMIT 1) AS first,
       (SELECT event_seq + count FROM {runs} WHERE session_id = $1 ORDER BY event_seq DESC LIMIT 1) AS next)
   SELECT greatest(ends.first, bound.low)::float8 AS first, (ends.next - 1)::float8 AS last
   FROM bound, ends WHERE ends.first IS NOT NULL AND bound.low <= ends.next`,
  [sessionId]
]

/** Where history was asked for again a `seq` has several numbers: the lowest counts. */
export const numbering = (
  sessionId: string,
  jobId: string,
  after: number
): ReturnType<Queries["numbering"]> => [
  `WITH own AS (SELECT * FROM {runs} WHERE job_id = $2 AND session_id = $1),
   newest AS (SELECT event_seq + count - 1 AS last, job_seq + count - 1 AS through FROM own ORDER BY event_seq DESC LIMIT 1),
   seen AS (SELECT coalesce(max(job_seq + least(count, $3::bigint + 1 - event_seq)), 1) AS unseen
     FROM own WHERE event_seq <= $3::bigint)
   SELECT (SELECT last FROM newest)::float8 AS last, (SELECT through FROM newest)::float8 AS through,
     (SELECT min(greatest(r.job_seq + greatest(0, $3::bigint + 1 - r.event_seq), unseen)) FROM own r
      WHERE r.event_seq + r.count > $3::bigint + 1 AND r.job_seq + r.count > unseen)::float8 AS next
   FROM seen`,
  [sessionId, jobId, after]
]

/** What is missing in between is found by the caller. */
export const page = (sessionId: string, after: number, limit: number, maxBytes: number): Statement => [
  `WITH span AS (
     SELECT r.event_seq, r.job_id, r.job_seq - r.event_seq AS shift,
       r.job_seq + greatest(0, $2::bigint - r.event_seq) AS low,
       r.job_seq + least(r.count, $3::bigint - r.event_seq) AS high
     FROM {runs} r WHERE r.session_id = $1 AND r.event_seq < $3::bigint
       AND r.event_seq >= coalesce(
         (SELECT max(event_seq) FROM {runs} WHERE session_id = $1 AND event_seq <= $2::bigint), 0)
       AND $2::bigint >= ${runLow("$1")}
   ),
   found AS (
     SELECT s.event_seq AS run, s.shift, j.job_id, j.trace_id, j.session_id, e.*,
       sum(e.bytes) OVER (ORDER BY s.event_seq, e.seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
     FROM span s JOIN {jobs} j ON j.job_id = s.job_id CROSS JOIN LATERAL (
       SELECT * FROM {events} WHERE job = j.id AND seq >= greatest(s.low, j.first) AND seq < s.high
       ORDER BY seq LIMIT $3::bigint - $2::bigint) e
   )
   SELECT (e.seq - e.shift)::float8, e.job_id, e.trace_id, e.session_id, ${eventColumns}
   FROM found e WHERE coalesce(e.before, 0) <= $4::bigint
   ORDER BY e.run, e.seq`,
  [sessionId, after + 1, after + 1 + limit, maxBytes]
]

/** What was committed together was given one number, in the order of commits; of it the jobs that were opened first come first. */
export const backlog: Queries["backlog"] = (after, limit) => [
  `SELECT p.job_id, e.seq::float8, e.type, e.kind, e.audience, e.bytes::float8
   FROM unnest($1::text[], $2::bigint[]) AS p (job_id, after) JOIN {jobs} j ON j.job_id = p.job_id CROSS JOIN LATERAL (
     SELECT * FROM {events} WHERE job = j.id AND seq > greatest(p.after, j.first - 1) ORDER BY seq LIMIT $3::bigint) e
   ORDER BY e.batch, e.job, e.seq LIMIT $3::bigint`,
  [after.map(({ jobId }) => jobId), after.map(({ seq }) => seq), limit]
]

/**
 * Everything that a node has to know to go on with its sessions, in one statement, so that all of it is of one time. What is
 * `found` is read job by job along the index, and a job of which there is nothing new costs one step of it.
 */
export const news = ({ after, limit, maxBytes, node, sessions }: NewsQuery): Statement => [
  `WITH place AS (SELECT * FROM unnest($1::text[], $2::bigint[]) AS p (job_id, after)),
   found AS (
     SELECT p.job_id, e.* FROM place p JOIN {jobs} j ON j.job_id = p.job_id CROSS JOIN LATERAL (
       SELECT * FROM {events} WHERE job = j.id AND seq > greatest(p.after, j.first - 1) ORDER BY seq LIMIT $3::bigint) e
     ORDER BY e.batch, e.job, e.seq LIMIT $3::bigint),
   ordered AS (
     SELECT row_number() OVER step AS n, sum(bytes) OVER step AS taken, found.* FROM found
     WINDOW step AS (ORDER BY batch, job, seq))
   SELECT 0, n::float8, job_id, seq::float8, type, kind, audience, bytes::float8,
     CASE WHEN taken <= $4::bigint THEN payload END FROM ordered
   UNION ALL SELECT 1, 0, o.session_id, 0, '', '', NULL, 0, NULL
     FROM {observers} o JOIN {jobs} j ON j.job_id = o.job_id
     WHERE o.session_id = ANY($5::text[]) AND j.node NOT IN ('', $6)
       AND (o.job_id <> ALL($1::text[]) OR (o.cursor = 0 AND ${newest} > 0 AND NOT EXISTS (
         SELECT 1 FROM {runs} WHERE job_id = o.job_id AND session_id = o.session_id)))
   UNION ALL SELECT 2, 0, session_id, 0, '', '', NULL, 0, NULL FROM {sessions}
     WHERE session_id = ANY($5::text[]) AND lost
   UNION ALL SELECT 3, 0, p.job_id, 0, '', '', NULL, 0, NULL FROM place p
     WHERE NOT EXISTS (SELECT 1 FROM {jobs} j WHERE j.job_id = p.job_id)
   ORDER BY 1, 2`,
  [after.map(({ jobId }) => jobId), after.map(({ seq }) => seq), limit, maxBytes, sessions, toStored(node)]
]
