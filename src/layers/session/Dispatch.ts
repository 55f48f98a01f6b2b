/** What each message of an open session does, and how a refused one is answered (§5.7 of the protocol page). */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Codec from "../../protocol/Codec.js"
import { type ArcpError, InvalidRequest, toPayload } from "../../protocol/Errors.js"
import { timestamp } from "../../protocol/EventText.js"
import type { Feature } from "../../protocol/Features.js"
import type { Jobs } from "../../services/jobs/Jobs.js"
import type { EventLog } from "../../services/log/EventLog.js"
import { closeCode, type Inbound } from "../../services/transport/Transport.js"
import type { Session } from "./Session.js"

/** What a frame does to the connection. */
export type Verdict =
  | { readonly _tag: "Ok" }
  | { readonly _tag: "Malformed" }
  | { readonly _tag: "Close"; readonly code: number; readonly reason: string; readonly done: boolean }

const ok: Verdict = { _tag: "Ok" }
const malformed: Verdict = { _tag: "Malformed" }
const proceed = Effect.succeed(ok)

/** The feature that a message needs. */
const needs: { readonly [type: string]: Feature } = {
  "session.ack": "ack",
  "session.list_jobs": "list_jobs",
  "job.subscribe": "subscribe",
  "job.unsubscribe": "subscribe"
}

export const make = (services: {
  readonly jobs: Jobs["Type"]
  readonly log: EventLog["Type"]
  readonly cancelOnBye: boolean
  readonly now: () => number
}) => {
  const { jobs, log } = services

  const answer = (
    session: Session,
    error: ArcpError,
    requestId: string | undefined,
    jobId?: string | undefined
  ) => {
    const details = {
      ...(requestId === undefined ? {} : { request_id: requestId }),
      ...(jobId === undefined ? {} : { job_id: jobId })
    }
    session.send({
      type: "session.error",
      payload: toPayload(error, requestId || jobId ? details : undefined)
    })
  }

  const rejected = (session: Session, frame: Codec.Rejected, submits: Submits): Effect.Effect<Verdict> => {
    if (frame._tag === "Ignored") return proceed
    const error = new InvalidRequest({ message: frame.message })
    if (
      frame._tag === "Malformed" &&
      frame.type === "job.submit" &&
      frame.id !== undefined &&
      frame.sessionId === session.sessionId
    ) {
      const { id } = frame
      return Effect.as(submits(jobs.refuse(session, { id }, error), id), ok)
    }
    answer(session, error, frame.id, frame.jobId)
    switch (frame._tag) {
      case "Malformed":
        return Effect.succeed(malformed)
      case "BadVersion":
        return Effect.succeed<Verdict>({
          _tag: "Close",
          code: closeCode.protocolError,
          reason: "protocol version",
          done: false
        })
      case "UnknownType":
        return proceed
    }
  }

  /** Runs a request whose failure is the answer to it. */
  const request = (
    session: Session,
    id: string,
    jobId: string | undefined,
    effect: Effect.Effect<void, ArcpError>
  ) =>
    effect.pipe(
      Effect.catchAll((error) => Effect.sync(() => answer(session, error, id, jobId))),
      Effect.as(ok)
    )

  /** Handles one frame. `submits` runs submits one after the other, beside whatever else comes in. */
  return (session: Session, frame: Inbound, submits: Submits): Effect.Effect<Verdict> => {
    if (typeof frame !== "string") {
      answer(session, new InvalidRequest({ message: frame.reason }), undefined)
      return Effect.succeed(malformed)
    }
    const decoded = Codec.decodeClient(frame)
    if (Either.isLeft(decoded)) return rejected(session, decoded.left, submits)
    const message = decoded.right
    const { id } = message
    const fail = (text: string, jobId?: string) => {
      answer(session, new InvalidRequest({ message: text }), id, jobId)
      return proceed
    }
    if (message.type === "session.hello") return fail("this session is open already")
    if (message.session_id !== session.sessionId)
      return fail("session_id: not the session of this connection")
    const feature = needs[message.type]
    if (feature !== undefined && !session.has(feature))
      return fail(`${message.type} needs the feature ${feature}, which was not negotiated`)

    switch (message.type) {
      case "session.ping":
        session.send({
          type: "session.pong",
          payload: { ping_nonce: message.payload.nonce, received_at: timestamp(services.now()) }
        })
        return proceed
      case "session.pong":
        return proceed
      case "session.ack": {
        const seq = message.payload.last_processed_seq
        if (seq > session.view.last)
          return fail("payload.last_processed_seq: greater than any event_seq of this session")
        return Effect.as(log.ack(session.view, seq), ok)
      }
      case "session.list_jobs":
        return request(
          session,
          id,
          undefined,
          Effect.map(jobs.list(session, message.payload), (page) =>
            session.send({ type: "session.jobs", payload: { request_id: id, ...page } })
          )
        )
      case "session.close":
        session.send({ type: "session.closed", payload: message.payload })
        return Effect.succeed<Verdict>({
          _tag: "Close",
          code: closeCode.normal,
          reason: "closed",
          done: true
        })
      case "session.bye":
        return Effect.as(
          services.cancelOnBye ? jobs.cancelAll(session.sessionId, "the session said bye") : Effect.void,
          { _tag: "Close", code: closeCode.normal, reason: "bye", done: true } as const
        )
      case "job.submit": {
        const { extensions, payload, trace_id: traceId } = message
        const adopt = extensions?.["x-vendor.effect-arcp.adopt"]
        return Effect.as(submits(jobs.submit(session, { id, traceId, payload, adopt }), id), ok)
      }
      case "job.cancel": {
        const jobId = message.job_id ?? message.payload.job_id
        if (jobId === undefined) return fail("job_id: is missing")
        return request(
          session,
          id,
          jobId,
          jobs.cancel(session, { id, jobId, reason: message.payload.reason })
        )
      }
      case "job.subscribe": {
        const jobId = message.payload.job_id ?? message.job_id
        if (jobId === undefined) return fail("payload.job_id: is missing")
        return request(session, id, jobId, jobs.subscribe(session, { id, jobId, payload: message.payload }))
      }
      case "job.unsubscribe": {
        const jobId = message.payload.job_id ?? message.job_id
        if (jobId === undefined) return fail("payload.job_id: is missing")
        return request(session, id, jobId, jobs.unsubscribe(session, jobId))
      }
    }
  }
}

/** Takes a submit that is to be run, and the id of its message. */
export type Submits = (submit: Effect.Effect<void, ArcpError>, id: string) => Effect.Effect<void>
