/** What the log keeps in memory of a job. Only a committed transaction and the retention change it. */
import type * as BigDecimal from "effect/BigDecimal"
import type { InternalError } from "../../protocol/Errors.js"
import type { JobLog, Secret } from "../../services/log/EventLog.js"
import { epochOf, type JobRecord, type StoredEvent } from "../../services/store/Store.js"
import type { Account } from "./Account.js"
import type { Congestion } from "./Congestion.js"
import { EmitWindow } from "./EmitWindows.js"
import { Ledger, type Limits } from "./Ledger.js"
import type { ViewState } from "./ViewState.js"

const noBudget: ReadonlyMap<string, BigDecimal.BigDecimal> = new Map()
const noBudgets: ReadonlyArray<typeof noBudget> = []

const noValues: ReadonlyArray<string> = []

/** Up to so many events a tail has no room for more: an array that grows gets room for 17. */
const small = 3

/** What of a job's record its log keeps in memory. */
export type JobIdentity = Pick<
  JobRecord,
  "jobId" | "traceId" | "principal" | "agent" | "parentJobId" | "sessionId" | "epoch"
>

/** A job's log: its numbers, its observers, and the newest events. */
export class JobState implements JobLog {
  /** Newest committed `seq`. */
  last: number
  lastEventSeq: number
  ended: boolean
  /** The terminal message is committed. */
  closed: boolean
  /** The job was dropped: nothing of it is stored any more. */
  dropped = false
  /** With which this process has it. */
  epoch: number
  /** Another process has taken it: nothing of it is written here any more. */
  taken = false
  /** The job is another node's by now, or may be: another log has the place of this one, and whoever has this one goes on with that. */
  superseded = false
  /** The node whose job it is, when that is another one, or none: here it is read, and nothing is appended. */
  foreignTo: string | undefined
  /** It runs in this process. The log of one that does not is kept for whoever observes it, or works on it. */
  loaded = false
  /** What it emits is tried again however long the store does not take it; see `JobLog.endure`. */
  endures = false
  /** It may hold events that not every observer gets, so a view that lacks a feature has to look. */
  selective = false
  readonly observers = new Set<ViewState>()
  /** Called when something was appended: whoever follows this job rather than a view. */
  private followers: Set<() => void> | undefined
  /** Budget counters, its own or an ancestor's. */
  account: Account<JobState> | undefined
  /** Jobs above this one. */
  depth = 0
  /** Payloads that are delivered but not stored, by `seq`. */
  private secrets: Map<number, Secret> | undefined
  /** The values of credentials that the job, or one above it, has or had. */
  secretValues = noValues
  /** What it has emitted that is not committed yet; see EmitWindows.ts. */
  window: EmitWindow | undefined
  /** The owner's view while it observes; it sets the pace. */
  ownerView: ViewState | undefined
  /** The owner while it observes from another node, since that has told how it gets on. */
  farOwner: Congestion | undefined
  ledger: Ledger
  /** What it may grow to before its emitters wait for the retention; see Retention.ts. */
  allowance: Limits
  /** The newest events that were pushed, without a gap up to `seq` tailEnd: of another node's job these need not be the newest. */
  private tail: Array<StoredEvent> = []
  private tailEnd = 0
  private head = 0

  readonly jobId: string
  readonly traceId: string
  readonly principal: string
  readonly agent: string
  readonly parentJobId: string | undefined
  owner: string

  constructor(
    record: JobIdentity,
    start: {
      readonly first: number
      readonly last: number
      readonly lastEventSeq: number
      readonly ended: boolean
    },
    limits: { readonly granularity: Limits; readonly allowance: Limits }
  ) {
    this.jobId = record.jobId
    this.traceId = record.traceId
    this.principal = record.principal
    this.agent = record.agent
    this.parentJobId = record.parentJobId
    this.owner = record.sessionId
    this.epoch = epochOf(record)
    this.last = start.last
    this.lastEventSeq = start.lastEventSeq
    this.ended = start.ended
    this.closed = start.ended
    this.allowance = limits.allowance
    this.ledger = new Ledger(limits.granularity, start.first, start.last)
  }

  get remaining(): ReadonlyMap<string, BigDecimal.BigDecimal> {
    return this.account?.remaining ?? noBudget
  }
  get allRemaining(): ReadonlyArray<ReadonlyMap<string, BigDecimal.BigDecimal>> {
    return this.account?.allRemaining ?? noBudgets
  }
  get exhausted(): string | undefined {
    return this.account?.exhausted
  }
  get broken(): InternalError | undefined {
    return this.window?.broken
  }
  whenBroken(callback: (error: InternalError) => void): void {
    this.window ??= new EmitWindow()
    this.window.onBroken = callback
    if (this.window.broken !== undefined) callback(this.window.broken)
  }
  endure(): void {
    this.endures = true
  }
  budgets(currency: string): boolean {
    return this.account?.has(currency) === true
  }
  /** It is another process's, as far as is known here: it may be read, and nothing is written to it. */
  get isElsewhere(): boolean {
    return this.taken || this.foreignTo !== undefined
  }
  /**
   * Whether it is this process's as a record says. A log is loaded as it is by now, with its epoch, which the store would let pass: who
   * writes by a record of before would write that over what others have stored since.
   */
  isHereAs(record: JobRecord): boolean {
    return !this.isElsewhere && this.epoch === epochOf(record)
  }
  /** Notes that the terminal message was committed: nobody waits for more. */
  close(): void {
    this.closed = true
    this.secrets = undefined
    // One by one: to clear a set makes it a new table.
    for (const view of this.observers) {
      view.observed.delete(this)
      this.observers.delete(view)
    }
    this.ownerView = undefined
    this.farOwner?.relieve()
    this.window?.close()
    if (this.window?.isIdle === true) this.window = undefined
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
  /** Whether somebody waits for what is appended. */
  get isFollowed(): boolean {
    return this.followers !== undefined && this.followers.size > 0
  }
  follow(wake: () => void): () => void {
    this.followers ??= new Set()
    this.followers.add(wake)
    return () => this.followers?.delete(wake)
  }
  /** Notes that another log has its place. */
  supersede(): void {
    this.taken = true
    this.superseded = true
    this.wake()
  }
  /** Wakes whoever follows the job. */
  wake(): void {
    if (this.followers !== undefined) for (const wake of [...this.followers]) wake()
  }
  keepSecret(seq: number, secret: Secret): void {
    this.secrets ??= new Map()
    this.secrets.set(seq, secret)
    this.secretValues = [...this.secretValues, ...secret.values]
  }
  /** Forgets what only matters while the job runs. */
  rest(): void {
    this.loaded = false
    // Whoever closes a question of it is told at once that the store is away.
    this.endures = false
    this.secrets = undefined
    this.secretValues = noValues
    if (this.window?.isIdle === true) this.window = undefined
  }
  /** Its end has been published: nothing of it will be looked through for secrets again. */
  forgetSecrets(): void {
    this.secretValues = noValues
  }
  /** Returns what may be delivered in the place of an event, to whom it may be. */
  secretOf(seq: number): Secret | undefined {
    return this.secrets?.get(seq)
  }
  get tailLength(): number {
    return this.tail.length - this.head
  }
  /** Returns the event with this `seq` when it is in the tail. */
  event(seq: number): StoredEvent | undefined {
    const i = seq - (this.tailEnd - this.tailLength + 1)
    return i < 0 ? undefined : this.tail[this.head + i]
  }
  /** Returns events `from` … of the tail, `undefined` when it does not hold all of them. */
  fromTail(from: number, count: number): ReadonlyArray<StoredEvent> | undefined {
    const events: Array<StoredEvent> = []
    for (let seq = from; seq < from + count; seq++) {
      const event = this.event(seq)
      if (event === undefined) return undefined
      events.push(event)
    }
    return events
  }
  push(events: ReadonlyArray<StoredEvent>): void {
    const [first] = events
    if (first === undefined) return
    if (first.seq !== this.tailEnd + 1) this.shift(this.tailLength)
    this.tailEnd = first.seq + events.length - 1
    if (this.tail.length < small) this.tail = [...this.tail, ...events]
    else for (const event of events) this.tail.push(event)
  }
  /** Forgets the oldest `count` events of the tail. */
  shift(count: number): void {
    // Now, not when the array is cut: a thousand events can be 64 KiB each.
    this.tail.fill(undefined as never, this.head, Math.min(this.tail.length, this.head + count))
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

/**
 * A job's log as one load of the job has it. When that is left nothing more is appended with it, whatever runs on, also when
 * the job has been loaded again.
 */
export class JobLoad implements JobLog {
  private left = false

  constructor(readonly state: JobState) {}

  leave(): void {
    this.left = true
    this.state.loaded = false
  }
  get isLeft(): boolean {
    return this.left
  }
  get ended(): boolean {
    return this.left || this.state.ended
  }
  get jobId(): string {
    return this.state.jobId
  }
  get isElsewhere(): boolean {
    return this.state.isElsewhere
  }
  get broken(): InternalError | undefined {
    return this.state.broken
  }
  whenBroken(callback: (error: InternalError) => void): void {
    this.state.whenBroken(callback)
  }
  endure(): void {
    this.state.endure()
  }
  get lastEventSeq(): number {
    return this.state.lastEventSeq
  }
  get remaining(): ReadonlyMap<string, BigDecimal.BigDecimal> {
    return this.state.remaining
  }
  get allRemaining(): ReadonlyArray<ReadonlyMap<string, BigDecimal.BigDecimal>> {
    return this.state.allRemaining
  }
  get exhausted(): string | undefined {
    return this.state.exhausted
  }
  budgets(currency: string): boolean {
    return this.state.budgets(currency)
  }
}

/** Returns the state of a job's log: the one place where a `JobLog` is opened up, since the log makes all of them. */
export const jobStateOf = (job: JobLog): JobState => {
  if (job instanceof JobState) return job
  if (job instanceof JobLoad) return job.state
  throw new Error("this job's log was not made by this log")
}
