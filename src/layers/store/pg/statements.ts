/**
 * What one statement writes: whatever a batch puts and removes that does not touch each other, as one `WITH` of one part per
 * table. Rows are arrays, one per column, so a text depends on which tables it is for and not on how many rows there are.
 *
 * All parts of a statement see what was there before it. What must see another's rows is therefore in another statement
 * (`batch.ts`).
 */
import { byteLength } from "../../../protocol/Utf8.js"
import { dueAt } from "../../../services/store/dueAt.js"
import { absent, epochOf, type Owner } from "../../../services/store/epoch.js"
import { eventOverhead } from "../../../services/store/eventOverhead.js"
import type {
  FreeKey,
  JobRecord,
  JournalEntry,
  Run,
  SessionRecord,
  StoredEvent
} from "../../../services/store/Store.js"
import type { Statement } from "../statements.js"
import { bigintArray, integerArray, textArray } from "./arrays.js"
import { cursor, newest } from "./cursors.js"
import { toKey, toStored } from "./text.js"

/** Upper bound of what is dropped whole. */
export const everything = Number.MAX_SAFE_INTEGER

/** A column, and the type that its values have. */
type Columns = Readonly<Record<string, "text" | "bigint" | "integer" | "boolean">>

/** A part of a statement: `$n` are its parameters, counted from 1, and `{guard}` a condition of whether it may write. */
interface TablePart {
  readonly texts: ReadonlyArray<readonly [name: string, text: string]>
  readonly parameters: number
}

const inserting = (table: string, columns: Columns, onConflict = "", alias = `put_${table}`): TablePart => {
  const names = Object.keys(columns).join(", ")
  const arrays = Object.values(columns).map((type, i) => `$${i + 1}::${type}[]`)
  return {
    texts: [
      [
        alias,
        `INSERT INTO {${table}} (${names}) SELECT * FROM unnest(${arrays.join(", ")}) WHERE {guard} ${onConflict}`
      ]
    ],
    parameters: arrays.length
  }
}

const changes = (columns: ReadonlyArray<string>) =>
  columns.map((column) => `${column} = excluded.${column}`).join(", ")

const text = "text"
const bigint = "bigint"

const jobColumns: Columns = {
  id: bigint,
  job_id: text,
  session_id: text,
  submit_id: text,
  principal: text,
  idempotency_key: text,
  agent: text,
  status: text,
  rejected: "boolean",
  created_at: bigint,
  ended_at: bigint,
  due_at: bigint,
  trace_id: text,
  parent_job_id: text,
  record: text,
  epoch: bigint,
  node: text
}

const sessionColumns: Columns = { session_id: text, record: text, need: bigint, epoch: bigint, node: text }

/** Every part that a statement can have, in the order in which they stand in it. */
const parts = {
  jobs: inserting(
    "jobs",
    jobColumns,
    // Only what changes in a job's life, so that the indexes of the rest are left alone.
    `ON CONFLICT (id) DO UPDATE SET ${changes(["session_id", "submit_id", "idempotency_key", "status", "ended_at", "due_at", "record", "epoch", "node"])}`
  ),
  sessions: inserting(
    "sessions",
    sessionColumns,
    "ON CONFLICT (session_id) DO UPDATE SET record = excluded.record, epoch = excluded.epoch, node = excluded.node, need = coalesce(excluded.need, {sessions}.need)"
  ),
  // Those that are stated not to be there yet.
  opened: inserting("sessions", sessionColumns, "", "open_sessions"),
  needs: {
    texts: [
      [
        "set_needs",
        `UPDATE {sessions} s SET need = n.need FROM unnest($1::text[], $2::bigint[]) AS n (session_id, need)
         WHERE s.session_id = n.session_id AND {guard}`
      ]
    ],
    parameters: 2
  },
  events: {
    texts: [
      [
        "put_events",
        `INSERT INTO {events} (job, seq, bytes, type, kind, audience, payload, batch)
         SELECT e.*, (SELECT nextval('{batches}')) FROM unnest($1::bigint[], $2::bigint[], $3::integer[], $4::text[],
           $5::text[], $6::text[], $7::text[]) AS e WHERE {guard}`
      ]
    ],
    parameters: 7
  },
  runs: inserting(
    "runs",
    { session_id: text, event_seq: bigint, job_id: text, job_seq: bigint, count: bigint, bytes: bigint },
    `ON CONFLICT (session_id, event_seq) DO UPDATE SET ${changes(["count", "bytes"])}`
  ),
  observers: inserting(
    "observers",
    { session_id: text, job_id: text, cursor: bigint },
    "ON CONFLICT (session_id, job_id) DO UPDATE SET cursor = greatest({observers}.cursor, excluded.cursor)"
  ),
  inputs: inserting(
    "inputs",
    { job: bigint, input: text },
    `ON CONFLICT (job) DO UPDATE SET ${changes(["input"])}`
  ),
  journal: inserting(
    "journal",
    { job: bigint, kind: text, key: text, ordinal: bigint, about: text, size: bigint, value: text },
    `ON CONFLICT (job, kind, key) DO UPDATE SET ${changes(["ordinal", "about", "size", "value"])}`
  ),
  hookEvents: inserting(
    "hook_events",
    { job_id: text, seq: bigint, text },
    `ON CONFLICT (job_id, seq) DO UPDATE SET ${changes(["text"])}`
  ),
  alive: {
    texts: [
      [
        "put_alive",
        `INSERT INTO {lives} (node, alive_at) SELECT $1::text, $2::bigint WHERE {guard}
         ON CONFLICT (node) DO UPDATE SET alive_at = excluded.alive_at`
      ]
    ],
    parameters: 2
  },
  lostSessions: {
    texts: [["lose", "UPDATE {sessions} SET lost = true WHERE session_id = ANY($1::text[]) AND {guard}"]],
    parameters: 1
  },
  unobserved: {
    texts: [
      [
        "unobserve",
        `DELETE FROM {observers} WHERE (session_id, job_id) IN (SELECT * FROM unnest($1::text[], $2::text[])) AND {guard}`
      ]
    ],
    parameters: 2
  },
  droppedHookEvents: {
    texts: [
      [
        "drop_hook_events",
        `DELETE FROM {hook_events} WHERE (job_id, seq) IN (SELECT * FROM unnest($1::text[], $2::bigint[])) AND {guard}`
      ]
    ],
    parameters: 2
  },
  // Invisible at once, and freed later.
  droppedSessions: {
    texts: [
      ["drop_sessions", "DELETE FROM {sessions} WHERE session_id = ANY($1::text[]) AND {guard}"],
      ["drop_observing", "DELETE FROM {observers} WHERE session_id = ANY($1::text[]) AND {guard}"],
      [
        "drop_runs",
        `INSERT INTO {run_trims} (session_id, before, freed)
         SELECT session_id, ${everything}, 0 FROM unnest($1::text[]) AS d (session_id) WHERE {guard}
         ON CONFLICT (session_id) DO UPDATE SET before = excluded.before, freed = 0`
      ]
    ],
    parameters: 1
  },
  droppedJobs: {
    texts: [
      [
        "lose_dropped",
        `UPDATE {sessions} SET lost = true WHERE session_id IN (
           SELECT o.session_id FROM {jobs} j JOIN {observers} o ON o.job_id = j.job_id
           WHERE j.job_id = ANY($1::text[]) AND ${cursor} < ${newest}) AND {guard}`
      ],
      ["drop_jobs", "DELETE FROM {jobs} WHERE job_id = ANY($1::text[]) AND {guard} RETURNING id"],
      [
        "drop_numbers",
        `INSERT INTO {run_drops} (job_id, session_id)
         SELECT DISTINCT job_id, session_id FROM {runs} WHERE job_id = ANY($1::text[]) AND {guard} ON CONFLICT DO NOTHING`
      ],
      ["drop_observers", "DELETE FROM {observers} WHERE job_id = ANY($1::text[]) AND {guard}"],
      [
        "drop_events",
        `INSERT INTO {event_trims} (job, before) SELECT id, ${everything} FROM drop_jobs
         ON CONFLICT (job) DO UPDATE SET before = excluded.before`
      ]
    ],
    parameters: 1
  },
  // Never beyond the number that comes next.
  trimmedSessions: {
    texts: [
      [
        "trim_sessions",
        `INSERT INTO {run_trims} (session_id, before)
         SELECT t.session_id, least(t.before, r.next) FROM unnest($1::text[], $2::bigint[]) AS t (session_id, before)
         JOIN LATERAL (SELECT event_seq + count AS next FROM {runs} WHERE session_id = t.session_id
           ORDER BY event_seq DESC LIMIT 1) r ON true
         WHERE {guard}
         ON CONFLICT (session_id) DO UPDATE SET before = greatest({run_trims}.before, excluded.before)`
      ]
    ],
    parameters: 2
  },
  trimmedJobs: {
    texts: [
      [
        "lose_trimmed",
        `UPDATE {sessions} SET lost = true WHERE session_id IN (
           SELECT o.session_id FROM unnest($1::text[], $2::bigint[]) AS t (job_id, before)
           JOIN {jobs} j ON j.job_id = t.job_id JOIN {observers} o ON o.job_id = j.job_id
           WHERE ${cursor} < least(t.before - 1, ${newest})) AND {guard}`
      ],
      [
        "trim_jobs",
        `UPDATE {jobs} j SET first = least(t.before, l.next)
         FROM unnest($1::text[], $2::bigint[]) AS t (job_id, before), LATERAL (
           SELECT k.id, k.first, coalesce((SELECT max(seq) + 1 FROM {events} WHERE job = k.id), k.first) AS next
           FROM {jobs} k WHERE k.job_id = t.job_id) l
         WHERE j.id = l.id AND least(t.before, l.next) > j.first AND {guard}
         RETURNING j.id, j.first, j.job_id, j.session_id`
      ],
      [
        "trim_numbers",
        `INSERT INTO {run_drops} (job_id, session_id) SELECT job_id, session_id FROM trim_jobs ON CONFLICT DO NOTHING`
      ],
      [
        "trim_events",
        `INSERT INTO {event_trims} (job, before) SELECT id, first FROM trim_jobs
         ON CONFLICT (job) DO UPDATE SET before = greatest({event_trims}.before, excluded.before)`
      ]
    ],
    parameters: 2
  }
} satisfies Record<string, TablePart>

/** The name of a part. */
export type TablePartName = keyof typeof parts

const order = Object.keys(parts) as ReadonlyArray<TablePartName>

/** What a statement writes: the parameters of each of its parts. */
export type PartValues = Partial<Record<TablePartName, ReadonlyArray<unknown>>>

/** What a batch states to own, as parameters: jobs and sessions with their epochs, and those that are stated not to be there. */
const stated = (owners: ReadonlyArray<Owner>): ReadonlyArray<unknown> => {
  const [jobs, sessions] = [new Map<string, number>(), new Map<string, number>()]
  const [newJobs, newSessions] = [new Set<string>(), new Set<string>()]
  for (const owner of owners)
    if ("key" in owner) continue
    else if ("job" in owner) {
      if (owner.epoch === absent) newJobs.add(owner.job)
      else jobs.set(owner.job, owner.epoch)
    } else if (owner.epoch === absent) newSessions.add(owner.session)
    else sessions.set(owner.session, owner.epoch)
  return [
    [...jobs.keys()],
    [...jobs.values()],
    [...sessions.keys()],
    [...sessions.values()],
    [...newJobs],
    [...newSessions]
  ]
}

/** The keys that a batch states to be free. */
export const keysOf = (owners: ReadonlyArray<Owner>): ReadonlyArray<FreeKey> =>
  owners.filter((owner) => "key" in owner)

/** Returns what rows call an owner. */
export const nameOf = (owner: Owner): string =>
  "key" in owner
    ? `${toStored(owner.principal)} ${toKey(owner.key)}`
    : "job" in owner
      ? owner.job
      : owner.session

/** Parameters of keys. */
const keyValues = (keys: ReadonlyArray<FreeKey>): ReadonlyArray<unknown> => [
  keys.map(({ principal }) => toStored(principal)),
  keys.map(({ key }) => toKey(key)),
  keys.map(({ since }) => since)
]

const usedKeys = (
  first: number
) => `unnest($${first}::text[], $${first + 1}::text[], $${first + 2}::bigint[]) AS k (principal, key, since)
   JOIN {jobs} j ON j.principal = k.principal AND j.idempotency_key = k.key
   WHERE NOT j.rejected AND j.created_at > k.since`

/**
 * Locks keys until the transaction ends: of two that open jobs with the same key the later looks when the earlier has been
 * committed, since each statement sees what was before it. In one order, so that none wait for each other.
 */
export const lockingKeys = (keys: ReadonlyArray<FreeKey>): Statement => [
  "SELECT pg_advisory_xact_lock(hashtextextended('{jobs}', 0) # hashtextextended(k, 0)) FROM unnest($1::text[]) AS k",
  [keys.map(nameOf).sort()]
]

/**
 * Selects the names of those owners that somebody else has taken: that have another epoch, or are there and ought not to be, or
 * keys that are used.
 */
export const takenOf = (owners: ReadonlyArray<Owner>): Statement => [
  `SELECT o.id FROM unnest($1::text[], $2::bigint[]) AS o (id, epoch)
   LEFT JOIN {jobs} j ON j.job_id = o.id WHERE j.epoch IS DISTINCT FROM o.epoch
   UNION ALL
   SELECT o.id FROM unnest($3::text[], $4::bigint[]) AS o (id, epoch)
   LEFT JOIN {sessions} s ON s.session_id = o.id WHERE s.epoch IS DISTINCT FROM o.epoch
   UNION ALL SELECT job_id FROM {jobs} WHERE job_id = ANY($5::text[])
   UNION ALL SELECT session_id FROM {sessions} WHERE session_id = ANY($6::text[])
   UNION ALL SELECT k.principal || ' ' || k.key FROM ${usedKeys(7)}`,
  [...stated(owners), ...keyValues(keysOf(owners))]
]

/**
 * A writer states which of its batches this one follows, and the epochs of what it writes; nothing is written when either is not
 * so, or the writer is not one any more. It says once more that it is alive.
 *
 * The rows of what it owns stay locked until the commit. So of a writer and somebody who takes a row at the same time one comes
 * after the other: what is being taken is waited for and then seen with its new epoch, and whoever takes waits, and finds what
 * was written. What is stated not to be there is inserted and never updated, so of two that open it one fails.
 */
const fence = (hasKeys: boolean) => `held_jobs AS (
  SELECT 1 FROM unnest($1::text[], $2::bigint[]) AS o (id, epoch)
  JOIN {jobs} j ON j.job_id = o.id AND j.epoch = o.epoch FOR NO KEY UPDATE OF j),
held_sessions AS (
  SELECT 1 FROM unnest($3::text[], $4::bigint[]) AS o (id, epoch)
  JOIN {sessions} s ON s.session_id = o.id AND s.epoch = o.epoch FOR NO KEY UPDATE OF s),
fence AS (
  UPDATE {writers} SET last_commit = $9::bigint, alive = clock_timestamp(),
    expires = clock_timestamp() + $10::bigint * interval '1 millisecond'
  WHERE slot = $11::text AND id = $7::text AND last_commit = $8::bigint
    AND (SELECT count(*) FROM held_jobs) = cardinality($1) AND (SELECT count(*) FROM held_sessions) = cardinality($3)
    AND NOT EXISTS (SELECT 1 FROM {jobs} WHERE job_id = ANY($5::text[]))
    AND NOT EXISTS (SELECT 1 FROM {sessions} WHERE session_id = ANY($6::text[]))
    ${hasKeys ? `AND NOT EXISTS (SELECT 1 FROM ${usedKeys(fenceParameters + 1)})` : ""}
  RETURNING 1)`

/** Parameters of the fence, and of keys in it. */
const fenceParameters = 11
const keyParameters = 3

/** Whether a statement has a fence, and keys in it. */
type Fence = "none" | "owners" | "keys"

const texts = new Map<string, string>()

const textOf = (names: ReadonlyArray<TablePartName>, fenced: Fence): string => {
  const key = `${fenced} ${names.join(" ")}`
  const known = texts.get(key)
  if (known !== undefined) return known
  const guard = fenced === "none" ? "true" : "EXISTS (SELECT 1 FROM fence)"
  let before = fenced === "none" ? 0 : fenceParameters + (fenced === "keys" ? keyParameters : 0)
  const written = names.flatMap((name) => {
    const part: TablePart = parts[name]
    const from = before
    before += part.parameters
    return part.texts.map(
      ([alias, sql]) =>
        `${alias} AS (${sql.replace(/\$(\d+)/g, (_, n) => `$${Number(n) + from}`).replaceAll("{guard}", guard)})`
    )
  })
  const all = fenced === "none" ? written : [fence(fenced === "keys"), ...written]
  const sql = `WITH ${all.join(",\n")}\nSELECT ${guard}`
  texts.set(key, sql)
  return sql
}

/** What the first statement of a batch states of its writer. */
export interface BatchClaim {
  readonly writer: string
  readonly slot: string
  /** Number of the batch that this one follows, and its own. */
  readonly after: number
  readonly number: number
  /** Milliseconds until the writer is taken for dead when it says no more. */
  readonly lease: number
  readonly owners: ReadonlyArray<Owner>
}

/** Returns the statement that writes; with a claim its one row says whether it has written. */
export const writing = (values: PartValues, claim?: BatchClaim): Statement => {
  const names = order.filter((name) => values[name] !== undefined)
  const params = names.flatMap((name) => values[name] ?? [])
  if (claim === undefined) return [textOf(names, "none"), params]
  const { after, lease, number, owners, slot, writer } = claim
  const keys = keysOf(owners)
  return [
    textOf(names, keys.length === 0 ? "owners" : "keys"),
    [
      ...[...stated(owners), writer, after, number, lease, slot],
      ...(keys.length === 0 ? [] : keyValues(keys)),
      ...params
    ]
  ]
}

/** Returns rows as arrays, one per column. */
const transposed = (columns: number, rows: Iterable<ReadonlyArray<unknown>>): Array<Array<unknown>> => {
  const arrays: Array<Array<unknown>> = Array.from({ length: columns }, () => [])
  for (const row of rows) for (let i = 0; i < columns; i++) arrays[i]?.push(row[i])
  return arrays
}

const jobRow = (id: number, job: JobRecord): ReadonlyArray<unknown> => [
  id,
  job.jobId,
  job.sessionId,
  toKey(job.submitId),
  toStored(job.principal),
  job.keyFreed === true || job.idempotencyKey === undefined ? null : toKey(job.idempotencyKey),
  toStored(job.agent),
  job.status,
  job.rejected,
  job.createdAt,
  job.endedAt ?? null,
  dueAt(job) ?? null,
  job.traceId,
  job.parentJobId ?? null,
  JSON.stringify(job),
  epochOf(job),
  toStored(job.node ?? "")
]

/** The values of each part, from what a batch says. */
export const valuesOf = {
  jobs: (jobs: ReadonlyArray<readonly [id: number, job: JobRecord]>) =>
    transposed(
      Object.keys(jobColumns).length,
      jobs.map(([id, job]) => jobRow(id, job))
    ),
  sessions: (sessions: ReadonlyArray<readonly [session: SessionRecord, need: number | undefined]>) =>
    transposed(
      Object.keys(sessionColumns).length,
      sessions.map(([session, need]) => [
        session.sessionId,
        JSON.stringify(session),
        need ?? null,
        epochOf(session),
        toStored(session.node ?? "")
      ])
    ),
  events: (logs: ReadonlyArray<readonly [job: number, events: ReadonlyArray<StoredEvent>]>) => {
    const jobs: Array<number> = []
    const seqs: Array<number> = []
    const bytes: Array<number> = []
    const types: Array<string> = []
    const kinds: Array<string> = []
    const audiences: Array<string | null> = []
    const payloads: Array<string> = []
    for (const [job, events] of logs)
      for (const { audience = null, kind, payload, seq, type } of events) {
        jobs.push(job)
        seqs.push(seq)
        bytes.push(payload.length + eventOverhead)
        types.push(type)
        kinds.push(kind)
        audiences.push(audience)
        payloads.push(payload)
      }
    return [
      bigintArray(jobs),
      bigintArray(seqs),
      integerArray(bytes),
      textArray(types),
      textArray(kinds),
      textArray(audiences),
      textArray(payloads)
    ]
  },
  runs: (runs: ReadonlyArray<readonly [sessionId: string, run: Run]>) =>
    transposed(
      6,
      runs.map(([sessionId, run]) => [sessionId, run.eventSeq, run.jobId, run.jobSeq, run.count, run.bytes])
    ),
  journal: (entries: ReadonlyArray<readonly [job: number, entry: JournalEntry]>) =>
    transposed(
      7,
      entries.map(([job, { about, key, kind, ordinal, value = null }]) => [
        job,
        kind,
        key,
        ordinal,
        about,
        value === null ? null : byteLength(value),
        value
      ])
    ),
  /** Rows of any other part. */
  rows: transposed
}
