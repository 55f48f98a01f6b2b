/** The reads of a SQL store. Nothing that was dropped or trimmed is ever seen by one. */
import { never } from "../../services/store/dueAt.js"
import type {
  DueQuery,
  HookEvent,
  JobFilter,
  JournalIndexEntry,
  Observed,
  OpenJobs,
  Place,
  PlacedWish,
  SessionFilter
} from "../../services/store/Store.js"

/** A statement and its parameters; `A` is the type of its rows. */
export type Query<A> = readonly [sql: string, params: ReadonlyArray<unknown>] & { readonly _row?: A }

/** Rows as arrays of their columns. */
export type Rows = ReadonlyArray<ReadonlyArray<unknown>>

/** A row that is a whole record, as JSON text. */
export interface RecordRow {
  readonly record: string
}

/** A row that is an id. */
export interface IdRow {
  readonly id: string
}

/** Returns the ids of rows. */
export const ids = (rows: ReadonlyArray<IdRow>): ReadonlyArray<string> => rows.map((row) => row.id)

/** Says of a record that it may be of a job which is parked: that has a member of this name, and little else can have one. */
export const hasParked = (position: "instr" | "strpos"): string => `${position}(record, '"parked":') > 0`

/** The node that has a job, as JSON: it may have what text cannot. */
export const nodeOfRow = `coalesce(record -> '$.node', '""')`

/** Selects the entries of a journal without their values. */
export const journal = (
  jobId: string,
  after: { readonly kind: string; readonly key: string },
  limit: number
): Query<JournalRow> => [
  `SELECT e.kind, e.key, e.ordinal, e.about, e.size
   FROM {jobs} j JOIN {journal} e ON e.job = j.id
   WHERE j.job_id = ? AND (e.kind, e.key) > (?, ?) ORDER BY e.kind, e.key LIMIT ?`,
  [jobId, after.kind, after.key, limit]
]

/** Selects the value of an entry of a journal. */
export const journalValue = (
  jobId: string,
  kind: string,
  key: string
): Query<{ readonly value: string | null }> => [
  `SELECT e.value FROM {jobs} j JOIN {journal} e ON e.job = j.id
   WHERE j.job_id = ? AND e.kind = ? AND e.key = ?`,
  [jobId, kind, key]
]

/** A row of a journal. */
export interface JournalRow extends Omit<JournalIndexEntry, "size"> {
  readonly size: number | null
}

/** Returns the entries of rows. */
export const toJournal = (rows: ReadonlyArray<JournalRow>): ReadonlyArray<JournalIndexEntry> =>
  rows.map(({ about, key, kind, ordinal, size }) => ({ kind, key, ordinal, about, size: size ?? undefined }))

/** Selects calls of hooks that are owed. */
export const hookEvents = (
  after: { readonly jobId: string; readonly seq: number },
  limit: number
): Query<HookEvent> => [
  `SELECT job_id AS jobId, seq, text FROM {hook_events}
   WHERE (job_id, seq) > (?, ?) ORDER BY job_id, seq LIMIT ?`,
  [after.jobId, after.seq, limit]
]

/** Where something is, as a row; names of nodes are JSON. */
export interface PlaceRow extends Place {
  readonly id: string
}

/** Selects where jobs are. */
export const jobPlaces = (jobIds: ReadonlyArray<string>): Query<PlaceRow> => [
  `SELECT job_id AS id, epoch, ${nodeOfRow} AS node FROM json_each(?) k CROSS JOIN {jobs} ON job_id = k.value`,
  [JSON.stringify(jobIds)]
]

/** How many of something a node has, as a row; the name is JSON. */
export interface CountRow {
  readonly node: string
  readonly count: number
}

/** Counts the jobs of each node that have not ended. */
export const openCounts: Query<CountRow> = [
  `SELECT ${nodeOfRow} AS node, count(*) AS count FROM {jobs} WHERE ended_at IS NULL AND NOT rejected GROUP BY 1`,
  []
]

/** Counts the sessions of each node that are attached. */
export const attachedCounts: Query<CountRow> = [
  `SELECT ${nodeOfRow} AS node, count(*) AS count FROM {sessions} WHERE record ->> '$.attached' GROUP BY 1`,
  []
]

/** Returns the counts of rows; `named` gives the name that a column holds. */
export const toCounts = (
  rows: ReadonlyArray<CountRow>,
  named: (stored: string) => string
): ReadonlyMap<string, number> =>
  new Map(rows.map(({ count, node }) => [named(JSON.parse(node) as string), count]))

/** Selects where sessions are. */
export const sessionPlaces = (sessionIds: ReadonlyArray<string>): Query<PlaceRow> => [
  `SELECT session_id AS id, epoch, ${nodeOfRow} AS node
   FROM json_each(?) k CROSS JOIN {sessions} ON session_id = k.value`,
  [JSON.stringify(sessionIds)]
]

/** Returns the places of rows; `named` gives the name that a column holds. */
export const toPlaces = (
  rows: ReadonlyArray<PlaceRow>,
  named: (stored: string) => string
): ReadonlyMap<string, Place> =>
  new Map(rows.map(({ epoch, id, node }) => [id, { epoch, node: named(JSON.parse(node) as string) }]))

/** A job that a session observes, as a row; the name of its node is JSON. */
export interface ObservedRow extends Omit<Observed, "ended"> {
  readonly ended: number
}

/** Returns what rows say of jobs that are observed; `named` gives the name that a column holds. */
export const toObserved = (
  rows: ReadonlyArray<ObservedRow>,
  named: (stored: string) => string
): ReadonlyArray<Observed> =>
  rows.map(({ ended, node, ...rest }) => ({
    ...rest,
    ended: Boolean(ended),
    node: named(JSON.parse(node) as string)
  }))

/** A wish as a row; names of nodes are JSON. */
export interface WishRow extends Omit<PlacedWish, "answer" | "job"> {
  readonly answer: string | null
  /** `null` when there is no such job. */
  readonly jobNode: string | null
  readonly ended: number
}

/** Selects what a node wants, and what is wanted of it; without a node all wishes. */
export const wishes = (node: string | undefined, limit: number): Query<WishRow> => [
  `SELECT w.id, w.job_id AS jobId, w.kind, w.body, w.node AS "from", w.at, w.answer,
     CASE WHEN j.job_id IS NOT NULL THEN ${nodeOfRow} END AS jobNode, j.ended_at IS NOT NULL AS ended
   FROM {wishes} w LEFT JOIN {jobs} j ON j.job_id = w.job_id
   ${node === undefined ? "" : `WHERE w.node = ? OR (w.answer IS NULL AND j.job_id IS NOT NULL AND j.ended_at IS NULL AND ${nodeOfRow} = ?)`}
   ORDER BY w.at, w.id LIMIT ?`,
  [...(node === undefined ? [] : [JSON.stringify(node), JSON.stringify(node)]), limit]
]

/** Returns the wishes of rows; `named` gives the name that a column holds. */
export const toWishes = (
  rows: ReadonlyArray<WishRow>,
  named: (stored: string) => string
): ReadonlyArray<PlacedWish> => {
  const nameOf = (stored: string) => named(JSON.parse(stored) as string)
  return rows.map(({ answer, ended, from, jobNode, ...wish }) => ({
    ...wish,
    from: nameOf(from),
    ...(answer === null ? {} : { answer }),
    job: jobNode === null ? undefined : { node: nameOf(jobNode), ended: Boolean(ended) }
  }))
}

/** Selects the input of a job. */
export const input = (jobId: string): Query<{ readonly input: string }> => [
  "SELECT i.input FROM {jobs} j JOIN {inputs} i ON i.job = j.id WHERE j.job_id = ?",
  [jobId]
]

/** Selects the record of a session. */
export const session = (sessionId: string): Query<RecordRow> => [
  "SELECT record FROM {sessions} WHERE session_id = ?",
  [sessionId]
]

/** A session, whose record may be damaged, as a row. */
export interface SessionRow extends RecordRow {
  readonly sessionId: string
}

/** Selects sessions, by id. A record that is no JSON is of no node. */
export const sessionPage = ({ after = "", limit, node, notOf = [] }: SessionFilter): Query<SessionRow> => [
  `SELECT session_id AS sessionId, record FROM {sessions} WHERE session_id > ?
   ${node === undefined ? "" : `AND CASE WHEN json_valid(record) THEN ${nodeOfRow} = ? END`}
   ${notOf.length === 0 ? "" : `AND CASE WHEN json_valid(record) THEN ${nodeOfRow} NOT IN (${notOf.map(() => "?").join(", ")}) END`}
   ORDER BY session_id LIMIT ?`,
  [
    after,
    ...(node === undefined ? [] : [JSON.stringify(node)]),
    ...notOf.map((name) => JSON.stringify(name)),
    limit
  ]
]

/** The records of all sessions. */
export const sessions: Query<RecordRow> = ["SELECT record FROM {sessions}", []]

/** Selects the record of a job. */
export const job = (jobId: string): Query<RecordRow> => [
  "SELECT record FROM {jobs} WHERE job_id = ?",
  [jobId]
]

/** Selects the record of the newest job of a session and a message id. */
export const jobBySubmit = (sessionId: string, submitId: string): Query<RecordRow> => [
  `SELECT record FROM {jobs} WHERE session_id = ? AND submit_id = ?
   ORDER BY created_at DESC, job_id DESC LIMIT 1`,
  [sessionId, submitId]
]

/** Selects the record of the newest job of a principal and an idempotency key. */
export const jobByKey = (principal: string, key: string): Query<RecordRow> => [
  `SELECT record FROM {jobs} WHERE principal = ? AND idempotency_key = ? AND rejected = 0
   ORDER BY created_at DESC, job_id DESC LIMIT 1`,
  [principal, key]
]

const places = (values: ReadonlyArray<unknown>): string => values.map(() => "?").join(", ")

/** A job that a step of a listing came to; it is listed when it has a record. */
export interface ListedRow {
  readonly createdAt: number
  readonly jobId: string
  readonly record: string | null
}

/** Returns the index that a listing walks: the one that skips most, of those that keep the order. */
const walkOf = ({
  principals,
  status
}: JobFilter): readonly [index: string, condition: string, value?: string] => {
  if (status?.length === 1) return ["jobs_by_status", "status = ? AND", status[0] as string]
  if (principals !== "everyone" && principals.length === 1)
    return ["jobs_by_principal", "principal = ? AND", principals[0] as string]
  return ["jobs_by_creation", ""]
}

/** Whether all of these hold: the later are not looked at when an earlier does not, since some have to read a whole record. */
const allOf = (conditions: ReadonlyArray<string>): string =>
  conditions.reduceRight((rest, condition) => `iif(${condition}, ${rest}, 0)`, "1")

/**
 * Selects a step of a listing: of the next `limit` jobs in the index those that match, and the last one in any case,
 * which is where the next step goes on. Without rows the listing is at its end.
 */
export const jobs = (
  filter: JobFilter,
  after: { readonly createdAt: number; readonly jobId: string },
  limit: number
): Query<ListedRow> => {
  const { agent, createdBefore, principals, status } = filter
  const [index, walk, value] = walkOf(filter)
  const hits: Array<string> = []
  const params: Array<unknown> = []
  const when = (condition: string, ...values: ReadonlyArray<unknown>): void => {
    hits.push(condition)
    params.push(...values)
  }
  if (principals !== "everyone") when(`principal IN (${places(principals)})`, ...principals)
  if (status !== undefined) when(`status IN (${places(status)})`, ...status)
  if (agent !== undefined)
    when("(agent = ? OR substr(agent, 1, ?) = ?)", agent, agent.length + 1, `${agent}@`)
  if (filter.waiting === "rows" || filter.waiting === "parked") when("due_at IS NOT NULL")
  if (filter.waiting === "parked") when(hasParked("instr"))
  if (filter.parentJobId !== undefined) when("record ->> '$.parentJobId' = ?", filter.parentJobId)
  if (filter.node !== undefined) when(`${nodeOfRow} = ?`, JSON.stringify(filter.node))
  if (filter.waiting === "held") when("iif(due_at IS NULL, 1, record ->> '$.parentJobId' IS NOT NULL)")
  return [
    `WITH step AS MATERIALIZED (
       SELECT created_at, job_id, id, ${allOf(hits)} AS hit FROM {jobs} INDEXED BY {${index}}
       WHERE ${walk} rejected = 0 AND (created_at, job_id) > (?, ?) AND created_at < ?
       ORDER BY created_at, job_id LIMIT ?
     ), ends AS (SELECT id FROM step ORDER BY created_at DESC, job_id DESC LIMIT 1)
     SELECT created_at AS createdAt, job_id AS jobId,
       iif(hit, (SELECT record FROM {jobs} WHERE id = step.id), NULL) AS record
     FROM step WHERE hit OR id = (SELECT id FROM ends) ORDER BY created_at, job_id LIMIT ?`,
    [
      ...params,
      ...(value === undefined ? [] : [value]),
      after.createdAt,
      after.jobId,
      createdBefore ?? Number.MAX_SAFE_INTEGER,
      limit,
      filter.limit
    ]
  ]
}

/** A job that is due, and its place among those. */
export interface DueRow extends RecordRow {
  readonly dueAt: number
  readonly jobId: string
}

/** Selects jobs that wait and are due. */
export const due = ({ after, by, limit, node }: DueQuery): Query<DueRow> => [
  `SELECT record, due_at AS dueAt, job_id AS jobId FROM {jobs} WHERE due_at IS NOT NULL AND due_at <= ? AND (due_at, job_id) > (?, ?)
   ${node === undefined ? "" : `AND ${nodeOfRow} = ?`}
   ORDER BY due_at, job_id LIMIT ?`,
  [
    by,
    after?.dueAt ?? -never,
    after?.jobId ?? "",
    ...(node === undefined ? [] : [JSON.stringify(node)]),
    limit
  ]
]

/** Selects the jobs that wait and that a session observes. */
export const waitingObserved = (sessionId: string): Query<IdRow> => [
  `SELECT o.job_id AS id FROM {observers} o CROSS JOIN {jobs} j ON j.job_id = o.job_id
   WHERE o.session_id = ? AND j.due_at IS NOT NULL`,
  [sessionId]
]

/** Sessions of a principal with a job that waits. */
export const waitingOwners = (principal: string): Query<IdRow> => [
  "SELECT DISTINCT session_id AS id FROM {jobs} WHERE due_at IS NOT NULL AND principal = ?",
  [principal]
]

/** How many jobs of each principal wait. */
export const waitingCounts = (
  node: string | undefined
): Query<{ readonly principal: string; readonly count: number }> => [
  `SELECT principal, count(*) AS count FROM {jobs} WHERE due_at IS NOT NULL
   ${node === undefined ? "" : `AND ${nodeOfRow} = ?`} GROUP BY principal`,
  node === undefined ? [] : [JSON.stringify(node)]
]

/** What a principal has that has not ended. */
export interface OpenRow extends OpenJobs {
  readonly principal: string
}

/** The nodes that have jobs which have not ended: of a file, which runtimes do not share, all are looked at. */
export const jobNodes: Query<IdRow> = [
  `SELECT DISTINCT ${nodeOfRow} AS id FROM {jobs} WHERE ended_at IS NULL AND rejected = 0 ORDER BY 1`,
  []
]

/** When a runtime was last known to be alive (epoch ms). */
/** A row of when a node was last known to be alive. */
export interface LifeRow {
  readonly node: string
  readonly aliveAt: number
}

export const lives: Query<LifeRow> = ["SELECT '' AS node, alive_at AS aliveAt FROM {runtime}", []]
