/**
 * A session over connections that come and go. One fiber connects, says hello or resumes, and reads until the
 * connection is gone; then again. Requests that were not answered are sent again with the same id, which the
 * runtime answers again without doing them twice (§7.1). What arrives is checked for gaps and duplicates here,
 * so everything behind sees each event exactly once.
 */
import * as Chunk from "effect/Chunk"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as SubscriptionRef from "effect/SubscriptionRef"
import { decodeRuntime, encode, type RuntimeMessage } from "../../protocol/Codec.js"
import {
  fromPayload,
  InvalidRequest,
  isArcpError,
  ResumeWindowExpired,
  retryable
} from "../../protocol/Errors.js"
import type { Feature } from "../../protocol/Features.js"
import type * as Message from "../../protocol/Message.js"
import {
  type ClientError,
  ProtocolViolation,
  type ResumeState,
  type Status
} from "../../services/ArcpClient.js"
import {
  type Closed,
  type Connection,
  closeCode,
  type Dialer,
  TransportError
} from "../../services/Transport.js"
import { Handles } from "./Handles.js"
import { type Activity, heartbeat } from "./heartbeat.js"
import type { JobFrame, JobInbox } from "./JobInbox.js"
import { type Answer, Requests } from "./Requests.js"

export interface SessionOptions {
  readonly token: Redacted.Redacted
  readonly name: string
  readonly version: string
  readonly features: ReadonlyArray<Feature>
  /** Delays between attempts to reconnect. Attempts end with it, or with the session's resume window. */
  readonly reconnect: Schedule.Schedule<unknown>
  /** Acknowledge after so many events that the application has taken, and so often while there are any. */
  readonly ackEvery: number
  readonly ackInterval: Duration.Duration
  /** Continue a session of another process. */
  readonly resume?: ResumeState | undefined
  readonly nextId: () => string
  readonly now: () => number
}

/** Milliseconds that a runtime may take to answer a hello. */
const welcomeTimeout = Duration.seconds(10)

/** The connection was lost, and why. */
const lost = (closed: Closed) =>
  new TransportError({
    message: closed.reason === "" ? `the connection closed (${closed.code})` : closed.reason
  })

export class ClientSession {
  sessionId: string | undefined
  features: ReadonlyArray<string> = []
  agents: ReadonlyArray<Message.AgentEntry> = []
  lastEventSeq = 0
  /** Set when the session is over for good. */
  over: ClientError | undefined
  private token: string | undefined
  private acked = 0
  private windowSec = 600
  private heartbeatSec: number | undefined
  /** Somebody else has resumed this session; it is not ours to come back to. */
  private superseded = false
  private connection: Connection | undefined
  private readonly requests = new Requests()
  private readonly handles = new Handles()
  private out: Array<string> = []
  private ring: (() => void) | undefined
  private readonly activity: Activity = { sentAt: 0, receivedAt: 0 }

  constructor(
    private readonly dialer: Dialer["Type"],
    private readonly options: SessionOptions,
    private readonly status: SubscriptionRef.SubscriptionRef<Status>
  ) {
    if (options.resume !== undefined) {
      this.sessionId = options.resume.sessionId
      this.token = options.resume.resumeToken
      this.lastEventSeq = options.resume.lastEventSeq
    }
  }

  get resumeState(): ResumeState {
    return {
      sessionId: this.sessionId ?? "",
      resumeToken: this.token ?? "",
      lastEventSeq: this.lastEventSeq
    }
  }

  /** Sends a message that expects no answer; dropped when there is no connection. */
  post(type: string, payload: unknown, jobId?: string): void {
    if (this.connection === undefined || this.sessionId === undefined) return
    this.push(encode({ id: this.options.nextId(), type, session_id: this.sessionId, job_id: jobId, payload }))
  }

  /** Sends a request and waits for its answer, over as many connections as it takes. */
  request<A extends Answer["type"]>(
    type: string,
    answer: A,
    payload: unknown,
    more: {
      readonly jobId?: string | undefined
      readonly traceId?: string | undefined
      readonly repeatable?: boolean
      /** Called synchronously with the answer, before any later frame is looked at. */
      readonly onAnswer?: (answer: Answer & { readonly type: A }) => void
    } = {}
  ): Effect.Effect<Answer & { readonly type: A }, ClientError> {
    return Effect.async((resume) => {
      if (this.over !== undefined) return resume(Effect.fail(this.over))
      const id = this.options.nextId()
      const frame = (sessionId: string) =>
        encode({ id, type, session_id: sessionId, job_id: more.jobId, trace_id: more.traceId, payload })
      // A pong names the nonce of its ping, everything else the id of the request.
      const key = type === "session.ping" ? (payload as { nonce: string }).nonce : id
      this.requests.add(key, {
        frame,
        repeatable: more.repeatable ?? true,
        claims: more.onAnswer !== undefined,
        failed: (error) => resume(Effect.fail(error)),
        answered: (message) => {
          if (message.type !== answer) return
          const found = message as Answer & { readonly type: A }
          more.onAnswer?.(found)
          resume(Effect.succeed(found))
        }
      })
      if (this.connection !== undefined && this.sessionId !== undefined) this.push(frame(this.sessionId))
      return Effect.sync(() => this.requests.drop(key))
    })
  }

  /** From now on the job's frames behind `after` go there too. */
  register(jobId: string, inbox: JobInbox, after = 0): void {
    if (this.over !== undefined) inbox.fail(this.over)
    else this.handles.register(jobId, inbox, after)
  }
  /** Is there a handle on this job that waits for its end? */
  has(jobId: string): boolean {
    return this.handles.has(jobId)
  }
  unregister(jobId: string): void {
    this.handles.fail(jobId, new InvalidRequest({ message: "this client has unsubscribed from the job" }))
  }

  readonly dropTransport = Effect.suspend(
    () => this.connection?.close(closeCode.normal, "dropped by the client") ?? Effect.void
  )

  /** Ends everything that waits. `reported` goes into the status; `null` when it was meant to end. */
  finish(error: ClientError, reported: ClientError | null = error): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.over !== undefined) return Effect.void
      this.over = error
      this.requests.fail(error, false)
      this.handles.failAll(error)
      return SubscriptionRef.set(this.status, { _tag: "Closed", error: reported ?? undefined })
    })
  }

  /** Connects once and serves that connection to its end. `ready` is called with the welcome. */
  attempt(ready: Effect.Effect<void>): Effect.Effect<never, ClientError> {
    return Effect.scoped(
      Effect.gen(this, function* () {
        const connection = yield* this.dialer.connect
        yield* connection.send([this.hello()])
        const frames = yield* connection.take.pipe(
          Effect.mapError(lost),
          Effect.timeoutFail({
            duration: welcomeTimeout,
            onTimeout: () => new TransportError({ message: "the runtime did not answer session.hello" })
          })
        )
        const resumedAt = yield* this.welcomed(Chunk.unsafeHead(frames))
        this.connection = connection
        this.activity.sentAt = this.activity.receivedAt = this.options.now()
        const sessionId = this.sessionId as string
        this.out = this.requests.frames(sessionId)
        yield* SubscriptionRef.set(this.status, { _tag: "Connected", sessionId, resumedAt })
        yield* ready
        // None of them succeeds; the first to fail ends the others.
        return yield* Effect.zipRight(
          Effect.all([this.write(connection), this.beat(connection), this.acknowledge], {
            concurrency: "unbounded",
            discard: true
          }),
          this.read(connection, Chunk.drop(frames, 1)),
          { concurrent: true }
        )
      }).pipe(
        Effect.ensuring(
          Effect.sync(() => {
            this.connection = undefined
            this.out = []
          })
        )
      )
    )
  }

  /** Reconnects for as long as there is something to come back to. Ends only when the session is over. */
  run(
    ready: Effect.Effect<void>,
    failFirst: (error: ClientError) => Effect.Effect<void>
  ): Effect.Effect<void> {
    return Effect.gen(this, function* () {
      const delays = yield* Schedule.driver(this.options.reconnect)
      let connected = false
      let lostAt = this.options.now()
      const welcomed = Effect.suspend(() => {
        connected = true
        lostAt = Infinity
        return Effect.zipRight(delays.reset, ready)
      })
      for (;;) {
        const error = yield* Effect.flip(this.attempt(welcomed))
        if (!connected) return yield* Effect.zipRight(failFirst(error), this.finish(error))
        if (error._tag === "ResumeWindowExpired" && this.sessionId !== undefined && !this.superseded) {
          this.forget(error)
          continue
        }
        const fatal = isArcpError(error) ? !retryable[error.code] : error._tag === "ProtocolViolation"
        if (fatal) return yield* this.finish(error)
        lostAt = Math.min(lostAt, this.options.now())
        if (this.sessionId !== undefined && this.options.now() - lostAt > this.windowSec * 1000)
          this.forget(new ResumeWindowExpired({ message: "no connection within the resume window" }))
        yield* SubscriptionRef.set(this.status, {
          _tag: "Reconnecting",
          lastEventSeq: this.lastEventSeq,
          reason: error.message
        })
        if (Exit.isFailure(yield* Effect.exit(delays.next(undefined)))) return yield* this.finish(error)
      }
    })
  }

  /** The session is gone: what depended on it fails, and the next attempt opens another one. */
  private forget(error: ResumeWindowExpired): void {
    this.handles.failAll(error)
    this.requests.fail(error, true)
    this.sessionId = undefined
    this.token = undefined
    this.lastEventSeq = 0
    this.acked = 0
  }

  private hello(): string {
    const { token, name, version, features } = this.options
    return encode({
      id: this.options.nextId(),
      type: "session.hello",
      payload: {
        client: { name, version },
        auth: { scheme: "bearer", token: Redacted.value(token) },
        capabilities: { encodings: ["json"], features },
        ...(this.sessionId === undefined
          ? {}
          : {
              resume: {
                session_id: this.sessionId,
                resume_token: this.token,
                last_event_seq: this.lastEventSeq
              }
            })
      }
    })
  }

  /** Takes the answer to the hello. Returns where the session was resumed, if it was. */
  private welcomed(frame: unknown): Effect.Effect<number | undefined, ClientError> {
    const decoded = typeof frame === "string" ? decodeRuntime(frame) : undefined
    if (decoded === undefined || Either.isLeft(decoded))
      return new ProtocolViolation({ message: "the runtime's first message could not be read" })
    const message = decoded.right
    if (message.type === "session.error") return Effect.fail(fromPayload(message.payload))
    if (message.type !== "session.welcome")
      return new ProtocolViolation({ message: `the runtime answered session.hello with ${message.type}` })
    const welcome = message.payload
    if (this.sessionId !== undefined && this.sessionId !== welcome.session_id)
      return new ProtocolViolation({ message: "the runtime answered a resume with another session" })
    const resumedAt = this.sessionId === undefined ? undefined : this.lastEventSeq
    this.sessionId = welcome.session_id
    this.token = welcome.resume_token
    this.windowSec = welcome.resume_window_sec
    this.heartbeatSec = welcome.heartbeat_interval_sec
    this.features = welcome.capabilities.features
    this.agents = welcome.capabilities.agents.map((agent) =>
      typeof agent === "string" ? { name: agent, versions: [] } : agent
    )
    return Effect.succeed(resumedAt)
  }

  private push(frame: string): void {
    this.out.push(frame)
    const ring = this.ring
    this.ring = undefined
    ring?.()
  }

  private write(connection: Connection): Effect.Effect<never> {
    return Effect.forever(
      Effect.suspend(() => {
        if (this.out.length === 0)
          return Effect.async<void>((resume) => {
            this.ring = () => resume(Effect.void)
          })
        const frames = this.out
        this.out = []
        this.activity.sentAt = this.options.now()
        return connection.send(frames)
      })
    )
  }

  private read(connection: Connection, first: Chunk.Chunk<unknown>): Effect.Effect<never, ClientError> {
    return Effect.gen(this, function* () {
      let frames: Chunk.Chunk<unknown> = first
      for (;;) {
        this.activity.receivedAt = this.options.now()
        for (const frame of frames) {
          const violation = this.handle(frame)
          if (violation !== undefined) return yield* violation
        }
        if (this.lastEventSeq - this.acked >= this.options.ackEvery) this.sendAck(this.options.ackEvery)
        frames = yield* Effect.mapError(connection.take, (closed) => {
          if (closed.code !== closeCode.superseded) return lost(closed)
          this.superseded = true
          return new ResumeWindowExpired({ message: "another connection has resumed this session" })
        })
      }
    })
  }

  private handle(frame: unknown): ProtocolViolation | undefined {
    const decoded = typeof frame === "string" ? decodeRuntime(frame) : undefined
    if (decoded === undefined) return new ProtocolViolation({ message: "the runtime sent a binary frame" })
    if (Either.isLeft(decoded))
      // Messages that we do not know are for clients that do.
      return decoded.left._tag === "Malformed"
        ? new ProtocolViolation({ message: `the runtime sent a malformed frame: ${decoded.left.message}` })
        : undefined
    const message = decoded.right
    switch (message.type) {
      case "session.ping":
        this.post("session.pong", {
          ping_nonce: message.payload.nonce,
          received_at: new Date(this.options.now()).toISOString()
        })
        return undefined
      case "session.pong":
        this.requests.answer(message.payload.ping_nonce, message)
        return undefined
      case "session.error": {
        const id = message.payload.details?.["request_id"]
        if (typeof id === "string") this.requests.reject(id, fromPayload(message.payload))
        return undefined
      }
      case "session.jobs":
      case "job.accepted":
      case "job.subscribed":
      case "job.cancelled":
        this.requests.answer(message.payload.request_id, message)
        return undefined
      case "job.event":
      case "job.result":
      case "job.error":
        return this.event(message)
      default:
        return undefined
    }
  }

  private event(
    message: RuntimeMessage & { readonly type: JobFrame["type"] }
  ): ProtocolViolation | undefined {
    const { event_seq: seq, job_id: jobId } = message
    if (seq === undefined || jobId === undefined)
      return new ProtocolViolation({
        message: `the runtime sent a ${message.type} without event_seq or job_id`
      })
    const requestId = message.type === "job.error" ? message.payload.details?.["request_id"] : undefined
    const refused =
      message.type === "job.error" &&
      typeof requestId === "string" &&
      this.requests.reject(requestId, fromPayload(message.payload))
    if (seq <= this.lastEventSeq) return undefined
    if (seq !== this.lastEventSeq + 1) {
      // A refusal is repeated to a repeated submit, out of turn when a replay is still on its way to it.
      if (refused) return undefined
      return new ProtocolViolation({ message: `event ${seq} came where ${this.lastEventSeq + 1} follows` })
    }
    this.lastEventSeq = seq
    if (!refused) this.handles.deliver(jobId, message as unknown as JobFrame, this.requests.claiming)
    return undefined
  }

  /** Acknowledges what the application has taken, when that is at least so many events more than before. */
  private sendAck(atLeast: number): void {
    const consumed = this.handles.consumed(this.lastEventSeq)
    if (consumed - this.acked < atLeast) return
    this.acked = consumed
    if (this.features.includes("ack")) this.post("session.ack", { last_processed_seq: consumed })
  }

  private readonly acknowledge: Effect.Effect<never> = Effect.suspend(() => {
    this.sendAck(1)
    return Effect.sleep(this.options.ackInterval)
  }).pipe(Effect.forever)

  private beat(connection: Connection): Effect.Effect<never, ClientError> {
    if (this.heartbeatSec === undefined) return Effect.never
    return heartbeat(this.activity, {
      intervalSec: this.heartbeatSec,
      now: this.options.now,
      ping: () =>
        this.post("session.ping", {
          nonce: this.options.nextId(),
          sent_at: new Date(this.options.now()).toISOString()
        })
    }).pipe(
      Effect.tapError(() => Effect.forkDaemon(connection.close(closeCode.heartbeatLost, "HEARTBEAT_LOST")))
    )
  }
}
