/**
 * The jobs that are accepted and have not begun: those that wait for a place, and those whose time has not come. They are
 * rows of the store, and here what has to be at hand of each; none has a fiber, nor its input in memory.
 */
import type { InternalError } from "../../../protocol/Errors.js"
import type { JobSession } from "../../../services/jobs/Jobs.js"
import type { Options } from "../../../services/runtime/RuntimeOptions.js"
import type { JobRecord, Queued } from "../../../services/store/Store.js"
import * as Checks from "../Checks.js"
import { type Elsewhere, roomFor } from "../Elsewhere.js"
import type { CancelAnswer } from "../LiveJob.js"
import type { Hold } from "../Reservations.js"
import { Heap } from "./Heap.js"
import { type Claim, Places, type Waiter } from "./Places.js"

/** The record of a job that has not begun. */
export type QueuedRecord = JobRecord & { readonly queued: Queued }

/** A job that has not begun. */
export class QueuedJob implements Waiter {
  gone = false
  /** Who waits for its end to be stored; `undefined` while it does not end. */
  ending: Array<CancelAnswer> | undefined

  constructor(
    /** As stored last. */
    public record: QueuedRecord,
    /** The session that owns it; `undefined` while that has not come back since the restart. */
    public session: JobSession | undefined,
    readonly concurrency: number | undefined
  ) {}

  get jobId(): string {
    return this.record.jobId
  }
  get principal(): string {
    return this.record.principal
  }
  get agent(): string {
    return this.record.agent
  }
  get readyAt(): number {
    return this.record.queued.startAt ?? this.record.createdAt
  }
}

/** When something is to be done with a job. */
export interface Appointment {
  /** Epoch ms. */
  readonly at: number
  readonly job: QueuedJob
  /** It may begin, or its lease is over. */
  readonly what: "start" | "expiry"
}

/** Holds them, and the places of those that run. */
export class Queue {
  readonly places: Places<QueuedJob>
  private readonly jobs = new Map<string, QueuedJob>()
  private readonly perPrincipal = new Map<string, number>()
  /** Jobs of sessions that have not come back since the restart. */
  private readonly ownerless = new Map<string, Set<QueuedJob>>()
  private count = 0
  private readonly appointments = new Heap<Appointment>((a, b) => a.at < b.at)
  /** Called when `places.next` may have a job. */
  onComing: () => void = () => {}
  /** Called when the next appointment is another one. */
  onEarlier: () => void = () => {}
  /** Jobs of the last process have the places that they had: whoever comes is in line after them. */
  isOpen = false

  constructor(
    private readonly options: Pick<
      Options,
      "concurrencyPerPrincipal" | "maxJobsPerPrincipal" | "maxPendingJobs" | "maxPendingJobsPerPrincipal"
    >,
    private readonly elsewhere?: Elsewhere | undefined
  ) {
    const { concurrencyPerPrincipal, maxJobsPerPrincipal } = options
    const perPrincipal = concurrencyPerPrincipal === 0 ? maxJobsPerPrincipal : concurrencyPerPrincipal
    this.places = new Places(Math.min(perPrincipal, maxJobsPerPrincipal), () => this.onComing())
  }

  get(jobId: string): QueuedJob | undefined {
    return this.jobs.get(jobId)
  }
  get all(): Iterable<QueuedJob> {
    return this.jobs.values()
  }

  /**
   * Tells whether a job that is submitted now is to wait for a place. Where no concurrency is set, what is above the cap is
   * refused, as ever.
   */
  mustWait({ agent, principal }: Claim, concurrency: number | undefined): boolean {
    const { concurrencyPerPrincipal } = this.options
    return (
      (concurrencyPerPrincipal > 0 || concurrency !== undefined) &&
      (!this.isOpen || this.places.mustWait({ agent, concurrency, principal }))
    )
  }

  /**
   * Counts a job that will wait, until the hold gives it back; gives the cap that it would break. `unknown`: what its principal has on
   * other nodes is to be read first.
   */
  room({ principal }: JobRecord, hold: Hold, isRead: boolean): InternalError | "unknown" | undefined {
    const { maxPendingJobs, maxPendingJobsPerPrincipal: max } = this.options
    const own = this.perPrincipal.get(principal) ?? 0
    const room = roomFor(this.elsewhere, { what: "pending", principal, own, max }, isRead)
    if (room === "full") return Checks.atLimit("pending_jobs_per_principal", max)
    if (this.count >= maxPendingJobs) return Checks.atLimit("pending_jobs", maxPendingJobs)
    if (room === "unknown") return room
    this.counted(principal, 1)
    hold.keep(() => this.counted(principal, -1))
    return undefined
  }

  /** Adds a job that is stored: to its line, or until its time has come. */
  add(job: QueuedJob, now: number): void {
    const { leaseConstraints, principal, queued, sessionId } = job.record
    this.jobs.set(job.jobId, job)
    this.counted(principal, 1)
    if (leaseConstraints?.expires_at !== undefined)
      this.appoint({ at: Date.parse(leaseConstraints.expires_at), job, what: "expiry" })
    if (queued.startAt !== undefined && queued.startAt > now)
      this.appoint({ at: queued.startAt, job, what: "start" })
    else this.places.add(job)
    if (job.session !== undefined) return
    const others = this.ownerless.get(sessionId)
    if (others === undefined) this.ownerless.set(sessionId, new Set([job]))
    else others.add(job)
  }
  /** A job ends before it has begun: it waits no more, and stays here until its end is stored. */
  withdraw(job: QueuedJob): void {
    job.gone = true
    this.places.lost(job)
  }
  /** Takes a job out: it runs, or has ended. */
  remove(job: QueuedJob): void {
    job.gone = true
    this.jobs.delete(job.jobId)
    this.counted(job.principal, -1)
    this.disown(job)
    if (this.appointments.size > 2 * this.jobs.size + 64) this.appointments.retain(({ job }) => !job.gone)
  }
  private disown(job: QueuedJob): void {
    const { sessionId } = job.record
    const others = this.ownerless.get(sessionId)
    if (others?.delete(job) === true && others.size === 0) this.ownerless.delete(sessionId)
  }

  /** Returns when something is to be done next, in epoch ms. */
  get nextAt(): number | undefined {
    while (this.appointments.first?.job.gone === true) this.appointments.pop()
    return this.appointments.first?.at
  }
  /** Takes the next appointment that is due. */
  due(now: number): Appointment | undefined {
    const at = this.nextAt
    return at !== undefined && at <= now ? this.appointments.pop() : undefined
  }
  private appoint(appointment: Appointment): void {
    const before = this.nextAt ?? Number.POSITIVE_INFINITY
    this.appointments.push(appointment)
    if (appointment.at < before) this.onEarlier()
  }
  /** A session is here again. */
  attach(session: JobSession): void {
    for (const job of this.ownerless.get(session.sessionId) ?? []) job.session = session
    this.ownerless.delete(session.sessionId)
  }
  /** Gives a job another owner. */
  adopt(job: QueuedJob, session: JobSession, record: JobRecord): void {
    this.disown(job)
    job.record = { ...record, queued: job.record.queued }
    job.session = session
  }

  private counted(principal: string, by: 1 | -1): void {
    this.count += by
    const count = (this.perPrincipal.get(principal) ?? 0) + by
    if (count === 0) this.perPrincipal.delete(principal)
    else this.perPrincipal.set(principal, count)
  }
}
