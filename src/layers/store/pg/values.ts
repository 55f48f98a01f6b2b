/** The values of the parts of a statement (`parts.ts`), from what a batch says: arrays, one per column. */
import { byteLength } from "../../../protocol/Utf8.js"
import { dueAt } from "../../../services/store/dueAt.js"
import { epochOf } from "../../../services/store/epoch.js"
import { eventOverhead } from "../../../services/store/eventOverhead.js"
import type {
  JobRecord,
  JournalEntry,
  Run,
  SessionRecord,
  StoredEvent
} from "../../../services/store/Store.js"
import { bigintArray, integerArray, textArray } from "./arrays.js"
import { jobColumns, sessionColumns } from "./parts.js"
import { toKey, toStored } from "./text.js"

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
