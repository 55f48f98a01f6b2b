/**
 * From the commit that stores a job, or the start that goes on with one, to its end: what it is minted, the span it is in, its handler, and
 * whoever gives back what it holds. The same for a job that is opened (Opening.ts) and one that is opened again (durable/Reopening.ts).
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Tracer from "effect/Tracer"
import * as Budget from "../../protocol/Budget.js"
import type { ArcpError } from "../../protocol/Errors.js"
import { deadPattern } from "../../protocol/Lease.js"
import { type Credential, toWire } from "../../services/credentials/Credentials.js"
import type { JobLog } from "../../services/log/EventLog.js"
import * as Decided from "../../services/runtime/decided.js"
import type { Errand } from "../../services/runtime/Pending.js"
import * as Tracing from "../../services/runtime/Tracing.js"
import type { JobRecord } from "../../services/store/Store.js"
import type { Candidate, Open } from "./Candidate.js"
import * as Survival from "./durable/Survival.js"
import * as Unloading from "./durable/Unloading.js"
import type { JobParts } from "./JobParts.js"
import type { LiveJob } from "./LiveJob.js"
import { isShownTo } from "./Ownership.js"
import * as Provisions from "./Provisions.js"
import type { Hold } from "./Reservations.js"
import * as Runner from "./Runner.js"
import type { Surroundings } from "./Surroundings.js"

/** A job that runs: what it was decided with, what it holds, and what is in memory of it. */
interface Run {
  readonly candidate: Candidate
  readonly hold: Hold
  readonly live: LiveJob
}

/** Gives what is minted for a job. */
type Minting = Effect.Effect<ReadonlyArray<Credential>, ArcpError>

/** Returns what mints what the job needs, into its hold; `undefined` where it gets nothing. */
export const minting = (
  { credentials }: JobParts,
  { parent, parentSpan, submitter }: Candidate,
  record: JobRecord,
  hold: Hold,
  /** Of a job that has begun before. */
  job?: JobLog
): Minting | undefined => {
  if (!credentials.enabled || !submitter.features.includes("provisioned_credentials")) return undefined
  hold.finally(credentials.release(record.jobId))
  // What is paid with them upstream is counted nowhere else: no more than any job above it has left either.
  const budgets = () =>
    job?.allRemaining ?? [
      Budget.parse(record.lease["cost.budget"] ?? []),
      ...(parent?.log.allRemaining ?? [])
    ]
  // At each try: by then less may be left.
  return Effect.suspend(() =>
    credentials.mint({
      jobId: record.jobId,
      principal: record.principal,
      agent: record.agent,
      lease: record.lease,
      leaseConstraints: record.leaseConstraints ?? {},
      budget: Budget.least(budgets()),
      epoch: record.epoch
    })
  ).pipe(Effect.withParentSpan(parentSpan))
}

/** Returns what is known of a job's span when it begins (§11). */
const spanOptions = ({ parentSpan, record }: Candidate): Tracer.SpanOptions => ({
  captureStackTrace: false,
  parent: parentSpan,
  attributes: {
    "arcp.session_id": record.sessionId,
    "arcp.job_id": record.jobId,
    "arcp.agent": record.agent,
    "arcp.lease.capabilities": Object.keys(record.lease).join(" "),
    ...(record.leaseConstraints?.expires_at === undefined
      ? {}
      : { "arcp.lease.expires_at": record.leaseConstraints.expires_at })
  }
})

/**
 * Returns what is done before the handler of a job that is run again, in its fiber, so that whatever ends the job ends that too: it is
 * minted its credentials, of which its owner is told. What undoes does without them: the lease may have expired.
 */
const provided = (
  { begin, settled }: Pick<Candidate, "begin" | "settled">,
  live: LiveJob,
  emitter: Provisions.Provisions["emitter"],
  minting: Minting | undefined
): Candidate["begin"] => {
  if (minting === undefined) return begin
  const telling = Effect.flatMap(minting, (minted) => {
    const { sessionId } = live.owner
    const isShown = isShownTo(live, sessionId)
    return Effect.forEach(
      minted,
      (credential) => {
        const { value, ...shown } = toWire(credential)
        const body = { phase: "credential_rotated", ...shown }
        return Effect.ignore(emitter().secretStatus(sessionId, body, { value }, isShown))
      },
      { discard: true }
    )
  })
  return Effect.zipRight(settled === undefined ? telling : Effect.ignore(telling), begin ?? Effect.void)
}

/** Runs the handler of a job that is stored, to the job's end. */
export function* run(
  parts: JobParts,
  open: Open,
  { candidate, hold, live }: Run,
  span: Tracer.Span,
  surroundings: Surroundings,
  job: JobLog,
  /** It was stored before: it is minted anew, and what was said of it is only told when it begins for the first time. */
  again?: { readonly minting: Minting | undefined; readonly isFirst: boolean }
): Errand<Exit.Exit<unknown, ArcpError>> {
  const { record } = candidate
  if (parts.running.graceOver) Survival.endAll(parts)
  // It was left while it was being opened: whoever goes on with it says again what it says from here on.
  if (live.ending?._tag === "Leave") parts.log.leaveJob(job)
  const given = Provisions.make(parts, open, candidate, live, job)
  // What can match nothing is granted, because other runtimes' patterns may be other than ours, and named.
  const dead = deadPattern(record.lease)
  const context: Runner.RunContext = {
    live,
    job,
    handler: given.handler,
    services: candidate.agent.services,
    service: given.service,
    lease: given.lease,
    finish: given.finish,
    limits: given.limits,
    undoing: given.undoing,
    compensateWithin: candidate.agent.compensateWithin,
    begin: provided(candidate, live, given.emitter, again?.minting),
    settled: candidate.settled,
    span,
    surroundings,
    stored: () => hold.giveBackPlaces(),
    unloaded: Unloading.finish(parts, { live, log: job }, hold, surroundings),
    parts
  }
  if (again?.isFirst !== false) {
    const { forked } = candidate
    if (forked !== undefined) yield* Effect.ignore(given.emitter().emitAnywhere("status", forked))
    const attributes = { reason: "lease_pattern" }
    if (dead !== undefined)
      yield* Effect.ignore(
        given.emitter().emitAnywhere("log", { level: "warn", message: `the lease: ${dead}`, attributes })
      )
  }
  return yield* Runner.run(context)
}

/** Returns the span of a job that begins here, in which its surroundings are from then on. */
export const spanOf = (candidate: Candidate, surroundings: Surroundings): Effect.Effect<Tracer.Span> =>
  Effect.tap(
    surroundings.isTraced
      ? Effect.makeSpan("arcp.job", spanOptions(candidate))
      : Effect.succeed(Tracing.unseen("arcp.job", candidate.parentSpan, surroundings.clock)),
    (span) => surroundings.enter(span)
  )

/**
 * Supervises a job, in its span, to the end, and gives back the hold. It is no fiber: it goes on when something has been
 * committed or has ended, and mostly at once.
 */
export const supervise = (
  { clock, underway }: Pick<JobParts, "clock" | "underway">,
  { record }: Candidate,
  hold: Hold,
  live: LiveJob,
  span: Tracer.Span,
  surroundings: Surroundings,
  errand: Errand<Exit.Exit<unknown, ArcpError>>
): void => {
  const ended = underway.begin()
  surroundings.run(errand, (exit) => {
    const outcome = Exit.flatten(exit)
    // What a tracer throws is logged like what a supervisor dies of, and keeps nobody's place.
    const told = Decided.attempt(() => {
      span.end(clock.unsafeCurrentTimeNanos(), outcome)
      return Effect.void
    })
    const faults = [outcome, Decided.decided(told) ?? Exit.void].flatMap((each) =>
      Exit.isFailure(each) && !Cause.isFailure(each.cause) ? [each.cause] : []
    )
    surroundings.run(conclusion(record, faults, hold), () => {
      live.settled()
      ended()
    })
  })
}

function* conclusion(
  { jobId }: JobRecord,
  faults: ReadonlyArray<Cause.Cause<unknown>>,
  hold: Hold
): Errand<void> {
  for (const cause of faults) yield* Effect.exit(Effect.logError(`the supervisor of ${jobId} failed`, cause))
  yield* hold.giveBack()
}
