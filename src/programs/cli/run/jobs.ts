/** What `arcp jobs` does. */
import * as Chunk from "effect/Chunk"
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Features from "../../../protocol/Features.js"
import { completedAt, type TimedJobEntry } from "../../../protocol/Message.js"
import { startAt } from "../../../protocol/Vendor.js"
import type { ClientError } from "../../../services/client/ArcpClient.js"
import { connect, passing } from "../client.js"
import { columnsOf, cut, padded, widest } from "../columns.js"
import type { JobsFlags } from "../commands.js"
import { attended } from "../lost.js"
import { inLine, json } from "../text.js"
import { age, moment, took } from "../time.js"
import { UsageError } from "../UsageError.js"

/** How many jobs a person is shown who does not say. */
const shownByDefault = 20

const timestamp = (flag: string, text: Option.Option<string>, now: number) =>
  Option.match(text, {
    onNone: () => Effect.succeed(undefined),
    onSome: (text) => {
      const at = moment(text, now)
      return at === undefined
        ? new UsageError({
            message: `${flag} takes how long ago (30m, 1h, 2d), a day (2026-01-31) or a time (2026-01-31T12:00:00+01:00), not ${JSON.stringify(text)}`
          })
        : Effect.succeed(new Date(at).toISOString())
    }
  })

const filterOf = (flags: JobsFlags, now: number) =>
  Effect.gen(function* () {
    const after = yield* timestamp("--created-after", flags.after, now)
    const before = yield* timestamp("--created-before", flags.before, now)
    return {
      ...(flags.status.length === 0
        ? flags.waiting
          ? { status: ["running"] as const }
          : {}
        : {
            status: [...new Set(flags.status.map((status) => (status === "waiting" ? "running" : status)))]
          }),
      ...(Option.isNone(flags.agent) ? {} : { agent: flags.agent.value }),
      ...(after === undefined ? {} : { created_after: after }),
      ...(before === undefined ? {} : { created_before: before })
    }
  })

/** Columns that the name of an agent needs at least; where they are not left, the rest of a job is below its id. */
const agentColumns = 8

/** Columns that a principal has at the most. */
const principalColumns = 24

/** Is it one of those that the flags name? The runtime knows no status `waiting`: those are among what runs. */
const isMeant = ({ status, waiting }: Pick<JobsFlags, "status" | "waiting">, job: TimedJobEntry): boolean =>
  isWaiting(job) || !(waiting || (status.includes("waiting") && !status.includes(job.status)))

const isWaiting = ({ waiting_for }: TimedJobEntry): boolean => (waiting_for?.length ?? 0) > 0

/** A table no wider than `columns`; the last column gives way. Whose a job is it says where they are of several. */
export const table = (
  jobs: ReadonlyArray<TimedJobEntry>,
  now: number,
  columns: number
): ReadonlyArray<string> => {
  const whose = new Set(jobs.map((job) => job[Features.principal])).size > 1
  const rows = [
    ["JOB", "STATUS", "AGE", "TOOK", ...(whose ? ["OF"] : []), "AGENT"],
    ...jobs.map((job) => {
      const created = Date.parse(job.created_at)
      const ended = Date.parse(job[completedAt] ?? "")
      const starts = job.status === "pending" ? Date.parse(job[startAt] ?? "") : Number.NaN
      return [
        job.job_id,
        isWaiting(job) ? "waiting" : job.status,
        Number.isNaN(created) ? "" : age(now - created),
        Number.isNaN(starts)
          ? Number.isNaN(ended) || Number.isNaN(created)
            ? ""
            : took(ended - created)
          : `in ${age(starts - now)}`,
        ...(whose ? [cut(inLine(job[Features.principal] ?? ""), principalColumns)] : []),
        job.agent
      ].map((cell) => inLine(cell))
    })
  ]
  const widths = (rows[0] ?? []).slice(0, -1).map((_, i) => widest(rows, i) + 2)
  const line = (row: ReadonlyArray<string>, from: number) =>
    row.map((cell, i) => (i < from ? "" : padded(cell, widths[i] ?? 0))).join("")
  return columns - widths.reduce((sum, each) => sum + each, 0) >= agentColumns
    ? rows.map((row) => cut(line(row, 0), columns).trimEnd())
    : rows.flatMap((row) => [
        cut(row[0] ?? "", columns),
        `  ${cut(line(row, 1), Math.max(1, columns - 2)).trimEnd()}`
      ])
}

/** Prints a listing: all of it as it comes, or the newest first. */
const shown = (
  listing: Stream.Stream<TimedJobEntry, ClientError>,
  flags: JobsFlags,
  limit: number,
  now: number
): Effect.Effect<void, ClientError> =>
  Effect.gen(function* () {
    // As they come, whatever their number: the order of the runtime.
    if (flags.json && limit === 0) return yield* Stream.runForEach(listing, (job) => Console.log(json(job)))
    let all = 0
    const counted = Stream.tap(listing, () => Effect.sync(() => all++))
    const newest = Chunk.toReadonlyArray(
      Chunk.reverse(yield* Stream.runCollect(limit === 0 ? counted : Stream.takeRight(counted, limit)))
    )
    if (flags.json) return yield* Effect.forEach(newest, (job) => Console.log(json(job)), { discard: true })
    if (newest.length === 0) return yield* Console.error("no jobs")
    const columns = columnsOf(process.stdout)
    for (const line of table(newest, now, columns)) yield* Console.log(line)
    if (all > newest.length)
      yield* Console.error(`the newest ${newest.length} of ${all}; --limit 0 shows all`)
  })

export const run = (flags: JobsFlags) =>
  Effect.gen(function* () {
    const limit = Option.getOrElse(flags.limit, () => (flags.json ? 0 : shownByDefault))
    if (limit < 0) return yield* new UsageError({ message: "--limit takes a number of jobs, or 0 for all" })
    const now = yield* Clock.currentTimeMillis
    const filter = yield* filterOf(flags, now)
    const client = yield* connect(flags, [...passing, Features.principal])
    const wanted = Stream.filter(client.list(filter), (job) => isMeant(flags, job))
    yield* attended(client, flags)(shown(wanted, flags, limit, now))
  }).pipe(Effect.scoped)
