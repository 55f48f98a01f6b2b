/** What each message of an open session does, and how a refused one is answered (§5.7 of the protocol page). */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Codec from "../../protocol/Codec.js"
import { type ArcpError, InvalidRequest, toPayload } from "../../protocol/Errors.js"
import { timestamp } from "../../protocol/EventText.js"
import type { Feature } from "../../protocol/Features.js"
import type { ClientMessage } from "../../protocol/TypedMessage.js"
import { exceeds } from "../../protocol/Utf8.js"
import * as Vendor from "../../protocol/Vendor.js"
import { hasEnded, tokenEnded } from "../../services/auth/ended.js"
import type { Jobs, SubmitHead, SubmitRequest } from "../../services/jobs/Jobs.js"
import type { EventLog } from "../../services/log/EventLog.js"
import { closeCode, type Inbound } from "../../services/transport/Transport.js"
import { envelopeBytes } from "../jobs/fitting.js"
import { onFault, sound } from "./boundary.js"
import type { Session } from "./Session.js"

/** What a frame does to the connection. */
export type Verdict =
  | { readonly _tag: "Ok" }
  /** It could not be read; too many of these end the connection. */
  | { readonly _tag: "Malformed" }
  | { readonly _tag: "Close"; readonly code: number; readonly reason: string }

const ok: Verdict = { _tag: "Ok" }
const malformed: Verdict = { _tag: "Malformed" }
const proceed = Effect.succeed(ok)
const proceedAfter = (effect: Effect.Effect<void>): Effect.Effect<Verdict> =>
  effect === Effect.void ? proceed : Effect.as(effect, ok)

/** Messages that ask for something, for which the sender's identity must hold. */
const requests: ReadonlySet<string> = new Set([
  "session.list_jobs",
  "job.submit",
  "job.cancel",
  "job.subscribe",
  "job.unsubscribe",
  Vendor.jobInput
])

/** Which feature a message needs, where it needs one. */
const needs: { readonly [type: string]: Feature } = {
  "session.ack": "ack",
  "session.list_jobs": "list_jobs",
  "job.subscribe": "subscribe",
  "job.unsubscribe": "subscribe",
  [Vendor.jobInput]: Vendor.input
}

/**
 * Takes a submit, or an answer to what a job asks, that is to be decided, and the bytes of its frame, which it holds; it is queued when this returns, and
 * the effect waits until another may come.
 */
export type Submits = (decide: Effect.Effect<void>, bytes: number) => Effect.Effect<void>

/** What a message of a client works on. */
export interface DispatchServices {
  readonly jobs: Jobs["Type"]
  readonly log: EventLog["Type"]
  readonly cancelOnBye: boolean
  /** Bytes of an outbound frame. */
  readonly maxFrameBytes: number
  /** Epoch ms. */
  readonly now: () => number
  /** See TurnShare.ts. */
  readonly share: Effect.Effect<void>
  /** Called when the session has acknowledged events. */
  readonly acknowledged: (session: Session) => void
}

/** Sends the `session.error` that answers a request, or a frame that is none. */
const answer = (
  session: Session,
  error: ArcpError,
  requestId?: string | undefined,
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

/** Decides a submit: whatever it fails with is answered, a defect by refusing it as any other reason would. */
const decided = (
  jobs: Jobs["Type"],
  session: Session,
  request: SubmitHead,
  submit: Effect.Effect<void, ArcpError>
) =>
  // Around what mostly succeeds there is as little as can be.
  Effect.catchAllCause(submit, (cause) =>
    onFault(Effect.failCause(cause), "job.submit", (error) =>
      sound(jobs.refuse(session, request, error), "the refusal of a submit")
    ).pipe(Effect.catchAll((error) => Effect.sync(() => answer(session, error, request.id))))
  )

/** What is refused, as far as it could be read. */
interface Refused {
  readonly id?: string | undefined
  readonly type?: string | undefined
  readonly jobId?: string | undefined
}

/**
 * Refuses a request, for whatever reason. Clients of others take every `session.error` as the end of all their jobs, so one
 * that does not say that it knows better is told of a cancel or subscribe by a `job.error` without an `event_seq`, which is
 * in no log.
 */
const refuse = (
  { now }: DispatchServices,
  session: Session,
  error: ArcpError,
  { id, jobId, type }: Refused
) => {
  const aboutJob = type === "job.cancel" || type === "job.subscribe"
  if (id === undefined || jobId === undefined || !aboutJob || session.has(Vendor.requests))
    return answer(session, error, id, jobId)
  session.send({
    type: "job.error",
    jobId,
    payload: {
      ...toPayload(error, { request_id: id }),
      final_status: "error",
      completed_at: timestamp(now())
    }
  })
}

/** Returns what refuses a request later. */
const refusing =
  (
    services: DispatchServices,
    session: Session,
    { id, type }: Pick<ClientMessage, "id" | "type">,
    jobId: string
  ) =>
  (error: ArcpError): void =>
    refuse(services, session, error, { id, type, jobId })

/** Answers a frame that could not be decoded; what was meant as a submit takes its place among the submits. */
const rejected = (
  services: DispatchServices,
  session: Session,
  frame: Codec.Rejected,
  submits: Submits,
  bytes: number
): Effect.Effect<Verdict> => {
  if (frame._tag === "Ignored") return proceed
  const { jobs } = services
  const error = new InvalidRequest({ message: frame.message })
  if (
    frame._tag === "Malformed" &&
    frame.type === "job.submit" &&
    frame.id !== undefined &&
    frame.sessionId === session.sessionId
  ) {
    const request = { id: frame.id }
    const refusal = decided(jobs, session, request, jobs.refuse(session, request, error))
    return Effect.as(submits(refusal, bytes), malformed)
  }
  if (frame.sessionId === session.sessionId) refuse(services, session, error, frame)
  else answer(session, error, frame.id, frame.jobId)
  switch (frame._tag) {
    case "Malformed":
      return Effect.succeed(malformed)
    case "BadVersion":
      return Effect.succeed<Verdict>({
        _tag: "Close",
        code: closeCode.protocolError,
        reason: "protocol version"
      })
    case "UnknownType":
      return proceed
  }
}

/** Hands a submit to the queue that keeps submits in order. */
const submitted = (
  { jobs }: DispatchServices,
  session: Session,
  message: Extract<ClientMessage, { readonly type: "job.submit" }>,
  submits: Submits,
  bytes: number
): Effect.Effect<Verdict> => {
  const { extensions, id, parentSpan, payload, trace_id: traceId } = message
  const adopt = extensions?.[Vendor.adopt]
  const fork = extensions?.[Vendor.fork]
  const schedule = extensions?.[Vendor.schedule]
  const request: SubmitRequest = { id, traceId, parentSpan, payload, adopt, fork, schedule }
  const submit = Effect.suspend(() => jobs.submit(session, request))
  return proceedAfter(submits(decided(jobs, session, request, submit), bytes))
}

/** Does what a message asks for; its failure is the answer to it. */
const handle = (
  services: DispatchServices,
  session: Session,
  message: Exclude<ClientMessage, { readonly type: "session.hello" | "job.submit" }>
): Effect.Effect<Verdict, ArcpError> => {
  const { jobs, log, share } = services
  const { id } = message
  switch (message.type) {
    case "session.ping":
      if (exceeds(JSON.stringify(message.payload.nonce), services.maxFrameBytes - envelopeBytes))
        return invalid("payload.nonce: too long to be repeated in one frame")
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
        return invalid("payload.last_processed_seq: greater than any event_seq of this session")
      services.acknowledged(session)
      return Effect.as(log.ack(session.view, seq), ok)
    }
    case "session.list_jobs":
      return Effect.map(Effect.zipRight(share, jobs.list(session, message.payload)), (page) => {
        session.send({ type: "session.jobs", payload: { request_id: id, ...page } })
        return ok
      })
    case "session.close":
      session.send({ type: "session.closed", payload: message.payload })
      return Effect.succeed<Verdict>({ _tag: "Close", code: closeCode.normal, reason: "closed" })
    case "session.bye":
      return Effect.as(services.cancelOnBye ? jobs.cancelAll(session, "the session said bye") : Effect.void, {
        _tag: "Close",
        code: closeCode.normal,
        reason: "bye"
      } as const)
    case "job.cancel": {
      const jobId = jobOf(message)
      if (jobId === undefined) return invalid("job_id: is missing")
      const refused = refusing(services, session, message, jobId)
      return Effect.as(
        Effect.zipRight(share, jobs.cancel(session, { id, jobId, reason: message.payload.reason, refused })),
        ok
      )
    }
    case "job.subscribe": {
      const jobId = jobOf(message)
      if (jobId === undefined) return invalid("payload.job_id: is missing")
      const request = { id, jobId, payload: message.payload }
      return Effect.as(Effect.zipRight(share, jobs.subscribe(session, request)), ok)
    }
    case "job.unsubscribe": {
      const jobId = jobOf(message)
      if (jobId === undefined) return invalid("payload.job_id: is missing")
      return Effect.as(Effect.zipRight(share, jobs.unsubscribe(session, jobId)), ok)
    }
    case Vendor.jobInput: {
      const jobId = jobOf(message)
      if (jobId === undefined) return invalid("job_id: is missing")
      const refused = refusing(services, session, message, jobId)
      const request = { id, jobId, payload: message.payload, refused }
      return Effect.as(Effect.zipRight(share, jobs.answer(session, request)), ok)
    }
  }
}

/** Decodes a frame and does what it asks for, when it may be asked for in this session. */
const dispatch = (
  services: DispatchServices,
  session: Session,
  frame: string,
  submits: Submits
): Effect.Effect<Verdict> => {
  const decoded = Codec.decodeClient(frame)
  if (Either.isLeft(decoded)) return rejected(services, session, decoded.left, submits, frame.length)
  const message = decoded.right
  const refused = { id: message.id, type: message.type, jobId: jobOf(message) }
  const fail = (text: string) => {
    answer(session, new InvalidRequest({ message: text }), message.id, refused.jobId)
    return proceed
  }
  if (message.type === "session.hello") return fail("this session is open already")
  if (message.session_id !== session.sessionId) return fail("session_id: not the session of this connection")
  const feature = needs[message.type]
  // Said by a session.error, also of a subscribe (§5.7): who asks for what it did not negotiate is no client of the drafts.
  if (feature !== undefined && !session.has(feature))
    return fail(`${message.type} needs the feature ${feature}, which was not negotiated`)
  if (requests.has(message.type) && hasEnded(session.identity, services.now())) {
    if (message.type === "job.submit") {
      const { jobs } = services
      const request = { id: message.id, traceId: message.trace_id, parentSpan: message.parentSpan }
      const refusal = decided(jobs, session, request, jobs.refuse(session, request, tokenEnded()))
      return proceedAfter(submits(refusal, frame.length))
    }
    refuse(services, session, tokenEnded(), refused)
    return proceed
  }
  // The most frequent request only takes its place in the queue, where its own failures are answered.
  if (message.type === "job.submit") return submitted(services, session, message, submits, frame.length)
  const handled = sound(
    Effect.suspend(() => handle(services, session, message)),
    message.type
  ).pipe(
    Effect.catchAll((error) =>
      Effect.sync(() => {
        refuse(services, session, error, refused)
        return ok
      })
    )
  )
  // It waits for the store, or for a job that is being loaded: what else comes in does not wait for it.
  return message.type === Vendor.jobInput
    ? proceedAfter(submits(Effect.asVoid(handled), frame.length))
    : handled
}

/** Answers a defect while a frame was handled, and goes on. */
const failed = (session: Session, defect: unknown) =>
  onFault(Effect.die(defect), "a frame", (error) =>
    Effect.sync(() => {
      answer(session, error)
      return ok
    })
  )

/** Returns what handles one frame. `submits` runs submits one after the other, beside whatever else comes in. */
export const make =
  (services: DispatchServices) =>
  (session: Session, frame: Inbound, submits: Submits): Effect.Effect<Verdict> => {
    try {
      if (typeof frame === "string") return dispatch(services, session, frame, submits)
      answer(session, new InvalidRequest({ message: frame.reason }))
      return Effect.succeed(malformed)
    } catch (defect) {
      return failed(session, defect)
    }
  }

const invalid = (message: string) => Effect.fail(new InvalidRequest({ message }))

/** Returns the id of the job that a message is about. */
const jobOf = (message: ClientMessage): string | undefined => {
  switch (message.type) {
    case "job.cancel":
      return message.job_id ?? message.payload.job_id
    case "job.subscribe":
    case "job.unsubscribe":
      return message.payload.job_id ?? message.job_id
    case Vendor.jobInput:
      return message.job_id
    default:
      return undefined
  }
}
