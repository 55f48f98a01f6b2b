/**
 * Physical deletion of what was dropped or trimmed, one page per transaction. Sequence numbers have no
 * gaps, so a page is simply the next 500 of a job or session.
 */
import type { Connection } from "@effect/sql/SqlConnection"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { share } from "./marks.js"
import { everything } from "./plan.js"

const page = 500

interface Extent {
  readonly seq: number
  readonly count: number
  readonly row: number
  readonly bytes: number
}

const select = <A>(connection: Connection, sql: string, params: ReadonlyArray<unknown>) =>
  connection.execute(sql, params, undefined) as Effect.Effect<ReadonlyArray<A>, SqlError>

/** Deletes up to a page of one job's events, and moves the start of its log. */
const trimEvents = (connection: Connection, job: number, before: number) =>
  Effect.gen(function* () {
    const dropped = before === everything
    const [first] = yield* select<Extent>(
      connection,
      "SELECT seq, count, row, bytes FROM extents WHERE job = ? ORDER BY seq LIMIT 1",
      [job]
    )
    const [last] = yield* select<Extent>(
      connection,
      "SELECT seq, count, row, bytes FROM extents WHERE job = ? ORDER BY seq DESC LIMIT 1",
      [job]
    )
    if (first === undefined || last === undefined) {
      if (dropped) yield* connection.executeRaw("DELETE FROM inputs WHERE job = ?", [job])
      return true
    }
    const end = last.seq + last.count
    const high = Math.min(before, end, first.seq + page)
    yield* connection.executeRaw(
      `DELETE FROM events WHERE id IN (
         SELECT e.id FROM extents x CROSS JOIN events e
         ON e.id >= x.row AND e.id < x.row + min(x.count, ? - x.seq)
         WHERE x.job = ? AND x.seq < ?)`,
      [high, job, high]
    )
    const [boundary] = yield* select<Extent>(
      connection,
      "SELECT seq, count, row, bytes FROM extents WHERE job = ? AND seq < ? ORDER BY seq DESC LIMIT 1",
      [job, high]
    )
    yield* connection.executeRaw("DELETE FROM extents WHERE job = ? AND seq < ?", [job, high])
    if (dropped && high === end) {
      yield* connection.executeRaw("DELETE FROM extents WHERE job = ?", [job])
      yield* connection.executeRaw("DELETE FROM inputs WHERE job = ?", [job])
      return true
    }
    // The rest of the extent the page ended in. An empty one at the end keeps the job's numbering.
    if (boundary !== undefined) {
      const used = high - boundary.seq
      if (used < boundary.count || high === end)
        yield* connection.executeRaw(
          "REPLACE INTO extents (job, seq, count, row, bytes) VALUES (?, ?, ?, ?, ?)",
          [job, high, boundary.count - used, boundary.row + used, share(boundary, boundary.count - used)]
        )
    }
    return high >= before
  })

/** The newest run of a session is where its numbering goes on. */
const notNewest = "AND event_seq < (SELECT max(event_seq) FROM runs WHERE session_id = ?)"

/** Deletes up to a page of one session's runs. */
const trimRuns = (connection: Connection, sessionId: string, before: number) =>
  Effect.gen(function* () {
    const rows = yield* select<{ readonly eventSeq: number }>(
      connection,
      `SELECT event_seq AS eventSeq FROM runs
       WHERE session_id = ? AND event_seq + count - 1 < ? ${before === everything ? "" : notNewest}
       ORDER BY event_seq LIMIT ?`,
      before === everything ? [sessionId, before, page] : [sessionId, before, sessionId, page]
    )
    const last = rows.at(-1)
    if (last !== undefined)
      yield* connection.executeRaw("DELETE FROM runs WHERE session_id = ? AND event_seq <= ?", [
        sessionId,
        last.eventSeq
      ])
    return rows.length < page
  })

const forget = "DELETE FROM run_trims WHERE session_id = ?"
/** The floor itself stays while the session does. */
const settle = "UPDATE run_trims SET freed = before WHERE session_id = ?"

/** One page. Answers whether more is left, and the live job whose extents it moved. */
export const vacuumPage = (
  connection: Connection
): Effect.Effect<{ readonly more: boolean; readonly jobId: string | undefined }, SqlError> =>
  Effect.gen(function* () {
    const [events] = yield* select<{ job: number; before: number; jobId: string | null }>(
      connection,
      `SELECT t.job, t.before, j.job_id AS jobId FROM event_trims t LEFT JOIN jobs j ON j.id = t.job LIMIT 1`,
      []
    )
    if (events !== undefined) {
      const done = yield* trimEvents(connection, events.job, events.before)
      if (done) yield* connection.executeRaw("DELETE FROM event_trims WHERE job = ?", [events.job])
    } else {
      const [runs] = yield* select<{ sessionId: string; before: number }>(
        connection,
        "SELECT session_id AS sessionId, before FROM run_trims WHERE freed < before LIMIT 1",
        []
      )
      if (runs !== undefined) {
        const done = yield* trimRuns(connection, runs.sessionId, runs.before)
        if (done) yield* connection.executeRaw(runs.before === everything ? forget : settle, [runs.sessionId])
      }
    }
    const [left] = yield* select<{ more: number }>(
      connection,
      "SELECT EXISTS (SELECT 1 FROM event_trims) OR EXISTS (SELECT 1 FROM run_trims WHERE freed < before) AS more",
      []
    )
    return { more: left?.more === 1, jobId: events?.jobId ?? undefined }
  })
