/**
 * One commit batch: numbers are assigned here, and nowhere else. It works on the side: the states change in
 * `apply`, after the store has committed; a batch that fails is simply forgotten, so numbers never have
 * gaps.
 */
import type { HookTold, NewEvent, Secret } from "../../services/log/EventLog.js"
import {
  absent,
  type Batch,
  epochOf,
  eventOverhead,
  type FreeKey,
  type JobRecord,
  type JournalEntry,
  type Op,
  type Owner,
  type StoredEvent
} from "../../services/store/Store.js"
import { type Account, type Report, Spending } from "./Account.js"
import type { JobState } from "./JobState.js"
import type { Limits } from "./Ledger.js"
import type { Tail } from "./Tail.js"
import type { RunState, ViewState } from "./ViewState.js"

interface JobDelta {
  readonly events: Array<StoredEvent>
  last: number
  lastEventSeq: number
  bytes: number
  selective: boolean
  readonly secrets: Array<readonly [number, Secret]>
  /** Of durable jobs only. */
  journal: Array<JournalEntry> | undefined
}

interface ViewDelta {
  last: number
  /** Runs as they are after this batch, with what it adds to each. */
  readonly runs: Array<{ readonly run: RunState; added: number; addedBytes: number }>
}

/** What a commit has changed. */
export interface Touched {
  readonly views: ReadonlyArray<ViewState>
  readonly jobs: ReadonlyArray<JobState>
  /** The events of each job, and their bytes as the retention counts them. */
  readonly appended: ReadonlyMap<
    JobState,
    { readonly events: ReadonlyArray<StoredEvent>; readonly bytes: number }
  >
}

/** Collects the operations of one commit, and what undoes them in memory if it fails. */
export class Transaction {
  readonly ops: Array<Op> = []
  private readonly jobs = new Map<JobState, JobDelta>()
  private readonly views = new Map<ViewState, ViewDelta>()
  /** Of which jobs views have passed over what came last. */
  private passed: Map<ViewState, Set<JobState>> | undefined
  /** Jobs whose end is in this batch. */
  private readonly closing = new Set<JobState>()
  private readonly effects: Array<() => void> = []
  private readonly begun: Array<readonly [JobState, NewEvent]> = []
  private readonly spending = new Spending<JobState>()
  /** The epochs with which this process has the jobs, and the sessions, of which something is written. */
  private readonly ownJobs = new Map<string, number>()
  private readonly ownSessions = new Map<string, number>()
  private readonly ownKeys: Array<FreeKey> = []

  constructor(
    private readonly report: (report: Report) => NewEvent,
    /** What a run holds at the most: a view is cut between runs. */
    private readonly maxRun: Limits
  ) {}

  /** Runs synchronously when the batch is committed, in order, before any reader is woken. */
  onApply(effect: () => void): void {
    this.effects.push(effect)
  }

  /**
   * States what this process owns, of which something is written. What is stated first counts: what is not there yet is opened
   * by the same batch. Of what is there nobody states two epochs at once, or the newer would be written over by whoever has
   * not found out that it is another's.
   */
  owns(owner: Owner): void {
    if ("key" in owner) this.ownKeys.push(owner)
    else if ("job" in owner) state(this.ownJobs, owner.job, owner.epoch)
    else state(this.ownSessions, owner.session, owner.epoch)
  }
  ownsJob({ epoch, jobId }: JobState): void {
    state(this.ownJobs, jobId, epoch)
  }
  ownsView({ epoch, sessionId }: ViewState): void {
    state(this.ownSessions, sessionId, epoch)
  }
  /** Puts operations of others into the batch. The records in it are of jobs that are not there yet, and of sessions. */
  add(ops: ReadonlyArray<Op>): void {
    for (const op of ops) {
      if (op._tag === "PutSession") this.owns({ session: op.session.sessionId, epoch: epochOf(op.session) })
      else if (op._tag === "PutJob") this.owns({ job: op.job.jobId, epoch: absent })
      this.ops.push(op)
    }
  }

  /** Returns the newest `event_seq` of a view, this batch included. */
  lastOf(view: ViewState): number {
    return this.views.get(view)?.last ?? view.last
  }

  /** Keeps the first event of a job that begins with this batch, so that it comes after what was queued before it. */
  begin(job: JobState, event: NewEvent): void {
    this.begun.push([job, event])
  }

  /** Appends what `begin` has kept, once all other events are: what was said of such a job, on its parent, is among them. */
  appendBegun(): void {
    for (const [job, event] of this.begun) this.append(job, [event])
  }

  /** Numbers the events of one job, in order, and puts them into the view of each of its observers. */
  append(job: JobState, emitted: ReadonlyArray<NewEvent>): void {
    const events = job.account === undefined ? emitted : this.charge(job.account, emitted)
    const from = this.job(job)
    const first = from.last + 1
    let selective = false
    for (const event of events)
      if (event.audience !== undefined || event.kind === "progress" || event.kind === "result_chunk")
        selective = true
    for (const view of job.observers) {
      if (view.dropped) continue
      const before = this.lastOf(view)
      this.numberAll(view, job, first, events, selective)
      const last = this.lastOf(view)
      if (last > before && view.sessionId === job.owner) from.lastEventSeq = last
    }
    for (let i = 0; i < events.length; i++) {
      const event = events[i] as NewEvent
      from.last++
      from.bytes += event.payload.length + eventOverhead
      from.events.push({
        seq: from.last,
        type: event.type,
        kind: event.kind,
        audience: event.audience,
        payload: event.payload
      })
      if (event.secret !== undefined) from.secrets.push([from.last, event.secret])
      if (event.journal !== undefined) {
        from.journal ??= []
        for (const entry of [event.journal].flat()) from.journal.push(entry)
      }
      if (event.hook !== undefined) this.owe(job.jobId, from.last, event.hook)
    }
    from.selective ||= selective
  }

  private owe(jobId: string, seq: number, { committed, text }: HookTold): void {
    this.ops.push({ _tag: "PutHookEvent", event: { jobId, seq, text } })
    this.onApply(() => committed(seq))
  }

  /** Counts what the events cost; gives them with the reports that this makes due. */
  private charge(own: Account<JobState>, events: ReadonlyArray<NewEvent>): ReadonlyArray<NewEvent> {
    if (events.every((event) => event.cost === undefined)) return events
    const all: Array<NewEvent> = []
    for (const event of events) {
      all.push(event)
      if (event.cost === undefined) continue
      const report = this.spend(own, event.cost)
      if (report !== undefined) all.push(this.report(report))
      this.spendAbove(own, event.cost)
    }
    return all
  }

  /** Counts a cost that comes after the end of its job: for the jobs above it that still run. */
  chargeAbove({ account }: JobState, cost: NonNullable<NewEvent["cost"]>): void {
    if (account !== undefined) this.spendAbove(account, cost)
  }

  /** Counts a cost for all that are above an account, and reports there what that makes due. */
  private spendAbove({ parent }: Account<JobState>, cost: NonNullable<NewEvent["cost"]>): void {
    for (let account = parent; account !== undefined; account = account.parent) {
      const report = this.spend(account, cost)
      if (report !== undefined && takesReports(account.job)) this.append(account.job, [this.report(report)])
    }
  }

  /** Counts a cost. With the end of a job its record is written for the last time: put again it would say that the job runs. */
  private spend(account: Account<JobState>, cost: NonNullable<NewEvent["cost"]>): Report | undefined {
    return account.job.closed ? undefined : this.spending.spend(account, cost)
  }

  /** Returns a job's record with its counters as this transaction leaves them. */
  withBudget(job: JobState, record: JobRecord): JobRecord {
    return job.account === undefined ? record : { ...record, budget: this.spending.stored(job.account) }
  }

  /** Puts a job's changed record into the batch, with the counters as that leaves them. Returns what undoes it in memory. */
  putRecord(job: JobState, record: JobRecord): () => void {
    this.ownsJob(job)
    const { account } = job
    const before = account?.record
    if (account !== undefined) account.record = record
    const changed = { ...record, lastEventSeq: this.lastEventSeqOf(job) }
    this.ops.push({ _tag: "PutJob", job: this.withBudget(job, changed) })
    return () => {
      if (account !== undefined && before !== undefined) account.record = before
    }
  }

  /** Puts stored events `from` … `to` of a job into a view, as history. */
  replay(view: ViewState, job: JobState, from: number, to: number): void {
    if (to < from) return
    const average = Math.ceil(job.ledger.bytes / Math.max(1, job.ledger.events))
    this.run(view, job, from, to - from + 1, (to - from + 1) * average)
  }

  /** Returns the newest `seq` of a job, this batch included. */
  lastSeqOf(job: JobState): number {
    return this.jobs.get(job)?.last ?? job.last
  }

  /** Returns the newest number of a job in its owner's view, this batch included. */
  lastEventSeqOf(job: JobState): number {
    return this.jobs.get(job)?.lastEventSeq ?? job.lastEventSeq
  }

  /**
   * Has the job listed by the numbers of another view, its owner from now on: by the newest that it has, which is at least
   * `known`.
   */
  renumber(job: JobState, view: ViewState, known: number): void {
    const added = this.views.get(view)?.runs.map(({ run }) => run) ?? []
    const newest = [...view.runs, ...added].findLast((run) => run.job === job)
    const last = newest === undefined ? 0 : newest.eventSeq + newest.count - 1
    this.job(job).lastEventSeq = Math.max(known, last)
  }

  /** Returns everything that is to be written, once all items have been put in, and what it takes to be this process's own. */
  seal(after: ReadonlyArray<Op>): Batch {
    for (const [job, { events, journal }] of this.jobs) {
      this.ownsJob(job)
      if (events.length > 0) this.ops.push({ _tag: "Append", jobId: job.jobId, events })
      if (journal !== undefined) this.ops.push({ _tag: "PutJournal", jobId: job.jobId, entries: journal })
    }
    for (const [view, delta] of this.views) {
      this.ownsView(view)
      for (const { run } of delta.runs)
        this.ops.push({
          _tag: "PutRun",
          sessionId: view.sessionId,
          run: {
            eventSeq: run.eventSeq,
            jobId: run.job.jobId,
            jobSeq: run.jobSeq,
            count: run.count,
            bytes: run.bytes
          }
        })
    }
    for (const [view, jobs] of this.passed ?? []) {
      this.ownsView(view)
      for (const job of jobs) {
        // Nobody observes it from here on.
        if (this.closing.has(job)) continue
        const cursor = this.lastSeqOf(job)
        this.ops.push({ _tag: "Observe", sessionId: view.sessionId, jobId: job.jobId, cursor })
      }
    }
    for (const { job, record } of this.spending.accounts) {
      this.ownsJob(job)
      const changed = { ...record, sessionId: job.owner, lastEventSeq: this.lastEventSeqOf(job) }
      this.ops.push({ _tag: "PutJob", job: this.withBudget(job, changed) })
    }
    for (const op of after) this.ops.push(op)
    const owners: Array<Owner> = []
    for (const [job, epoch] of this.ownJobs) owners.push({ job, epoch })
    for (const [session, epoch] of this.ownSessions) owners.push({ session, epoch })
    owners.push(...this.ownKeys)
    return { ops: this.ops, owners }
  }

  /** Makes what was committed visible, calls back, and returns what was touched. */
  apply(tail: Tail): Touched {
    for (const [job, delta] of this.jobs) {
      job.last = delta.last
      job.lastEventSeq = delta.lastEventSeq
      job.selective ||= delta.selective
      job.ledger.cut()
      job.ledger.add(delta.last, delta.bytes)
      for (const [seq, secret] of delta.secrets) job.keepSecret(seq, secret)
      tail.push(job, delta.events, delta.bytes)
    }
    this.spending.apply()
    for (const [view, delta] of this.views) {
      for (const { run, added, addedBytes } of delta.runs) view.extend(run, added, addedBytes)
    }
    for (const effect of this.effects) effect()
    return { views: [...this.views.keys()], jobs: [...this.jobs.keys()], appended: this.jobs }
  }

  /** Numbers those of the events that a view gets. */
  private numberAll(
    view: ViewState,
    job: JobState,
    first: number,
    events: ReadonlyArray<NewEvent>,
    selective: boolean
  ): void {
    let bytes = 0
    if (!selective && view.onlyOf === undefined) {
      for (const event of events) bytes += event.payload.length + eventOverhead
      return this.run(view, job, first, events.length, bytes)
    }
    for (const [i, event] of events.entries())
      if (view.sees(job, event)) this.run(view, job, first + i, 1, event.payload.length + eventOverhead)
    const last = events.at(-1)
    if (last !== undefined && !view.sees(job, last)) this.passOver(view, job)
  }

  /** Numbers one stored event for a view that had not numbered it. Returns its number. */
  number(view: ViewState, job: JobState, seq: number, bytes: number): number {
    this.run(view, job, seq, 1, bytes)
    return this.lastOf(view)
  }

  /** Has it stored that a view has come to the end of a job, where no run says so. */
  private passOver(view: ViewState, job: JobState): void {
    this.passed ??= new Map()
    const jobs = this.passed.get(view)
    if (jobs === undefined) this.passed.set(view, new Set([job]))
    else jobs.add(job)
  }

  /** The views that observe a job have its end numbered by this batch: there is nothing more of it to come. */
  close(job: JobState): void {
    this.closing.add(job)
    for (const view of job.observers)
      if (!view.dropped) this.ops.push({ _tag: "Unobserve", sessionId: view.sessionId, jobId: job.jobId })
  }

  /** Adds events of a job to a view, in runs of a bounded length. */
  private run(view: ViewState, job: JobState, jobSeq: number, count: number, bytes: number): void {
    const average = bytes / count
    const step =
      count > this.maxRun.events || bytes > this.maxRun.bytes
        ? Math.max(1, Math.min(this.maxRun.events, Math.floor(this.maxRun.bytes / average)))
        : count
    for (let done = 0; done < count; done += step) {
      const part = Math.min(step, count - done)
      this.extend(view, job, jobSeq + done, part, Math.ceil(part * average))
    }
  }

  /** Adds a run after the newest one, or makes that longer. */
  private extend(view: ViewState, job: JobState, jobSeq: number, count: number, bytes: number): void {
    const delta = this.view(view)
    const eventSeq = delta.last + 1
    const own = delta.runs[delta.runs.length - 1]
    const newest = own?.run ?? view.newestRun
    if (newest !== undefined && this.continues(newest, job, jobSeq, count, bytes)) {
      const run = { ...newest, count: newest.count + count, bytes: newest.bytes + bytes }
      if (own === undefined) delta.runs.push({ run, added: count, addedBytes: bytes })
      else
        delta.runs[delta.runs.length - 1] = {
          run,
          added: own.added + count,
          addedBytes: own.addedBytes + bytes
        }
    } else delta.runs.push({ run: { eventSeq, job, jobSeq, count, bytes }, added: count, addedBytes: bytes })
    delta.last += count
  }

  private continues(newest: RunState, job: JobState, jobSeq: number, count: number, bytes: number): boolean {
    return (
      newest.job === job &&
      newest.jobSeq + newest.count === jobSeq &&
      newest.count + count <= this.maxRun.events &&
      newest.bytes + bytes <= this.maxRun.bytes
    )
  }

  private job(job: JobState): JobDelta {
    let delta = this.jobs.get(job)
    if (delta === undefined) {
      delta = {
        events: [],
        last: job.last,
        lastEventSeq: job.lastEventSeq,
        bytes: 0,
        selective: false,
        secrets: [],
        journal: undefined
      }
      this.jobs.set(job, delta)
    }
    return delta
  }

  private view(view: ViewState): ViewDelta {
    let delta = this.views.get(view)
    if (delta === undefined) {
      delta = { last: view.last, runs: [] }
      this.views.set(view, delta)
    }
    return delta
  }
}

const state = (owned: Map<string, number>, id: string, epoch: number): void => {
  const stated = owned.get(id)
  if (stated === undefined) owned.set(id, epoch)
  else if (stated !== epoch && stated !== absent)
    throw new Error(`${id} is stated with epochs ${stated} and ${epoch}; they go into batches of their own`)
}

/** Returns whether an event of the runtime's own may be added to a job: nothing follows its end, or what was discarded. */
const takesReports = (job: JobState): boolean => !job.closed && job.broken === undefined
