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

/** The newest run of a session is where its numbering goes on. */
const notNewest = "AND event_seq < (SELECT max(event_seq) FROM {runs} WHERE session_id = ?)"

const endedRuns = (
  sessionId: string,
  before: number,
  limit: number
): Query<{ readonly eventSeq: number }> => {
  const dropped = before === everything
  return [
    `SELECT event_seq AS eventSeq FROM {runs}
     WHERE session_id = ? AND event_seq + count - 1 < ? ${dropped ? "" : notNewest}
     ORDER BY event_seq LIMIT ?`,
    dropped ? [sessionId, before, limit] : [sessionId, before, sessionId, limit]
  ]
}

/** Deletes runs of one session that end before a number; returns how many. */
function* freeRunsOf(sessionId: string, before: number, limit: number): Work<number> {
  const rows = yield* select(endedRuns(sessionId, before, limit))
  const last = rows.at(-1)
  if (last !== undefined)
    yield* change(["DELETE FROM {runs} WHERE session_id = ? AND event_seq <= ?", [sessionId, last.eventSeq]])
  return rows.length
}

const forget = "DELETE FROM {run_trims} WHERE session_id = ?"
/** The floor itself stays while the session does. */
const settle = "UPDATE {run_trims} SET freed = before WHERE session_id = ?"

const pendingFloors: Query<{ readonly sessionId: string; readonly before: number }> = [
  "SELECT session_id AS sessionId, before FROM {run_trims} WHERE freed < before LIMIT ?",
  [lookAhead]
]

function* freeRuns(bounds: Allowance): Work<void> {
  const least = bounds.rows - maxRows / 4
  for (const { before, sessionId } of yield* select(pendingFloors)) {
    const room = bounds.rows - least
    const freed = yield* freeRunsOf(sessionId, before, room)
    if (freed < room) yield* change([before === everything ? forget : settle, [sessionId]])
    bounds.rows -= Math.max(1, freed)
    if (bounds.rows <= least || bounds.isSpent()) return
  }
}

const anythingLeft: Query<{ readonly more: number }> = [
  "SELECT EXISTS (SELECT 1 FROM {event_trims}) OR EXISTS (SELECT 1 FROM {run_trims} WHERE freed < before) AS more",
  []
]

/** Frees as much as one transaction may. `now` gives milliseconds. */
export function* free(now: () => number): Work<Freed> {
  const until = now() + maxTime
  const bounds: Allowance = { rows: maxRows, isSpent: () => bounds.rows <= 0 || now() >= until }
  yield* freeRuns(bounds)
  const moved = yield* freeEvents(bounds)
  const [left] = yield* select(anythingLeft)
  return { more: left?.more === 1, moved }
}
