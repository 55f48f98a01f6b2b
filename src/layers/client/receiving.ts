/** Reading a connection: each frame goes to the request that waits for it, or to the handles of its job. */
import type * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { fromPayload, ResumeWindowExpired } from "../../protocol/Errors.js"
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
import type { JobFrame } from "./JobInbox.js"

/** How long reading waits for a full lane whose reader is at work, before that overflows. */
const patience = "250 millis"

/** The connection was lost, and why. */
export const lost = (closed: Closed) =>
  new TransportError({
    message: closed.reason === "" ? `the connection closed (${closed.code})` : closed.reason
  })

/** Takes frames in until the connection ends, `first` before what it brings. */
export const receive = (
  session: ClientSession,
  connection: Connection,
  first: Chunk.Chunk<unknown>
): Effect.Effect<never, ClientError> =>
  Effect.gen(function* () {
    let frames: Chunk.Chunk<unknown> = first
    for (;;) {
      session.line.pulse.received()
      for (const frame of frames) {
        const problem = handle(session, frame)
        if (problem !== undefined) return yield* problem
      }
      if (session.duplicates === "seen") {
        session.duplicates = "told"
        yield* Effect.logWarning("the runtime sent an event twice; one is dropped")
      }
      const { ackEvery } = session.options
      if (session.numbers.last - session.numbers.acked >= ackEvery) session.acknowledge(ackEvery)
      if (session.crowded.size > 0) yield* makeRoom(session)
      session.line.pulse.listen()
      frames = yield* Effect.mapError(connection.take, (closed) => {
        // Superseded perhaps by an earlier hello of our own that came late: each may come once.
        if (closed.code !== closeCode.superseded || session.unanswered-- > 0) return lost(closed)
        session.superseded = true
        return new ResumeWindowExpired({ message: "another connection resumed this session" })
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
        yield* Effect.async<void>((resume) => lane.onRoom(() => resume(Effect.void))).pipe(
          Effect.timeoutTo({ duration: patience, onSuccess: () => {}, onTimeout: () => {} })
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
    case "session.error": {
      const id = message.payload.details?.["request_id"]
      if (typeof id === "string") session.requests.reject(id, fromPayload(message.payload))
      return undefined
    }
    case "session.jobs":
    case "job.accepted":
    case "job.subscribed":
    case "job.cancelled":
      session.requests.answer(message.payload.request_id, message)
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

/** An event of a job, in its place: what was taken before is dropped, what is missing ends the connection. */
const event = (session: ClientSession, message: Unnumbered, bytes: number): Problem => {
  if (!isNumbered(message))
    return new ProtocolViolation({
      message: `the runtime sent a ${message.type} without event_seq or job_id`
    })
  const { event_seq: seq, job_id: jobId } = message
  const requestId = message.type === "job.error" ? message.payload.details?.["request_id"] : undefined
  const refused =
    message.type === "job.error" &&
    typeof requestId === "string" &&
    session.requests.reject(requestId, fromPayload(message.payload))
  const { expected } = session.numbers
  // A refusal is repeated to a repeated submit, out of turn when a replay is still on its way to it.
  if (refused && seq !== expected) return undefined
  const place = session.numbers.take(seq)
  if (place === "next") {
    session.read()
    if (!refused) session.handles.deliver(jobId, message, bytes, session.requests.claiming)
    return undefined
  }
  if (place === "again") {
    if (session.duplicates === "none") session.duplicates = "seen"
    return undefined
  }
  const problem = `event ${seq} came where ${expected} follows`
  return place === "lost"
    ? new ProtocolViolation({ message: `${problem}, also after a resume` })
    : new TransportError({ message: problem })
}
