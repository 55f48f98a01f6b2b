/**
 * What a handler is given: its job, its lease, and what ends it in time. Most of it is made when the handler asks for it first,
 * since many jobs return without.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Budget from "../../protocol/Budget.js"
import type { JobService } from "../../services/jobs/Job.js"
import type { LeaseService } from "../../services/lease/Lease.js"
import * as Leased from "../../services/lease/Leased.js"
import type { JobLog } from "../../services/log/EventLog.js"
import * as Lease from "../lease/Lease.js"
import type { Candidate, Open, Submitter } from "./Candidate.js"
import * as Delegation from "./Delegation.js"
import * as Durable from "./durable/Durable.js"
import * as Enduring from "./durable/Enduring.js"
import type { Whereabouts } from "./durable/Running.js"
import * as Steps from "./durable/Steps.js"
import type { Undoing } from "./durable/Undoing.js"
import * as Emitter from "./Emitter.js"
import { envelopeBytes } from "./fitting.js"
import * as Given from "./given.js"
import type { JobParts } from "./JobParts.js"
import * as Limits from "./Limits.js"
import type { LiveJob } from "./LiveJob.js"
import * as Measuring from "./measuring.js"
import { isShownTo } from "./Ownership.js"
import * as ResultWriter from "./ResultWriter.js"
import type { RunningJob } from "./RunningJobs.js"

/** What the handler of one job is given. */
export interface Provisions {
  readonly handler: Candidate["run"]
  readonly service: JobService
  readonly lease: LeaseService
  readonly limits: ReadonlyArray<Limits.Limit>
  /** See `Emitter.finish`. */
  readonly finish: Emitter.Emitter["finish"]
  /** Of a durable job. */
  readonly undoing: Undoing | undefined
  /** Emits what the runtime says in the job. */
  readonly emitter: () => Emitter.Emitter
}

/**
 * Replaces a credential; once its value is another one the submitter is told, also when nobody waits any more. A handler that is
 * run for its compensations only gets the one that there is.
 */
const rotation =
  (
    parts: JobParts,
    { live, log }: RunningJob,
    emitter: Emitter.Emitter,
    whereabouts: Whereabouts | undefined
  ): JobService["rotateCredential"] =>
  (id) => {
    const { credentials } = parts
    const { jobId } = live.record
    // As for its mint: what the job and each above it have left, at each try.
    const rotated = Effect.suspend(() => credentials.rotate(jobId, id, Budget.least(log.allRemaining)))
    const rotating = Enduring.of(live.record, rotated, parts)
    const holding = () => credentials.held(jobId).find((credential) => credential.id === id)
    return Effect.uninterruptibleMask((restore) =>
      Effect.withFiberRuntime((fiber) => {
        const before = holding()
        if (before !== undefined && whereabouts?.isMute(fiber) === true) return Effect.succeed(before)
        return Effect.flatMap(Effect.exit(restore(rotating)), (exit) => {
          const after = holding()
          if (after === undefined || after === before) return exit
          const { sessionId } = live.owner
          // A narrow token must not read what a wide one was given, whose session it has resumed or taken over.
          const isShown = isShownTo(live, sessionId)
          const value = { value: Redacted.value(after.value) }
          const body = { phase: "credential_rotated", id }
          return Effect.zipRight(emitter.secretStatus(sessionId, body, value, isShown), exit)
        })
      })
    )
  }

/** Returns what makes something once. */
const once = <A>(make: () => A): (() => A) => {
  let made: { readonly value: A } | undefined
  return () => {
    made ??= { value: make() }
    return made.value
  }
}

/** Returns the lease of a job. */
const leaseOf = (
  { metrics, now, options }: JobParts,
  live: LiveJob,
  log: JobLog,
  { service, spend }: Emitter.Emitter,
  durable: Durable.Durable | undefined
): LeaseService =>
  Lease.make({
    record: live.record,
    above: live.above.map(({ record }) => record.lease),
    log,
    now,
    workspace: options.workspace === "" ? undefined : options.workspace,
    bounds: live.bounds,
    fetching: {
      maxBytes: options.maxFetchBytes,
      timeout: options.fetchTimeout,
      traceHeaders: options.fetchTraceHeaders
    },
    anyModel: options.allowModelsWithoutLease,
    toolResult: service.toolResult,
    spend,
    flush: service.flush,
    onExpired: () => live.end({ _tag: "LeaseExpired" }),
    onDenied:
      metrics === undefined ? undefined : (capability, { code }) => Measuring.denied(capability, code),
    misplaced: durable?.misplaced,
    isUndoing: durable && (() => durable.journal.settling)
  })

/** Returns the `Job` service of a handler. */
const serviceOf = (
  parts: JobParts,
  open: Open,
  parent: RunningJob,
  emitter: Emitter.Emitter,
  submitter: Submitter,
  lease: LeaseService,
  durable: Durable.Durable | undefined
): JobService => {
  const { live } = parent
  const { hold, input, sleep, step } = durable ?? Steps.none
  const whole = Object.assign(emitter.service, {
    step,
    sleep,
    hold,
    input,
    delegate: Delegation.make({ parts, open, parent, submitter, emitter, lease, durable }),
    credentials: Effect.sync(() => parts.credentials.held(live.record.jobId)),
    rotateCredential: rotation(parts, parent, emitter, durable?.whereabouts)
  })
  return Given.calledWith(whole)
}

/** Returns what the handler of a job that begins now is given. */
export const make = (
  parts: JobParts,
  open: Open,
  candidate: Candidate,
  live: LiveJob,
  job: JobLog
): Provisions => {
  const { log, now, options, store } = parts
  const { agent, record, run, submitter } = candidate
  const begun = now()
  const journal = Durable.journalOf(parts, candidate)
  if (journal !== undefined) job.endure()
  const durable =
    journal === undefined || agent.restart !== "steps"
      ? undefined
      : Durable.make(parts, job, journal, candidate, live)
  live.presence = durable?.presence
  const chunked = submitter.features.includes("result_chunk")

  const emitter = once(() =>
    Emitter.make({
      log,
      job,
      record,
      deadline: Limits.deadline(record, begun),
      now,
      // A job has one result: what is said of it before its first chunk holds also when it is run again.
      resultId: () => record.jobId.replace(/^[a-z]+/, "res"),
      options,
      awaitEmits: options.awaitEmits || agent.awaitEmits,
      chunked,
      onSpent: parts.metrics === undefined ? undefined : Measuring.spent.bind(undefined, parts.metrics),
      maxStreamedBytes:
        store.kind === "memory" ? options.maxStreamedBytesMemory : options.maxStreamedBytesDisk,
      whereabouts: durable?.whereabouts,
      journal
    })
  )
  const lease = once(() => Given.askedOf(leaseOf(parts, live, job, emitter(), durable)))
  const service = once(() =>
    serviceOf(parts, open, { live, log: job }, emitter(), submitter, lease(), durable)
  )
  const isInline = (output: unknown) =>
    ResultWriter.isInline(ResultWriter.jsonOf(output), {
      chunked,
      maxFrameBytes: options.maxOutboundFrameBytes - envelopeBytes
    })

  let used = false
  const lazily = <S extends object>(provide: () => S) =>
    Leased.lazily(() => {
      used = true
      return provide()
    })
  return {
    handler: durable === undefined ? run : durable.handler(run),
    service: lazily(service),
    lease: lazily(lease),
    limits: Limits.of(record, begun),
    finish: (output) => (!used && isInline(output) ? nothingStreamed : emitter().finish(output)),
    undoing: durable?.undoing,
    emitter
  }
}

const nothingStreamed = Effect.succeed(undefined)
