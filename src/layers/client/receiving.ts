/** Reading a connection: each frame goes to the request that waits for it, or to the handles of its job. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { fromPayload, ResumeWindowExpired, Unauthenticated } from "../../protocol/Errors.js"
import { decodeRuntime } from "../../protocol/RuntimeFrame.js"
import type { RuntimeMessage } from "../../protocol/TypedMessage.js"
import { type ClientError, ProtocolViolation } from "../../services/client/ArcpClient.js"
import {
  type Closed,
  type Connection,
  closeCode,
  TransportError
} from "../../services/transport/Transport.js"
import type { ClientSession } from "./ClientSession.js"
import { first } from "./first.js"
import type { JobFrame } from "./JobInbox.js"
import type { Answer } from "./Requests.js"
import { isAsked } from "./token.js"

/** Milliseconds that reading waits for a full lane whose reader is at work, before that overflows. */
const patience = 250

/** The connection was lost, and why. */
export const lost = (closed: Closed) =>
  new TransportError({
    message: closed.reason === "" ? `the connection closed (${closed.code})` : closed.reason
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
      for (const frame of frames) {
        const problem = handle(session, frame)
        if (problem !== undefined) return yield* problem
      }
      const { ackEvery } = session.options
      if (session.numbers.last - session.numbers.acked >= ackEvery) session.acknowledge(ackEvery)
      if (session.crowded.size > 0) yield* makeRoom(session)
      session.line.pulse.heard(true)
      frames = yield* Effect.mapError(connection.take, (closed) => {
        // Superseded perhaps by an earlier hello of our own that came late: each may come once.
        if (closed.code === closeCode.tooBig) return session.oversized(lost(closed))
        const { token } = session.options
        if (closed.code === closeCode.tokenEnded && token !== undefined && !isAsked(token))
          return new Unauthenticated({ message: closed.reason })
        if (closed.code !== closeCode.superseded || session.unanswered-- > 0) return lost(closed)
        session.superseded = true
        return new ResumeWindowExpired({ message: "resumed elsewhere" })
      })
    }
  })

/** A reader at work is given a moment to make room; a lane that nobody reads overflows at once. */
const makeRoom = (session: ClientSession): Effect.Effect<void> =>
  Effect.gen(function* () {
    const lanes = [...session.crowded]
    session.crowded.clear()
    for (const lane of lanes) {
      if (lane.full && lane.reading)
        yield* first(
          Effect.async<void>((resume) => lane.onRoom(() => resume(Effect.void))),
          Effect.sleep(patience)
        )
      lane.overflowed = lane.full
    }
  })

type Problem = ProtocolViolation | TransportError | undefined

/** Handles one frame. Returns what is so wrong with it that the connection cannot be used any more. */
const handle = (session: ClientSession, frame: unknown): Problem => {
  if (typeof frame !== "string") return new ProtocolViolation({ message: "the runtime sent a binary frame" })
  const decoded = decodeRuntime(frame)
  if (Either.isLeft(decoded))
    // Messages that we do not know are for clients that do.
    return decoded.left._tag === "Malformed"
      ? new ProtocolViolation({ message: `the runtime sent a malformed frame: ${decoded.left.message}` })
      : undefined
  const message = decoded.right
  switch (message.type) {
    case "session.ping":
      session.post("session.pong", {
        ping_nonce: message.payload.nonce,
        received_at: new Date(session.now()).toISOString()
      })
      return undefined
    case "session.pong":
      session.requests.answer(message.payload.ping_nonce, message)
      return undefined
    case "session.error":
      refuses(session, message)
      return undefined
    case "session.jobs":
    case "job.accepted":
    case "job.subscribed":
    case "job.cancelled":
      session.delivered = true
      session.requests.answer(
        message.payload.request_id ??
          (session.guesses && !isDelegated(message)
            ? session.requests.like(message.type, message)
            : undefined),
        message
      )
      return undefined
    case "job.event":
    case "job.result":
    case "job.error":
      return event(session, message, frame.length)
    default:
      return undefined
  }
}

type Unnumbered = RuntimeMessage & { readonly type: JobFrame["type"] }

const isNumbered = (message: Unnumbered): message is Unnumbered & JobFrame & { readonly job_id: string } =>
  message.event_seq !== undefined && message.job_id !== undefined

/** The accept of a delegated job answers nothing. */
const isDelegated = (message: Answer): boolean =>
  message.type === "job.accepted" && message.payload.parent_job_id != null

type Refusal = RuntimeMessage & { readonly type: "job.error" | "session.error" }

/**
 * The request that an error refuses, where the runtime does not say. A `session.error`: the only one there is. A
 * `job.error`: a submit, on a job that nobody has heard of, or on the one that has its key; a cancel or subscribe, on the
 * job that it is about.
 */
const guessed = (session: ClientSession, message: Refusal): string | undefined => {
  const { handles, numbers, requests, strangers } = session
  if (message.type === "session.error") return requests.only
  const { event_seq: seq = numbers.expected, job_id: jobId = "" } = message
  const { code } = message.payload
  // What is repeated has refused something before.
  if (seq !== numbers.expected) return undefined
  const known = code !== "DUPLICATE_KEY" && (handles.has(jobId) || strangers.has(jobId))
  return (
    (known ? undefined : requests.like("job.accepted", message)) ??
    (code === notFound || code === "PERMISSION_DENIED"
      ? (requests.like("job.cancelled", message) ?? requests.like("job.subscribed", message))
      : undefined)
  )
}
const notFound = "JOB_NOT_FOUND"

/** Is it the answer to a request? Then that fails. */
const refuses = (session: ClientSession, message: Refusal): boolean => {
  const id = message.payload.details?.["request_id"]
  return session.requests.reject(
    typeof id === "string" ? id : session.guesses ? guessed(session, message) : undefined,
    fromPayload(message.payload)
  )
}

/** A runtime that does not say what it answers: notes what is under way, and that an end answers whoever asked for it. */
const noteUnnamed = (session: ClientSession, message: JobFrame & RuntimeMessage, jobId: string): void => {
  const ended = message.type !== "job.event"
  if (!session.handles.has(jobId)) session.stranger(jobId, ended)
  if (ended)
    session.requests.answer(session.requests.like("job.cancelled", message), {
      ...message,
      type: "job.cancelled",
      payload: {}
    })
}

/** An event of a job, in its place: what was taken before is dropped, what is missing ends the connection. */
const event = (session: ClientSession, message: Unnumbered, bytes: number): Problem => {
  const refused = message.type === "job.error" && refuses(session, message)
  // Without a number it is an answer, and no event of any job.
  if (message.type === "job.error" && message.event_seq === undefined) return undefined
  if (!isNumbered(message))
    return new ProtocolViolation({
      message: `the runtime sent a ${message.type} without event_seq or job_id`
    })
  const { event_seq: seq, job_id: jobId } = message
  const { expected } = session.numbers
  // A refusal is repeated to a repeated submit, out of turn when a replay is still on its way to it.
  if (refused && seq !== expected) return undefined
  const place = session.numbers.take(seq)
  if (place === "next") {
    session.delivered = true
    session.read()
    // Of a job that the runtime does not know there is nothing more to come.
    if (!refused || (message.type === "job.error" && message.payload.code === notFound))
      session.handles.deliver(jobId, message, bytes, session.requests.claiming)
    if (session.guesses) noteUnnamed(session, message, jobId)
    return undefined
  }
  if (place === "again") return undefined
  const problem = `event ${seq} came where ${expected} follows`
  return place === "lost"
    ? new ProtocolViolation({ message: `${problem}, twice` })
    : new TransportError({ message: problem })
}
