/** What `arcp replay --tree` shows: a job, and what it has delegated to. */
import * as Effect from "effect/Effect"
import type { About } from "../../../layers/jobs/durable/Journal.js"
import { readJournal } from "../../../layers/jobs/durable/readJournal.js"
import { Turn } from "../../../services/runtime/Turn.js"
import { type JobRecord, Store, type StoreError } from "../../../services/store/Store.js"
import { cut, padded } from "../columns.js"
import { inLine } from "../text.js"
import { took } from "../time.js"

/** A job in its place. */
export interface TreeRow {
  readonly job: JobRecord
  readonly depth: number
  /** For each level above it, and its own: whether another one follows there. */
  readonly follows: ReadonlyArray<boolean>
  /** The key of the delegation, of a durable job. */
  readonly key: string | undefined
}

/** Jobs that are shown of one tree. */
export const maxRows = 1_000

const page = 500

const childrenOf = (jobId: string): Effect.Effect<ReadonlyArray<JobRecord>, StoreError, Store> =>
  Effect.gen(function* () {
    const store = yield* Store
    const children: Array<JobRecord> = []
    while (children.length < maxRows) {
      const last = children.at(-1)
      const more = yield* store.jobs({
        principals: "everyone",
        parentJobId: jobId,
        limit: page,
        after: last === undefined ? undefined : { createdAt: last.createdAt, jobId: last.jobId }
      })
      children.push(...more)
      if (more.length < page) break
    }
    return children
  })

/** Returns the keys under which a durable job has delegated, by the jobs that it started. */
const keysOf = (jobId: string): Effect.Effect<ReadonlyMap<string, string>, StoreError, Store> =>
  Effect.gen(function* () {
    const keys = new Map<string, string>()
    yield* readJournal(jobId, yield* Store, yield* Turn, ({ about, key, kind }) => {
      const child = kind === "delegate" ? (JSON.parse(about) as About).jobId : undefined
      if (child !== undefined) keys.set(child, key)
    })
    return keys
  })

/** Reads a job and what it has delegated to, each before its own; at most `maxRows`. */
export const rowsOf = (root: JobRecord): Effect.Effect<ReadonlyArray<TreeRow>, StoreError, Store> =>
  Effect.gen(function* () {
    const rows: Array<TreeRow> = []
    // A stack, and not a recursion, whatever the depth.
    const next: Array<TreeRow> = [{ job: root, depth: 0, follows: [], key: undefined }]
    for (let row = next.pop(); row !== undefined && rows.length < maxRows; row = next.pop()) {
      const { depth, follows, job } = row
      rows.push(row)
      const children = yield* childrenOf(job.jobId)
      if (children.length === 0) continue
      const keys = yield* keysOf(job.jobId)
      for (const [i, child] of [...children].reverse().entries())
        next.push({
          job: child,
          depth: depth + 1,
          follows: [...follows, i > 0],
          key: keys.get(child.jobId)
        })
    }
    return rows
  })

/** The lines that lead to a job, and those that go on below it. */
const branches = ({ depth, follows }: TreeRow, deepest: number): readonly [at: string, below: string] => {
  if (depth === 0) return ["", ""]
  // Levels that do not fit are one number: where the job is stays to be seen.
  const shown = follows.slice(-deepest)
  const hidden = depth - shown.length
  const above = shown
    .slice(0, -1)
    .map((more) => (more ? "│  " : "   "))
    .join("")
  const lead = hidden > 0 ? `${hidden}… ` : ""
  const last = shown.at(-1) === true
  return [
    `${lead}${above}${last ? "├─ " : "└─ "}`,
    `${" ".repeat(lead.length)}${above}${last ? "│  " : "   "}`
  ]
}

const duration = ({ createdAt, endedAt }: JobRecord, now: number) => took((endedAt ?? now) - createdAt)

/** Columns of a job id. */
const idWidth = 30
/** Narrower than that, the id of a job has a line of its own. */
const oneLine = 80

/** The tree, no wider than `columns`; ids are never cut where they fit at all. */
export const lines = (rows: ReadonlyArray<TreeRow>, now: number, columns: number): ReadonlyArray<string> => {
  const narrow = columns < oneLine
  const room = Math.min(columns, 120)
  const deepest = Math.max(1, Math.floor(((narrow ? room : room / 2) - idWidth - 4) / 3))
  return rows.flatMap((row) => {
    const [at, below] = branches(row, narrow ? deepest : Math.max(3, deepest))
    const { agent, jobId, status, survival } = row.job
    const what = inLine(
      [
        row.key === undefined ? agent : `${row.key}: ${agent}`,
        survival?.parked === undefined || row.job.endedAt !== undefined ? status : "parked",
        duration(row.job, now)
      ].join("  ")
    )
    if (narrow) return [cut(`${at}${what}`, columns), cut(`${below}${jobId}`, columns)]
    if (columns === Number.POSITIVE_INFINITY) return [`${at}${what}  ${jobId}`]
    const width = columns - idWidth - 2
    return [`${padded(cut(`${at}${what}`, width), width)}  ${jobId}`]
  })
}

/** A job of the tree as a value. */
export const value = ({ depth, job, key }: TreeRow) => ({
  job_id: job.jobId,
  parent_job_id: job.parentJobId ?? null,
  depth,
  key,
  agent: job.agent,
  status: job.status,
  created_at: new Date(job.createdAt).toISOString(),
  completed_at: job.endedAt === undefined ? undefined : new Date(job.endedAt).toISOString()
})
