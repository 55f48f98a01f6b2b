/**
 * The way of a job that has passed its checks, submitted or delegated: admitted → counted → minted → opened (the commit)
 * → accepted → run. What it reserves on the way is in its hold, and is given back when the hold closes, wherever the way
 * ends: a refusal, an interruption, a commit that fails, or the job's end.
 */
import * as Cause from "effect/Cause"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Tracer from "effect/Tracer"
import * as Budget from "../../protocol/Budget.js"
import { type ArcpError, InternalError, InvalidRequest, toPayload } from "../../protocol/Errors.js"
import { byteLength, exceeds } from "../../protocol/Utf8.js"
import type { Credential } from "../../services/credentials/Credentials.js"
import type { JobLog } from "../../services/log/EventLog.js"
import { isKeyUsed } from "../../services/log/taken.js"
import * as Decided from "../../services/runtime/decided.js"
import { type Errand, exitOf } from "../../services/runtime/Pending.js"
import { type JobRecord, Op } from "../../services/store/Store.js"
import { type Candidate, type Open, submitOf } from "./Candidate.js"
import * as Enduring from "./durable/Enduring.js"
import * as Faults from "./Faults.js"
import { envelopeBytes } from "./fitting.js"
import type { JobParts } from "./JobParts.js"
import { LiveJob } from "./LiveJob.js"
import * as Measuring from "./measuring.js"
import { isStillShown } from "./Ownership.js"
import * as OnWire from "./onWire.js"
import { over } from "./over.js"
import type { Hold } from "./Reservations.js"
import * as Runner from "./Runner.js"
import * as Supervising from "./Supervising.js"
import { Surroundings } from "./Surroundings.js"
import * as Enqueuing from "./scheduling/Enqueuing.js"

/** A job that begins: what its own fiber works on. */
interface Begun {
  readonly candidate: Candidate
  readonly live: LiveJob
  readonly hold: Hold
  readonly minted: ReadonlyArray<Credential>
  /** Committed with its record. */
  readonly ops: ReadonlyArray<Op>
}

/** Bytes of an input as JSON text; of a larger one only the digest is kept. */
const maxInputBytes = 1024 * 1024

/** Returns what is stored of a job's input, in the commit that opens the job. */
const keepInput = (
  { options, secrets }: JobParts,
  { input, record }: Candidate
): Effect.Effect<{ readonly record: JobRecord; readonly ops: ReadonlyArray<Op> }> => {
  // What is run again, or begins later, needs it.
  const needed = record.survival !== undefined || record.queued !== undefined
  if (!options.storeInputs && !needed) return Effect.succeed({ record, ops: [] })
  const text = JSON.stringify(input ?? null)
  return !needed && byteLength(text) > maxInputBytes
    ? Effect.map(secrets.digest(text), (inputDigest) => ({ record: { ...record, inputDigest }, ops: [] }))
    : Effect.succeed({ record, ops: [Op.PutInput({ jobId: record.jobId, input: text })] })
}

const nothingMinted = Effect.succeed<ReadonlyArray<Credential>>([])

/**
 * Refuses a job of whose accept, listing or subscription a frame could not hold what is said: its lease with what is left of
 * its budget, and its credentials.
 */
const announceable = (
  { options }: JobParts,
  candidate: Candidate,
  minted: ReadonlyArray<Credential>
): Effect.Effect<void, InvalidRequest> => {
  const { lease } = candidate.record
  // Whatever else an accept says is short.
  if (minted.length === 0 && Object.keys(lease).length === 0) return Effect.void
  const accepted = JSON.stringify(OnWire.accepted(candidate.record, requestIdOf(candidate), minted))
  const counters = (lease["cost.budget"]?.length ?? 0) * 3 * Budget.maxDigits
  return exceeds(accepted, options.maxOutboundFrameBytes - envelopeBytes - counters)
    ? new InvalidRequest({
        message: "payload.lease_request: too large to be told in one frame",
        details: { limit: "outbound_frame_bytes" }
      })
    : Effect.void
}

/** Sends the accept before every event of the job; that of a delegated one comes with its first event (§4.3). */
const accept = (
  { parent, record, session, submitter }: Candidate,
  minted: ReadonlyArray<Credential>,
  span: Tracer.Span,
  now: number
) => {
  if (parent !== undefined) return
  // Minting and storing take their time.
  const credentials = isStillShown(session, submitter, now) ? minted : []
  session.send(OnWire.acceptance(record, record.submitId, credentials, span))
}

/** Tells by the session whoever submitted; whoever delegated is told by `opened`. */
const notStored = ({ parent, record, session }: Candidate, error: ArcpError) => {
  Faults.blame(error)
  if (parent === undefined)
    session.send({ type: "session.error", payload: toPayload(error, { request_id: record.submitId }) })
}

/** Tells that a job was not stored; one whose key another node has used meanwhile is decided anew. */
const unstored = (candidate: Candidate, error: InternalError): Effect.Effect<void> => {
  const { keyed } = candidate
  return keyed !== undefined && isKeyUsed(error)
    ? Effect.catchAll(keyed.beaten, (refused) => Effect.sync(() => notStored(candidate, refused)))
    : Effect.sync(() => notStored(candidate, error))
}

/** Commits the job, and makes it known in that commit. */
const commit = ({ log, metrics, now, running }: JobParts, begun: Begun, span: Tracer.Span) => {
  const { candidate, live, minted, ops } = begun
  return log.openJob(candidate.record, candidate.session.view, {
    parent: candidate.parent?.log,
    ops,
    freeKey: candidate.keyed?.freeKey,
    accepted: () => OnWire.accepted(candidate.record, requestIdOf(candidate), []),
    secrets: minted.map(({ value }) => Redacted.value(value)),
    // With the job itself, so that a small job needs two commits: this one and that of its end.
    event: Runner.running(now()),
    onCommit: (job) => {
      live.status = "running"
      live.span = span
      // At the commit, so that a cancel that comes right after the accept finds the job.
      running.add({ live, log: job })
      if (metrics !== undefined) Measuring.accepted(metrics, candidate.record.agent)
      accept(candidate, minted, span, now())
    }
  })
}

/** Tells whether a job could not be stored that one has delegated which must not end because of that. */
const isForDurable = ({ parent }: Candidate, tried: Exit.Exit<unknown, InternalError>): boolean =>
  Exit.isFailure(tried) &&
  parent?.live.record.survival !== undefined &&
  Option.exists(Cause.failureOption(tried.cause), Faults.isAway)

const endsFirst = () => new InternalError({ message: "the job is ending and delegates no more" })

/** Commits a job as soon as the store takes it, unless it is to end. */
const openedAtLast = (
  parts: JobParts,
  begun: Begun,
  span: Tracer.Span
): Effect.Effect<JobLog, InternalError> =>
  Enduring.whileAway(
    // Its parent may have been left to another node during the pause.
    Effect.suspend(() => (begun.live.ending === undefined ? commit(parts, begun, span) : endsFirst())),
    parts,
    () => begun.live.ending !== undefined
  )

/** Runs from the commit that opens the job to its end; gives how that was, to the job's span. */
function* lifetime(
  parts: JobParts,
  open: Open,
  begun: Begun,
  span: Tracer.Span,
  surroundings: Surroundings
): Errand<Exit.Exit<unknown, ArcpError>> {
  const { candidate, hold, live } = begun
  const tried = yield* exitOf(commit(parts, begun, span))
  const opened = isForDurable(candidate, tried) ? yield* Effect.exit(openedAtLast(parts, begun, span)) : tried
  if (Exit.isFailure(opened)) candidate.unopened?.()
  if (live.awaited !== undefined) Deferred.unsafeDone(live.awaited.opened, opened)
  hold.giveBackKeys()
  if (Exit.isFailure(opened)) {
    const error = Option.getOrUndefined(Cause.failureOption(opened.cause))
    // What decides it anew counts it anew.
    hold.giveBackPlaces()
    if (error !== undefined) yield* unstored(candidate, error)
    return opened
  }
  // Of a thousand that were stored together each has its share of a turn.
  yield* parts.share
  return yield* Supervising.run(parts, open, begun, span, surroundings, opened.value)
}

/**
 * Makes the job a child, and gives it its supervisor and the hold, all of it or nothing: in one step, so that no
 * interruption comes between.
 */
const begin = (
  parts: JobParts,
  open: Open,
  begun: Begun,
  surroundings: Surroundings,
  span: Tracer.Span
): Effect.Effect<LiveJob, InternalError> => {
  const { candidate, hold, live } = begun
  if (candidate.parent?.live.takeChild(live) === false) return endsFirst()
  hold.keep(() => over(parts, candidate, live))
  hold.passedOn = true
  Supervising.supervise(
    parts,
    candidate,
    hold,
    live,
    span,
    surroundings,
    lifetime(parts, open, begun, span, surroundings)
  )
  return Effect.succeed(live)
}

/** Stores and accepts a job that is counted and waits before it begins. Its credentials are minted when it does. */
const queue = (parts: JobParts, given: Candidate, hold: Hold): Effect.Effect<undefined, ArcpError> =>
  Effect.gen(function* () {
    const waiting = { ...given, record: Enqueuing.queuedRecord(given) }
    const { ops } = yield* keepInput(parts, waiting)
    yield* parts.log.roomToOpen((giveBack) => hold.keepKey(giveBack))
    yield* announceable(parts, waiting, [])
    const all = [...ops, ...(given.ops?.() ?? [])]
    yield* Enqueuing.enqueue(parts, given, waiting.record, all, hold, (error) => unstored(given, error))
    return undefined
  })

/**
 * Counts a job, and returns whether it waits. What others have is read for as long as it takes, where a job must not end; one that would
 * end by the shutdown of its runtime waits to be left to the next start, or to another node.
 */
const counted = (parts: JobParts, given: Candidate, hold: Hold): Effect.Effect<boolean, InternalError> => {
  const count = () => Enqueuing.count(parts, given, hold)
  return given.parent?.live.record.survival === undefined
    ? count()
    : Effect.catchIf(
        Enduring.whileAway(Effect.suspend(count), parts),
        (error) => Cause.originalError(error) === parts.running.shuttingDown,
        () => Effect.never
      )
}

/** Returns what opens a job that is decided: mints, stores, accepts and runs. */
export const make = (parts: JobParts): Open => {
  const open: Open = (given, hold) =>
    Decided.gen(function* () {
      const { parent } = given
      yield* parts.admission.check(given.session.identity, submitOf(given))
      if (yield* counted(parts, given, hold)) return yield* queue(parts, given, hold)
      const kept = yield* keepInput(parts, given)
      const minted = yield* Enduring.of(
        parent?.live.record,
        Supervising.minting(parts, given, kept.record, hold) ?? nothingMinted,
        parts
      )
      // Here and not in the job's own fiber, which nothing interrupts: whoever is to end must not wait for a consumer.
      yield* parts.log.roomToOpen((giveBack) => hold.keepKey(giveBack))
      // Who delegated may have been taken over since it was checked.
      const session = parent?.live.owner ?? given.session
      const isOwn = session === given.session
      const record = isOwn ? kept.record : { ...kept.record, sessionId: session.sessionId }
      const candidate = isOwn && record === given.record ? given : { ...given, record, session }
      yield* announceable(parts, candidate, minted)
      const surroundings = yield* parent === undefined
        ? Surroundings.ofSubmit(record)
        : Surroundings.of(record)
      const span = yield* Supervising.spanOf(candidate, surroundings)
      const live = new LiveJob(record, session, parent?.live, given.submitter)
      const ops = [...kept.ops, ...(given.ops?.() ?? [])]
      return yield* begin(parts, open, { candidate, live, hold, minted, ops }, surroundings, span)
    })
  return open
}

/** Returns the message that a job answers; none of a delegated one. */
const requestIdOf = ({ parent, record }: Candidate) => (parent === undefined ? record.submitId : undefined)
