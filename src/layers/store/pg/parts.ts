/**
 * What a statement can write, by table: each a part of a `WITH`. Rows are arrays, one per column, so a text depends on which
 * tables it is for and not on how many rows there are.
 */
import { cursor, newest } from "./cursors.js"

/** Upper bound of what is dropped whole. */
export const everything = Number.MAX_SAFE_INTEGER

/** A column, and the type that its values have. */
type Columns = Readonly<Record<string, "text" | "bigint" | "integer" | "boolean">>

/** A part of a statement: `$n` are its parameters, counted from 1, and `{guard}` a condition of whether it may write. */
export interface TablePart {
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

export const jobColumns: Columns = {
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

/** Columns of a session. */
export const sessionColumns: Columns = {
  session_id: text,
  record: text,
  need: bigint,
  epoch: bigint,
  node: text
}

/** Every part that a statement can have, in the order in which they stand in it. */
export const parts = {
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
  taken: {
    texts: [
      [
        "take_sessions",
        // Of two members of one name the last counts, for whoever reads the record.
        `UPDATE {sessions} s SET epoch = t.epoch, node = t.node, record = left(s.record, -1) || t.members || '}'
         FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[]) AS t (session_id, epoch, node, members)
         WHERE s.session_id = t.session_id AND {guard}`
      ]
    ],
    parameters: 4
  },
  moved: {
    texts: [
      [
        "move_jobs",
        `UPDATE {jobs} j SET epoch = m.epoch, node = m.node, record = left(j.record, -1) || m.members || '}'
         FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[]) AS m (job_id, epoch, node, members)
         WHERE j.job_id = m.job_id AND j.ended_at IS NULL AND {guard}`
      ]
    ],
    parameters: 4
  },
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
  wishes: inserting(
    "wishes",
    { id: text, job_id: text, kind: text, body: text, node: text, at: bigint, answer: text },
    `ON CONFLICT (id) DO UPDATE SET ${changes(["job_id", "kind", "body", "node", "at", "answer"])}`
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
  forgottenLives: {
    texts: [["forget_lives", "DELETE FROM {lives} WHERE alive_at < $1::bigint AND {guard}"]],
    parameters: 1
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
  answeredWishes: {
    texts: [
      [
        "answer_wishes",
        `UPDATE {wishes} w SET answer = a.answer FROM unnest($1::text[], $2::text[]) AS a (id, answer)
         WHERE w.id = a.id AND w.answer IS NULL AND {guard}`
      ]
    ],
    parameters: 2
  },
  droppedWishes: {
    texts: [["drop_wishes", "DELETE FROM {wishes} WHERE id = ANY($1::text[]) AND {guard}"]],
    parameters: 1
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

export const order = Object.keys(parts) as ReadonlyArray<TablePartName>

/** What a statement writes: the parameters of each of its parts. */
export type PartValues = Partial<Record<TablePartName, ReadonlyArray<unknown>>>
