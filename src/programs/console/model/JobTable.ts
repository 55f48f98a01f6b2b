/** The jobs that are known, as listings of them come in. */
import * as Features from "../../../protocol/Features.js"
import type { JobStatus } from "../../../protocol/JobStatus.js"
import type * as Message from "../../../protocol/Message.js"
import * as Vendor from "../../../protocol/Vendor.js"
import type { Filters } from "./route.js"
import { sinceMs } from "./route.js"
import { textIn } from "./values.js"

export type Entry = Message.JobEntry

/** Jobs that are kept at least; with more than `room` beside them the oldest are let go, those first that have ended. */
const most = 20_000
const room = 1_000

/** A place among the jobs. */
type Place = Pick<Entry, "created_at" | "job_id">

/** Whose job it is, where the runtime says so. */
export const principalOf = (entry: Entry): string | undefined => textIn(entry, Features.principal)

export const isOver = (status: JobStatus): boolean => status !== "pending" && status !== "running"

const kindOf = ({ status }: Entry): "ended" | "active" => (isOver(status) ? "ended" : "active")

/** Which jobs are left out, and up to where. */
export type Cut = readonly [which: "ended" | "active", place: Place]

/** The order of listings: the oldest first. */
const inOrder = (a: Place, b: Place): number =>
  a.created_at === b.created_at
    ? Number(a.job_id > b.job_id) - Number(a.job_id < b.job_id)
    : a.created_at < b.created_at
      ? -1
      : 1

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
  readonly #dropWatchers = new Set<(jobId: string) => void>()
  /**
   * Up to where jobs were let go of, those that have ended and those that have not: what is older is not taken any more, so that what
   * is newer is all there.
   */
  readonly #cuts = new Map<"ended" | "active", Place>()

  get size(): number {
    return this.#entries.size
  }

  /** Whether there is no room for older ones. */
  get isFull(): boolean {
    return this.#entries.size >= most
  }

  /** Whether older ones are left out. */
  get isCut(): boolean {
    return this.#cuts.size > 0
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
      if (this.#isCutOff(entry)) this.#entries.delete(entry.job_id)
      else this.#entries.set(entry.job_id, entry)
      if (known === undefined && !this.#entries.has(entry.job_id)) continue
      for (const onChange of this.#watchers) onChange(entry, known)
      changed = true
    }
    if (this.#entries.size > most + room) this.#makeRoom()
    return changed
  }

  /** Leaves out those that have ended and were submitted then or before. */
  cutAt(createdAt: string): void {
    this.#cut("ended", { created_at: createdAt, job_id: "\u{10ffff}" })
  }

  /** Up to where which are left out. */
  get cuts(): ReadonlyArray<Cut> {
    return [...this.#cuts]
  }

  /** Notes that there is nothing left that a cut leaves out, unless it has moved since. */
  uncut([which, place]: Cut): void {
    if (this.#cuts.get(which) === place) this.#cuts.delete(which)
  }

  /** A cut never goes back. */
  #cut(which: "ended" | "active", place: Place): void {
    const known = this.#cuts.get(which)
    if (known === undefined || inOrder(known, place) < 0) this.#cuts.set(which, place)
  }

  #isCutOff(entry: Entry): boolean {
    const newest = this.#cuts.get(kindOf(entry))
    return newest !== undefined && inOrder(entry, newest) <= 0
  }

  #makeRoom(): void {
    const first = [...this.#entries.values()].sort(
      (a, b) => Number(isOver(b.status)) - Number(isOver(a.status)) || inOrder(a, b)
    )
    for (const entry of first.slice(0, first.length - most)) {
      this.#entries.delete(entry.job_id)
      this.#cut(kindOf(entry), entry)
    }
  }

  /** Forgets a job that is not there any more. */
  drop(jobId: string): void {
    this.#entries.delete(jobId)
    for (const onDrop of this.#dropWatchers) onDrop(jobId)
  }

  /** Calls back for each job that is not there any more. */
  watchDrops(onDrop: (jobId: string) => void): void {
    this.#dropWatchers.add(onDrop)
  }

  /** The jobs that had not ended when they were last seen. */
  active(): ReadonlyArray<Entry> {
    return [...this.#entries.values()].filter(({ status }) => !isOver(status))
  }

  /**
   * The newest jobs that have ended, of those that were submitted before that; so many, and those of the same time as the last
   * of them.
   */
  ended(before: string | undefined, count: number): ReadonlyArray<Entry> {
    const found = [...this.#entries.values()]
      .filter(({ created_at, status }) => isOver(status) && (before === undefined || created_at < before))
      .sort((a, b) => inOrder(b, a))
    const last = found[count - 1]
    return last === undefined ? found : found.filter(({ created_at }) => created_at >= last.created_at)
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
    return [...this.#entries.values()].filter(isShown).sort((a, b) => inOrder(b, a))
  }
}
