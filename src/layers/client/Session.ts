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
import { type ArcpError, fromPayload, isArcpError, ResumeWindowExpired } from "../../protocol/Errors.js"
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
import type { JobFrame, JobInbox } from "./JobInbox.js"

export interface SessionOptions {
  readonly token: Redacted.Redacted
  readonly name: string
  readonly version: string
  readonly features: ReadonlyArray<Feature>
  /** Delays between attempts to reconnect. Attempts end with it, or with the session's resume window. */
  readonly reconnect: Schedule.Schedule<unknown>
  /** Continue a session of another process. */
  readonly resume?: ResumeState | undefined
  readonly nextId: () => string
  readonly now: () => number
}

/** Acknowledge after this many events, and at least this often while there are any. */
const ackEvery = 256
const ackInterval = Duration.seconds(1)
/** Milliseconds that a runtime may take to answer a hello. */
const welcomeTimeout = Duration.seconds(10)

type Answer = RuntimeMessage & {
  readonly type: "job.accepted" | "job.cancelled" | "job.subscribed" | "session.jobs" | "session.pong"
}

interface Pending {
  readonly frame: (sessionId: string) => string
  readonly answered: (answer: Answer) => void
  readonly failed: (error: ClientError) => void
  /** May be sent to a new session too, when the one it was sent to is gone. */
  readonly repeatable: boolean
}

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
  private readonly pending = new Map<string, Pending>()
  private readonly jobs = new Map<string, JobInbox>()
  /** Frames of jobs whose accept has not come yet: after a resume they may overtake it. */
  private readonly early = new Map<string, Array<JobFrame>>()
  private out: Array<string> = []
  private ring: (() => void) | undefined
  private sentAt = 0
  private receivedAt = 0

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
      this.pending.set(key, {
        frame,
        repeatable: more.repeatable ?? true,
        failed: (error) => resume(Effect.fail(error)),
        answered: (message) => {
          if (message.type !== answer) return
          const found = message as Answer & { readonly type: A }
          more.onAnswer?.(found)
          resume(Effect.succeed(found))
        }
      })
      if (this.connection !== undefined && this.sessionId !== undefined) this.push(frame(this.sessionId))
      return Effect.sync(() => this.pending.delete(key))
    })
  }

  /** From now on the job's frames go there. */
  register(jobId: string, inbox: JobInbox): void {
    if (this.over !== undefined) return inbox.fail(this.over)
    this.jobs.set(jobId, inbox)
    const early = this.early.get(jobId)
    this.early.delete(jobId)
    for (const frame of early ?? []) this.deliver(jobId, frame)
  }
  unregister(jobId: string): void {
    this.jobs.delete(jobId)
  }

  readonly dropTransport = Effect.suspend(
    () => this.connection?.close(closeCode.normal, "dropped by the client") ?? Effect.void
  )

  /** Ends everything that waits. */
  finish(error: ClientError): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.over ??= error
      const pending = [...this.pending.values()]
      const jobs = [...this.jobs.values()]
      this.pending.clear()
      this.jobs.clear()
      for (const request of pending) request.failed(error)
      for (const job of jobs) job.fail(error)
      return SubscriptionRef.set(this.status, { _tag: "Closed", error })
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
        this.sentAt = this.receivedAt = this.options.now()
        const sessionId = this.sessionId as string
        this.out = [...this.pending.values()].map((request) => request.frame(sessionId))
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
        if (this.over !== undefined) return
        if (error._tag === "ResumeWindowExpired" && !this.superseded) {
          this.forget(error)
          continue
        }
        if (isArcpError(error) || error._tag === "ProtocolViolation") return yield* this.finish(error)
        lostAt = Math.min(lostAt, this.options.now())
        if (this.options.now() - lostAt > this.windowSec * 1000)
          return yield* this.finish(
            new TransportError({ message: "no connection within the resume window: the session is gone" })
          )
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
    for (const job of this.jobs.values()) job.fail(error)
    this.jobs.clear()
    this.early.clear()
    for (const [id, request] of this.pending)
      if (!request.repeatable) {
        this.pending.delete(id)
        request.failed(error)
      }
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
    const resumedAt = this.sessionId === welcome.session_id ? this.lastEventSeq : undefined
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
        this.sentAt = this.options.now()
        return connection.send(frames)
      })
    )
  }

  private read(connection: Connection, first: Chunk.Chunk<unknown>): Effect.Effect<never, ClientError> {
    return Effect.gen(this, function* () {
      let frames: Chunk.Chunk<unknown> = first
      for (;;) {
        this.receivedAt = this.options.now()
        for (const frame of frames) {
          const violation = this.handle(frame)
          if (violation !== undefined) return yield* violation
        }
        if (this.lastEventSeq - this.acked >= ackEvery) this.sendAck()
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
        return this.answer(message.payload.ping_nonce, message)
      case "session.error": {
        const id = message.payload.details?.["request_id"]
        if (typeof id === "string") this.reject(id, fromPayload(message.payload))
        return undefined
      }
      case "session.jobs":
        return this.answer(message.payload.request_id, message)
      case "job.accepted":
      case "job.subscribed":
      case "job.cancelled":
        return this.answer(message.payload.request_id, message)
      case "job.event":
      case "job.result":
      case "job.error":
        return this.event(message)
      default:
        return undefined
    }
  }

  private answer(id: string | undefined, message: Answer): undefined {
    const pending = id === undefined ? undefined : this.pending.get(id)
    if (pending === undefined) return
    this.pending.delete(id as string)
    pending.answered(message)
  }

  private reject(id: string, error: ArcpError): boolean {
    const pending = this.pending.get(id)
    this.pending.delete(id)
    pending?.failed(error)
    return pending !== undefined
  }

  private event(
    message: RuntimeMessage & { readonly type: JobFrame["type"] }
  ): ProtocolViolation | undefined {
    const { event_seq: seq, job_id: jobId } = message
    if (seq === undefined || jobId === undefined)
      return new ProtocolViolation({
        message: `the runtime sent a ${message.type} without event_seq or job_id`
      })
    if (seq <= this.lastEventSeq) return undefined
    if (seq !== this.lastEventSeq + 1)
      return new ProtocolViolation({ message: `event ${seq} came where ${this.lastEventSeq + 1} follows` })
    this.lastEventSeq = seq
    if (message.type === "job.error") {
      const id = message.payload.details?.["request_id"]
      if (typeof id === "string" && this.reject(id, fromPayload(message.payload))) return undefined
    }
    this.deliver(jobId, message as unknown as JobFrame)
    return undefined
  }

  private deliver(jobId: string, frame: JobFrame): void {
    const inbox = this.jobs.get(jobId)
    if (inbox !== undefined) {
      if (frame.type !== "job.event") this.jobs.delete(jobId)
      inbox.offer(frame)
    } else if (this.pending.size > 0) {
      const early = this.early.get(jobId)
      if (early === undefined) this.early.set(jobId, [frame])
      else early.push(frame)
    } else this.early.clear()
  }

  private sendAck(): void {
    this.acked = this.lastEventSeq
    if (this.features.includes("ack")) this.post("session.ack", { last_processed_seq: this.acked })
  }

  private readonly acknowledge: Effect.Effect<never> = Effect.suspend(() => {
    if (this.lastEventSeq > this.acked) this.sendAck()
    return Effect.sleep(ackInterval)
  }).pipe(Effect.forever)

  /** Pings when nothing was sent, or nothing came, for an interval; gives the connection up after two. */
  private beat(connection: Connection): Effect.Effect<never, ClientError> {
    if (this.heartbeatSec === undefined) return Effect.never
    const interval = this.heartbeatSec * 1000
    return Effect.gen(this, function* () {
      let pingedAt = 0
      for (;;) {
        const { sentAt, receivedAt } = this
        const ping = Math.min(sentAt, pingedAt > receivedAt ? Infinity : receivedAt) + interval
        const due = Math.min(ping, receivedAt + 2 * interval) - this.options.now()
        if (due > 0) {
          yield* Effect.sleep(Duration.millis(due))
          continue
        }
        if (this.options.now() - receivedAt >= 2 * interval) {
          yield* Effect.forkDaemon(connection.close(closeCode.heartbeatLost, "HEARTBEAT_LOST"))
          return yield* new TransportError({ message: "nothing was received for two heartbeat intervals" })
        }
        pingedAt = this.sentAt = this.options.now()
        this.post("session.ping", { nonce: this.options.nextId(), sent_at: new Date(pingedAt).toISOString() })
      }
    })
  }
}
