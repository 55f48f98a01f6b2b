/** The process table: the jobs that run in this process, and the counts of them that the caps bound (§4.8). */
import * as Effect from "effect/Effect"
import { InternalError } from "../../protocol/Errors.js"
import { type Feature, transient } from "../../protocol/Features.js"
import type { JobSession } from "../../services/jobs/Jobs.js"
import type { JobLog } from "../../services/log/EventLog.js"
import { PassingMap } from "../../services/runtime/Passing.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"
import type { JobRecord } from "../../services/store/Store.js"
import * as Checks from "./Checks.js"
import { CountByKey } from "./CountByKey.js"
import { type Elsewhere, roomFor } from "./Elsewhere.js"
import * as Faults from "./Faults.js"
import type { LiveJob } from "./LiveJob.js"
import type { Hold } from "./Reservations.js"
import { Queue } from "./scheduling/Queue.js"

/** A job that is stored, has been accepted and has not ended. */
export interface RunningJob {
  readonly live: LiveJob
  readonly log: JobLog
}

/** A job as it is now. */
export interface CurrentJob extends JobRecord {
  /** Epoch ms until which a job sleeps that runs here, when it does nothing else. */
  readonly sleepingUntil?: number | undefined
}

/** Holds the jobs that run in this process, and counts them by session, principal and parent. */
export class RunningJobs {
  private readonly jobs = new PassingMap<string, RunningJob>()
  private readonly perSession = new CountByKey()
  /** For which session each is counted, delegated ones apart. */
  private readonly countedFor = new PassingMap<string, { sessionId: string }>()
  private readonly perPrincipal = new CountByKey()
  /** The runtime shuts down: nothing new is taken. */
  stopping = false
  /** What is then said of a submit. */
  readonly shuttingDown = new InternalError({
    message: "the runtime is shutting down; submit again later",
    details: { reason: "shutdown" }
  })
  /** What running jobs get at a shutdown is over, also for those that only now begin. */
  graceOver = false
  /** What could not be stored by now is left to the next start: the store does not take it, and nobody waits for ever. */
  abandoned = false
  /** Those that are accepted and have not begun. */
  readonly queue: Queue

  constructor(
    private readonly options: Options,
    private readonly elsewhere?: Elsewhere | undefined
  ) {
    this.queue = new Queue(options, elsewhere)
  }

  get(jobId: string): RunningJob | undefined {
    return this.jobs.get(jobId)
  }
  get all(): Iterable<RunningJob> {
    return this.jobs.values()
  }
  add(job: RunningJob): void {
    this.jobs.set(job.live.record.jobId, job)
  }
  remove(jobId: string): void {
    this.jobs.delete(jobId)
  }
  /** How many jobs of a session count, delegated ones not among them: those that it owns. */
  ofSession(sessionId: string): number {
    return this.perSession.get(sessionId)
  }

  /** A stored job as it is now. */
  current(record: JobRecord): CurrentJob {
    const running = this.jobs.get(record.jobId)
    if (running === undefined) return this.queue.get(record.jobId)?.record ?? record
    const { live, log } = running
    return {
      ...live.record,
      status: live.status,
      lastEventSeq: log.lastEventSeq,
      ...(live.presence?.isIdle === true ? { sleepingUntil: live.presence.current.sleepingUntil } : {}),
      ...(log.remaining.size === 0 ? {} : { budget: Checks.storedBudget(log.remaining) })
    }
  }

  /**
   * Counts a job until the hold gives it back, however long minting takes; gives the cap that it would break. Delegated jobs do not
   * count against their session: their parents do, and bound them. Nor is a transient session bounded, which may be one of all who
   * ask for a principal, and whose jobs are nobody's as soon as it ends: the cap of the principal is. `unknown`: what its principal
   * has on other nodes is to be read first.
   */
  count(
    record: JobRecord,
    features: ReadonlyArray<Feature>,
    hold: Hold,
    isRead: boolean
  ): InternalError | "unknown" | undefined {
    const { maxJobsPerPrincipal, maxJobsPerSession } = this.options
    const { parentJobId, principal, sessionId } = record
    const isBounded = parentJobId === undefined && !features.includes(transient)
    if (isBounded && this.perSession.get(sessionId) >= maxJobsPerSession)
      return Checks.atLimit("jobs_per_session", maxJobsPerSession)
    const running = this.perPrincipal.get(principal)
    const asked = { what: "running", principal, own: running, max: maxJobsPerPrincipal } as const
    const room = roomFor(this.elsewhere, asked, isRead)
    if (room === "full") return Checks.atLimit("jobs_per_principal", maxJobsPerPrincipal)
    if (this.stopping) return this.shuttingDown
    if (room === "unknown") return room
    this.admit(record, hold)
    return undefined
  }
  /**
   * Tells whether a job may begin that has waited for its place here: with what its principal has on other nodes there must be room
   * for it, too.
   */
  mayBegin({ principal }: Pick<JobRecord, "principal">): Effect.Effect<boolean, InternalError> {
    const { elsewhere } = this
    if (elsewhere === undefined) return Effect.succeed(true)
    const room = (isRead: boolean) =>
      roomFor(
        elsewhere,
        {
          what: "running",
          principal,
          own: this.perPrincipal.get(principal),
          max: this.options.maxJobsPerPrincipal
        },
        isRead
      )
    return Effect.suspend(() =>
      room(false) === "room"
        ? Effect.succeed(true)
        : Effect.map(this.readElsewhere(principal), () => room(true) === "room")
    )
  }
  /** Has what a principal has on other nodes read anew. */
  readElsewhere(principal: string): Effect.Effect<void, InternalError> {
    return this.elsewhere === undefined ? Effect.void : Faults.storage(this.elsewhere.read(principal))
  }
  /** Counts a job that was admitted before, whatever the caps are now. */
  admit(record: JobRecord, hold: Hold): void {
    const { jobId, parentJobId, principal, sessionId } = record
    const counted = parentJobId === undefined ? { sessionId } : undefined
    const add = (by: 1 | -1) => {
      if (counted !== undefined) this.perSession.add(counted.sessionId, by)
      this.perPrincipal.add(principal, by)
    }
    add(1)
    if (counted !== undefined) this.countedFor.set(jobId, counted)
    const leave = this.queue.places.take(record)
    hold.keepPlace(() => {
      add(-1)
      if (this.countedFor.get(jobId) === counted) this.countedFor.delete(jobId)
      leave()
    })
  }
  /** A job has another owner, whatever that one's cap: it counts for that session. */
  adopt(jobId: string, owner: JobSession): void {
    const counted = this.countedFor.get(jobId)
    if (counted === undefined) return
    this.perSession.add(counted.sessionId, -1)
    counted.sessionId = owner.sessionId
    this.perSession.add(counted.sessionId, 1)
  }
}
