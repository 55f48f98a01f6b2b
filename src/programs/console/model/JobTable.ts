/** The jobs that are known, as listings of them come in. */
import * as Features from "../../../protocol/Features.js"
import type { JobStatus } from "../../../protocol/JobStatus.js"
import type * as Message from "../../../protocol/Message.js"
import * as Vendor from "../../../protocol/Vendor.js"
import type { Filters } from "./route.js"
import { sinceMs } from "./route.js"
import { textIn } from "./values.js"

export type Entry = Message.JobEntry

/** Jobs that are kept; beyond it the oldest that have ended are let go. */
const most = 20_000

/** Whose job it is, where the runtime says so. */
export const principalOf = (entry: Entry): string | undefined => textIn(entry, Features.principal)

export const isOver = (status: JobStatus): boolean => status !== "pending" && status !== "running"

/** Milliseconds that a job has taken, or takes. */
export const tookMs = (entry: Entry, now: number): number => {
  const done = textIn(entry, Vendor.completedAt)
  return (
    (done === undefined ? (isOver(entry.status) ? Number.NaN : now) : Date.parse(done)) -
    Date.parse(entry.created_at)
  )
}

export class JobTable {
  readonly #entries = new Map<string, Entry>()

  get size(): number {
    return this.#entries.size
  }

  get(jobId: string): Entry | undefined {
    return this.#entries.get(jobId)
  }

  /** Takes entries of a listing; tells whether anything is new. */
  take(entries: ReadonlyArray<Entry>): boolean {
    let changed = false
    for (const entry of entries) {
      const known = this.#entries.get(entry.job_id)
      const same =
        known !== undefined &&
        known.status === entry.status &&
        known.last_event_seq === entry.last_event_seq &&
        String(known.waiting_for) === String(entry.waiting_for)
      if (same) continue
      this.#entries.set(entry.job_id, entry)
      changed = true
    }
    if (this.#entries.size > most)
      for (const [id, { status }] of this.#entries) {
        if (this.#entries.size <= most) break
        if (isOver(status)) this.#entries.delete(id)
      }
    return changed
  }

  /** Forgets a job. */
  drop(jobId: string): void {
    this.#entries.delete(jobId)
  }

  /** The jobs that had not ended when they were last seen. */
  active(): ReadonlyArray<Entry> {
    return [...this.#entries.values()].filter(({ status }) => !isOver(status))
  }

  /** When the newest was submitted. */
  newest(): string | undefined {
    let newest: string | undefined
    for (const { created_at } of this.#entries.values())
      if (newest === undefined || created_at > newest) newest = created_at
    return newest
  }

  /** Jobs of each status, among those that the other filters let through. */
  counts(filters: Filters, now: number): ReadonlyMap<JobStatus, number> {
    const counts = new Map<JobStatus, number>()
    for (const { status } of this.shown({ ...filters, status: [] }, now))
      counts.set(status, (counts.get(status) ?? 0) + 1)
    return counts
  }

  /** The jobs that the filters let through, newest first. */
  shown(filters: Filters, now: number): ReadonlyArray<Entry> {
    const after = filters.since === "" ? Number.NEGATIVE_INFINITY : now - sinceMs(filters.since)
    const shown: Array<Entry> = []
    for (const entry of this.#entries.values())
      if (
        (filters.status.length === 0 || filters.status.includes(entry.status)) &&
        (filters.agent === "" ||
          entry.agent === filters.agent ||
          entry.agent.startsWith(`${filters.agent}@`)) &&
        (filters.principal === "" || principalOf(entry) === filters.principal) &&
        (!filters.waiting || (entry.waiting_for?.length ?? 0) > 0) &&
        Date.parse(entry.created_at) >= after
      )
        shown.push(entry)
    return shown.sort((a, b) =>
      a.created_at === b.created_at ? (a.job_id < b.job_id ? 1 : -1) : a.created_at < b.created_at ? 1 : -1
    )
  }
}
