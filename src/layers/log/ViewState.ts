/** What the log keeps in memory of a session's view. Only a committed transaction and the retention change it. */
import { eventFrames, type Version } from "../../protocol/Codec.js"
import { type Feature, unobserved } from "../../protocol/Features.js"
import { eventIds } from "../../protocol/Ids.js"
import type { EventType } from "../../protocol/Message.js"
import type { NewEvent, View } from "../../services/log/EventLog.js"
import { PassingMap, PassingSet } from "../../services/runtime/Passing.js"
import type { Observed, StoredEvent } from "../../services/store/Store.js"
import { Congestion } from "./Congestion.js"
import type { JobState } from "./JobState.js"
import { Ledger, type Limits } from "./Ledger.js"
import type { Place } from "./lateNumbering.js"

/** A run in memory: refers to the job itself. Grows in place while it is the newest. */
export interface RunState {
  readonly eventSeq: number
  readonly job: JobState
  readonly jobSeq: number
  count: number
  bytes: number
}

/** How many runs of one session stay in memory while it reads, at the most; older ones are read from the store. */
const maxRuns = 2048

/** How many stay for a session that nobody reads: its jobs must not be held for it. */
const maxIdleRuns = 16

/** Milliseconds without progress after which a connection does not count as reading (§4.5). */
export const patienceMs = 10_000

/** Of how many jobs at once the beginnings of frames are kept; the next forgets them all. */
const maxFrames = 256

/** How many events that were committed are kept for a view that catches up. */
const maxNoted = 8192

/** How many positions are kept to know what was sent a window ago. */
const sentMarks = 32

const nothing = () => {}

type BuildFrame = (type: EventType, id: string, eventSeq: number, payload: string) => string

/** Where a view stands when it is loaded. */
export interface ViewStart {
  readonly first: number
  readonly last: number
  readonly acked: number
  /** The first `event_seq` that the session still needs, as stored. */
  readonly need: number
  /** Of the session. */
  readonly epoch: number
}

/** A session's view. */
export class ViewState extends Congestion implements View {
  last: number
  acked: number
  progress = false
  chunks = false
  /** It observes the jobs that its session opens. */
  observesOwn = true
  /** Only jobs of this principal are seen; of all when `undefined`. */
  onlyOf: string | undefined
  /** Present while a connection reads. */
  wake: (() => void) | undefined
  measuresLag = false
  signalled = false
  dropped = false
  /** Another process has the session: what it observes is that one's to number. */
  taken = false
  /** Jobs of other nodes among those that it is behind in: it never follows them, but looks at them; see Sequencer.ts. */
  readonly watched = new Set<string>()
  /** Jobs of others of which it has asked for more of the past than is numbered for it, as long as it is behind in them. */
  readonly joining = new Set<string>()
  /** The logs of what it is behind in: those of jobs of other nodes from one look to the next. They are kept in memory for it. */
  readonly places = new Map<string, Place>()
  /** There may be something new in those that it looks at. */
  isDue = false
  /** With which this process has the session. */
  epoch: number
  /** Called when another process has taken the session. */
  onTaken: () => void = nothing
  /** How far the connection has read. */
  delivered = 0
  /** When the connection last got on, in milliseconds of the monotonic clock. */
  progressedAt = 0
  /** The first `event_seq` needed, as the store has it. */
  storedNeed: number
  /** What is retained when it is next looked at, although nothing of it could be given up; see Retention.ts. */
  allowance: Limits
  /** Positions and when they were reached: for sessions that do not acknowledge. */
  private sent: Array<{ readonly at: number; readonly seq: number }> = []
  /** Events per page read from the store, learnt from their size. */
  pageSize: number | undefined
  /** The newest runs, ascending and without a gap up to `last`. */
  runs: Array<RunState> = []
  /** Jobs not ended whose events are numbered for this view. */
  readonly observed = new PassingSet<JobState>()
  /** Jobs that the session observes and has not come to the end of, by id, and the `seq` that it has come to; see Sequencer.ts. */
  readonly behind = new Map<string, number>()
  /** What the session observes is known. */
  isKnown = true
  /** Events that it had not numbered are gone. */
  lost = false
  /** This process numbers it. Of a session that has not come back there is no more than what is stored. */
  isHeld = true
  /** Jobs that were loaded before it was known whether the view is behind in them. */
  private loaded: Set<string> | undefined
  /** What was committed of jobs that it is behind in since that was asked for; `undefined` when it is nobody's, or too much. */
  noted: Array<{ readonly job: JobState; readonly events: ReadonlyArray<StoredEvent> }> | undefined
  private notedEvents = 0
  readonly ledger: Ledger
  private readonly eventId: (eventSeq: number) => string
  /** What makes the frames of a job that has begun and has not ended, as far as this view has read. */
  private readonly frames = new PassingMap<string, BuildFrame>()

  constructor(
    readonly sessionId: string,
    private readonly version: Version,
    features: ReadonlyArray<Feature>,
    start: ViewStart,
    limits: { readonly granularity: Limits; readonly allowance: Limits }
  ) {
    super()
    this.last = start.last
    this.acked = start.acked
    this.storedNeed = start.need
    this.epoch = start.epoch
    this.allowance = limits.allowance
    this.ledger = new Ledger(limits.granularity, start.first, start.last)
    this.eventId = eventIds(sessionId)
    this.setFeatures(features)
  }

  /** Notes what the session observes: what it has not come to, or may not have. */
  know(observed: ReadonlyArray<Observed>, lost: boolean, isLive: (jobId: string) => boolean): void {
    this.isKnown = true
    this.lost = lost
    for (const { cursor, jobId, last } of observed)
      if (!this.behind.has(jobId) && (cursor < last || isLive(jobId) || this.loaded?.has(jobId) === true))
        this.behind.set(jobId, cursor)
    this.loaded = undefined
  }
  /** Returns whether the view, which observes a job that was just loaded, has come to its end. */
  follows(jobId: string): boolean {
    if (this.isKnown) return !this.lost && !this.behind.has(jobId)
    this.loaded ??= new Set()
    this.loaded.add(jobId)
    return false
  }
  /** Whether anything is to be numbered for it. */
  get isWanted(): boolean {
    return !this.dropped && !this.lost
  }
  /** Notes that events are gone that it had not numbered. */
  lose(): void {
    this.lost = true
    this.wake?.()
  }
  /** Has it look at a job of another node from where it has come to. */
  watch(jobId: string, cursor: number): void {
    this.behind.set(jobId, cursor)
    this.watched.add(jobId)
    this.isDue = true
  }
  /** It is through with a job, or does not want more of it. */
  unwatch(jobId: string): void {
    this.behind.delete(jobId)
    this.watched.delete(jobId)
  }
  /** Whether it has to catch up with jobs that it then follows. */
  get isLate(): boolean {
    return this.behind.size > this.watched.size
  }
  /** Begins to note what is committed. */
  note(): void {
    this.noted = []
    this.notedEvents = 0
  }
  /** Notes what was committed of a job. */
  noteAppended(job: JobState, events: ReadonlyArray<StoredEvent>): void {
    if (this.noted === undefined || events.length === 0 || !this.behind.has(job.jobId)) return
    this.noted.push({ job, events })
    this.notedEvents += events.length
    // There is another page to ask for.
    if (this.notedEvents > maxNoted) this.noted = undefined
  }
  whenTaken(callback: () => void): void {
    this.onTaken = callback
  }
  get first(): number {
    return this.ledger.first
  }
  get subscribedCount(): number {
    let count = this.watched.size
    for (const { owner } of this.observed) if (owner !== this.sessionId) count++
    for (const jobId of this.joining) {
      if (!this.behind.has(jobId)) this.joining.delete(jobId)
      else if (!this.watched.has(jobId)) count++
    }
    return count
  }
  get observedJobs(): Iterable<string> {
    return [...Array.from(this.observed, ({ jobId }) => jobId), ...this.behind.keys()]
  }
  setFeatures(features: ReadonlyArray<Feature>): void {
    this.progress = features.includes("progress")
    this.chunks = features.includes("result_chunk")
    this.measuresLag = features.includes("ack")
    this.observesOwn = !features.includes(unobserved)
  }
  /** Lets a connection begin to read. */
  attach(wake: () => void, now: number): void {
    this.wake = wake
    this.delivered = 0
    this.progressedAt = now
    this.stalled = false
  }
  detach(): void {
    this.wake = undefined
    this.frames.clear()
    this.trimRuns(maxIdleRuns)
    this.relieve()
  }
  /** Notes that the connection asks for what follows `after`. */
  reached(after: number, now: number, windowMs: number): void {
    this.progressedAt = now
    this.stalled = false
    if (after <= this.delivered) return
    this.delivered = after
    if (this.measuresLag) return
    const newest = this.sent[this.sent.length - 1]
    if (newest !== undefined && now - newest.at < windowMs / sentMarks) return
    this.sent.push({ at: now, seq: after })
    while ((this.sent[1]?.at ?? now) <= now - windowMs) this.sent.shift()
  }
  /** Returns whether a connection reads, and gets on. */
  reads(now: number): boolean {
    return (
      this.wake !== undefined &&
      !this.stalled &&
      (this.delivered >= this.last || now - this.progressedAt < patienceMs)
    )
  }
  /**
   * Returns the first `event_seq` that the session needs (§4.5): what it has not acknowledged; of a session that does
   * not acknowledge, what was not sent, or sent less than a window ago.
   */
  need(now: number, windowMs: number): number {
    const known = Math.max(this.first, this.storedNeed)
    if (this.measuresLag) return Math.max(known, this.acked + 1)
    const sent = this.sent[0]
    return sent === undefined || sent.at > now - windowMs ? known : Math.max(known, sent.seq + 1)
  }
  get isNarrowed(): boolean {
    return this.onlyOf !== undefined
  }
  seeOnly(principal: string | undefined): void {
    this.onlyOf = principal
  }
  /** Returns whether this event is numbered for, and delivered to, this session. */
  sees({ principal }: Pick<JobState, "principal">, event: Pick<NewEvent, "kind" | "audience">): boolean {
    return (
      (this.onlyOf === undefined || this.onlyOf === principal) &&
      (event.audience === undefined || event.audience === this.sessionId) &&
      (event.kind !== "progress" || this.progress) &&
      (event.kind !== "result_chunk" || this.chunks)
    )
  }
  get newestRun(): RunState | undefined {
    return this.runs[this.runs.length - 1]
  }
  /** Adds a committed run, or the new length of the newest one. */
  extend(run: RunState, count: number, bytes: number): void {
    const newest = this.newestRun
    if (newest !== undefined && newest.eventSeq === run.eventSeq) {
      newest.count = run.count
      newest.bytes = run.bytes
    } else {
      // A view begins with a whole run, so only here may it be cut.
      this.ledger.cut()
      this.runs.push(run)
      const max = this.wake === undefined ? maxIdleRuns : maxRuns
      if (this.runs.length > max) this.trimRuns(max / 2)
    }
    this.last += count
    this.ledger.add(this.last, bytes)
  }
  private trimRuns(count: number): void {
    if (this.runs.length > count) this.runs = this.runs.slice(-count)
  }
  /** Forgets runs in memory that refer to a job that was dropped: the store says that they are gone. */
  forgetRuns(jobs: ReadonlySet<JobState>): void {
    for (let i = this.runs.length - 1; i >= 0; i--)
      if (jobs.has(this.runs[i]?.job as JobState)) {
        this.runs = this.runs.slice(i + 1)
        return
      }
  }
  /** Returns the index of the run in memory that holds `eventSeq`; -1 when it is older than all of them. */
  indexOf(eventSeq: number): number {
    let low = 0
    let high = this.runs.length - 1
    let found = -1
    while (low <= high) {
      const middle = (low + high) >> 1
      if ((this.runs[middle]?.eventSeq ?? Infinity) <= eventSeq) {
        found = middle
        low = middle + 1
      } else high = middle - 1
    }
    return found
  }
  /** Returns the frame that carries an event as this session's `eventSeq`. */
  frame(
    job: { readonly jobId: string; readonly traceId: string },
    event: StoredEvent,
    eventSeq: number,
    payload: string
  ): string {
    let build = this.frames.get(job.jobId)
    if (build === undefined) {
      if (this.frames.size >= maxFrames) this.frames.clear()
      build = eventFrames({
        version: this.version,
        sessionId: this.sessionId,
        jobId: job.jobId,
        traceId: job.traceId
      })
      this.frames.set(job.jobId, build)
    }
    if (event.type !== "job.event") this.frames.delete(job.jobId)
    return build(event.type, this.eventId(eventSeq), eventSeq, payload)
  }
}

/** Returns the state of a view: the one place where a `View` is opened up, since the log makes all of them. */
export const viewStateOf = (view: View): ViewState => {
  if (view instanceof ViewState) return view
  throw new Error("this view was not made by this log")
}
