/**
 * A session of this process with the runtime: the frames of the protocol over a pair in memory, so that whatever holds for a
 * client holds for HTTP. It reads no events, which HTTP reads by each job's own numbers, and ends with its connection.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as FiberId from "effect/FiberId"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { type ArcpError, fromPayload, InternalError, InvalidRequest } from "../../protocol/Errors.js"
import * as Features from "../../protocol/Features.js"
import { byteLength } from "../../protocol/Utf8.js"
import * as Vendor from "../../protocol/Vendor.js"
import type { Sessions } from "../../services/session/Sessions.js"
import type { VisitorShape } from "../../services/transport/HttpRoutes.js"
import { type Connection, closeCode } from "../../services/transport/Transport.js"
import * as TransportMemory from "../transport/TransportMemory.js"
import { Refused } from "./problems.js"

/** Milliseconds that an answer may take. */
const patience = 30_000

/** Events after which they are acknowledged. */
const ackEvery = 128

/** All but what would be sent to nobody. */
const features: ReadonlyArray<string> = [
  ...Features.all.filter((feature) => feature !== "heartbeat" && feature !== "progress"),
  Features.transient,
  Features.unobserved
]

/** What is sent beside the payload. */
export interface AskOptions {
  readonly jobId?: string | undefined
  readonly traceId?: string | undefined
  readonly extensions?: Readonly<Record<string, unknown>> | undefined
}

/** An open session. */
export interface Line {
  /** Sends a request and returns the payload of its answer, and its extensions. */
  readonly ask: (
    type: string,
    payload: Readonly<Record<string, unknown>>,
    options?: AskOptions
  ) => Effect.Effect<Readonly<Record<string, unknown>>, ArcpError | Refused>
  /** Whether it can be asked no more. */
  readonly isOver: () => boolean
}

/** Whoever the session is for. */
export interface Guest {
  readonly visitor: VisitorShape
  readonly token: Redacted.Redacted | undefined
}

type Fields = Readonly<Record<string, unknown>>

const isFields = (value: unknown): value is Fields => typeof value === "object" && value !== null

const fieldsOf = (value: unknown): Fields => (isFields(value) ? value : {})

/** A message that is an event and nothing else: most are, and nobody looks into them. */
const event = /^\{"arcp":"[^"]+","id":"[^"]+","type":"job\.event"/

const over = () =>
  new InternalError({ message: "the session has ended; try again", details: { reason: "session" } })

const errorOf = (payload: Fields): ArcpError =>
  fromPayload({
    code: String(payload["code"]),
    message: String(payload["message"]),
    retryable: payload["retryable"] === true,
    ...(isFields(payload["details"]) ? { details: payload["details"] } : {})
  })

/** Says whether a request does nothing the second time: all but a submit without a key, which is a second job. */
const isRepeatable = (type: string, payload: Fields): boolean =>
  type !== "job.submit" || payload["idempotency_key"] !== undefined

/** Who waits for an answer. */
interface Asking {
  readonly isRepeatable: boolean
  readonly settle: (answer: Effect.Effect<Fields, ArcpError>) => void
}

/** The client's end of a session: who waits for which answer. */
class Caller {
  private readonly waiting = new Map<string, Asking>()
  private readonly welcomed = Deferred.unsafeMake<Fields, ArcpError>(FiberId.none)
  private sent = 0
  private seen = 0
  private acked = 0
  /** An acknowledgement is being sent. */
  private acking = false
  private ended: ArcpError | undefined
  /** What was said last when it was about the session: why it ends, if nothing comes after it. */
  private last: ArcpError | undefined
  private sessionId: string | undefined
  private frameBytes = 64 * 1024

  constructor(private readonly connection: Connection) {}

  readonly welcome: Effect.Effect<Fields, ArcpError> = Effect.suspend(() => Deferred.await(this.welcomed))
  readonly isOver = (): boolean => this.ended !== undefined

  private end(error: ArcpError): void {
    this.ended ??= error
    Deferred.unsafeDone(this.welcomed, Effect.fail(this.ended))
    for (const { isRepeatable, settle } of this.waiting.values())
      settle(Effect.fail(isRepeatable ? error : unknown("the session has ended before the answer")))
    this.waiting.clear()
  }

  private settle(id: unknown, answer: Effect.Effect<Fields, ArcpError>): void {
    if (typeof id !== "string") return
    this.waiting.get(id)?.settle(answer)
    this.waiting.delete(id)
  }

  private receive(frame: string): void {
    this.last = undefined
    if (event.test(frame)) {
      this.seen++
      return
    }
    const message = fieldsOf(JSON.parse(frame))
    const payload = fieldsOf(message["payload"])
    const details = fieldsOf(payload["details"])
    if (typeof message["event_seq"] === "number") this.seen = message["event_seq"]
    switch (message["type"]) {
      case "session.welcome": {
        const limits = fieldsOf(fieldsOf(payload["capabilities"])[Vendor.limits])
        this.frameBytes = Number(limits["frame_bytes"] ?? this.frameBytes)
        this.sessionId = String(payload["session_id"])
        return Deferred.unsafeDone(this.welcomed, Effect.succeed(payload))
      }
      case "job.error":
        return this.settle(details["request_id"], Effect.fail(errorOf(payload)))
      case "session.error":
        if (this.sessionId === undefined) return this.end(errorOf(payload))
        if (details["request_id"] === undefined) {
          this.last = errorOf(payload)
          return
        }
        return this.settle(details["request_id"], Effect.fail(errorOf(payload)))
      default:
        return this.settle(
          payload["request_id"],
          Effect.succeed({ ...fieldsOf(message["extensions"]), ...payload })
        )
    }
  }

  /**
   * Acknowledges what has come, one after the other and beside the reading: sending waits until the runtime reads, which may wait
   * until its answers are read.
   */
  private readonly acknowledge = Effect.suspend(() => {
    if (this.acking || this.seen - this.acked < ackEvery) return Effect.void
    this.acking = true
    this.acked = this.seen
    const { frame } = this.message("session.ack", { last_processed_seq: this.seen })
    const sent = Effect.sync(() => {
      this.acking = false
    })
    return Effect.fork(Effect.ensuring(this.connection.send([frame]), sent))
  })

  /** Reads until the connection is closed. */
  readonly run: Effect.Effect<void> = Effect.suspend(() => this.connection.take).pipe(
    Effect.tap((frames) => {
      for (const frame of frames) if (typeof frame === "string") this.receive(frame)
      return this.acknowledge
    }),
    Effect.forever,
    Effect.catchAll(() => Effect.void),
    Effect.ensuring(Effect.sync(() => this.end(this.last ?? over())))
  )

  private message(type: string, payload: Fields, options: AskOptions = {}) {
    const id = `http_${++this.sent}`
    const { extensions, jobId, traceId } = options
    const frame = JSON.stringify({
      arcp: "1.1",
      id,
      type,
      session_id: this.sessionId,
      job_id: jobId,
      trace_id: traceId,
      extensions,
      payload
    })
    return { id, frame }
  }

  readonly hello = (token: Redacted.Redacted | undefined): Effect.Effect<void> =>
    this.connection.send([
      this.message("session.hello", {
        client: { name: "effect-arcp-http", version: "1" },
        ...(token === undefined ? {} : { auth: { scheme: "bearer", token: Redacted.value(token) } }),
        capabilities: { features }
      }).frame
    ])

  readonly ask: Line["ask"] = (type, payload, options) =>
    Effect.suspend((): ReturnType<Line["ask"]> => {
      if (this.ended !== undefined) return this.ended
      const written = Either.try(() => this.message(type, payload, options))
      // Nested deeper than can be written.
      if (Either.isLeft(written)) return unwritable
      const { frame, id } = written.right
      if (byteLength(frame) > this.frameBytes) return tooLarge(this.frameBytes)
      const answer = Deferred.unsafeMake<Fields, ArcpError>(FiberId.none)
      // Before it is sent: the answer may be quicker than whoever sends.
      const asking = {
        isRepeatable: isRepeatable(type, payload),
        settle: (said: Effect.Effect<Fields, ArcpError>) => Deferred.unsafeDone(answer, said)
      }
      this.waiting.set(id, asking)
      const onTimeout = () => (asking.isRepeatable ? late("no answer in time") : unknown("no answer in time"))
      return Effect.zipRight(this.connection.send([frame]), Deferred.await(answer)).pipe(
        Effect.timeoutFail({ duration: patience, onTimeout }),
        Effect.ensuring(Effect.sync(() => this.waiting.delete(id)))
      )
    })
}

const unwritable = new InvalidRequest({ message: "the body is nested too deeply" })

/** Of what was sent and not answered, and would be done twice by whoever repeats it, whatever the session has ended with. */
const unknown = (what: string) =>
  new InternalError({
    message: `${what}; whether it was done is not known`,
    details: { reason: "unanswered" }
  })

/** Returns the refusal of a request whose frame would be over what the runtime takes. */
export const tooLarge = (bytes: number, headers?: Refused["headers"]) =>
  new Refused({
    status: 413,
    message: `the request is too large: at most ${bytes} bytes`,
    details: { limit: "frame_bytes" },
    headers
  })

const late = (what: string) =>
  new InternalError({ message: `${what}; try again`, details: { reason: "timeout" } })

/** Opens a session for the scope; leaving that ends it, and its jobs go on. */
export const open = (
  sessions: Sessions["Type"],
  { token, visitor }: Guest
): Effect.Effect<Line, ArcpError, Scope.Scope> =>
  Effect.gen(function* () {
    const [client, server] = yield* TransportMemory.make
    const { client: address, evidence, exposed, remote } = visitor
    yield* Effect.forkScoped(
      sessions.serve({
        ...server,
        kind: "http",
        remote,
        client: address,
        exposed,
        evidence: Effect.succeed(evidence),
        isShared: true
      })
    )
    const caller = new Caller(client)
    yield* Effect.forkScoped(caller.run)
    yield* Effect.addFinalizer(() => client.close(closeCode.normal, ""))
    yield* caller.hello(token)
    yield* Effect.timeoutFail(caller.welcome, {
      duration: patience,
      onTimeout: () => late("no session in time")
    })
    return { ask: caller.ask, isOver: caller.isOver }
  })
