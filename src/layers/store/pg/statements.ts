/**
 * What one statement writes: whatever a batch puts and removes that does not touch each other, as one `WITH` of one part per
 * table (`parts.ts`), after the fence that says whether it may.
 *
 * All parts of a statement see what was there before it. What must see another's rows is therefore in another statement
 * (`batch.ts`).
 */
import { absent, type Owner } from "../../../services/store/epoch.js"
import type { FreeKey } from "../../../services/store/Store.js"
import type { Statement } from "../statements.js"
import { order, type PartValues, parts, type TablePart, type TablePartName } from "./parts.js"
import { toKey, toStored } from "./text.js"

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
 * The rows of what it owns stay locked until the commit, in one order, so that no two wait for each other. So of a writer and somebody who takes a row at the same time one comes
 * after the other: what is being taken is waited for and then seen with its new epoch, and whoever takes waits, and finds what
 * was written. What is stated not to be there is inserted and never updated, so of two that open it one fails.
 */
const fence = (hasKeys: boolean) => `held_jobs AS (
  SELECT 1 FROM unnest($1::text[], $2::bigint[]) AS o (id, epoch)
  JOIN {jobs} j ON j.job_id = o.id AND j.epoch = o.epoch ORDER BY j.job_id FOR NO KEY UPDATE OF j),
held_sessions AS (
  SELECT 1 FROM unnest($3::text[], $4::bigint[]) AS o (id, epoch)
  JOIN {sessions} s ON s.session_id = o.id AND s.epoch = o.epoch ORDER BY s.session_id FOR NO KEY UPDATE OF s),
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
