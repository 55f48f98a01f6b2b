/**
 * Answers to submits that start no run: a refusal, the same answer again, or the accept of a job that there is already.
 * A refusal is stored as the only, terminal event of a fresh job id, so that a resume replays it (§5.1, §5.2 of the
 * protocol page).
 */
import * as Effect from "effect/Effect"
import { type ArcpError, JobNotFound } from "../../protocol/Errors.js"
import * as Vendor from "../../protocol/Vendor.js"
import { tokenEnded } from "../../services/auth/ended.js"
import type { JobSession, Outgoing, SubmitHead } from "../../services/jobs/Jobs.js"
import { type JobRecord, Op } from "../../services/store/Store.js"
import * as Faults from "./Faults.js"
import type { JobParts } from "./JobParts.js"
import { type Ownership, unowned } from "./Ownership.js"
import * as OnWire from "./onWire.js"
import type { Hold } from "./Reservations.js"
import * as Terminal from "./Terminal.js"

/** What answers are made of. */
export interface AnswerParts extends JobParts {
  readonly ownership: Ownership
}

/** What of a submit is in its job's record. */
type Submitted = Pick<
  JobRecord,
  "lease" | "anyModel" | "leaseConstraints" | "maxRuntimeSec" | "survival" | "idempotencyKey" | "paramsDigest"
>

const nothingSubmitted: Submitted = { lease: {} }

/** Returns the record of a job that a submit begins. Made at once: what is copied into another has no fixed form, and is large. */
export const newRecord = (
  { cluster, ids, now }: JobParts,
  session: JobSession,
  request: SubmitHead,
  agent: string,
  submitted: Submitted = nothingSubmitted
): JobRecord => ({
  jobId: ids.unsafeMake("job"),
  sessionId: session.sessionId,
  submitId: request.id,
  principal: session.identity.principal,
  agent,
  status: "running",
  rejected: false,
  lease: submitted.lease,
  anyModel: submitted.anyModel,
  leaseConstraints: submitted.leaseConstraints,
  maxRuntimeSec: submitted.maxRuntimeSec,
  survival: submitted.survival,
  idempotencyKey: submitted.idempotencyKey,
  paramsDigest: submitted.paramsDigest,
  traceId: request.traceId ?? ids.unsafeTraceId(),
  parentSpan: request.parentSpan,
  createdAt: now(),
  lastEventSeq: 0,
  node: cluster?.node
})

/** Refuses a submit; `submitId` is what the refusal is stored as the answer to. */
export const reject = (
  parts: JobParts,
  session: JobSession,
  request: SubmitHead,
  agent: string,
  error: ArcpError,
  hold: Hold,
  submitId = request.id
): Effect.Effect<void, ArcpError> =>
  Effect.gen(function* () {
    const { log, now, options } = parts
    yield* log.roomToOpen((giveBack) => hold.keepKey(giveBack))
    const at = now()
    const record = newRecord(parts, session, { ...request, id: submitId }, agent)
    const event = Terminal.failed(error, "error", at, options.maxOutboundFrameBytes, {
      details: { request_id: request.id }
    })
    yield* log.openJob({ ...record, status: "error", rejected: true, endedAt: at }, session.view, { event })
  })

/** Returns what sends the accept of a job, as it is by then, with these extensions. */
const accepting = (
  { ownership, running }: AnswerParts,
  session: JobSession,
  request: SubmitHead,
  record: JobRecord,
  extensions?: Outgoing["extensions"]
): Effect.Effect<() => void> =>
  Effect.map(ownership.shown(session, record), (credentials) => () => {
    const span = running.get(record.jobId)?.live.span
    const accept = OnWire.acceptance(running.current(record), request.id, credentials(), span)
    session.send(
      extensions === undefined ? accept : { ...accept, extensions: { ...accept.extensions, ...extensions } }
    )
  })

/** Tells whoever has submitted with a key that the job is not new. */
const existing: Outgoing["extensions"] = { [Vendor.existing]: true }

/** Gives the same answer again, and nothing else, to a frame that came before: `before` is what was stored of it. */
export const repeat = (
  parts: AnswerParts,
  session: JobSession,
  request: SubmitHead,
  before: JobRecord,
  hold: Hold
): Effect.Effect<void, ArcpError> =>
  Effect.gen(function* () {
    const { log, store } = parts
    if (!before.rejected) return (yield* accepting(parts, session, request, before))()
    if (before.answeredWith !== undefined) {
      const record = yield* Faults.storage(store.job(before.answeredWith))
      if (record !== undefined) return (yield* accepting(parts, session, request, record, existing))()
      const error = new JobNotFound({
        message: "the job that this submit was answered with has been dropped"
      })
      return yield* reject(parts, session, request, before.agent, error, hold)
    }
    const { lastEventSeq } = before
    const frame = yield* log.again(session.view, lastEventSeq)
    // One that has been evicted from the view the client has had.
    if (frame !== undefined) session.sendAgain(lastEventSeq, frame)
  })

/**
 * Gives a refusal again to a session whose token has ended. An accept is a grant, with credentials in it, so that is refused instead;
 * under an id of its own, for with a fresh token the same frame is answered with the accept again.
 */
export const repeatRefusal = (
  parts: AnswerParts,
  session: JobSession,
  request: SubmitHead,
  before: JobRecord,
  hold: Hold
): Effect.Effect<void, ArcpError> =>
  before.rejected && before.answeredWith === undefined
    ? repeat(parts, session, request, before, hold)
    : reject(parts, session, request, before.agent, tokenEnded(), hold, parts.ids.unsafeNext())

/**
 * Answers a new frame with the accept of a job that there is already: the session observes it from here on, and owns it
 * when nobody does. That this frame was answered is stored with the join.
 */
export const rejoin = (
  parts: AnswerParts,
  session: JobSession,
  request: SubmitHead,
  record: JobRecord
): Effect.Effect<void, ArcpError> =>
  Effect.gen(function* () {
    const { log, now, ownership } = parts
    const inherits = yield* ownership.inheritable(session, record)
    const answer: JobRecord = {
      ...newRecord(parts, session, request, record.agent),
      status: record.status,
      rejected: true,
      endedAt: now(),
      answeredWith: record.jobId
    }
    const accept = yield* accepting(parts, session, request, record, existing)
    const join = {
      history: false,
      isOwn: true,
      ops: [Op.PutJob({ job: answer })],
      onCommit: accept
    }
    const taken = unowned(record)(ownership.take(session, record, request.id))
    yield* log.holding(record, (job) =>
      Effect.zipRight(log.observe(session.view, job, join), inherits ? taken : Effect.void)
    )
  })
