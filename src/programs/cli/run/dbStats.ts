/** What `arcp db stats` does. */
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { sweep } from "../../../layers/runtime/atRest/sweep.js"
import * as Stats from "../../../layers/store/care/stats.js"
import { trying } from "../../../layers/store/care/trial.js"
import type { RuntimeOptions } from "../../../services/runtime/RuntimeOptions.js"
import { aligned, fitted, stdoutColumns } from "../columns.js"
import type { StatsFlags } from "../db.js"
import { fileOf } from "../db-flags.js"
import { bytes, count } from "../quantity.js"
import { inLine, json } from "../text.js"
import { age } from "../time.js"
import { optionsFrom } from "./limits.js"
import { filesOnly } from "./stored.js"
import { sweptLines } from "./sweptText.js"

/** The options that decide what is kept, in the words of `--limit`. */
const retention = ({
  jobRetention,
  maxRetainedJobs,
  maxRetainedJobsInAll,
  resumeWindow,
  ...options
}: RuntimeOptions["Type"]) => ({
  jobRetention: Duration.format(jobRetention),
  maxRetainedJobs,
  maxRetainedJobsInAll,
  maxRetainedEvents: options.maxRetainedEvents,
  maxRetainedBytes: options.maxRetainedBytes,
  resumeWindow: Duration.format(resumeWindow)
})

const shares = (heading: string, found: ReadonlyArray<Stats.Share>, now: number) =>
  aligned(
    [
      [heading, "JOBS", "NOT ENDED", "EVENTS", "BYTES", "OLDEST"],
      ...found.map((share) => [
        share.name,
        String(share.jobs),
        String(share.unfinished),
        String(share.events),
        bytes(share.bytes),
        age(now - share.oldest)
      ])
    ],
    stdoutColumns()
  )

const lines = (name: string, stats: Stats.Stats, now: number): ReadonlyArray<string> => [
  inLine(
    `${name}  ${bytes(stats.bytes.file)} (${bytes(stats.bytes.free)} free), log ${bytes(stats.bytes.log)}, schema ${stats.schema}`
  ),
  `${count(stats.sessions, "session")}; jobs: ${
    Object.entries(stats.statuses)
      .map(([status, n]) => `${n} ${status}`)
      .join(", ") || "none"
  }${stats.refused === 0 ? "" : `; ${count(stats.refused, "refused submit")}`}`,
  ...(stats.toFree === 0 ? [] : [`${stats.toFree} logs or views with something that is yet to be freed`]),
  "",
  ...aligned(
    [
      ["TABLE", "ROWS", "BYTES"],
      ...stats.tables.map((table) => [
        table.name,
        String(table.rows),
        table.bytes === undefined ? "" : bytes(table.bytes)
      ])
    ],
    stdoutColumns()
  ),
  "",
  ...shares("PRINCIPAL", stats.principals, now),
  "",
  ...shares("AGENT", stats.agents, now),
  ""
]

export const run = (flags: StatsFlags) =>
  Effect.gen(function* () {
    yield* filesOnly(flags, "arcp db stats", "its tables begin with arcp_: psql -c '\\dt+ arcp_*'")
    const options = yield* optionsFrom(flags.limit)
    const now = yield* Clock.currentTimeMillis
    const filename = fileOf(flags.db)
    const due = yield* trying(filename, (store) => sweep(store, options, now))
    const stats = yield* Stats.stats(filename)
    const kept = retention(options)
    if (flags.json) {
      const { jobs, kept: keeps, logs, nextAt, sessions, views } = due
      const next = nextAt === undefined ? undefined : new Date(nextAt).toISOString()
      const isDue = {
        jobs: jobs.length,
        sessions: sessions.length,
        events: logs.reduce((sum, { events }) => sum + events, 0),
        unread: views.reduce((sum, { events }) => sum + events, 0),
        kept: keeps,
        next_at: next
      }
      return yield* Console.log(json({ db: filename, ...stats, retention: kept, due: isDue }))
    }
    const limits = Object.entries(kept).map(([name, value]) => `${name}=${value}`)
    for (const line of [...lines(filename, stats, now), limits.join(" "), ...sweptLines(due, now, "due")])
      yield* Console.log(fitted(line, stdoutColumns()))
  })
