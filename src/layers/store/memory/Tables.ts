/** What a store in memory holds, and what each operation changes in it. */
import { movedOf } from "../../../services/store/moved.js"
import {
  absent,
  epochOf,
  type HookEvent,
  type JobRecord,
  type Op,
  type Owner,
  type Run,
  type StoredEvent,
  type Wish
} from "../../../services/store/Store.js"
import { JobIndexes } from "./JobIndexes.js"
import { endOf, isRecorded, MemoryJob, MemorySession } from "./state.js"

/** Returns the job whose memory an operation changes. */
const touched = (op: Op): string | undefined =>
  op._tag === "PutJob"
    ? op.job.jobId
    : op._tag === "Append" ||
        op._tag === "TrimJob" ||
        op._tag === "DropJob" ||
        op._tag === "PutInput" ||
        op._tag === "PutJournal"
      ? op.jobId
      : undefined

const hookEventName = ({ jobId, seq }: Omit<HookEvent, "text">) => `${jobId} ${seq}`

/** Bytes that a run of a view takes, in its session and its job, and a call or a wish beyond its text. */
const runObjects = 160
const keptObjects = 256

const heldBy = (kept: HookEvent | Wish): number =>
  keptObjects + ("text" in kept ? kept.text.length : kept.body.length + (kept.answer?.length ?? 0))

const noOwners: ReadonlyArray<Owner> = []

const puts = (batch: ReadonlyArray<Op>, jobId: string): boolean =>
  batch.some((op) => op._tag === "PutJob" && op.job.jobId === jobId)

/** Sessions, jobs and their indexes. */
export class Tables {
  readonly sessions = new Map<string, MemorySession>()
  readonly jobs = new Map<string, MemoryJob>()
  readonly indexes = new JobIndexes()
  /** By job and `seq`. */
  readonly hookEvents = new Map<string, HookEvent>()
  /** By id. */
  readonly wishes = new Map<string, Wish>()
  private nextKey = 1
  /** Whose events came last, and how often that was another job than before. */
  private lastAppended: MemoryJob | undefined
  private order = 0
  /** Epoch ms. */
  aliveAt = 0
  /** Bytes of memory that jobs, the runs of views, and what is owed and wished take, roughly. */
  held = 0

  /** Returns those of these owners that are stored with another epoch, or are not. */
  takenOf(owners: ReadonlyArray<Owner>): ReadonlyArray<Owner> {
    let taken: ReadonlyArray<Owner> = noOwners
    for (const owner of owners) {
      if ("key" in owner) {
        const used = this.indexes.ofKey(owner.principal, owner.key)
        if (used !== undefined && used.createdAt > owner.since) taken = [...taken, owner]
        continue
      }
      const record =
        "job" in owner ? this.jobs.get(owner.job)?.record : this.sessions.get(owner.session)?.record
      if ((record === undefined ? absent : epochOf(record)) !== owner.epoch) taken = [...taken, owner]
    }
    return taken
  }

  /** Applies a batch in which `mistakeIn` has found nothing wrong. */
  applyAll(batch: ReadonlyArray<Op>): void {
    for (const op of batch) if (op._tag === "PutJob" && !this.jobs.has(op.job.jobId)) this.add(op.job.jobId)
    for (const op of batch) {
      const jobId = touched(op)
      if (jobId === undefined) this.apply(op)
      else {
        const before = this.jobs.get(jobId)?.held ?? 0
        this.apply(op)
        this.held += (this.jobs.get(jobId)?.held ?? 0) - before
      }
    }
  }

  /**
   * Returns what is wrong with a batch, if anything is: events, inputs and journals need the record of their job, stored or in the
   * batch.
   */
  mistakeIn(batch: ReadonlyArray<Op>): string | undefined {
    const dropped = new Set<string>()
    for (const op of batch)
      if (op._tag === "DropJob") dropped.add(op.jobId)
      else if (op._tag === "PutJob") dropped.delete(op.job.jobId)
      else if (op._tag === "Append" || op._tag === "PutInput" || op._tag === "PutJournal") {
        const { jobId } = op
        if (dropped.has(jobId) || !(this.jobs.has(jobId) || puts(batch, jobId)))
          return `events, an input or a journal were put of ${jobId}, of which there is no job record`
      }
    return undefined
  }

  private apply(op: Op): void {
    switch (op._tag) {
      case "Append":
        return this.append(this.jobOf(op.jobId), op.events)
      case "PutRun":
        return this.putRun(op.sessionId, op.run)
      case "PutSession":
        this.sessionOf(op.session.sessionId).record = op.session
        return
      case "TakeSession": {
        const session = this.sessionOf(op.sessionId)
        if (session.record !== undefined)
          session.record = { ...session.record, node: op.node, epoch: op.epoch }
        return
      }
      case "DropSession":
        return this.dropSession(op.sessionId)
      case "PutJob":
        return this.putJob(op.job)
      case "MoveJob": {
        const record = this.jobs.get(op.jobId)?.record
        if (record !== undefined && record.endedAt === undefined) this.putJob({ ...record, ...movedOf(op) })
        return
      }
      case "DropJob":
        return this.dropJob(op.jobId)
      case "Observe":
        this.sessionOf(op.sessionId).pass(op.jobId, op.cursor)
        this.jobs.get(op.jobId)?.observers.add(op.sessionId)
        return
      case "Lose":
        this.lose(op.sessionId)
        return
      case "Unobserve":
        this.sessions.get(op.sessionId)?.observed.delete(op.jobId)
        this.jobs.get(op.jobId)?.observers.delete(op.sessionId)
        return
      case "TrimSession":
        return this.trimSession(op.sessionId, op.eventSeq)
      case "TrimJob":
        this.loseBefore(op.jobId, op.seq)
        return this.jobs.get(op.jobId)?.trim(op.seq)
      case "Need": {
        const session = this.sessions.get(op.sessionId)
        if (session?.record !== undefined) session.need = op.eventSeq
        return
      }
      case "PutInput":
        this.jobOf(op.jobId).input = op.input
        return
      case "PutJournal":
        return this.jobOf(op.jobId).putJournal(op.entries)
      case "PutHookEvent":
        return this.keep(this.hookEvents, hookEventName(op.event), op.event)
      case "DropHookEvents":
        for (const event of op.events) this.keep(this.hookEvents, hookEventName(event), undefined)
        return
      case "PutWish":
        return this.keep(this.wishes, op.wish.id, op.wish)
      case "AnswerWish":
        return this.answerWish(op.id, op.answer)
      case "DropWishes":
        for (const id of op.ids) this.keep(this.wishes, id, undefined)
        return
      case "Alive":
        this.aliveAt = op.at
        return
      case "ForgetLives":
        return
    }
  }

  private answerWish(id: string, answer: string): void {
    const wish = this.wishes.get(id)
    if (wish !== undefined && wish.answer === undefined) this.keep(this.wishes, id, { ...wish, answer })
  }

  /** Keeps something in the place of what was there, or nothing. */
  private keep<A extends HookEvent | Wish>(all: Map<string, A>, name: string, kept: A | undefined): void {
    const before = all.get(name)
    if (before !== undefined) this.held -= heldBy(before)
    if (kept === undefined) {
      all.delete(name)
      return
    }
    all.set(name, kept)
    this.held += heldBy(kept)
  }

  private append(job: MemoryJob, events: ReadonlyArray<StoredEvent>): void {
    if (job !== this.lastAppended) {
      this.lastAppended = job
      this.order++
    }
    job.append(events, this.order)
  }

  private sessionOf(sessionId: string): MemorySession {
    let session = this.sessions.get(sessionId)
    if (session === undefined) {
      session = new MemorySession()
      this.sessions.set(sessionId, session)
    }
    return session
  }

  /** Gives a job its place from the start of the batch that brings its record: what leads to it may come first. */
  private add(jobId: string): MemoryJob {
    const job = new MemoryJob(this.nextKey++)
    this.jobs.set(jobId, job)
    this.held += job.held
    return job
  }

  private jobOf(jobId: string): MemoryJob {
    const job = this.jobs.get(jobId)
    if (job === undefined) throw new Error(`${jobId} has no record: the batch was not checked`)
    return job
  }

  private putJob(record: JobRecord): void {
    const job = this.jobs.get(record.jobId) ?? new MemoryJob(this.nextKey++)
    this.jobs.set(record.jobId, job)
    const owner = job.record?.sessionId
    if (isRecorded(job)) this.indexes.replace(job, record)
    else this.indexes.add(Object.assign(job, { record }))
    if (owner !== undefined && owner !== record.sessionId) this.disown(job, owner)
  }

  /** Forgets what a session has numbered of a job that is not its own any more, as far as it has lost it. */
  private disown(job: MemoryJob, sessionId: string): void {
    const oldest = this.sessions.get(sessionId)?.runs.at(0)
    if (oldest === undefined) job.shares.delete(sessionId)
    else job.dropRunsBefore(sessionId, oldest.eventSeq)
  }

  /** Adds a run to a view, unless its job has been dropped: that keeps no part of anybody's view. */
  private putRun(sessionId: string, run: Run): void {
    const { runs } = this.sessionOf(sessionId)
    if (runs.last?.eventSeq === run.eventSeq) runs.replaceLast(run)
    else {
      runs.push(run)
      this.held += runObjects
    }
    this.jobs.get(run.jobId)?.shareOf(sessionId).put(run)
  }

  private dropSession(sessionId: string): void {
    const session = this.sessions.get(sessionId)
    if (session === undefined) return
    for (const jobId of session.observed.keys()) this.jobs.get(jobId)?.observers.delete(sessionId)
    for (const { jobId } of session.runs.slice(0, session.runs.length)) {
      const job = this.jobs.get(jobId)
      if (job?.record?.sessionId !== sessionId) job?.shares.delete(sessionId)
    }
    this.held -= session.runs.length * runObjects
    this.sessions.delete(sessionId)
  }

  private dropJob(jobId: string): void {
    const job = this.jobs.get(jobId)
    if (job === undefined) return
    this.loseBefore(jobId, Number.POSITIVE_INFINITY)
    for (const sessionId of job.observers) this.sessions.get(sessionId)?.observed.delete(jobId)
    if (isRecorded(job)) this.indexes.remove(job)
    this.jobs.delete(jobId)
  }

  private lose(sessionId: string): void {
    const session = this.sessions.get(sessionId)
    if (session?.record !== undefined) session.lost = true
  }

  /** Notes who has not come to a `seq` of a job, or to its end when that is before it. */
  private loseBefore(jobId: string, seq: number): void {
    const job = this.jobs.get(jobId)
    if (job === undefined) return
    const through = Math.min(seq - 1, job.bounds.last)
    for (const sessionId of job.observers)
      if ((this.sessions.get(sessionId)?.cursorOf(job, jobId, sessionId) ?? through) < through)
        this.lose(sessionId)
  }

  private trimSession(sessionId: string, eventSeq: number): void {
    const session = this.sessions.get(sessionId)
    if (session === undefined) return
    session.floor = Math.max(session.floor, Math.min(eventSeq, session.last + 1))
    // The newest run stays: it is where the session's numbering goes on.
    while (session.runs.length > 1) {
      const oldest = session.runs.at(0)
      if (oldest === undefined || endOf(oldest) >= session.floor) break
      session.runs.dropFront(1)
      this.held -= runObjects
      if (session.observed.has(oldest.jobId)) session.pass(oldest.jobId, oldest.jobSeq + oldest.count - 1)
      this.jobs.get(oldest.jobId)?.dropRun(sessionId, oldest)
    }
  }
}
