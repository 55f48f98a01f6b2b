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

/** Returns what tells whether filters let an entry through, whatever its status with `ofAnyStatus`. */
export const letsThrough = (
  filters: Filters,
  now: number,
  { ofAnyStatus = false }: { readonly ofAnyStatus?: boolean } = {}
): ((entry: Entry) => boolean) => {
  const after = filters.since === "" ? Number.NEGATIVE_INFINITY : now - sinceMs(filters.since)
  return (entry) =>
    (ofAnyStatus || filters.status.length === 0 || filters.status.includes(entry.status)) &&
    (filters.agent === "" || entry.agent === filters.agent || entry.agent.startsWith(`${filters.agent}@`)) &&
    (filters.principal === "" || principalOf(entry) === filters.principal) &&
    (!filters.waiting || (entry.waiting_for?.length ?? 0) > 0) &&
    Date.parse(entry.created_at) >= after
}

/** Hears of an entry that is new, or is not as it was. */
export type OnChange = (entry: Entry, before: Entry | undefined) => void

export class JobTable {
  readonly #entries = new Map<string, Entry>()
  readonly #watchers = new Set<OnChange>()

  get size(): number {
    return this.#entries.size
  }

  get(jobId: string): Entry | undefined {
    return this.#entries.get(jobId)
  }

  /** All that are known, in no order. */
  get entries(): Iterable<Entry> {
    return this.#entries.values()
  }

  /** Calls back for each change, until the answer is called. */
  watch(onChange: OnChange): () => void {
    this.#watchers.add(onChange)
    return () => {
      this.#watchers.delete(onChange)
    }
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
      for (const onChange of this.#watchers) onChange(entry, known)
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
    const isShown = letsThrough(filters, now, { ofAnyStatus: true })
    for (const entry of this.#entries.values())
      if (isShown(entry)) counts.set(entry.status, (counts.get(entry.status) ?? 0) + 1)
    return counts
  }

  /** Jobs that ask for something, among those that the other filters let through. */
  asking(filters: Filters, now: number): number {
    const isShown = letsThrough({ ...filters, waiting: true }, now)
    let asking = 0
    for (const entry of this.#entries.values()) if (isShown(entry)) asking++
    return asking
  }

  /** The jobs that the filters let through, newest first. */
  shown(filters: Filters, now: number): ReadonlyArray<Entry> {
    const isShown = letsThrough(filters, now)
    return [...this.#entries.values()]
      .filter(isShown)
      .sort((a, b) =>
        a.created_at === b.created_at ? (a.job_id < b.job_id ? 1 : -1) : a.created_at < b.created_at ? 1 : -1
      )
  }
}
