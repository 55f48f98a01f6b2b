/**
 * Physical deletion of what was dropped or trimmed: in one transaction of many jobs and sessions as much as its
 * bounds allow, in rows and in time. Extents are deleted whole but for the one a trim ends in, so a step is never
 * larger than an extent may be.
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import type { Statements } from "./lending.js"
import { share } from "./marks.js"
import { everything } from "./statements.js"

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
  readonly isSpent: Effect.Effect<boolean>
}

const select = <A>(statements: Statements, sql: string, params: ReadonlyArray<unknown>) =>
  statements.execute(sql, params, undefined) as Effect.Effect<ReadonlyArray<A>, SqlError>

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

const steps = `SELECT t.job, t.before, j.job_id AS jobId, x.seq, x.count, x.row, x.bytes
  FROM {event_trims} t LEFT JOIN {jobs} j ON j.id = t.job
  LEFT JOIN {extents} x ON x.job = t.job AND x.seq < t.before
  ORDER BY t.job, x.seq LIMIT ?`

/** Deletes what a trim reaches of one extent. The end of a live log is kept, empty: its numbering goes on from it. */
const cut = (statements: Statements, { before, bytes, count, job, row, seq }: TrimStep, isLast: boolean) =>
  Effect.gen(function* () {
    if (seq === null) return
    const used = Math.min(count, before - seq)
    yield* statements.executeRaw("DELETE FROM {events} WHERE id >= ? AND id < ?", [row, row + used])
    yield* statements.executeRaw("DELETE FROM {extents} WHERE job = ? AND seq = ?", [job, seq])
    if (used < count || (isLast && before !== everything))
      yield* statements.executeRaw(
        "INSERT INTO {extents} (job, seq, count, row, bytes) VALUES (?, ?, ?, ?, ?)",
        [job, seq + used, count - used, row + used, share({ bytes, count }, count - used)]
      )
  })

const isLastExtent = (statements: Statements, { job, seq }: TrimStep) =>
  Effect.map(
    select<{ readonly last: number | null }>(
      statements,
      "SELECT max(seq) AS last FROM {extents} WHERE job = ?",
      [job]
    ),
    (rows) => rows[0]?.last === seq
  )

/** Entries of a journal that are deleted at once: each may be large. */
const journalStep = 32

const freeJournal = `DELETE FROM {journal} WHERE job = ? AND (kind, key) IN (
  SELECT kind, key FROM {journal} WHERE job = ? LIMIT ${journalStep})`

const hasJournal = "SELECT EXISTS (SELECT 1 FROM {journal} WHERE job = ?) AS more"

/** Deletes the journal and then the input of a dropped job, as far as the bounds allow; returns whether all is gone. */
const freeRest = (statements: Statements, job: number, bounds: Allowance) =>
  Effect.gen(function* () {
    for (;;) {
      const [left] = yield* select<{ readonly more: number }>(statements, hasJournal, [job])
      if (left?.more !== 1) break
      if (yield* bounds.isSpent) return false
      yield* statements.executeRaw(freeJournal, [job, job])
      bounds.rows -= journalStep
    }
    yield* statements.executeRaw("DELETE FROM {inputs} WHERE job = ?", [job])
    return true
  })

const freeEvents = (statements: Statements, bounds: Allowance) =>
  Effect.gen(function* () {
    const moved = new Set<string>()
    const page = yield* select<TrimStep>(statements, steps, [lookAhead])
    for (let i = 0; i < page.length; i++) {
      const step = page[i] as TrimStep
      const isLast = step.jobId !== null && (yield* isLastExtent(statements, step))
      yield* cut(statements, step, isLast)
      if (step.jobId !== null) moved.add(step.jobId)
      bounds.rows -= Math.max(1, step.count)
      const next = page[i + 1]
      if (next === undefined ? page.length < lookAhead : next.job !== step.job) {
        if (step.before === everything && !(yield* freeRest(statements, step.job, bounds))) break
        yield* statements.executeRaw("DELETE FROM {event_trims} WHERE job = ?", [step.job])
      }
      if (yield* bounds.isSpent) break
    }
    return moved
  })

/** The newest run of a session is where its numbering goes on. */
const notNewest = "AND event_seq < (SELECT max(event_seq) FROM {runs} WHERE session_id = ?)"

/** Deletes runs of one session that end before a number; returns how many. */
const freeRunsOf = (statements: Statements, sessionId: string, before: number, limit: number) =>
  Effect.gen(function* () {
    const dropped = before === everything
    const rows = yield* select<{ readonly eventSeq: number }>(
      statements,
      `SELECT event_seq AS eventSeq FROM {runs}
       WHERE session_id = ? AND event_seq + count - 1 < ? ${dropped ? "" : notNewest}
       ORDER BY event_seq LIMIT ?`,
      dropped ? [sessionId, before, limit] : [sessionId, before, sessionId, limit]
    )
    const last = rows.at(-1)
    if (last !== undefined)
      yield* statements.executeRaw("DELETE FROM {runs} WHERE session_id = ? AND event_seq <= ?", [
        sessionId,
        last.eventSeq
      ])
    return rows.length
  })

const forget = "DELETE FROM {run_trims} WHERE session_id = ?"
/** The floor itself stays while the session does. */
const settle = "UPDATE {run_trims} SET freed = before WHERE session_id = ?"

const freeRuns = (statements: Statements, bounds: Allowance) =>
  Effect.gen(function* () {
    const least = bounds.rows - maxRows / 4
    const trims = yield* select<{ readonly sessionId: string; readonly before: number }>(
      statements,
      "SELECT session_id AS sessionId, before FROM {run_trims} WHERE freed < before LIMIT ?",
      [lookAhead]
    )
    for (const { before, sessionId } of trims) {
      const room = bounds.rows - least
      const freed = yield* freeRunsOf(statements, sessionId, before, room)
      if (freed < room) yield* statements.executeRaw(before === everything ? forget : settle, [sessionId])
      bounds.rows -= Math.max(1, freed)
      if (bounds.rows <= least || (yield* bounds.isSpent)) return
    }
  })

/** Frees as much as one transaction may. */
export const free = (statements: Statements): Effect.Effect<Freed, SqlError> =>
  Effect.gen(function* () {
    const until = (yield* Clock.currentTimeMillis) + maxTime
    const bounds: Allowance = {
      rows: maxRows,
      isSpent: Effect.map(Clock.currentTimeMillis, (now) => bounds.rows <= 0 || now >= until)
    }
    yield* freeRuns(statements, bounds)
    const moved = yield* freeEvents(statements, bounds)
    const [left] = yield* select<{ readonly more: number }>(
      statements,
      "SELECT EXISTS (SELECT 1 FROM {event_trims}) OR EXISTS (SELECT 1 FROM {run_trims} WHERE freed < before) AS more",
      []
    )
    return { more: left?.more === 1, moved }
  })
