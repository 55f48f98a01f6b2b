/** Opens a job that has passed all checks, submitted or delegated, gives it what a handler gets, and runs it. */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as FiberSet from "effect/FiberSet"
import * as Redacted from "effect/Redacted"
import type * as Tracer from "effect/Tracer"
import * as Budget from "../../protocol/Budget.js"
import { type ArcpError, InternalError } from "../../protocol/Errors.js"
import type { Credential, Credentials } from "../../services/credentials/Credentials.js"
import type { Job, JobService } from "../../services/jobs/Job.js"
import type { JobSession } from "../../services/jobs/Jobs.js"
import type { Lease as LeaseTag } from "../../services/lease/Lease.js"
import type { EventLog, JobLog } from "../../services/log/EventLog.js"
import type { IdGenerator } from "../../services/runtime/IdGenerator.js"
import type { Options } from "../../services/runtime/RuntimeOptions.js"
import type { JobRecord, Store } from "../../services/store/Store.js"
import * as Lease from "../lease/Lease.js"
import * as Checks from "./Checks.js"
import type { Delegator } from "./Delegation.js"
import * as Emitter from "./Emitter.js"
import { type Ending, LiveJob } from "./LiveJob.js"
import * as Reservations from "./Reservations.js"
import * as Runner from "./Runner.js"

/** The jobs that run in this process, and counts of them for the caps. */
export class Table {
  readonly live = new Map<string, { readonly live: LiveJob; readonly job: JobLog }>()
  /** Ended since the start, oldest first, for `maxRetainedJobs`. */
  ended: Array<string> = []
  readonly perSession = new Reservations.Counter()
  readonly perPrincipal = new Reservations.Counter()
  stopping = false

  /** A stored job as it is now. */
  current(record: JobRecord): JobRecord {
    const running = this.live.get(record.jobId)
    if (running === undefined) return record
    const { live, job } = running
    return {
      ...record,
      status: live.status,
      lastEventSeq: job.lastEventSeq,
      sessionId: live.owner.sessionId,
      ...(job.remaining.size === 0 ? {} : { budget: Checks.storedBudget(job.remaining) })
    }
  }
  /** Delegated jobs do not count against the session: their parents do, and bound them. */
  count(record: JobRecord, by: 1 | -1): void {
    if (record.parentJobId === undefined) this.perSession.add(record.sessionId, by)
    this.perPrincipal.add(record.principal, by)
  }
}

export interface Start {
  readonly session: JobSession
  readonly record: JobRecord
  readonly run: Effect.Effect<unknown, ArcpError, Job | LeaseTag>
  /** Called at the commit, when the job can be found and before anything of it can be read. */
  readonly accepted: (job: JobLog) => void
  /** Called when the job is stored, or could not be. */
  readonly stored: () => void
  /** Called when it could not be stored. */
  readonly failed?: (error: InternalError) => void
  readonly parent?: { readonly live: LiveJob; readonly job: JobLog } | undefined
  readonly parentSpan?: Tracer.AnySpan | undefined
}

/**
 * Mints what a job gets and hands it to what starts it, without a gap in which an interruption would leave
 * credentials that nobody releases.
 */
export type Provision = (
  session: JobSession,
  record: JobRecord,
  start: (credentials: ReadonlyArray<Credential>) => Effect.Effect<LiveJob | undefined>
) => Effect.Effect<LiveJob | undefined, ArcpError>

export const makeProvision =
  (credentials: Credentials["Type"], table: Table): Provision =>
  (session, record, start) =>
    Effect.suspend(() => {
      // Counted from here, so that caps hold however long upstream takes.
      table.count(record, 1)
      const mint =
        credentials.enabled && session.features.includes("provisioned_credentials")
          ? credentials.mint({
              jobId: record.jobId,
              principal: record.principal,
              agent: record.agent,
              lease: record.lease,
              leaseConstraints: record.leaseConstraints ?? {},
              budget: Budget.parse(record.lease["cost.budget"] ?? [])
            })
          : Effect.succeed([])
      return Effect.uninterruptibleMask((restore) =>
        Effect.flatMap(restore(mint), start).pipe(
          Effect.onExit((exit) => {
            if (Exit.isSuccess(exit) && exit.value !== undefined) return Effect.void
            table.count(record, -1)
            return credentials.release(record.jobId)
          })
        )
      )
    })

export const make = (services: {
  readonly log: EventLog["Type"]
  readonly store: Store["Type"]
  readonly ids: IdGenerator["Type"]
  readonly credentials: Credentials["Type"]
  readonly options: Options
  readonly now: () => number
  readonly table: Table
  readonly supervisors: FiberSet.FiberSet<void, InternalError>
  /** How a job of this runtime delegates. */
  readonly delegator: (
    parent: { readonly live: LiveJob; readonly job: JobLog },
    parts: Delegator
  ) => JobService["delegate"]
}) => {
  const { log, options, now, table } = services

  const service = (
    live: LiveJob,
    job: JobLog,
    emitter: Emitter.Emitter,
    lease: Lease.LeaseService
  ): JobService => {
    const { jobId } = live.record
    const held = Effect.sync((): ReadonlyArray<Credential> => services.credentials.held(jobId))
    const holding = (id: string) =>
      services.credentials.held(jobId).find((credential) => credential.id === id)
    return {
      ...emitter.service,
      delegate: services.delegator({ live, job }, { emitter, lease }),
      credentials: held,
      // Once the value is another one its submitter is told, also when who asked for it does not wait any more.
      rotateCredential: (id) =>
        Effect.uninterruptibleMask((restore) =>
          Effect.suspend(() => {
            const before = holding(id)
            return Effect.flatMap(Effect.exit(restore(services.credentials.rotate(jobId, id))), (exit) => {
              const now = holding(id)
              return now === undefined || now === before
                ? exit
                : Effect.zipRight(
                    emitter.secretStatus(
                      live.owner.sessionId,
                      { phase: "credential_rotated", id },
                      { value: Redacted.value(now.value) }
                    ),
                    exit
                  )
            })
          })
        )
    }
  }

  const runOpened = ({ record, run, session, parentSpan }: Start, live: LiveJob, job: JobLog) => {
    if (table.stopping) live.end({ _tag: "Shutdown" })
    const deadline = deadlineOf(record)
    const emitter = Emitter.make({
      log,
      job,
      record,
      deadline: deadline?.at,
      now,
      resultId: () => services.ids.unsafeMake("res"),
      options,
      chunked: session.features.includes("result_chunk"),
      maxStreamedBytes:
        services.store.kind === "memory" ? options.maxStreamedBytesMemory : options.maxStreamedBytesDisk
    })
    const lease = Lease.make({
      record,
      log: job,
      now,
      workspace: options.workspace === "" ? undefined : options.workspace,
      anyModel: options.allowModelsWithoutLease,
      toolResult: emitter.service.toolResult,
      spend: emitter.spend,
      onExpired: () => live.end({ _tag: "LeaseExpired" })
    })
    return Runner.run({
      live,
      job,
      handler: run,
      service: service(live, job, emitter, lease),
      lease,
      finish: emitter.finish,
      deadline,
      parentSpan,
      log,
      cancelGrace: options.cancelGrace,
      now
    })
  }

  /**
   * Queues the commit that opens the job, at once, and runs it in the runtime's scope. Gives the job that it
   * became, or `undefined` when its parent takes no more children. The job is counted already, and uncounted at its end.
   */
  return (start: Start): Effect.Effect<LiveJob | undefined> =>
    Effect.suspend(() => {
      const { record, session, parent } = start
      const live = new LiveJob(record, session, parent?.live)
      if (parent !== undefined && !parent.live.adoptChild(live)) return Effect.succeed(undefined)
      const onCommit = (job: JobLog) => {
        // At the commit, so that a cancel that comes right behind the accept finds the job.
        table.live.set(record.jobId, { live, job })
        start.accepted(job)
      }
      const supervised = log.openJob(record, session.view, { parent: parent?.job, onCommit }).pipe(
        Effect.tapError((error) => {
          start.failed?.(error)
          return live.awaited === undefined ? Effect.void : Deferred.fail(live.awaited.outcome, error)
        }),
        Effect.ensuring(Effect.sync(start.stored)),
        Effect.flatMap((job) => runOpened(start, live, job)),
        Effect.ensuring(
          Effect.suspend(() => {
            table.live.delete(record.jobId)
            table.ended.push(record.jobId)
            table.count(record, -1)
            parent?.live.children.delete(live)
            if (live.awaited !== undefined) {
              Deferred.unsafeDone(live.awaited.done, Effect.void)
              // Only after a defect is it still open; nobody must wait for it for ever.
              Deferred.unsafeDone(live.awaited.outcome, Effect.fail(didNotEnd))
            }
            return services.credentials.release(record.jobId)
          })
        ),
        Effect.uninterruptible
      )
      return Effect.as(FiberSet.run(services.supervisors, supervised), live)
    })
}

const didNotEnd = new InternalError({ message: "the job did not end as it should" })

/** When the job must have ended, whichever limit comes first. */
const deadlineOf = (record: JobRecord): { readonly at: number; readonly ending: Ending } | undefined => {
  const timeout =
    record.maxRuntimeSec === undefined ? Infinity : record.createdAt + record.maxRuntimeSec * 1000
  const expiry = record.leaseConstraints?.expires_at
  const lease = expiry === undefined ? Infinity : Date.parse(expiry)
  const at = Math.min(timeout, lease)
  if (at === Infinity) return undefined
  return { at, ending: timeout <= lease ? { _tag: "Timeout" } : { _tag: "LeaseExpired" } }
}
