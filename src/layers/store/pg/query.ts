/** The reads of a store in Postgres: each one statement. Nothing that was dropped or trimmed is ever seen by one. */
import { never } from "../../../services/store/dueAt.js"
import {
  type DueQuery,
  delegationKind,
  type HookEvent,
  type JobFilter,
  type NewsQuery,
  type Run,
  type SessionFilter,
  type Viewer
} from "../../../services/store/Store.js"
import { maxBytes as markBytes, maxEvents as markEvents } from "../marks.js"
import type { EndedRow, Queries } from "../queries.js"
import type {
  CountRow,
  DueRow,
  IdRow,
  LifeRow,
  ListedRow,
  ObservedRow,
  OpenRow,
  PlaceRow,
  Query,
  RecordRow,
  SessionRow,
  WishRow
} from "../query.js"
import { hasParked } from "../query.js"
import type { Statement } from "../statements.js"
import { cursor, newest, withObservers } from "./cursors.js"
import { everything } from "./parts.js"
import { toKey, toStored } from "./text.js"

const session = (sessionId: string): Query<RecordRow> => [
  "SELECT record FROM {sessions} WHERE session_id = $1",
  [sessionId]
]
const sessions: Query<RecordRow> = ["SELECT record FROM {sessions}", []]

/** Those of other nodes than a few are found by looking at all, which is what they have in a column. */
const sessionPage = ({ after = "", limit, node, notOf = [] }: SessionFilter): Query<SessionRow> => [
  `SELECT session_id AS "sessionId", record FROM {sessions}
   WHERE session_id > $1 AND node <> ALL ($2::text[]) ${node === undefined ? "" : "AND node = $4"}
   ORDER BY session_id LIMIT $3`,
  [after, notOf.map(toStored), limit, ...(node === undefined ? [] : [toStored(node)])]
]

const job = (jobId: string): Query<RecordRow> => ["SELECT record FROM {jobs} WHERE job_id = $1", [jobId]]

const jobBySubmit = (sessionId: string, submitId: string): Query<RecordRow> => [
  `SELECT record FROM {jobs} WHERE session_id = $1 AND submit_id = $2
   ORDER BY created_at DESC, job_id DESC LIMIT 1`,
  [sessionId, toKey(submitId)]
]

const jobByKey = (principal: string, key: string): Query<RecordRow> => [
  `SELECT record FROM {jobs} WHERE principal = $1 AND idempotency_key = $2 AND NOT rejected
   ORDER BY created_at DESC, job_id DESC LIMIT 1`,
  [toStored(principal), toKey(key)]
]

/** The events of one log, as a seek: the index is walked from where they begin, whatever is thought of how many they are. */
const eventColumns = "e.seq::float8, e.type, e.kind, e.audience, e.payload"

const events = (jobId: string, fromSeq: number, limit: number): Statement => [
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
const runs = (sessionId: string, fromEventSeq: number, limit: number): Query<Run> => [
  `WITH bound AS (SELECT greatest($2::bigint, ${runLow("$1")}) AS low)
   SELECT event_seq::float8 AS "eventSeq", job_id AS "jobId", job_seq::float8 AS "jobSeq", count::float8, bytes::float8
   FROM {runs} WHERE session_id = $1 AND event_seq >= coalesce(
       (SELECT max(event_seq) FROM {runs} WHERE session_id = $1 AND event_seq <= (SELECT low FROM bound)), 0)
     AND event_seq + count - 1 >= (SELECT low FROM bound)
   ORDER BY event_seq LIMIT $3::bigint`,
  [sessionId, fromEventSeq, limit]
]

const view = (sessionId: string): Query<{ readonly first: number; readonly last: number }> => [
  `WITH bound AS (SELECT ${runLow("$1")} AS low),
   ends AS (
     SELECT (SELECT event_seq FROM {runs} WHERE session_id = $1 ORDER BY event_seq LIMIT 1) AS first,
       (SELECT event_seq + count FROM {runs} WHERE session_id = $1 ORDER BY event_seq DESC LIMIT 1) AS next)
   SELECT greatest(ends.first, bound.low)::float8 AS first, (ends.next - 1)::float8 AS last
   FROM bound, ends WHERE ends.first IS NOT NULL AND bound.low <= ends.next`,
  [sessionId]
]

/** Where history was asked for again a `seq` has several numbers: the lowest counts. */
const numbering = (sessionId: string, jobId: string, after: number): ReturnType<Queries["numbering"]> => [
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
const page = (sessionId: string, after: number, limit: number, maxBytes: number): Statement => [
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

const journal = (
  jobId: string,
  after: { readonly kind: string; readonly key: string },
  limit: number
): ReturnType<Queries["journal"]> => [
  `SELECT e.kind, e.key, e.ordinal::float8, e.about, e.size::float8
   FROM {jobs} j JOIN {journal} e ON e.job = j.id
   WHERE j.job_id = $1 AND (e.kind, e.key) > ($2, $3) ORDER BY e.kind, e.key LIMIT $4::bigint`,
  [jobId, after.kind, after.key, limit]
]

const journalValue = (jobId: string, kind: string, key: string): Query<{ readonly value: string | null }> => [
  `SELECT e.value FROM {jobs} j JOIN {journal} e ON e.job = j.id
   WHERE j.job_id = $1 AND e.kind = $2 AND e.key = $3`,
  [jobId, kind, key]
]

const hookEvents = (
  after: { readonly jobId: string; readonly seq: number },
  limit: number
): Query<HookEvent> => [
  `SELECT job_id AS "jobId", seq::float8, text FROM {hook_events}
   WHERE (job_id, seq) > ($1, $2::bigint) ORDER BY job_id, {hook_events}.seq LIMIT $3::bigint`,
  [after.jobId, after.seq, limit]
]

const jobPlaces = (jobIds: ReadonlyArray<string>): Query<PlaceRow> => [
  "SELECT job_id AS id, epoch::float8, to_json(node)::text AS node FROM {jobs} WHERE job_id = ANY($1::text[])",
  [jobIds]
]

const sessionPlaces = (sessionIds: ReadonlyArray<string>): Query<PlaceRow> => [
  `SELECT session_id AS id, epoch::float8, to_json(node)::text AS node FROM {sessions}
   WHERE session_id = ANY($1::text[])`,
  [sessionIds]
]

const openCounts: Query<CountRow> = [
  `SELECT to_json(node)::text AS node, count(*)::float8 FROM {jobs}
   WHERE ended_at IS NULL AND NOT rejected GROUP BY {jobs}.node`,
  []
]

/** By the text of the record, which has it once: in names quotes are escaped, and as JSON it may have what Postgres does not read. */
const attachedCounts: Query<CountRow> = [
  `SELECT to_json(node)::text AS node, count(*)::float8 FROM {sessions}
   WHERE strpos(record, '"attached":true') > 0 GROUP BY {sessions}.node`,
  []
]

/** Wishes are few, however many jobs there are: each looks its own up, which nothing that the planner thinks of them changes. */
const wishes = (node: string | undefined, limit: number): Query<WishRow> => [
  `SELECT w.id, w.job_id AS "jobId", w.kind, w.body, to_json(w.node)::text AS "from", w.at::float8, w.answer,
     to_json(j.node)::text AS "jobNode", (j.ended_at IS NOT NULL)::integer AS ended
   FROM {wishes} w LEFT JOIN LATERAL (SELECT node, ended_at FROM {jobs} WHERE job_id = w.job_id LIMIT 1) j ON true
   WHERE $1::text IS NULL OR w.node = $1 OR (w.answer IS NULL AND j.node = $1 AND j.ended_at IS NULL)
   ORDER BY w.at, w.id LIMIT $2::bigint`,
  [node === undefined ? null : toStored(node), limit]
]

const input = (jobId: string): Query<{ readonly input: string }> => [
  "SELECT i.input FROM {jobs} j JOIN {inputs} i ON i.job = j.id WHERE j.job_id = $1",
  [jobId]
]

/** Of the next jobs in the order of creation those that match, and the last one in any case. */
const jobs = (
  filter: JobFilter,
  after: { readonly createdAt: number; readonly jobId: string },
  limit: number
): Query<ListedRow> => {
  const { agent, createdBefore, principals, status } = filter
  const params: Array<unknown> = [
    after.createdAt,
    after.jobId,
    createdBefore ?? Number.MAX_SAFE_INTEGER,
    limit,
    filter.limit
  ]
  const hits: Array<string> = ["true"]
  const walk: Array<string> = []
  const isRow = filter.waiting === "rows" || filter.waiting === "parked"
  const param = (value: unknown): string => `$${params.push(value)}`
  if (principals !== "everyone") {
    const [principal] = principals
    if (principals.length === 1 && principal !== undefined)
      walk.push(`principal = ${param(toStored(principal))}`)
    else hits.push(`principal = ANY(${param(principals.map(toStored))}::text[])`)
  }
  if (status !== undefined) {
    if (status.length === 1) walk.push(`status = ${param(status[0])}`)
    else hits.push(`status = ANY(${param(status)}::text[])`)
  }
  if (agent !== undefined) {
    const name = param(toStored(agent))
    hits.push(`(agent = ${name} OR starts_with(agent, ${name} || '@'))`)
  }
  if (filter.parentJobId !== undefined)
    hits.push(`parent_job_id IS NOT DISTINCT FROM ${param(filter.parentJobId)}`)
  if (filter.node !== undefined) {
    walk.push(`node = ${param(toStored(filter.node))}`)
    // As the index says it.
    const isOpen = status?.every((one) => one === "pending" || one === "running")
    if (isOpen === true || isRow) walk.push("ended_at IS NULL")
  }
  if (isRow) hits.push("due_at IS NOT NULL")
  if (filter.waiting === "parked") hits.push(hasParked("strpos"))
  if (filter.waiting === "held") hits.push("(due_at IS NULL OR parent_job_id IS NOT NULL)")
  return [
    `WITH step AS MATERIALIZED (
       SELECT created_at, job_id, id, ${hits.join(" AND ")} AS hit FROM {jobs}
       WHERE ${walk.map((condition) => `${condition} AND `).join("")} NOT rejected
         AND (created_at, job_id) > ($1::bigint, $2) AND created_at < $3::bigint
       ORDER BY created_at, job_id LIMIT $4::bigint
     ), last AS (SELECT id FROM step ORDER BY created_at DESC, job_id DESC LIMIT 1)
     SELECT created_at::float8 AS "createdAt", job_id AS "jobId",
       CASE WHEN hit THEN (SELECT record FROM {jobs} WHERE id = step.id) END AS record
     FROM step WHERE hit OR id = (SELECT id FROM last) ORDER BY created_at, job_id LIMIT $5::bigint`,
    params
  ]
}

const due = ({ after, by, limit, node }: DueQuery): Query<DueRow> => [
  `SELECT record, due_at::float8 AS "dueAt", job_id AS "jobId" FROM {jobs} WHERE due_at <= $1::bigint AND (due_at, job_id) > ($2::bigint, $3)
   ${node === undefined ? "" : "AND node = $5"} ORDER BY due_at, job_id LIMIT $4::bigint`,
  [
    ...[by, after?.dueAt ?? -never, after?.jobId ?? "", limit],
    ...(node === undefined ? [] : [toStored(node)])
  ]
]

const waitingObserved = (sessionId: string): Query<IdRow> => [
  `SELECT o.job_id AS id FROM {observers} o JOIN {jobs} j ON j.job_id = o.job_id
   WHERE o.session_id = $1 AND j.due_at IS NOT NULL`,
  [sessionId]
]

const waitingOwners = (principal: string): Query<IdRow> => [
  "SELECT DISTINCT session_id AS id FROM {jobs} WHERE due_at IS NOT NULL AND principal = $1",
  [toStored(principal)]
]

const waitingCounts = (
  node: string | undefined
): Query<{ readonly principal: string; readonly count: number }> => [
  `SELECT principal, count(*)::float8 FROM {jobs} WHERE due_at IS NOT NULL
   ${node === undefined ? "" : "AND node = $1"} GROUP BY principal`,
  node === undefined ? [] : [toStored(node)]
]

/** From one name in the index to the next, however many jobs each has. */
const jobNodes: Query<IdRow> = [
  `WITH RECURSIVE named AS (
     (SELECT node FROM {jobs} WHERE ended_at IS NULL AND NOT rejected ORDER BY node LIMIT 1)
     UNION ALL
     SELECT (SELECT j.node FROM {jobs} j WHERE j.ended_at IS NULL AND NOT j.rejected AND j.node > named.node
       ORDER BY j.node LIMIT 1) FROM named WHERE named.node IS NOT NULL
   ) SELECT to_json(node)::text AS id FROM named WHERE node IS NOT NULL`,
  []
]

const openOn = (nodes: ReadonlyArray<string>, principals: ReadonlyArray<string>): Query<OpenRow> => [
  `SELECT principal, count(*) FILTER (WHERE status <> 'pending' AND due_at IS NULL)::float8 AS running,
     count(*) FILTER (WHERE status = 'pending')::float8 AS pending
   FROM {jobs} WHERE principal = ANY($1::text[]) AND node = ANY($2::text[]) AND ended_at IS NULL AND NOT rejected
   GROUP BY principal`,
  [principals.map(toStored), nodes.map(toStored)]
]

/** Nodes may have been before a runtime that is alone, and the other way round. */
const lives: Query<LifeRow> = [`SELECT node, alive_at::float8 AS "aliveAt" FROM {lives}`, []]

/** Selects what is retained of each job, as one stretch that begins where the job does. */
const retained = (jobIds: ReadonlyArray<string>): ReturnType<Queries["retained"]> => [
  `SELECT j.job_id AS "jobId", j.first::float8 AS low, j.first::float8 AS seq, coalesce(l.last, j.first - 1)::float8 AS last,
     (coalesce(l.last, j.first - 1) - j.first + 1)::float8 AS count, coalesce(b.bytes, 0)::float8 AS bytes, 0 AS rest
   FROM {jobs} j
   CROSS JOIN LATERAL (SELECT max(seq) AS last FROM {events} WHERE job = j.id) l
   CROSS JOIN LATERAL (SELECT sum(bytes) AS bytes FROM {events} WHERE job = j.id AND seq >= j.first) b
   WHERE j.job_id = ANY($1::text[]) AND (l.last IS NOT NULL OR j.first > 1)`,
  [jobIds]
]

/** Stretches that are cut where either bound of a mark is reached. */
const marks = (jobId: string): ReturnType<Queries["marks"]> => [
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

const viewers = (jobIds: ReadonlyArray<string>): Query<Viewer> => [
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

const neededAbove = (jobId: string): Query<IdRow> => [
  `SELECT j.job_id AS id FROM {jobs} j WHERE j.job_id = $1 AND ${keptAbove}`,
  [jobId]
]

const neededOf = (jobIds: ReadonlyArray<string>): Query<IdRow> => [
  `SELECT k.id FROM unnest($1::text[]) AS k (id) WHERE EXISTS (
     SELECT 1 FROM {runs} r JOIN {sessions} s ON s.session_id = r.session_id AND NOT s.lost
     LEFT JOIN {run_trims} t ON t.session_id = r.session_id
     WHERE r.job_id = k.id AND r.event_seq + r.count > ${low})
   OR EXISTS (SELECT 1 FROM {jobs} j ${withObservers} WHERE j.job_id = k.id)
   OR EXISTS (SELECT 1 FROM {jobs} j WHERE j.job_id = k.id AND ${keptAbove})`,
  [jobIds]
]

const needed = (jobId: string): Query<{ readonly seq: number | null }> => [
  `SELECT least(
     (SELECT min(r.job_seq + greatest(0, ${low} - r.event_seq))
      FROM {runs} r JOIN {sessions} s ON s.session_id = r.session_id AND NOT s.lost
      LEFT JOIN {run_trims} t ON t.session_id = r.session_id
      WHERE r.job_id = $1 AND r.event_seq + r.count > ${low}),
     (SELECT min(${cursor} + 1) FROM {jobs} j ${withObservers} WHERE j.job_id = $1))::float8 AS seq`,
  [jobId]
]

const lagging = (jobId: string): Query<IdRow> => [
  `SELECT o.session_id AS id FROM {jobs} j ${withObservers} WHERE j.job_id = $1`,
  [jobId]
]

const observed = (sessionId: string): Query<ObservedRow> => [
  `WITH own AS (
     SELECT j.id, j.job_id, j.node, j.ended_at, ${cursor} AS cursor, ${newest} AS last
     FROM {observers} o JOIN {jobs} j ON j.job_id = o.job_id WHERE o.session_id = $1
   )
   SELECT job_id AS "jobId", to_json(node)::text AS node, (ended_at IS NOT NULL)::integer AS ended, cursor::float8, last::float8,
     coalesce((SELECT sum(bytes) FROM {events} WHERE job = own.id AND seq > own.cursor), 0)::float8 AS bytes
   FROM own ORDER BY job_id`,
  [sessionId]
]

/** What was committed together was given one number, in the order of commits; of it the jobs that were opened first come first. */
const backlog: Queries["backlog"] = (after, limit) => [
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
const news = ({ after, limit, maxBytes, node, sessions }: NewsQuery): Statement => [
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

const need = (sessionId: string): ReturnType<Queries["need"]> => [
  "SELECT need::float8 FROM {sessions} WHERE session_id = $1",
  [sessionId]
]

const hasLost = (sessionId: string): ReturnType<Queries["hasLost"]> => [
  "SELECT lost::integer FROM {sessions} WHERE session_id = $1",
  [sessionId]
]

const observersOf = (
  jobIds: ReadonlyArray<string>
): Query<{ readonly jobId: string; readonly id: string }> => [
  `SELECT job_id AS "jobId", session_id AS id FROM {observers} WHERE job_id = ANY($1::text[])`,
  [jobIds]
]

const ended = (
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
const endedCounts: ReturnType<() => Queries["endedCounts"]> = [
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

const freeing: Query<{ readonly events: number }> = [
  `SELECT (coalesce(live.events, 0) + coalesce(
     dropped.events * ((SELECT count(*) FROM {event_trims}) - live.jobs) / greatest(dropped.jobs, 1), 0))::float8 AS events
   FROM (${waiting(`< ${everything}`)}) live, (${waiting(`= ${everything}`)}) dropped`,
  []
]

/** Events that are counted by one statement: some milliseconds. */
const countedAtOnce = 16_384

const counted = (job: number, seq: number): ReturnType<Queries["counted"]> => [
  `WITH page AS (SELECT job, seq, bytes FROM {events} WHERE (job, seq) > ($1::bigint, $2::bigint)
       ORDER BY job, seq LIMIT ${countedAtOnce}),
     last AS (SELECT job, seq FROM page ORDER BY job DESC, seq DESC LIMIT 1)
   SELECT count(*)::float8 AS events, sum(bytes)::float8 AS bytes, count(*)::float8 AS extents,
     (SELECT job FROM last)::float8 AS job, (SELECT seq FROM last)::float8 AS seq FROM page`,
  [job, seq]
]

/** What the reads ask a database in Postgres. */
export const queries: Queries = {
  news,
  openOn,
  session,
  sessions,
  sessionPage,
  job,
  jobBySubmit,
  jobByKey,
  events,
  runs,
  numbering,
  view,
  page,
  journal,
  journalValue,
  hookEvents,
  input,
  jobs,
  due,
  waitingObserved,
  waitingOwners,
  waitingCounts,
  jobPlaces,
  sessionPlaces,
  openCounts,
  attachedCounts,
  wishes,
  jobNodes,
  lives,
  retained,
  marks,
  viewers,
  neededOf,
  needed,
  neededAbove,
  observersOf,
  observed,
  backlog,
  lagging,
  need,
  hasLost,
  ended,
  endedCounts,
  freeing,
  counted,
  countedAtOnce
}
