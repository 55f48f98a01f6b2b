/** The reads of a store in Postgres: each one statement. Nothing that was dropped or trimmed is ever seen by one. */
import { never } from "../../../services/store/dueAt.js"
import type { DueQuery, HookEvent, JobFilter, SessionFilter } from "../../../services/store/Store.js"
import type { Queries } from "../queries.js"
import type {
  CountRow,
  DueRow,
  IdRow,
  LifeRow,
  ListedRow,
  OpenRow,
  PlaceRow,
  Query,
  RecordRow,
  SessionRow,
  WishRow
} from "../query.js"
import { hasParked } from "../query.js"
import * as retention from "./retentionQuery.js"
import { toKey, toStored } from "./text.js"
import * as viewing from "./viewQuery.js"

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

/** What the reads ask a database in Postgres. */
export const queries: Queries = {
  news: viewing.news,
  openOn,
  session,
  sessions,
  sessionPage,
  job,
  jobBySubmit,
  jobByKey,
  events: viewing.events,
  runs: viewing.runs,
  numbering: viewing.numbering,
  view: viewing.view,
  page: viewing.page,
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
  retained: retention.retained,
  marks: retention.marks,
  viewers: retention.viewers,
  neededOf: retention.neededOf,
  needed: retention.needed,
  neededAbove: retention.neededAbove,
  observersOf: retention.observersOf,
  observed: retention.observed,
  backlog: viewing.backlog,
  lagging: retention.lagging,
  need: retention.need,
  hasLost: retention.hasLost,
  ended: retention.ended,
  endedCounts: retention.endedCounts,
  freeing: retention.freeing,
  counted: retention.counted,
  countedAtOnce: retention.countedAtOnce
}
