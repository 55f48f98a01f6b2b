/**
 * What the log keeps in memory of a job and of a session. Only a committed transaction (Transaction.ts)
 * and the retention changes these; everything here is synchronous.
 */
import type * as BigDecimal from "effect/BigDecimal"
import { eventFrames, type Version } from "../../protocol/Codec.js"
import type { Feature } from "../../protocol/Features.js"
import { eventIds } from "../../protocol/Ids.js"
import type { EventType } from "../../protocol/Message.js"
import type { JobLog, NewEvent, View } from "../../services/log/EventLog.js"
import type { StoredEvent } from "../../services/store/Store.js"
import type { Account } from "./Account.js"

/** Where in a numbering how many bytes have come: a mark every so often, for retention and pacing. */
export class Ledger {
  private static readonly events = 1024
  private static readonly bytes = 256 * 1024
  /** `[seq, bytes up to and including it]`, ascending. */
  private marks: Array<readonly [number, number]> = []
  private total = 0
  private freed = 0
  constructor(
    public first: number,
    public last: number
  ) {}

  add(last: number, bytes: number): void {
    this.total += bytes
    this.last = last
    const newest = this.marks[this.marks.length - 1] ?? [this.first - 1, this.freed]
    if (last - newest[0] >= Ledger.events || this.total - newest[1] >= Ledger.bytes)
      this.marks.push([last, this.total])
  }
  /** Is there more than this behind `seq`? */
  exceeds(seq: number, maxEvents: number, maxBytes: number): boolean {
    if (this.last - seq > maxEvents) return true
    if (this.total - this.freed <= maxBytes) return false
    let low = 0
    let high = this.marks.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.marks[middle] as readonly [number, number])[0] > seq) high = middle
      else low = middle + 1
    }
    return this.total - (this.marks[low - 1]?.[1] ?? this.freed) > maxBytes
  }
  /** The seq to trim to when a limit is exceeded, `undefined` when none is. Frees what it names. */
  evict(maxEvents: number, maxBytes: number): number | undefined {
    let to: number | undefined
    while (this.last - this.first + 1 > maxEvents || this.total - this.freed > maxBytes) {
      const mark = this.marks[0]
      if (mark === undefined || mark[0] >= this.last) break
      this.marks.shift()
      this.freed = mark[1]
      this.first = mark[0] + 1
      to = this.first
    }
    return to
  }
}

const noBudget: ReadonlyMap<string, BigDecimal.BigDecimal> = new Map()

/** A job's log: its numbers, its observers, and the newest events. */
export class JobState implements JobLog {
  /** Newest committed `seq`. */
  last: number
  lastEventSeq: number
  ended: boolean
  /** The terminal message is committed. */
  closed: boolean
  /** It may hold events that not every observer gets, so a view that lacks a feature has to look. */
  selective = false
  readonly observers = new Set<ViewState>()
  /** Called when something was appended: whoever follows this job rather than a view. */
  readonly followers = new Set<() => void>()
  /** Budget counters, its own or an ancestor's. */
  account: Account | undefined
  /** Jobs above this one. */
  depth = 0
  /** Payloads that are delivered but not stored, by `seq`. */
  readonly secrets = new Map<number, string>()
  /** The owner's view while it observes; it sets the pace. */
  ownerView: ViewState | undefined
  readonly ledger: Ledger
  /** The newest events, `tail[i]` being `seq` tailFirst + i. */
  private tail: Array<StoredEvent> = []
  private head = 0

  constructor(
    readonly jobId: string,
    readonly traceId: string,
    public owner: string,
    start: {
      readonly first: number
      readonly last: number
      readonly lastEventSeq: number
      readonly ended: boolean
    }
  ) {
    this.last = start.last
    this.lastEventSeq = start.lastEventSeq
    this.ended = start.ended
    this.closed = start.ended
    this.ledger = new Ledger(start.first, start.last)
  }

  get remaining(): ReadonlyMap<string, BigDecimal.BigDecimal> {
    return this.account?.remaining ?? noBudget
  }
  get exhausted(): string | undefined {
    return this.account?.exhausted
  }
  budgets(currency: string): boolean {
    return this.account?.has(currency) === true
  }
  /** The terminal message was committed: nobody waits for more. */
  close(): void {
    this.closed = true
    this.secrets.clear()
    for (const view of this.observers) view.observed.delete(this)
  }
  addObserver(view: ViewState): void {
    this.observers.add(view)
    view.observed.add(this)
    if (view.sessionId === this.owner) this.ownerView = view
  }
  removeObserver(view: ViewState): void {
    this.observers.delete(view)
    view.observed.delete(this)
    if (this.ownerView === view) this.ownerView = undefined
  }
  get tailLength(): number {
    return this.tail.length - this.head
  }
  /** The event with this `seq` when it is in the tail. */
  event(seq: number): StoredEvent | undefined {
    const i = seq - (this.last - this.tailLength + 1)
    return i < 0 ? undefined : this.tail[this.head + i]
  }
  push(events: ReadonlyArray<StoredEvent>): void {
    for (const event of events) this.tail.push(event)
  }
  /** Forgets the oldest `count` events of the tail. */
  shift(count: number): void {
    // Now, not when the array is cut: a thousand events can be 64 KiB each.
    this.tail.fill(undefined as never, this.head, this.head + count)
    this.head += count
    if (this.head >= this.tail.length) {
      this.tail = []
      this.head = 0
    } else if (this.head > 1024 && this.head * 2 > this.tail.length) {
      this.tail = this.tail.slice(this.head)
      this.head = 0
    }
  }
}

/** A run in memory: refers to the job itself. Grows in place while it is the newest. */
export interface RunState {
  readonly eventSeq: number
  readonly job: JobState
  readonly jobSeq: number
  count: number
}

/** How many runs of one session stay in memory at the most; older ones are read from the store. */
const maxRuns = 4096

/** A session's view. */
export class ViewState implements View {
  last: number
  acked: number
  progress = false
  chunks = false
  /** Present while a connection reads. */
  wake: (() => void) | undefined
  measuresLag = false
  signalled = false
  dropped = false
  /** How far the connection has read. */
  delivered = 0
  /** The connection is so far behind that what it has not read would soon be evicted. */
  congested = false
  /** It has not got on for so long that nobody waits for it. */
  stalled = false
  private relieved: Array<() => void> = []
  /** Events per page read from the store, learnt from their size. */
  pageSize: number | undefined
  /** The newest runs, ascending and without a gap up to `last`. */
  runs: Array<RunState> = []
  /** Jobs not ended whose events are numbered for this view. */
  readonly observed = new Set<JobState>()
  /** Per job, the first `seq` that this view still retains. */
  readonly floors = new Map<JobState, number>()
  readonly ledger: Ledger
  private readonly eventId: (eventSeq: number) => string
  private frames = new WeakMap<
    JobState,
    (type: EventType, id: string, eventSeq: number, payload: string) => string
  >()

  constructor(
    readonly sessionId: string,
    private readonly version: Version,
    start: { readonly first: number; readonly last: number; readonly acked: number }
  ) {
    this.last = start.last
    this.acked = start.acked
    this.ledger = new Ledger(start.first, start.last)
    this.eventId = eventIds(sessionId)
  }

  get first(): number {
    return this.ledger.first
  }
  get observedCount(): number {
    return this.observed.size
  }
  setFeatures(features: ReadonlyArray<Feature>): void {
    this.progress = features.includes("progress")
    this.chunks = features.includes("result_chunk")
    this.measuresLag = features.includes("ack")
  }
  /** Calls back when the connection has caught up, or is gone. */
  onRelief(resume: () => void): void {
    this.relieved.push(resume)
  }
  relieve(): void {
    this.congested = false
    const waiting = this.relieved
    this.relieved = []
    for (const resume of waiting) resume()
  }
  /** Is this event numbered for, and delivered to, this session? */
  sees(event: Pick<NewEvent, "kind" | "audience">): boolean {
    return (
      (event.audience === undefined || event.audience === this.sessionId) &&
      (event.kind !== "progress" || this.progress) &&
      (event.kind !== "result_chunk" || this.chunks)
    )
  }
  get newestRun(): RunState | undefined {
    return this.runs[this.runs.length - 1]
  }
  /** Adds a committed run, or the new length of the newest one. */
  extend(run: RunState): void {
    const newest = this.newestRun
    if (newest !== undefined && newest.eventSeq === run.eventSeq) newest.count = run.count
    else {
      this.runs.push(run)
      if (this.runs.length > maxRuns) this.runs = this.runs.slice(maxRuns / 2)
    }
  }
  /** Index of the run in memory that holds `eventSeq`; -1 when it is older than all of them. */
  indexOf(eventSeq: number): number {
    let low = 0
    let high = this.runs.length - 1
    let found = -1
    while (low <= high) {
      const middle = (low + high) >> 1
      if ((this.runs[middle] as RunState).eventSeq <= eventSeq) {
        found = middle
        low = middle + 1
      } else high = middle - 1
    }
    return found
  }
  /** The frame that carries an event as this session's `eventSeq`. */
  frame(
    job: JobState,
    event: StoredEvent,
    eventSeq: number,
    payload = job.secrets.get(event.seq) ?? event.payload
  ): string {
    let build = this.frames.get(job)
    if (build === undefined) {
      build = eventFrames({
        version: this.version,
        sessionId: this.sessionId,
        jobId: job.jobId,
        traceId: job.traceId
      })
      this.frames.set(job, build)
    }
    return build(event.type, this.eventId(eventSeq), eventSeq, payload)
  }
}

/**
 * The newest events of all jobs together, bounded in bytes: a queue of which job to take how many of its
 * oldest tail events from.
 */
export class Tail {
  private queue: Array<{ readonly job: JobState; readonly count: number; readonly bytes: number }> = []
  private head = 0
  private bytes = 0
  constructor(
    private readonly maxBytes: number,
    private readonly onEmpty: (job: JobState) => void
  ) {}

  push(job: JobState, events: ReadonlyArray<StoredEvent>, bytes: number): void {
    job.push(events)
    this.queue.push({ job, count: events.length, bytes })
    this.bytes += bytes
    while (this.bytes > this.maxBytes && this.head < this.queue.length - 1) {
      const oldest = this.queue[this.head++] as (typeof this.queue)[number]
      this.bytes -= oldest.bytes
      oldest.job.shift(oldest.count)
      if (oldest.job.tailLength === 0) this.onEmpty(oldest.job)
    }
    if (this.head > 1024 && this.head * 2 > this.queue.length) {
      this.queue = this.queue.slice(this.head)
      this.head = 0
    }
  }
}
