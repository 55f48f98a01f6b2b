/** What `arcp top` has seen at one moment, and how that is shown. */

import * as Effect from "effect/Effect"
import { mapJobs } from "../../../services/store/paged.js"
import type { JobRecord, StoreService } from "../../../services/store/Store.js"
import { aligned } from "../columns.js"
import { bytes, count } from "../quantity.js"
import { age } from "../time.js"

/** A job that has not ended. */
interface Seen {
  readonly job: JobRecord
  /** Events that it has emitted, and bytes of what is retained of them. */
  readonly events: number
  readonly bytes: number
}

/** What there was at one moment. */
export interface Look {
  /** Milliseconds on a clock that only goes forward. */
  readonly at: number
  /** Epoch ms. */
  readonly now: number
  /** Whether a server runs, where that can be told: where none does, what is stored is as it was when it ended. */
  readonly isHeld: boolean | undefined
  readonly jobs: ReadonlyArray<Seen>
  readonly connected: number
  readonly sessions: number
  /** Jobs that are kept and have ended, and submits that were refused. */
  readonly ended: number
}

/** Looks at a store. `only`: a principal, or everybody. */
export const look = (
  store: StoreService,
  only: string | undefined,
  seen: Pick<Look, "at" | "now" | "isHeld">
) =>
  Effect.gen(function* () {
    const jobs = yield* mapJobs(
      store,
      { principals: only === undefined ? "everyone" : [only], status: ["pending", "running"] },
      (job) => job
    )
    const bounds = yield* store.boundsOf(jobs.map(({ jobId }) => jobId))
    const sessions = (yield* store.sessions).filter(
      ({ principal }) => only === undefined || principal === only
    )
    const ended = [...(yield* store.endedCounts)]
      .filter(([principal]) => only === undefined || principal === only)
      .reduce((sum, [, n]) => sum + n, 0)
    return {
      ...seen,
      jobs: jobs.map((job): Seen => {
        const found = bounds.get(job.jobId)
        return { job, events: found?.last ?? 0, bytes: found?.bytes ?? 0 }
      }),
      connected: seen.isHeld === false ? 0 : sessions.filter(({ attached }) => attached).length,
      sessions: sessions.length,
      ended
    } satisfies Look
  })

/** What a job has left of its budget, of what it was given: `USD 1.2/5`. */
const budgetOf = ({ budget, lease }: JobRecord): string => {
  const given = new Map(
    (lease["cost.budget"] ?? []).map((entry) => {
      const [currency = "", amount] = entry.split(":", 2)
      return [currency, amount]
    })
  )
  return Object.entries(budget ?? {})
    .map(([currency, left]) => `${currency} ${left}${given.has(currency) ? `/${given.get(currency)}` : ""}`)
    .join(" ")
}

/** A job with its rate. */
interface Rated extends Seen {
  /** Events a second since the look before; `undefined` at the first one. */
  readonly rate: number | undefined
}

const rated = (look: Look, before: Look | undefined): ReadonlyArray<Rated> => {
  const known = new Map(before?.jobs.map(({ events, job }) => [job.jobId, events]))
  const seconds = before === undefined ? 0 : (look.at - before.at) / 1000
  return look.jobs
    .map((seen) => ({
      ...seen,
      // A job that is new has emitted all of its events since.
      rate: seconds > 0 ? (seen.events - (known.get(seen.job.jobId) ?? 0)) / seconds : undefined
    }))
    .sort((a, b) => (b.rate ?? 0) - (a.rate ?? 0) || b.job.createdAt - a.job.createdAt)
}

const perSecond = (rate: number | undefined): string =>
  rate === undefined ? "" : rate >= 10 ? String(Math.round(rate)) : rate.toFixed(1)

/** What is true of all jobs together. */
export interface Summary {
  readonly running: number
  readonly pending: number
  /** Those that were refused included. */
  readonly ended: number
  readonly connected: number
  readonly sessions: number
  readonly server_runs: boolean | undefined
  /** Of jobs that have not ended. */
  readonly events_per_second: number | undefined
  readonly bytes: number
}

export const summaryOf = (look: Look, before: Look | undefined): Summary => {
  const jobs = rated(look, before)
  return {
    running: jobs.filter(({ job }) => job.status === "running").length,
    pending: jobs.filter(({ job }) => job.status === "pending").length,
    ended: look.ended,
    connected: look.connected,
    sessions: look.sessions,
    server_runs: look.isHeld,
    events_per_second:
      before === undefined ? undefined : jobs.reduce((sum, { rate }) => sum + (rate ?? 0), 0),
    bytes: jobs.reduce((sum, seen) => sum + seen.bytes, 0)
  }
}

/** One line. */
export const summaryLine = (look: Look, before: Look | undefined): string => {
  const {
    bytes: size,
    connected,
    ended,
    events_per_second: rate,
    pending,
    running,
    sessions
  } = summaryOf(look, before)
  return [
    new Date(look.now).toISOString().slice(11, 19),
    `${running} running, ${pending} pending, ${ended} ended or refused`,
    ...(look.isHeld === false ? ["no server runs"] : []),
    `${connected} of ${count(sessions, "session")} connected`,
    ...(rate === undefined ? [] : [`${perSecond(rate)} events/s`]),
    bytes(size)
  ].join("  ")
}

/** A page of at most so many lines and columns. */
export const page = (
  look: Look,
  before: Look | undefined,
  { columns, rows }: { readonly columns: number; readonly rows: number }
): ReadonlyArray<string> => {
  const jobs = rated(look, before)
  const shown = jobs.slice(0, Math.max(1, rows - 4))
  const lines = [
    summaryLine(look, before),
    "",
    ...aligned(
      [
        ["JOB", "STATUS", "AGE", "EVENTS", "EV/S", "LEFT", "AGENT"],
        ...shown.map(({ events, job, rate }) => [
          job.jobId,
          job.status,
          age(look.now - job.createdAt),
          String(events),
          perSecond(rate),
          budgetOf(job),
          job.agent
        ])
      ],
      columns
    ),
    ...(jobs.length > shown.length ? [`and ${jobs.length - shown.length} more`] : [])
  ]
  return lines.map((line) => line.slice(0, columns))
}
