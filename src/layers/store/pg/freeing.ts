/**
 * Physical deletion of what was dropped or trimmed, a bounded number of rows at a time. Each statement is one of its own: what
 * one has done stays done. Space comes back by Postgres's own vacuum.
 *
 * Others commit, and free, between two statements and beside one. So how many rows one has deleted says only whether it is worth
 * to look at what comes next: what was to be freed is forgotten by a statement that sees itself that nothing of it is left.
 */
import * as Effect from "effect/Effect"
import type { Holder } from "./holding.js"
import { everything } from "./parts.js"
import type { PgFailure, PgStatements } from "./statement.js"

/** Rows of one statement, of events, of runs, and of journals, which may be large. */
const maxEvents = 4096
const maxRuns = 1024
const maxEntries = 64
/** Jobs, and sessions, that are looked at in one. */
const lookAhead = 64

/** Only who holds the tables, or shares them, frees anything. */
const ours = "EXISTS (SELECT 1 FROM {writers} WHERE id = $1)"

const count = (
  statements: PgStatements,
  sql: string,
  params: ReadonlyArray<unknown>
): Effect.Effect<number, PgFailure> =>
  Effect.map(statements.executeValues(sql, params), ([row]) => Number(row?.[0] ?? 0))

const trims = `SELECT job, before FROM {event_trims} ORDER BY job LIMIT ${lookAhead}`

/** Deletes events; the first jobs have none left when they are fewer than it may delete. */
const freeEvents = `WITH t AS (${trims}),
  d AS (
    SELECT t.job, e.seq FROM t CROSS JOIN LATERAL (
      SELECT seq FROM {events} WHERE job = t.job AND seq < t.before ORDER BY seq LIMIT ${maxEvents}) e LIMIT ${maxEvents}
  ),
  gone AS (DELETE FROM {events} e USING d WHERE e.job = d.job AND e.seq = d.seq AND ${ours} RETURNING 1)
  SELECT count(*)::integer FROM gone`

const freeJournals = `WITH t AS (${trims}),
  d AS (
    SELECT j.job, j.kind, j.key FROM t JOIN {journal} j ON j.job = t.job WHERE t.before = ${everything} LIMIT ${maxEntries}
  ),
  gone AS (
    DELETE FROM {journal} j USING d WHERE j.job = d.job AND j.kind = d.kind AND j.key = d.key AND ${ours} RETURNING 1)
  SELECT count(*)::integer FROM gone`

/** Neither are there entries of a job that was dropped. */
const hasNoJournal = `NOT (t.before = ${everything} AND EXISTS (SELECT 1 FROM {journal} j WHERE j.job = t.job))`

/** A job of which something was trimmed while it was looked at keeps its row. */
const forgetJobs = `WITH t AS (${trims}),
  inputs AS (DELETE FROM {inputs} i USING t WHERE i.job = t.job AND t.before = ${everything} AND ${ours}),
  gone AS (DELETE FROM {event_trims} e USING t WHERE e.job = t.job AND e.before = t.before AND ${ours} AND NOT EXISTS (
    SELECT 1 FROM {events} v WHERE v.job = e.job AND v.seq < e.before) AND ${hasNoJournal} RETURNING 1)
  SELECT count(*)::integer FROM gone`

const floors = `SELECT session_id, before, freed FROM {run_trims} WHERE freed < before ORDER BY session_id LIMIT ${lookAhead}`

/** A run is kept while its session owns the job, as that's numbering, and an event of it is retained. */
const isKept = `EXISTS (SELECT 1 FROM {jobs} j
  WHERE j.job_id = r.job_id AND j.session_id = r.session_id AND r.job_seq + r.count > j.first)`

/**
 * A run that a floor, or the drop of a job, lets go. Of a session that is there the newest stays: its numbering goes on there.
 */
const goes = (before: string) => `(${before} = ${everything}
    OR r.event_seq < (SELECT max(event_seq) FROM {runs} WHERE session_id = r.session_id)) AND NOT ${isKept}`

/** Deletes runs `d`; where the cursor of a session is that was told by one is stored. */
const deleting = `passed AS (
    UPDATE {observers} o SET cursor = greatest(o.cursor, p.through)
    FROM (SELECT r.session_id, r.job_id, max(r.job_seq + r.count - 1) AS through
      FROM d JOIN {runs} r ON r.session_id = d.session_id AND r.event_seq = d.event_seq GROUP BY r.session_id, r.job_id) p
    WHERE o.session_id = p.session_id AND o.job_id = p.job_id AND ${ours}),
  gone AS (
    DELETE FROM {runs} r USING d WHERE r.session_id = d.session_id AND r.event_seq = d.event_seq AND ${ours} RETURNING 1)`

const freeRuns = `WITH t AS (${floors}),
  d AS (
    SELECT t.session_id, r.event_seq FROM t CROSS JOIN LATERAL (
      SELECT event_seq FROM {runs} r
      WHERE session_id = t.session_id AND event_seq >= t.freed AND event_seq + count <= t.before AND ${goes("t.before")}
      ORDER BY event_seq LIMIT ${maxRuns}) r LIMIT ${maxRuns}
  ),
  ${deleting}
  SELECT count(*)::integer FROM gone`

/** The floor itself stays while the session does, and that of a dropped one while there are runs below it. */
const settle = `WITH t AS (${floors}),
  settled AS (UPDATE {run_trims} f SET freed = t.before FROM t
    WHERE f.session_id = t.session_id AND f.before = t.before AND ${ours} AND NOT EXISTS (SELECT 1 FROM {runs} r
      WHERE r.session_id = t.session_id AND r.event_seq >= t.freed AND r.event_seq + r.count <= t.before AND ${goes("t.before")})
    RETURNING f.session_id)
  SELECT session_id FROM settled`

const forgetFloors = `WITH gone AS (DELETE FROM {run_trims} t WHERE t.before = ${everything} AND t.freed = ${everything}
    AND t.session_id = ANY($2::text[])
    AND NOT EXISTS (SELECT 1 FROM {runs} r WHERE r.session_id = t.session_id) AND ${ours} RETURNING 1)
  SELECT count(*)::integer FROM gone`

const drops = `SELECT job_id, session_id FROM {run_drops} ORDER BY job_id, session_id LIMIT ${lookAhead}`

/** Runs over jobs that were dropped or trimmed, of which nothing is retained or read any more. */
const freeNumbers = `WITH t AS (${drops}),
  d AS (
    SELECT r.session_id, r.event_seq FROM t LEFT JOIN {run_trims} f ON f.session_id = t.session_id CROSS JOIN LATERAL (
      SELECT session_id, event_seq FROM {runs} r WHERE job_id = t.job_id AND session_id = t.session_id
        AND event_seq + count <= coalesce(f.before, 1) AND ${goes("f.before")}
      ORDER BY event_seq LIMIT ${maxRuns}) r LIMIT ${maxRuns}
  ),
  ${deleting}
  SELECT count(*)::integer FROM gone`

const forgetDrops = `WITH t AS (${drops}),
  gone AS (DELETE FROM {run_drops} d USING t WHERE d.job_id = t.job_id AND d.session_id = t.session_id AND ${ours}
    AND NOT EXISTS (SELECT 1 FROM {runs} r LEFT JOIN {run_trims} f ON f.session_id = r.session_id
      WHERE r.job_id = d.job_id AND r.session_id = d.session_id AND r.event_seq + r.count <= coalesce(f.before, 1)
        AND ${goes("f.before")})
    RETURNING d.session_id)
  SELECT DISTINCT session_id FROM gone`

const anythingLeft = `SELECT (EXISTS (SELECT 1 FROM {event_trims}) OR EXISTS (SELECT 1 FROM {run_drops})
  OR EXISTS (SELECT 1 FROM {run_trims} WHERE freed < before))::integer`

/** Frees runs; floors of dropped sessions go with the last of them. */
const freeViews = (statements: PgStatements, id: string): Effect.Effect<void, PgFailure> =>
  Effect.gen(function* () {
    /** Forgets what a statement sees that nothing is left of, and the floors of the sessions that it returns. */
    const forget = (sql: string) =>
      Effect.flatMap(statements.executeValues(sql, [id]), (rows) =>
        rows.length === 0
          ? Effect.void
          : count(statements, forgetFloors, [id, rows.map(([sessionId]) => sessionId)])
      )
    if ((yield* count(statements, freeRuns, [id])) < maxRuns) yield* forget(settle)
    if ((yield* count(statements, freeNumbers, [id])) < maxRuns) yield* forget(forgetDrops)
  })

/** Frees a part, and returns whether more is left. */
export const free = (statements: PgStatements, { id }: Holder): Effect.Effect<boolean, PgFailure> =>
  Effect.gen(function* () {
    if ((yield* count(statements, anythingLeft, [])) === 0) return false
    yield* freeViews(statements, id)
    if (
      (yield* count(statements, freeEvents, [id])) < maxEvents &&
      (yield* count(statements, freeJournals, [id])) < maxEntries
    )
      yield* count(statements, forgetJobs, [id])
    return (yield* count(statements, anythingLeft, [])) === 1
  })
