/** The orders in which a store in memory finds jobs: by creation, by submit, by idempotency key, and by end. */
import { dueAt } from "../../../services/store/dueAt.js"
import type { JobRecord } from "../../../services/store/Store.js"
import type { Ended, EndPlace } from "../ended.js"
import type { ListingPlace } from "../listing.js"
import { SortedList } from "./SortedList.js"
import type { RecordedJob } from "./state.js"

/** Compares two places in the order of listings. */
export const byCreation = (a: ListingPlace, b: ListingPlace): number =>
  a.createdAt - b.createdAt || (a.jobId < b.jobId ? -1 : a.jobId > b.jobId ? 1 : 0)

/** Compares two places in the order of ends. */
export const byEnd = (a: EndPlace, b: EndPlace): number => a.endedAt - b.endedAt || a.key - b.key

/** A job that waits and is not in memory, at its place among those. */
export interface Due {
  readonly dueAt: number
  readonly jobId: string
  readonly record: JobRecord
}

/** Compares two places in the order in which jobs that wait are due. */
export const byDue = (a: Omit<Due, "record">, b: Omit<Due, "record">): number =>
  a.dueAt - b.dueAt || (a.jobId < b.jobId ? -1 : a.jobId > b.jobId ? 1 : 0)

const byRecord = (a: RecordedJob, b: RecordedJob): number => byCreation(a.record, b.record)

/** Items by a key that several may share, each list in an order. */
class Index<A> {
  private readonly byKey = new Map<string, SortedList<A>>()

  constructor(private readonly order: (a: A, b: A) => number) {}

  add(key: string, item: A): void {
    let list = this.byKey.get(key)
    if (list === undefined) {
      list = new SortedList(this.order)
      this.byKey.set(key, list)
    }
    list.add(item)
  }
  remove(key: string, item: A): void {
    const list = this.byKey.get(key)
    list?.remove(item)
    if (list?.length === 0) this.byKey.delete(key)
  }
  of(key: string): SortedList<A> | undefined {
    return this.byKey.get(key)
  }
  counts(): ReadonlyMap<string, number> {
    return new Map(Array.from(this.byKey, ([key, list]) => [key, list.length]))
  }
}

/** The newest job of a key. Nearly always it is the only one, so there are lists only of those that share theirs. */
class NewestByKey {
  private readonly only = new Map<string, RecordedJob>()
  private readonly shared = new Index(byRecord)

  add(key: string, job: RecordedJob): void {
    const other = this.only.get(key)
    if (other === undefined && this.shared.of(key) === undefined) {
      this.only.set(key, job)
      return
    }
    if (other !== undefined) this.shared.add(key, other)
    this.only.delete(key)
    this.shared.add(key, job)
  }
  remove(key: string, job: RecordedJob): void {
    if (this.only.get(key) === job) this.only.delete(key)
    else this.shared.remove(key, job)
  }
  of(key: string): JobRecord | undefined {
    const list = this.shared.of(key)
    return (list === undefined ? this.only.get(key) : list.at(list.length - 1))?.record
  }
}

/** Returns the name of the node that has a job or a session; empty where a runtime is alone. */
export const nodeOf = ({ node = "" }: Pick<JobRecord, "node">): string => node

const submitKey = (sessionId: string, submitId: string): string => `${sessionId}\0${submitId}`
const principalKey = (principal: string, key: string): string => `${principal}\0${key}`

/** Says whether two records of a job have the same places in all indexes but those of ends. */
const samePlaces = (a: JobRecord, b: JobRecord): boolean =>
  a.createdAt === b.createdAt &&
  a.sessionId === b.sessionId &&
  a.submitId === b.submitId &&
  a.principal === b.principal &&
  a.idempotencyKey === b.idempotencyKey &&
  a.keyFreed === b.keyFreed &&
  a.rejected === b.rejected

/** The indexes over the jobs that have a record. */
export class JobIndexes {
  readonly created = new SortedList(byRecord)
  private readonly bySubmit = new NewestByKey()
  private readonly byIdempotencyKey = new NewestByKey()
  private readonly ended = new SortedList<Ended>(byEnd)
  readonly waiting = new SortedList<Due>(byDue)
  private readonly endedByPrincipal = new Index<Ended>(byEnd)

  add(job: RecordedJob): void {
    const { record } = job
    this.created.add(job)
    this.bySubmit.add(submitKey(record.sessionId, record.submitId), job)
    if (record.idempotencyKey !== undefined && !record.rejected && record.keyFreed !== true)
      this.byIdempotencyKey.add(principalKey(record.principal, record.idempotencyKey), job)
    this.addEnd(job)
    this.addDue(record)
  }

  private addDue(record: JobRecord): void {
    const at = dueAt(record)
    if (at !== undefined) this.waiting.add({ dueAt: at, jobId: record.jobId, record })
  }
  private removeDue(record: JobRecord): void {
    const at = dueAt(record)
    if (at !== undefined) this.waiting.remove({ dueAt: at, jobId: record.jobId, record })
  }

  private addEnd({ key, record }: RecordedJob): void {
    if (record.endedAt === undefined) return
    const end = { id: record.jobId, endedAt: record.endedAt, key }
    this.ended.add(end)
    this.endedByPrincipal.add(record.principal, end)
  }

  remove(job: RecordedJob): void {
    const { record } = job
    this.created.remove(job)
    this.bySubmit.remove(submitKey(record.sessionId, record.submitId), job)
    if (record.idempotencyKey !== undefined)
      this.byIdempotencyKey.remove(principalKey(record.principal, record.idempotencyKey), job)
    this.removeDue(record)
    if (record.endedAt === undefined) return
    const end = { id: record.jobId, endedAt: record.endedAt, key: job.key }
    this.ended.remove(end)
    this.endedByPrincipal.remove(record.principal, end)
  }

  /** Gives a job another record, and the places that go with it. */
  replace(job: RecordedJob, record: JobRecord): void {
    const { endedAt } = job.record
    const ends = endedAt === undefined && record.endedAt !== undefined
    if (samePlaces(job.record, record) && (ends || endedAt === record.endedAt)) {
      this.removeDue(job.record)
      this.addDue(record)
      job.record = record
      // The end of a job gives it a place among those that have ended, and takes it no other.
      if (ends) this.addEnd(job)
      return
    }
    this.remove(job)
    job.record = record
    this.add(job)
  }

  ofSubmit(sessionId: string, submitId: string): JobRecord | undefined {
    return this.bySubmit.of(submitKey(sessionId, submitId))
  }

  ofKey(principal: string, key: string): JobRecord | undefined {
    return this.byIdempotencyKey.of(principalKey(principal, key))
  }

  /** Returns the jobs that ended, in the order of their ends; those of one principal when it is given. */
  endedOf(principal: string | undefined): SortedList<Ended> | undefined {
    return principal === undefined ? this.ended : this.endedByPrincipal.of(principal)
  }

  waitingOwners(principal: string): ReadonlyArray<string> {
    const owners = new Set<string>()
    for (let i = 0; ; i++) {
      const record = this.waiting.at(i)?.record
      if (record === undefined) return [...owners]
      if (record.principal === principal) owners.add(record.sessionId)
    }
  }

  waitingCounts(node: string | undefined): ReadonlyMap<string, number> {
    const counts = new Map<string, number>()
    for (let i = 0; ; i++) {
      const record = this.waiting.at(i)?.record
      if (record === undefined) return counts
      if (node === undefined || nodeOf(record) === node)
        counts.set(record.principal, (counts.get(record.principal) ?? 0) + 1)
    }
  }

  endedCounts(): ReadonlyMap<string, number> {
    return this.endedByPrincipal.counts()
  }
}
