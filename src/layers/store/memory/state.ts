/** What the store in memory keeps of a session and of a job. */
import {
  type Bounds,
  delegationKind,
  eventOverhead,
  type JobRecord,
  type JournalEntry,
  type Mark,
  type Numbering,
  type Run,
  type SessionRecord,
  type StoredEvent
} from "../../../services/store/Store.js"
import { isFull, joined, share } from "../marks.js"
import * as FrontTrimmed from "./FrontTrimmed.js"

/** Bytes that a job takes apart from its events and its input, and an event beyond what is counted on disk: objects. */
const jobObjects = 2048
const eventObjects = 128

/** Returns the newest `event_seq` of a run. */
export const endOf = (run: Run): number => run.eventSeq + run.count - 1

/** Returns the index of the first run that ends at or after `eventSeq`. */
export const firstRunAt = (runs: FrontTrimmed.FrontTrimmed<Run>, eventSeq: number): number => {
  let low = 0
  let high = runs.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (endOf(runs.at(middle) as Run) < eventSeq) low = middle + 1
    else high = middle
  }
  return low
}

/** What a store in memory has of a session. */
export class MemorySession {
  record: SessionRecord | undefined
  readonly runs = FrontTrimmed.make<Run>()
  /** By job the cursor as it was put; runs may lead further. */
  readonly observed = new Map<string, number>()
  /** It has lost events that it had not numbered. */
  lost = false
  /** First `event_seq` that can be read, and that is still needed. */
  floor = 1
  need = 1

  pass(jobId: string, cursor: number): void {
    this.observed.set(jobId, Math.max(cursor, this.observed.get(jobId) ?? 0))
  }
  /** Returns the `seq` up to which it has numbered a job, or passed it over. */
  cursorOf(job: MemoryJob, jobId: string, sessionId: string): number {
    const newest = job.shares.get(sessionId)?.runs.last
    const numbered = newest === undefined ? 0 : newest.jobSeq + newest.count - 1
    return Math.max(numbered, this.observed.get(jobId) ?? 0)
  }
  get last(): number {
    return this.runs.last === undefined ? 0 : endOf(this.runs.last)
  }
  get view(): { readonly first: number; readonly last: number } {
    const oldest = this.runs.at(0)
    return { first: oldest === undefined ? 1 : Math.max(this.floor, oldest.eventSeq), last: this.last }
  }
  /** First `event_seq` that is both needed and retained. */
  get low(): number {
    return Math.max(this.need, this.floor)
  }
}

const none: ReadonlyArray<Run> = []

/** The runs that one session has of one job. */
class Share {
  readonly runs = FrontTrimmed.make<Run>()
  /** Those that start lower in the job than the one before ends: history that was asked for again. */
  private rejoins: ReadonlyArray<Run> = none

  put(run: Run): void {
    const newest = this.runs.last
    if (newest?.eventSeq === run.eventSeq) this.runs.replaceLast(run)
    else {
      this.runs.push(run)
      if (newest !== undefined && run.jobSeq < newest.jobSeq + newest.count)
        this.rejoins = [...this.rejoins, run]
    }
  }
  /** Forgets a run that the session has forgotten, its oldest. */
  drop(run: Run): void {
    if (this.runs.at(0)?.eventSeq !== run.eventSeq) return
    this.runs.dropFront(1)
    if (this.rejoins[0]?.eventSeq === run.eventSeq) this.rejoins = this.rejoins.slice(1)
  }
  /** Forgets the oldest runs whose events are before `seq`, but for the newest of all. */
  trim(seq: number): void {
    for (;;) {
      const oldest = this.runs.at(0)
      if (oldest === undefined || this.runs.length === 1 || oldest.jobSeq + oldest.count > seq) return
      this.drop(oldest)
    }
  }
  /** Returns what of the job is numbered, and what comes first after `after`; see `Store.numbering`. */
  numbering(after: number): Numbering {
    const newest = this.runs.last
    let seen = 0
    let next: number | undefined
    for (const run of this.runs.slice(0, this.runs.length)) {
      const before = Math.min(run.count, Math.max(0, after - run.eventSeq + 1))
      if (before > 0) seen = Math.max(seen, run.jobSeq + before - 1)
      const from = Math.max(run.jobSeq + before, seen + 1)
      if (from < run.jobSeq + run.count) next = Math.min(next ?? from, from)
    }
    return {
      last: newest === undefined ? 0 : endOf(newest),
      through: newest === undefined ? 0 : newest.jobSeq + newest.count - 1,
      next
    }
  }
  /** `event_seq` after the last run. */
  get end(): number {
    return this.runs.last === undefined ? 0 : endOf(this.runs.last) + 1
  }
  /** Returns the lowest `seq` of the job that has a number of at least `low`. */
  lowest(low: number): number | undefined {
    const run = this.runs.at(firstRunAt(this.runs, low))
    if (run === undefined) return undefined
    let seq = run.jobSeq + Math.max(0, low - run.eventSeq)
    for (const rejoin of this.rejoins) if (rejoin.eventSeq > low) seq = Math.min(seq, rejoin.jobSeq)
    return seq
  }
}

/** Where a stretch of a job's events begins that were committed without one of another job in between. */
interface Stretch {
  readonly seq: number
  readonly order: number
}

/** Bytes of memory that a text takes: one a character unless there is one beyond Latin-1. */
const textBytes = (text: string): number => (/[^\u0000-\u00ff]/.test(text) ? 2 * text.length : text.length)

const journalName = (kind: string, key: string) => `${kind}\n${key}`

/** By kind, and of one kind by key, in the order of their UTF-8 bytes or nearly. */
export const byName = (
  a: Pick<JournalEntry, "kind" | "key">,
  b: Pick<JournalEntry, "kind" | "key">
): number => (a.kind === b.kind ? compare(a.key, b.key) : compare(a.kind, b.kind))

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

const journalBytesOf = ({ about, key, value = "" }: JournalEntry): number =>
  eventObjects + textBytes(key) + textBytes(about) + textBytes(value)

/** What a store in memory has of a job. */
export class MemoryJob {
  record: JobRecord | undefined
  private keptInput: string | undefined
  private inputBytes = 0
  /** `seq` of the oldest retained event. */
  first = 1
  readonly events = FrontTrimmed.make<StoredEvent>()
  readonly observers = new Set<string>()
  /** Per session what it has numbered of this job. */
  readonly shares = new Map<string, Share>()
  /** By kind and key; only of a job that has put one. */
  private journal: Map<string, JournalEntry> | undefined
  private journalBytes = 0
  /** Whether its journal leads to jobs that it has delegated to. */
  delegates = false
  /** Where it went on after others had been appended to: the order of all appends. */
  private readonly stretches = FrontTrimmed.make<Stretch>()
  private readonly marks = FrontTrimmed.make<{ seq: number; count: number; bytes: number }>()
  /** Bytes of the marks, the first of which may reach back before `first`. */
  private markedBytes = 0
  /** Bytes of the retained events. */
  private bytes = 0

  /** @param key tells jobs apart that ended at the same time */
  constructor(readonly key: number) {}

  /** Bytes of memory that the job takes, roughly. The journal counts when the job has ended: until then it is needed. */
  get held(): number {
    const journal = this.record?.endedAt === undefined ? 0 : this.journalBytes
    return jobObjects + this.bytes + this.events.length * eventObjects + this.inputBytes + journal
  }

  putJournal(entries: ReadonlyArray<JournalEntry>): void {
    this.journal ??= new Map()
    for (const entry of entries) {
      this.delegates ||= entry.kind === delegationKind
      const name = journalName(entry.kind, entry.key)
      const before = this.journal.get(name)
      if (before !== undefined) this.journalBytes -= journalBytesOf(before)
      this.journalBytes += journalBytesOf(entry)
      this.journal.set(name, entry)
    }
  }
  journalEntry(kind: string, key: string): JournalEntry | undefined {
    return this.journal?.get(journalName(kind, key))
  }
  /** Entries by `(kind, key)`. */
  get journalEntries(): ReadonlyArray<JournalEntry> {
    return Array.from(this.journal?.values() ?? []).sort(byName)
  }

  get input(): string | undefined {
    return this.keptInput
  }
  set input(text: string | undefined) {
    this.keptInput = text
    this.inputBytes = text === undefined ? 0 : textBytes(text)
  }

  /** Appends events, `order` being that of the stretch of appends to this job alone that they belong to. */
  append(events: ReadonlyArray<StoredEvent>, order: number): void {
    if (this.stretches.last?.order !== order)
      this.stretches.push({ seq: this.first + this.events.length, order })
    for (const event of events) {
      const bytes = event.payload.length + eventOverhead
      const mark = this.marks.last
      if (mark === undefined || isFull(mark)) this.marks.push({ seq: event.seq, count: 1, bytes })
      else {
        mark.seq = event.seq
        mark.count++
        mark.bytes += bytes
      }
      this.markedBytes += bytes
      this.bytes += bytes
      this.events.push(event)
    }
  }
  trim(seq: number): void {
    const count = Math.min(seq - this.first, this.events.length)
    if (count <= 0) return
    for (const { payload } of this.events.slice(0, count)) this.bytes -= payload.length + eventOverhead
    this.events.dropFront(count)
    this.first += count
    for (const share of this.shares.values()) share.trim(this.first)
    while ((this.stretches.at(1)?.seq ?? Number.POSITIVE_INFINITY) <= this.first) this.stretches.dropFront(1)
    for (let mark = this.marks.at(0); mark !== undefined && mark.seq < this.first; mark = this.marks.at(0)) {
      this.markedBytes -= mark.bytes
      this.marks.dropFront(1)
    }
  }
  get bounds(): Bounds {
    const oldest = this.marks.at(0)
    const cut = oldest === undefined ? 0 : oldest.bytes - share(oldest, oldest.seq - this.first + 1)
    return { first: this.first, last: this.first + this.events.length - 1, bytes: this.markedBytes - cut }
  }
  /** Returns the stretches of the first `limit` events after a `seq`, with where they end. */
  stretchesAfter(seq: number, limit: number): ReadonlyArray<Stretch & { readonly end: number }> {
    const found: Array<Stretch & { readonly end: number }> = []
    const from = Math.max(this.first, seq + 1)
    let low = 0
    let high = this.stretches.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if ((this.stretches.at(middle)?.seq ?? 0) <= from) low = middle + 1
      else high = middle
    }
    const last = this.first + this.events.length
    for (let i = Math.max(0, low - 1); i < this.stretches.length; i++) {
      const stretch = this.stretches.at(i)
      if (stretch === undefined || stretch.seq >= from + limit) break
      const begin = Math.max(stretch.seq, from)
      const end = this.stretches.at(i + 1)?.seq ?? last
      if (begin < end) found.push({ order: stretch.order, seq: begin, end })
    }
    return found
  }
  /** Returns the bytes of the events after a `seq`, of a mark that it is in in proportion. */
  bytesAfter(seq: number): number {
    let bytes = 0
    for (let i = this.marks.length - 1; i >= 0; i--) {
      const mark = this.marks.at(i)
      if (mark === undefined || mark.seq <= seq) break
      bytes += share(mark, Math.min(mark.count, mark.seq - seq))
    }
    return bytes
  }
  retainedMarks(): ReadonlyArray<Mark> {
    return joined(
      this.marks.slice(0, this.marks.length).map((mark) => {
        const count = Math.min(mark.count, mark.seq - this.first + 1)
        return { seq: mark.seq, count, bytes: share(mark, count) }
      })
    )
  }
  shareOf(sessionId: string): Share {
    let share = this.shares.get(sessionId)
    if (share === undefined) {
      share = new Share()
      this.shares.set(sessionId, share)
    }
    return share
  }
  /** Takes the runs before an `event_seq` from a session. */
  dropRunsBefore(sessionId: string, eventSeq: number): void {
    const runs = this.shares.get(sessionId)?.runs
    for (let run = runs?.at(0); run !== undefined && run.eventSeq < eventSeq; run = runs?.at(0))
      this.dropRun(sessionId, run)
  }
  /** Takes a run, its oldest, from a session; the owner's stay with the job. */
  dropRun(sessionId: string, run: Run): void {
    if (sessionId === this.record?.sessionId) return
    const share = this.shares.get(sessionId)
    share?.drop(run)
    if (share?.runs.length === 0) this.shares.delete(sessionId)
  }
}

/** A job that has its record, and so a place in the indexes. */
export type RecordedJob = MemoryJob & { record: JobRecord }
/** Says whether a job has its record: all have but those of the batch that is being applied. */
export const isRecorded = (job: MemoryJob): job is RecordedJob => job.record !== undefined
