/**
 * What one statement writes: whatever a batch puts and removes that does not touch each other, as one `WITH` of one part per
 * table (`parts.ts`), after the fence that says whether it may.
 *
 * All parts of a statement see what was there before it. What must see another's rows is therefore in another statement
 * (`batch.ts`).
 */
import { absent, type Owner } from "../../../services/store/epoch.js"
import type { Statement } from "../statements.js"
import { order, type PartValues, parts, type TablePart, type TablePartName } from "./parts.js"

/** What a batch states to own, as parameters: jobs and sessions with their epochs, and those that are stated not to be there. */
const stated = (owners: ReadonlyArray<Owner>): ReadonlyArray<unknown> => {
  const [jobs, sessions] = [new Map<string, number>(), new Map<string, number>()]
  const [newJobs, newSessions] = [new Set<string>(), new Set<string>()]
  for (const owner of owners)
    if ("job" in owner) {
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

/** Selects the ids of those owners that somebody else has taken: that have another epoch, or are there and ought not to be. */
export const takenOf = (owners: ReadonlyArray<Owner>): Statement => [
  `SELECT o.id FROM unnest($1::text[], $2::bigint[]) AS o (id, epoch)
   LEFT JOIN {jobs} j ON j.job_id = o.id WHERE j.epoch IS DISTINCT FROM o.epoch
   UNION ALL
   SELECT o.id FROM unnest($3::text[], $4::bigint[]) AS o (id, epoch)
   LEFT JOIN {sessions} s ON s.session_id = o.id WHERE s.epoch IS DISTINCT FROM o.epoch
   UNION ALL SELECT job_id FROM {jobs} WHERE job_id = ANY($5::text[])
   UNION ALL SELECT session_id FROM {sessions} WHERE session_id = ANY($6::text[])`,
  stated(owners)
]

/**
 * A writer states which of its batches this one follows, and the epochs of what it writes; nothing is written when either is not
 * so, or the writer is not one any more. It says once more that it is alive.
 *
 * The rows of what it owns stay locked until the commit. So of a writer and somebody who takes a row at the same time one comes
 * after the other: what is being taken is waited for and then seen with its new epoch, and whoever takes waits, and finds what
 * was written. What is stated not to be there is inserted and never updated, so of two that open it one fails.
 */
const fence = `held_jobs AS (
  SELECT 1 FROM unnest($1::text[], $2::bigint[]) AS o (id, epoch)
  JOIN {jobs} j ON j.job_id = o.id AND j.epoch = o.epoch FOR NO KEY UPDATE OF j),
held_sessions AS (
  SELECT 1 FROM unnest($3::text[], $4::bigint[]) AS o (id, epoch)
  JOIN {sessions} s ON s.session_id = o.id AND s.epoch = o.epoch FOR NO KEY UPDATE OF s),
fence AS (
  UPDATE {writers} SET last_commit = $9::bigint, alive = clock_timestamp(),
    expires = clock_timestamp() + $10::bigint * interval '1 millisecond'
  WHERE slot = 'runtime' AND id = $7::text AND last_commit = $8::bigint
    AND (SELECT count(*) FROM held_jobs) = cardinality($1) AND (SELECT count(*) FROM held_sessions) = cardinality($3)
    AND NOT EXISTS (SELECT 1 FROM {jobs} WHERE job_id = ANY($5::text[]))
    AND NOT EXISTS (SELECT 1 FROM {sessions} WHERE session_id = ANY($6::text[]))
  RETURNING 1)`

/** Parameters of the fence. */
const fenceParameters = 10

const texts = new Map<string, string>()

const textOf = (names: ReadonlyArray<TablePartName>, fenced: boolean): string => {
  const key = `${fenced} ${names.join(" ")}`
  const known = texts.get(key)
  if (known !== undefined) return known
  const guard = fenced ? "EXISTS (SELECT 1 FROM fence)" : "true"
  let before = fenced ? fenceParameters : 0
  const written = names.flatMap((name) => {
    const part: TablePart = parts[name]
    const from = before
    before += part.parameters
    return part.texts.map(
      ([alias, sql]) =>
        `${alias} AS (${sql.replace(/\$(\d+)/g, (_, n) => `$${Number(n) + from}`).replaceAll("{guard}", guard)})`
    )
  })
  const all = fenced ? [fence, ...written] : written
  const sql = `WITH ${all.join(",\n")}\nSELECT ${guard}`
  texts.set(key, sql)
  return sql
}

/** What the first statement of a batch states of its writer. */
export interface BatchClaim {
  readonly writer: string
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
  return [
    textOf(names, claim !== undefined),
    claim === undefined
      ? params
      : [...stated(claim.owners), claim.writer, claim.after, claim.number, claim.lease, ...params]
  ]
}
