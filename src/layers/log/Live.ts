/**
 * The views and jobs that the log has in memory, and how they get there. A session's view and a job's log exist once
 * each, here: whoever needs one that is not in memory has it loaded, and two who load the same get the same.
 */
import * as Effect from "effect/Effect"
import { nobody } from "../../services/cluster/Cluster.js"
import type { Slow } from "../../services/log/EventLog.js"
import { PassingMap } from "../../services/runtime/Passing.js"
import {
  epochOf,
  firstEpoch,
  type JobRecord,
  type Owner,
  type Place,
  type SessionRecord,
  type StoreError,
  type StoreService
} from "../../services/store/Store.js"
import { Holds } from "./Holds.js"
import { JobState } from "./JobState.js"
import { granularityOf, Ledger, type Limits } from "./Ledger.js"
import { countRetained, storedView } from "./stored.js"
import type { Tail } from "./Tail.js"
import { ViewState } from "./ViewState.js"

/** Holds the views and the job logs that are in memory, and loads those that are not. */
export class LiveLogs {
  readonly views = new Map<string, ViewState>()
  readonly jobs = new PassingMap<string, JobState>()
  /** Views that are caught up with what they have not numbered; see Sequencer.ts. */
  readonly catchingUp = new Set<ViewState>()
  /** Who reads what a session observes: gets the jobs of which something is committed meanwhile, and those that are left. */
  readonly learning = new Set<Set<string>>()
  /** Who reads what is stored of a job, by job: a commit asks for its own only, however many are being read. */
  private readonly read = new Map<string, Set<Set<string>>>()
  /** Jobs that are being left to other nodes. */
  readonly leaving = new Set<string>()
  /** Views that observe jobs of other nodes. */
  readonly watching = new Set<ViewState>()
  /** Called when a session here reads a job of another node slowly, or fast enough again; see Pace.ts. */
  onSlow: (job: JobState, sessionId: string, slow: Slow) => void = () => {}
  /** Called when a session is another process's: it may observe jobs here. */
  onMoved: () => void = () => {}
  readonly granularity: Limits
  /** Whoever needs the log of a job, or wants it gone. */
  readonly holds = new Holds((job) => this.forget(job))

  constructor(
    private readonly store: StoreService,
    /** What a view, and a job's log, retain at the most. */
    readonly limits: Limits,
    private readonly tail: Pick<Tail, "release">,
    /** Of a cluster: the name of this node. Of a runtime that is alone all jobs are its own. */
    private readonly node?: string | undefined
  ) {
    this.granularity = granularityOf(limits)
  }

  private get bounds() {
    return { granularity: this.granularity, allowance: this.limits }
  }

  /** Nothing of the job runs any more: what memory has of it goes, as far as nobody needs it. */
  rest(job: JobState): JobState {
    job.rest()
    this.forget(job)
    return job
  }
  /** Forgets a job that does not run, as far as nobody needs what memory has of it. */
  forget(job: JobState): void {
    if (this.holds.isHeld(job.jobId)) return
    if (job.foreignTo !== undefined && job.closed && this.jobs.get(job.jobId) === job)
      this.jobs.delete(job.jobId)
    if (job.loaded || job.closed) return
    this.tail.release(job)
    // What was delegated has its place below a job that runs.
    const isNeeded = job.observers.size > 0 || job.isFollowed || job.parentJobId !== undefined
    if (!isNeeded && this.jobs.get(job.jobId) === job) this.jobs.delete(job.jobId)
  }

  /** Ends a view: nothing is numbered for its session any more. */
  endView(sessionId: string): void {
    const view = this.views.get(sessionId)
    if (view === undefined) return
    view.dropped = true
    view.behind.clear()
    view.watched.clear()
    for (const job of [...view.observed]) {
      job.removeObserver(view)
      this.forget(job)
    }
    this.views.delete(sessionId)
    view.runs = []
    view.relieve()
    this.settle(view)
  }
  /**
   * Lets go of the logs that a view has no need of any more: of all, when nobody wants anything to be numbered for it. While it is
   * caught up with it needs them, and whoever does that settles it.
   */
  settle(view: ViewState): void {
    if (this.catchingUp.has(view)) return
    for (const [jobId, { job }] of view.places) {
      if (view.isWanted && view.watched.has(jobId)) continue
      view.places.delete(jobId)
      this.holds.release(job)
    }
    if (!view.isWanted || view.watched.size === 0) this.watching.delete(view)
  }
  /**
   * Another process has taken a job or a session. Returns the job that this process has lost, `undefined` when it was none of
   * its own or a session, and whether it has lost anything.
   */
  taken(owner: Owner): { readonly job?: JobState | undefined; readonly lost: boolean } {
    if ("job" in owner) {
      const job = this.jobs.get(owner.job)
      if (job === undefined || job.taken || job.epoch !== owner.epoch) return { lost: false }
      job.taken = true
      if (!this.isAlone) this.left(owner.job)
      return { job, lost: true }
    }
    // Of a key nothing is here.
    if ("key" in owner) return { lost: false }
    const view = this.views.get(owner.session)
    if (view === undefined || view.epoch !== owner.epoch) return { lost: false }
    this.lose(owner.session)
    return { lost: true }
  }
  /**
   * A job is not this node's any more, as far as is known here: what memory has of it is let go of, and all who observe it look at it from
   * where they have come to. Whose it is they find in the store: also that it is still, or again, this node's. Nothing of it may be on its
   * way to the store and be taken there, or somebody would look at what is numbered for them by then.
   */
  left(jobId: string): void {
    this.changed(jobId)
    const job = this.jobs.get(jobId)
    if (job?.closed === true) return
    for (const view of this.views.values()) {
      const cursor = job?.observers.has(view) === true ? job.last : view.behind.get(jobId)
      if (cursor === undefined) continue
      job?.removeObserver(view)
      view.watch(jobId, cursor)
      this.watching.add(view)
    }
    if (job === undefined || job.foreignTo !== undefined) return
    this.jobs.delete(jobId)
    this.tail.release(job)
    job.supersede()
  }
  /** Something has become of a job: whoever reads of it is told. */
  changed(jobId: string): void {
    for (const jobs of this.learning) jobs.add(jobId)
    for (const jobs of this.read.get(jobId) ?? []) jobs.add(jobId)
  }
  /** A session is another process's: nothing is numbered for it here any more, and whoever has it here is told. */
  lose(sessionId: string): void {
    const view = this.views.get(sessionId)
    if (view === undefined) return
    view.taken = true
    this.endView(sessionId)
    this.onMoved()
    view.onTaken()
  }

  /**
   * This process has taken jobs: what it has of when it had them before, and has not found out that they had gone, is let go of. Those
   * that it looked at are brought up to date when they are loaded.
   */
  took(records: ReadonlyArray<JobRecord>): void {
    for (const record of records) {
      const job = this.jobs.get(record.jobId)
      if (job !== undefined && job.foreignTo === undefined && job.epoch < epochOf(record))
        this.left(record.jobId)
    }
  }

  /** Whether somebody here may observe a job, or its log is in memory: also one who subscribes to it just now. */
  isSeen(jobId: string): boolean {
    return this.jobs.has(jobId) || this.views.size > 0
  }

  newView(session: SessionRecord): ViewState {
    return new ViewState(session.sessionId, session.version, session.features, emptyView, this.bounds)
  }
  /** Returns the view of a stored session as far as it is here: nothing is numbered for it while nobody holds it. */
  absentView(session: SessionRecord): ViewState {
    const live = this.views.get(session.sessionId)
    if (live !== undefined) return live
    const view = this.newView(session)
    view.isHeld = false
    return view
  }
  /** Returns the view of a session that does not exist any more: nothing is numbered for it. */
  goneView(sessionId: string, features: SessionRecord["features"]): ViewState {
    const view = new ViewState(sessionId, "1.1", features, emptyView, this.bounds)
    view.dropped = true
    return view
  }
  newJob(record: JobRecord): JobState {
    const start = { first: 1, last: 0, lastEventSeq: 0, ended: false }
    return new JobState(record, start, this.bounds)
  }

  /** Returns the view of a stored session, loaded with what it retains when it is not in memory. */
  loadView(session: SessionRecord): Effect.Effect<ViewState, StoreError> {
    return Effect.suspend(() => {
      const live = this.viewOf(session)
      if (live !== undefined) return Effect.succeed(live)
      return Effect.map(
        storedView(this.store, session, this.bounds),
        (view) => this.viewOf(session) ?? this.add(view)
      )
    })
  }
  /** Returns the view of a session that is in memory. One of when this process had it before is forgotten. */
  private viewOf(session: SessionRecord): ViewState | undefined {
    const view = this.views.get(session.sessionId)
    if (view !== undefined && view.epoch < epochOf(session)) this.lose(session.sessionId)
    return this.views.get(session.sessionId)
  }
  private add(view: ViewState): ViewState {
    view.isKnown = false
    this.views.set(view.sessionId, view)
    return view
  }
  /**
   * Returns logs of jobs as the store has them; of those that have not ended, with the observers that are held here, so that what
   * is appended reaches them.
   */
  loadJobs(records: ReadonlyArray<JobRecord>): Effect.Effect<ReadonlyArray<JobState>, StoreError> {
    return Effect.suspend(() => {
      const missing = new Set(records.filter(({ jobId }) => !this.jobs.has(jobId)))
      if (missing.size === 0) return Effect.forEach(records, (record) => this.loadJob(record))
      return this.reading([...missing], (known) =>
        Effect.forEach(records, (record) =>
          // It may have been loaded by somebody else, or forgotten, since they were asked for.
          missing.has(record) && !this.jobs.has(record.jobId)
            ? this.loadStored(record, known)
            : this.loadJob(record)
        )
      )
    })
  }
  loadJob(record: JobRecord): Effect.Effect<JobState, StoreError> {
    return Effect.suspend(() => {
      const live = this.jobs.get(record.jobId)
      if (live !== undefined) return this.current(live, record)
      return this.reading([record], (known) => this.loadStored(record, known))
    })
  }
  /** Returns the log of a job as it is by now, in the place of one that it was before. Of what is not stored any more that one says so. */
  loadAgain(job: JobState): Effect.Effect<JobState, StoreError> {
    return Effect.flatMap(this.store.job(job.jobId), (record) => {
      if (record !== undefined) return this.loadJob(record)
      job.dropped = true
      return Effect.succeed(job)
    })
  }
  /**
   * Reads what is stored of jobs, and tells of each whether it still is as it was when `read` began, and as its record says. Whoever has
   * read that may have done much else since: by what was so before, one that was left, or written to, would get a log that nobody appends to.
   */
  private reading<A>(
    records: ReadonlyArray<JobRecord>,
    read: (known: Known) => Effect.Effect<A, StoreError>
  ): Effect.Effect<A, StoreError> {
    const jobIds = records.map(({ jobId }) => jobId)
    const changed = new Set<string>()
    const { read: reads, store } = this
    // Of what has ended, or is another node's, a log is read only.
    const own = this.isAlone ? [] : records.filter((one) => one.endedAt === undefined && !this.isForeign(one))
    const asking = Effect.all(
      [
        store.boundsOf(jobIds),
        own.length === 0 ? Effect.succeed(noPlaces) : store.jobPlaces(own.map(({ jobId }) => jobId))
      ],
      { concurrency: "unbounded" }
    )
    return Effect.acquireUseRelease(
      Effect.sync(() => {
        for (const jobId of jobIds) reads.set(jobId, (reads.get(jobId) ?? new Set()).add(changed))
      }),
      () =>
        Effect.flatMap(asking, ([bounds, places]) => {
          // What has no place is not stored yet: it is being opened.
          const isStill = (record: JobRecord) =>
            !changed.has(record.jobId) &&
            (places.get(record.jobId)?.epoch ?? epochOf(record)) === epochOf(record)
          return read({ bounds, isStill })
        }),
      () =>
        Effect.sync(() => {
          for (const jobId of jobIds) {
            const readers = reads.get(jobId)
            if (readers?.delete(changed) === true && readers.size === 0) reads.delete(jobId)
          }
        })
    )
  }
  /** Returns whether a job that has not ended is another node's. */
  isForeign(record: Pick<JobRecord, "node" | "endedAt">): boolean {
    return this.node !== undefined && record.node !== this.node && record.endedAt === undefined
  }
  /** Returns whether a job is this node's. */
  isOwn({ node }: Pick<JobRecord, "node">): boolean {
    return this.node === undefined || node === this.node
  }
  get isAlone(): boolean {
    return this.node === undefined
  }
  /** Returns the log in memory of a job, which may have become this node's since it was loaded. */
  private current(job: JobState, record: JobRecord): Effect.Effect<JobState, StoreError> {
    if (job.foreignTo === undefined || record.node !== this.node || record.endedAt !== undefined)
      return Effect.succeed(job)
    return this.reading([record], ({ isStill }) =>
      Effect.gen(this, function* () {
        yield* this.refresh(job)
        job.ledger = new Ledger(this.granularity, job.ledger.first, job.last)
        yield* countRetained(this.store, job, { first: job.ledger.first, last: job.last })
        const numbered = yield* this.store.numbering(record.sessionId, record.jobId, 0)
        if (job.foreignTo === undefined) return job
        if (!isStill(record)) return yield* this.loadAgain(job)
        job.foreignTo = undefined
        job.epoch = epochOf(record)
        job.owner = record.sessionId
        job.lastEventSeq = numbered.last
        // Those that look at it are caught up with, and follow it then.
        for (const view of this.watching) if (view.watched.delete(job.jobId)) view.isDue = true
        return job
      })
    )
  }
  /** Reads anew how far a job of another node has come. What was dropped says so. */
  refresh(job: JobState): Effect.Effect<void, StoreError> {
    const { jobId } = job
    return Effect.gen(this, function* () {
      const before = yield* this.store.boundsOf([jobId])
      const record = yield* this.store.job(jobId)
      if (record === undefined) {
        job.dropped = true
        job.close()
        return job.wake()
      }
      // Read after it is known whether it has ended: then its end is among them.
      const ended = record.endedAt !== undefined
      const bounds = (ended ? yield* this.store.boundsOf([jobId]) : before).get(jobId)
      if (record.node !== this.node && job.foreignTo !== undefined) {
        job.foreignTo = record.node ?? nobody
        job.owner = record.sessionId
      }
      if (bounds === undefined) return
      if (bounds.last >= job.last) {
        job.ledger = new Ledger(this.granularity, bounds.first, bounds.last)
        job.ledger.add(bounds.last, bounds.bytes)
      }
      this.advance(job, bounds.last, ended)
    })
  }
  /** Notes how far a job of another node has come, and tells whoever follows it. */
  advance(job: JobState, last: number, ended: boolean): void {
    if (last <= job.last && (!ended || job.closed)) return
    job.last = Math.max(job.last, last)
    if (ended) {
      job.ended = true
      job.close()
    }
    job.wake()
  }
  private loadStored(record: JobRecord, { bounds, isStill }: Known): Effect.Effect<JobState, StoreError> {
    const { store } = this
    const { first, last } = bounds.get(record.jobId) ?? { first: 1, last: 0 }
    const job = new JobState(
      record,
      { first, last, lastEventSeq: record.lastEventSeq, ended: record.endedAt !== undefined },
      this.bounds
    )
    job.selective = true
    if (job.ended) return Effect.succeed(job)
    if (this.isForeign(record)) {
      job.foreignTo = record.node ?? nobody
      return Effect.sync(() => {
        const live = this.jobs.get(record.jobId)
        if (live === undefined) this.jobs.set(record.jobId, job)
        return live ?? job
      })
    }
    return Effect.gen(this, function* () {
      yield* countRetained(store, job, { first, last })
      const observers = (yield* store.observersOf([record.jobId])).get(record.jobId) ?? []
      job.lastEventSeq = (yield* store.numbering(record.sessionId, record.jobId, 0)).last
      // Somebody else may have loaded it meanwhile; from here on nothing waits.
      const live = this.jobs.get(record.jobId)
      if (live !== undefined) return yield* this.current(live, record)
      if (!isStill(record)) return yield* this.loadAgain(job)
      // Nothing was appended while it was not in memory, so whoever has come to its end goes on from there.
      for (const sessionId of observers) {
        const view = this.views.get(sessionId)
        if (view?.follows(record.jobId) === true) job.addObserver(view)
      }
      this.jobs.set(record.jobId, job)
      return job
    })
  }
}

const emptyView = { first: 1, last: 0, acked: 0, need: 1, epoch: firstEpoch }

/** What is known of jobs that are being loaded. */
interface Known {
  readonly bounds: ReadonlyMap<string, { readonly first: number; readonly last: number }>
  /** Whether nothing has become of a job since, and its record says whose it is. */
  readonly isStill: (record: JobRecord) => boolean
}

const noPlaces: ReadonlyMap<string, Place> = new Map()
