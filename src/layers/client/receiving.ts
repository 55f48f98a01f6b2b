/** Reading a connection: each frame goes to the request that waits for it, or to the handles of its job. */
import * as Effect from "effect/Effect"
import { fromPayload, ResumeWindowExpired, Unauthenticated } from "../../protocol/Errors.js"
import { decodeRuntime, type Frame, isEvent, type Misread } from "../../protocol/RuntimeFrame.js"
import type { ClientError, ProtocolViolation } from "../../services/client/ArcpClient.js"
import { called } from "../../services/runtime/called.js"
import {
  type Closed,
  type Connection,
  closeCode,
  TransportError
} from "../../services/transport/Transport.js"
import type { ClientSession } from "./ClientSession.js"
import { first } from "./first.js"
import type { JobFrame } from "./JobInbox.js"
import type { Numbering } from "./Numbering.js"
import { isAsked } from "./token.js"
import { violation } from "./violation.js"

/** Milliseconds that reading waits for a full lane whose reader is at work, before that overflows. */
const patience = 250

/** The connection was lost, and why. */
export const lost = (closed: Closed) =>
  new TransportError({
    message: closed.reason || `the connection closed (${closed.code})`
  })

/** Takes frames in until the connection ends, `first` before what it brings. */
export const receive = (
  session: ClientSession,
  connection: Connection,
  first: Iterable<unknown>
): Effect.Effect<never, ClientError> =>
  Effect.gen(function* () {
    let frames = first
    for (;;) {
      session.line.pulse.heard(false)
      const { said } = session
      for (const frame of frames) {
        const problem = handle(session, frame)
        if (problem) return yield* problem
      }
      if (!said && session.said) yield* Effect.fork(judge(session, session.said))
      const { ackEvery } = session.options
      if (session.numbers.seen - session.numbers.acked >= ackEvery) session.acknowledge(ackEvery)
      if (session.crowded.size > 0) yield* makeRoom(session)
      session.line.pulse.heard(true)
      frames = yield* Effect.mapError(connection.take, (closed) => ended(session, closed))
    }
  })

/** Returns what the end of a connection means: what the runtime has said right before it, else that the connection is lost. */
const ended = (session: ClientSession, closed: Closed): ClientError => {
  const { options, said } = session
  if (closed.code === closeCode.tooBig) return session.oversized(lost(closed))
  // Superseded perhaps by an earlier hello of our own that came late: each may come once.
  if (closed.code === closeCode.superseded && !(session.unanswered && session.unanswered--)) {
    session.superseded = true
    return new ResumeWindowExpired({ message: "resumed elsewhere" })
  }
  const error =
    closed.code === closeCode.tokenEnded ? new Unauthenticated({ message: closed.reason }) : said?.error
  // The next hello may have another token, and is told when the session is gone. A network that fails says nothing.
  return !error ||
    closed.code === closeCode.abnormal ||
    error._tag === "ResumeWindowExpired" ||
    (error._tag === "Unauthenticated" && (options.token === undefined || isAsked(options.token)))
    ? lost(closed)
    : error
}

/** Milliseconds within which the transport closes behind an error that concerns the session. */
const moment = 1_000

/** An error that names no request concerns the session if the transport closes behind it, else the only request that there was. */
const judge = (session: ClientSession, { blamed, error }: NonNullable<ClientSession["said"]>) =>
  Effect.map(Effect.sleep(moment), () => {
    session.said = undefined
    session.requests.reject(blamed, error)
  })

/** A reader at work is given a moment to make room; a lane that nobody reads overflows at once. */
const makeRoom = (session: ClientSession): Effect.Effect<void> =>
  Effect.gen(function* () {
    for (const lane of session.crowded) {
      session.crowded.delete(lane)
      if (lane.reading && !lane.stuck) {
        lane.stuck = true
        yield* first(
          called((back) => lane.onRoom(back)),
          Effect.sleep(patience)
        )
      }
      // One that was cut stays so: what it has skipped is not there for having room.
      if (lane.full) lane.fallBehind()
    }
  })

type Problem = ProtocolViolation | TransportError | undefined

/** Frames that may wait for a peer that does not read, beyond which its pings are not answered. */
const maxWaiting = 1_000

/** Handles one frame. Returns what is so wrong with it that the connection cannot be used any more. */
const handle = (session: ClientSession, frame: unknown): Problem => {
  // What is no text is no JSON either.
  const text = String(frame)
  const message = decodeRuntime(text)
  if (message.problem !== undefined) return misread(session, message)
  switch (message.type) {
    case "session.ping":
      if (session.line.waiting < maxWaiting)
        session.post("session.pong", {
          ping_nonce: message.payload.nonce,
          received_at: new Date(session.options.now()).toISOString()
        })
      return undefined
    case "session.pong":
      session.requests.answer(message.payload.ping_nonce || askedFor(session, message), message)
      return undefined
    case "session.error": {
      const { job_id: jobId, payload, request_id: named } = message
      // What a close code says elsewhere (§4): over stdio there is none, and the jobs still come to their ends.
      if (!refuses(session, message) && payload.details?.["limit"] === "frame_bytes")
        session.oversized(payload)
      else if (!named)
        // Of a job a runtime that names requests says it to whoever follows it, and its answer is still to come.
        session.said ??= {
          error: fromPayload(payload),
          blamed: jobId && !session.guesses ? undefined : session.requests.only(jobId)
        }
      return undefined
    }
    case "job.event":
    case "job.result":
    case "job.error":
      return event(session, message, text.length)
    default:
      session.requests.answer(askedFor(session, message), message)
      return undefined
  }
}

/**
 * A frame that cannot be read ends what it is about, and nothing else: its job here, or the request that it answers. What is
 * about neither is ignored, such as messages that we do not know; if it was an event, the numbers show it.
 */
const misread = (session: ClientSession, frame: Misread): Problem => {
  const payload = violation(`malformed frame: ${frame.problem}`)
  if (isEvent(frame.type)) return event(session, { ...frame, type: "malformed", payload }, 0)
  session.requests.reject(askedFor(session, frame), payload)
  return undefined
}

/** The request that an answer is for, as it says or as can be told. The accept of a delegated job answers nothing. */
const askedFor = (session: ClientSession, message: Frame | Misread): unknown =>
  message.request_id ??
  ((Object(message.payload) as { readonly parent_job_id?: unknown }).parent_job_id == null
    ? session.requests.like(message.type, message)
    : undefined)

type Refusal = Frame & { readonly type: "job.error" | "session.error" }

/**
 * The request that an error refuses, where the runtime does not say. A `session.error`: the only one there is. A
 * `job.error`: a submit, on a job that nobody has heard of, or on the one that has its key; a cancel or subscribe, on the
 * job that it is about.
 */
const guessed = (session: ClientSession, message: Refusal): unknown => {
  const { handles, numbers, requests, strangers } = session
  if (message.type === "session.error") return requests.only()
  const expected = numbers.seen + 1
  const { event_seq: seq = expected, job_id: jobId = "" } = message
  const { code } = message.payload
  // What is repeated has refused something before.
  if (seq !== expected) return undefined
  const known = code !== "DUPLICATE_KEY" && (handles.has(jobId) || strangers.has(jobId))
  return (
    // These name their job, and a submit that was refused has one that nobody knows.
    (code === notFound || code === "PERMISSION_DENIED"
      ? (requests.like("job.cancelled", message) ?? requests.like("job.subscribed", message))
      : undefined) ?? (known ? undefined : requests.like("job.accepted", message))
  )
}
const notFound = "JOB_NOT_FOUND"

/** Is it the answer to a request? Then that fails. */
const refuses = (session: ClientSession, message: Refusal): boolean =>
  session.requests.reject(
    message.request_id ?? (session.guesses ? guessed(session, message) : undefined),
    fromPayload(message.payload)
  )

/** Notes what is under way, where a runtime does not say what it answers, and that an end answers whoever asked for it. */
const note = (session: ClientSession, message: Happening, jobId: string): void => {
  const isEnd = message.type === "job.result" || message.type === "job.error"
  if (session.guesses && !session.handles.has(jobId)) session.stranger(jobId, isEnd)
  if (isEnd)
    session.requests.answer(session.requests.like("job.cancelled", message), {
      ...message,
      type: "job.cancelled",
      payload: {}
    })
}

/** What happens to a job: one of its own messages, or one of them that could not be read. */
type Happening =
  | (Frame & { readonly type: Exclude<JobFrame["type"], "malformed"> })
  | (Misread & JobFrame & { readonly type: "malformed" })

/** An event of a job, in its place: what was taken before is dropped, what is missing ends the connection. */
const event = (session: ClientSession, message: Happening, bytes: number): Problem => {
  const { handles, numbers } = session
  const expected = numbers.seen + 1
  const refused = message.type === "job.error" && refuses(session, message)
  // What refuses something is its answer. Without a number it is no event of any job; and with one it is repeated to a
  // repeated submit: by some runtimes out of turn, when a replay is still on its way to it.
  const { event_seq: seq, job_id: jobId = handles.only } = message
  if (
    refused
      ? seq !== expected
      : seq === undefined && message.type === "job.error" && message.request_id !== undefined
  )
    return undefined
  let place = numbers.take(seq)
  if (place === "again") {
    // One that says what it answers numbers its sessions.
    if (!session.guesses || !handles.awaits(jobId, seq as number)) return undefined
    // The number is another job's too: this runtime counts those of each by themselves, and a resume would be of none.
    numbers.perJob = true
    session.token = undefined
    place = "next"
  }
  if (place === "next") {
    session.read()
    if (!jobId)
      // It may be the end of any of several.
      return refused || handles.jobs.length === 0 ? undefined : violation(`${message.type} without job_id`)
    session.delivered ||= handles.has(jobId)
    // Of a job that the runtime does not know there is nothing more to come.
    if (!refused || (message.type === "job.error" && message.payload.code === notFound))
      handles.deliver(jobId, message, bytes, session.requests.claim)
    note(session, message, jobId)
    return undefined
  }
  return missing(numbers, `event ${seq} came where ${expected} follows`)
}

/** Events are missing, which ends the connection, to ask for them once more; and if they were asked for, the session. */
export const missing = (numbers: Numbering, message: string): ProtocolViolation | TransportError =>
  numbers.asks() ? new TransportError({ message }) : violation(message)
