/**
 * Physical deletion of what was dropped or trimmed: in one transaction of many jobs and sessions as much as its
 * bounds allow, in rows and in time. Extents are deleted whole but for the one a trim ends in, so a step is never
 * larger than an extent may be.
 */
import { share } from "./marks.js"
import type { Query } from "./query.js"
import { everything } from "./statements.js"
import { change, select, type Work } from "./work.js"

/** Rows of one transaction, about; a quarter of them may be runs. */
const maxRows = 4096
/** Milliseconds after which a transaction ends. */
const maxTime = 4
/** Extents, or sessions, that are looked up at once. */
const lookAhead = 512

/** What one step of freeing came to. */
export interface Freed {
  /** There is more. */
  readonly more: boolean
  /** Live jobs whose extents have moved. */
  readonly moved: ReadonlySet<string>
}

/** What is left of the bounds of a transaction. */
interface Allowance {
  rows: number
  readonly isSpent: () => boolean
}

/** A trim and one of the extents that it reaches; without one when nothing is stored of the job. */
interface TrimStep {
  readonly job: number
  readonly before: number
  /** `null` when the job was dropped. */
  readonly jobId: string | null
  readonly seq: number | null
  readonly count: number
  readonly row: number
  readonly bytes: number
}

const steps: Query<TrimStep> = [
  `SELECT t.job, t.before, j.job_id AS jobId, x.seq, x.count, x.row, x.bytes
  FROM {event_trims} t LEFT JOIN {jobs} j ON j.id = t.job
  LEFT JOIN {extents} x ON x.job = t.job AND x.seq < t.before
  ORDER BY t.job, x.seq LIMIT ?`,
  [lookAhead]
]

/** Deletes what a trim reaches of one extent. The end of a live log is kept, empty: its numbering goes on from it. */
function* cut({ before, bytes, count, job, row, seq }: TrimStep, isLast: boolean): Work<void> {
  if (seq === null) return
  const used = Math.min(count, before - seq)
  yield* change(
    ["DELETE FROM {events} WHERE id >= ? AND id < ?", [row, row + used]],
    ["DELETE FROM {extents} WHERE job = ? AND seq = ?", [job, seq]]
  )
  if (used < count || (isLast && before !== everything))
    yield* change([
      "INSERT INTO {extents} (job, seq, count, row, bytes) VALUES (?, ?, ?, ?, ?)",
      [job, seq + used, count - used, row + used, share({ bytes, count }, count - used)]
    ])
}

/** Entries of a journal that are deleted at once: each may be large. */
const journalStep = 32

const freeJournal = `DELETE FROM {journal} WHERE job = ? AND (kind, key) IN (
  SELECT kind, key FROM {journal} WHERE job = ? LIMIT ${journalStep})`

const journalLeft = (job: number): Query<{ readonly more: number }> => [
  "SELECT EXISTS (SELECT 1 FROM {journal} WHERE job = ?) AS more",
  [job]
]

/** Deletes the journal and then the input of a dropped job, as far as the bounds allow; returns whether all is gone. */
function* freeRest(job: number, bounds: Allowance): Work<boolean> {
  for (;;) {
    const [left] = yield* select(journalLeft(job))
    if (left?.more !== 1) break
    if (bounds.isSpent()) return false
    yield* change([freeJournal, [job, job]])
    bounds.rows -= journalStep
  }
  yield* change(["DELETE FROM {inputs} WHERE job = ?", [job]])
  return true
}

const lastExtent = (job: number): Query<{ readonly last: number | null }> => [
  "SELECT max(seq) AS last FROM {extents} WHERE job = ?",
  [job]
]

function* isLastExtent({ job, seq }: TrimStep): Work<boolean> {
  const [row] = yield* select(lastExtent(job))
  return row?.last === seq
}

function* freeEvents(bounds: Allowance): Work<ReadonlySet<string>> {
  const moved = new Set<string>()
  const page = yield* select(steps)
  for (let i = 0; i < page.length; i++) {
    const step = page[i] as TrimStep
    const isLast = step.jobId !== null && (yield* isLastExtent(step))
    yield* cut(step, isLast)
    if (step.jobId !== null) moved.add(step.jobId)
    bounds.rows -= Math.max(1, step.count)
    const next = page[i + 1]
    if (next === undefined ? page.length < lookAhead : next.job !== step.job) {
      if (step.before === everything && !(yield* freeRest(step.job, bounds))) break
      yield* change(["DELETE FROM {event_trims} WHERE job = ?", [step.job]])
    }
    if (bounds.isSpent()) break
  }
  return moved
}

/** A run is kept while its session owns the job, as that's numbering, and an event of it is retained. */
const isKept = `EXISTS (SELECT 1 FROM {jobs} j LEFT JOIN {event_trims} t ON t.job = j.id
  WHERE j.job_id = r.job_id AND j.session_id = r.session_id AND r.job_seq + r.count > coalesce(t.before, 1))`

/** The newest run of a session is where its numbering goes on, unless it was dropped. */
const isNewest = (before: string) =>
  `(${before} < ${everything} AND r.event_seq = (SELECT max(event_seq) FROM {runs} WHERE session_id = r.session_id))`

interface RunRow {
  readonly eventSeq: number
  readonly isGone: number
}

/** A session's runs below its floor, from where the last look has ended. */
const endedRuns = (sessionId: string, from: number, before: number, limit: number): Query<RunRow> => [
  `SELECT r.event_seq AS eventSeq, NOT ${isKept} AS isGone FROM {runs} r
   WHERE r.session_id = ? AND r.event_seq >= ? AND r.event_seq + r.count - 1 < ? AND NOT ${isNewest("?")}
   ORDER BY r.event_seq LIMIT ?`,
  [sessionId, from, before, before, limit]
]

/** A floor of a session, and how far the runs below it were looked at. */
interface Floor {
  readonly sessionId: string
  readonly before: number
  readonly freed: number
}

/** Where the cursor of a session is that was told by such a run. */
const passRuns = `UPDATE {observers} SET cursor = max(cursor, r.through)
  FROM (SELECT job_id, max(job_seq + count - 1) AS through FROM {runs}
    WHERE session_id = ? AND event_seq IN (SELECT value FROM json_each(?)) GROUP BY job_id) r
  WHERE {observers}.session_id = ? AND {observers}.job_id = r.job_id`

const dropRuns = "DELETE FROM {runs} WHERE session_id = ? AND event_seq IN (SELECT value FROM json_each(?))"

/** Deletes what is to go of some runs. */
function* dropGone(sessionId: string, rows: ReadonlyArray<RunRow>): Work<void> {
  const gone = rows.flatMap(({ eventSeq, isGone }) => (isGone === 1 ? [eventSeq] : []))
  if (gone.length === 0) return
  const all = JSON.stringify(gone)
  yield* change([passRuns, [sessionId, all, sessionId]], [dropRuns, [sessionId, all]])
}

/** The floor of a session that was dropped stays while there are runs below it. */
const forget = `DELETE FROM {run_trims} WHERE session_id = ? AND before = ${everything}
  AND NOT EXISTS (SELECT 1 FROM {runs} r WHERE r.session_id = {run_trims}.session_id)`
const settle = "UPDATE {run_trims} SET freed = ? WHERE session_id = ?"

/** Deletes runs of one session below its floor; returns how many were looked at. */
function* freeRunsOf({ before, freed, sessionId }: Floor, limit: number): Work<number> {
  const rows = yield* select(endedRuns(sessionId, freed, before, limit))
  yield* dropGone(sessionId, rows)
  const last = rows.at(-1)
  const through = rows.length < limit || last === undefined ? before : last.eventSeq + 1
  yield* change([settle, [through, sessionId]], [forget, [sessionId]])
  return rows.length
}

const pendingFloors: Query<Floor> = [
  "SELECT session_id AS sessionId, before, freed FROM {run_trims} WHERE freed < before LIMIT ?",
  [lookAhead]
]

function* freeRuns(bounds: Allowance): Work<void> {
  const least = bounds.rows - maxRows / 4
  for (const floor of yield* select(pendingFloors)) {
    bounds.rows -= Math.max(1, yield* freeRunsOf(floor, bounds.rows - least))
    if (bounds.rows <= least || bounds.isSpent()) return
  }
}

/** A session's runs over a job that was dropped or trimmed, the oldest of them. */
const runsOver = (jobId: string, sessionId: string, limit: number): Query<RunRow> => [
  `SELECT r.event_seq AS eventSeq,
     (r.event_seq + r.count <= coalesce(f.before, 1) AND NOT ${isNewest("coalesce(f.before, 1)")} AND NOT ${isKept}) AS isGone
   FROM {runs} r LEFT JOIN {run_trims} f ON f.session_id = r.session_id
   WHERE r.job_id = ? AND r.session_id = ? ORDER BY r.event_seq LIMIT ?`,
  [jobId, sessionId, limit]
]

const pendingDrops: Query<{ readonly jobId: string; readonly sessionId: string }> = [
  "SELECT job_id AS jobId, session_id AS sessionId FROM {run_drops} LIMIT ?",
  [lookAhead]
]

/** Deletes runs that were kept for what a job's events are numbered in its owner's view. */
function* freeNumbers(bounds: Allowance): Work<void> {
  const least = bounds.rows - maxRows / 4
  for (const { jobId, sessionId } of yield* select(pendingDrops)) {
    const limit = bounds.rows - least
    const rows = yield* select(runsOver(jobId, sessionId, limit))
    const kept = rows.findIndex(({ isGone }) => isGone !== 1)
    yield* dropGone(sessionId, kept < 0 ? rows : rows.slice(0, kept))
    bounds.rows -= Math.max(1, rows.length)
    if (kept >= 0 || rows.length < limit)
      yield* change(
        ["DELETE FROM {run_drops} WHERE job_id = ? AND session_id = ?", [jobId, sessionId]],
        [forget, [sessionId]]
      )
    if (bounds.rows <= least || bounds.isSpent()) return
  }
}

const anythingLeft: Query<{ readonly more: number }> = [
  `SELECT EXISTS (SELECT 1 FROM {event_trims}) OR EXISTS (SELECT 1 FROM {run_drops})
     OR EXISTS (SELECT 1 FROM {run_trims} WHERE freed < before) AS more`,
  []
]

/** Frees as much as one transaction may. `now` gives milliseconds. */
export function* free(now: () => number): Work<Freed> {
  const until = now() + maxTime
  const bounds: Allowance = { rows: maxRows, isSpent: () => bounds.rows <= 0 || now() >= until }
  yield* freeRuns(bounds)
  yield* freeNumbers(bounds)
  const moved = yield* freeEvents(bounds)
  const [left] = yield* select(anythingLeft)
  return { more: left?.more === 1, moved }
}
