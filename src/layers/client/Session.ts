/**
 * A session over connections that come and go. One fiber connects, says hello or resumes, and reads until the
 * connection is gone; then again. Requests that were not answered are sent again with the same id, which the
 * runtime answers again without doing them twice (§7.1). What arrives is checked for gaps and duplicates here,
 * so everything behind sees each event exactly once.
 *
 * A resume is also how what was left unread is fetched: it is asked for from where the slowest reader is, and
 * every lane passes over what it has had (Lane.ts).
 */
import * as Chunk from "effect/Chunk"
import * as Data from "effect/Data"
import * as Deferred from "effect/Deferred"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type { RuntimeMessage } from "../../protocol/Codec.js"
import { encode } from "../../protocol/Envelope.js"
import { fromPayload, isArcpError, isRetryable, ResumeWindowExpired } from "../../protocol/Errors.js"
import type { Feature } from "../../protocol/Features.js"
import type * as Message from "../../protocol/Message.js"
import { decodeRuntime } from "../../protocol/RuntimeFrame.js"
import {
  type ClientError,
  ProtocolViolation,
  type ResumeState,
  type Status
} from "../../services/client/ArcpClient.js"
import {
  type Closed,
  type Connection,
  closeCode,
  type Dialer,
  TransportError
} from "../../services/transport/Transport.js"
import { Cell } from "./Cell.js"
import { Handles } from "./Handles.js"
import type { JobFrame, JobInbox } from "./JobInbox.js"
import type { AnyLane, Host } from "./Lane.js"
import { Line } from "./Line.js"
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
  readonly maxHeld: Host["maxHeld"]
  /** Continue a session of another process; `mayBeGone`: else open another one. */
  readonly resume?: (ResumeState & { readonly mayBeGone: boolean }) | undefined
  readonly nextId: () => string
  readonly now: () => number
  /** Milliseconds of a clock that only goes forward. */
  readonly monotonic: () => number
  /** The session's token or place has changed: called, and waited for, before anything shows it to the runtime. */
  readonly save: Effect.Effect<void>
  /** These jobs had handles in a session that is gone; a new one is open. Waits for nothing. */
  readonly reattach: (jobs: Handles["jobs"], lost: ResumeWindowExpired) => Effect.Effect<void>
}

/** What a runtime may take to answer a hello. */
const welcomeTimeout = Duration.seconds(10)

/** How long reading waits for a full lane whose reader is at work, before that falls behind. */
const patience = Duration.millis(250)

/** The connection is given up to read again from further back. */
class Rewind extends Data.TaggedError("Rewind") {}

/** The connection was lost, and why. */
const lost = (closed: Closed) =>
  new TransportError({
    message: closed.reason === "" ? `the connection closed (${closed.code})` : closed.reason
  })

export class ClientSession implements Host {
  readonly status = new Cell<Status>({ _tag: "Connecting" })
  readonly handles = new Handles()
  sessionId: string | undefined
  features: ReadonlyArray<string> = []
  agents: ReadonlyArray<Message.AgentEntry> = []
  /** The newest event received, over all connections. */
  lastEventSeq = 0
  /** Set when the session is over for good. */
  over: ClientError | undefined
  private token: string | undefined
  /** Behind which event the connection was asked to begin, and which event comes next on it. */
  private from = 0
  private next = 1
  private acked = 0
  private windowSec = 600
  private heartbeatSec: number | undefined
  /** Somebody else has resumed this session; it is not ours to come back to. */
  private superseded = false
  /** Where a gap was seen; a second one at the same place is the runtime's. */
  private gapAt: number | undefined
  private duplicated = false
  private warned = false
  private connection: Connection | undefined
  private readonly requests = new Requests()
  private readonly line: Line
  private readonly crowded = new Set<AnyLane>()
  private cut: (() => void) | undefined
  /** Something has come, or was read, since that was looked at. */
  private stirred = false
  private wake: () => void = () => {}
  /** Jobs of a session that is gone, to be found again in the next. */
  private orphans: { readonly jobs: Handles["jobs"]; readonly error: ResumeWindowExpired } | undefined

  constructor(
    private readonly dialer: Dialer["Type"],
    private readonly options: SessionOptions
  ) {
    this.line = new Line(options.monotonic)
    if (options.resume !== undefined) {
      this.sessionId = options.resume.sessionId
      this.token = options.resume.resumeToken
      this.lastEventSeq = this.acked = options.resume.lastEventSeq
    }
  }

  get resumeState(): ResumeState {
    return {
      sessionId: this.sessionId ?? "",
      resumeToken: this.token ?? "",
      lastEventSeq: Math.max(this.acked, this.handles.consumed(this.lastEventSeq))
    }
  }

  get maxHeld() {
    return this.options.maxHeld
  }
  now(): number {
    return this.options.now()
  }
  read(): void {
    this.stirred = true
    this.wake()
  }
  full(lane: AnyLane): void {
    this.crowded.add(lane)
  }
  starved(): void {
    // The runtime would go with the connection, and what was left behind with it.
    if (this.dialer.ephemeral === true) this.handles.evicted(this.lastEventSeq)
    else this.cut?.()
  }

  /** Sends a message that expects no answer; dropped when there is no connection. */
  post(type: string, payload: unknown, jobId?: string): void {
    if (this.connection === undefined || this.sessionId === undefined) return
    this.line.push(
      encode({ id: this.options.nextId(), type, session_id: this.sessionId, job_id: jobId, payload })
    )
  }

  /** Sends a request whose answer nobody waits for; again after a resume, until there is one. */
  tell(type: string, payload: unknown, jobId: string): void {
    if (this.over !== undefined) return
    const id = this.options.nextId()
    const frame = (sessionId: string) => encode({ id, type, session_id: sessionId, job_id: jobId, payload })
    const ignore = () => {}
    this.requests.add(id, { frame, repeatable: false, claims: false, failed: ignore, answered: ignore })
    if (this.connection !== undefined && this.sessionId !== undefined) this.line.push(frame(this.sessionId))
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
      /** Called with an answer that comes when nobody waits for it any more. */
      readonly onLateAnswer?: (answer: Answer & { readonly type: A }) => void
    } = {}
  ): Effect.Effect<Answer & { readonly type: A }, ClientError> {
    return Effect.async((resume) => {
      if (this.over !== undefined) return resume(Effect.fail(this.over))
      const id = this.options.nextId()
      const frame = (sessionId: string) =>
        encode({ id, type, session_id: sessionId, job_id: more.jobId, trace_id: more.traceId, payload })
      // A pong names the nonce of its ping, everything else the id of the request.
      const key = type === "session.ping" ? (payload as { nonce: string }).nonce : id
      const pending = {
        frame,
        repeatable: more.repeatable ?? true,
        claims: more.onAnswer !== undefined,
        failed: (error: ClientError) => resume(Effect.fail(error)),
        answered: (message: Answer) => {
          if (message.type !== answer) return
          const found = message as Answer & { readonly type: A }
          more.onAnswer?.(found)
          resume(Effect.succeed(found))
        }
      }
      this.requests.add(key, pending)
      if (this.connection !== undefined && this.sessionId !== undefined) this.line.push(frame(this.sessionId))
      return Effect.sync(() => {
        const { onLateAnswer } = more
        if (onLateAnswer === undefined || !this.requests.has(key)) return this.requests.drop(key)
        this.requests.add(key, {
          ...pending,
          claims: false,
          failed: () => {},
          answered: (message) => {
            if (message.type === answer) onLateAnswer(message as Answer & { readonly type: A })
          }
        })
      })
    })
  }

  /** From now on the job's frames go there too. */
  register(jobId: string, inbox: JobInbox): void {
    if (this.over !== undefined) inbox.fail(this.over)
    else this.handles.register(jobId, inbox)
  }

  readonly dropTransport = Effect.suspend(
    () => this.connection?.close(closeCode.normal, "dropped by the client") ?? Effect.void
  )

  /** Hands over what was said, to a connection that is about to be closed. */
  readonly flush = Effect.suspend(() =>
    this.connection === undefined ? Effect.void : this.line.flush(this.connection)
  )

  /** Ends everything that waits. `reported` goes into the status; `null` when it was meant to end. */
  finish(error: ClientError, reported: ClientError | null = error): void {
    if (this.over !== undefined) return
    this.over = error
    this.requests.fail(error, false)
    this.handles.failAll(error)
    this.status.set({ _tag: "Closed", error: reported ?? undefined })
    this.status.end()
  }

  /** Acknowledges what the application has taken, when that is at least so many events more than before. */
  acknowledge(atLeast: number): void {
    const consumed = this.handles.consumed(this.lastEventSeq)
    if (consumed - this.acked < atLeast) return
    this.acked = consumed
    if (this.features.includes("ack")) this.post("session.ack", { last_processed_seq: consumed })
  }

  get save(): Effect.Effect<void> {
    return this.options.save
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
        if (error._tag === "Rewind") continue
        const gone =
          error._tag === "ResumeWindowExpired" && this.sessionId !== undefined && !this.superseded
            ? error
            : undefined
        if (gone !== undefined && this.from < this.lastEventSeq) {
          // Perhaps only what was left unread is gone, and not the session.
          this.handles.evicted(this.lastEventSeq)
          continue
        }
        if (gone !== undefined && (connected || this.options.resume?.mayBeGone === true)) {
          this.forget(gone)
          continue
        }
        if (!connected)
          return yield* Effect.zipRight(
            failFirst(error),
            Effect.sync(() => this.finish(error))
          )
        const fatal = isArcpError(error) ? !isRetryable(error) : error._tag === "ProtocolViolation"
        if (fatal) return this.finish(error)
        lostAt = Math.min(lostAt, this.options.now())
        if (this.sessionId !== undefined && this.options.now() - lostAt > this.windowSec * 1000)
          this.forget(new ResumeWindowExpired({ message: "no connection within the resume window" }))
        this.status.set({
          _tag: "Reconnecting",
          lastEventSeq: this.lastEventSeq,
          reason: error.message
        })
        if (Exit.isFailure(yield* Effect.exit(delays.next(undefined)))) return this.finish(error)
      }
    })
  }

  /** Connects once and serves that connection to its end. `ready` is run with the welcome. */
  private attempt(ready: Effect.Effect<void>): Effect.Effect<never, ClientError | Rewind> {
    return Effect.scoped(
      Effect.gen(this, function* () {
        const connection = yield* this.dialer.connect
        this.from = this.handles.rewindTo(this.lastEventSeq)
        yield* connection.send([this.hello()])
        const frames = yield* connection.take.pipe(
          Effect.mapError(lost),
          Effect.timeoutTo({
            duration: welcomeTimeout,
            onSuccess: Effect.succeed,
            onTimeout: () => new TransportError({ message: "the runtime did not answer session.hello" })
          }),
          Effect.flatten
        )
        const resumedAt = yield* this.welcomed(Chunk.unsafeHead(frames))
        // The token before this one holds until the runtime has heard from us again.
        yield* this.options.save
        this.connection = connection
        const sessionId = this.sessionId as string
        this.line.open(this.requests.frames(sessionId))
        this.status.set({ _tag: "Connected", sessionId, resumedAt })
        yield* ready
        if (this.orphans !== undefined) {
          const { jobs, error } = this.orphans
          this.orphans = undefined
          yield* this.options.reattach(jobs, error)
        }
        const ping = () =>
          this.post("session.ping", {
            nonce: this.options.nextId(),
            sent_at: new Date(this.options.now()).toISOString()
          })
        // None of them succeeds; the first to fail ends the others.
        const ended = yield* Deferred.make<never, ClientError | Rewind>()
        const parts: ReadonlyArray<Effect.Effect<never, ClientError | Rewind>> = [
          this.receive(connection, Chunk.drop(frames, 1)),
          this.line.write(connection),
          this.line.beat(connection, this.heartbeatSec, ping),
          this.keepAcknowledging,
          this.rewound
        ]
        for (const part of parts)
          yield* Effect.forkScoped(Effect.catchAllCause(part, (cause) => Deferred.failCause(ended, cause)))
        return yield* Deferred.await(ended)
      }).pipe(
        Effect.ensuring(
          Effect.sync(() => {
            this.connection = undefined
            this.cut = undefined
          })
        )
      )
    )
  }

  /** Fails when a reader waits for what this connection has already passed. */
  private readonly rewound: Effect.Effect<never, Rewind> = Effect.async<never, Rewind>((resume) => {
    this.cut = () => resume(new Rewind())
    if (this.handles.rewindTo(this.lastEventSeq) < this.lastEventSeq) this.cut()
  })

  /** A while after something has come or was read: an idle client, or one that nobody reads, has no reason to wake. */
  private readonly keepAcknowledging: Effect.Effect<never> = Effect.suspend(() => {
    this.stirred = false
    this.acknowledge(1)
    return this.options.save
  }).pipe(
    Effect.zipRight(
      Effect.async<void>((resume) => {
        this.wake = () => resume(Effect.void)
        if (this.stirred) this.wake()
      })
    ),
    Effect.zipRight(Effect.suspend(() => Effect.sleep(this.options.ackInterval))),
    Effect.forever
  )

  /** The session is gone: its requests fail, and its jobs are looked for from the next one. */
  private forget(error: ResumeWindowExpired): void {
    this.requests.fail(error, true)
    this.orphans = { jobs: this.handles.jobs, error }
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
                last_event_seq: this.from
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
    const resumedAt = this.sessionId === undefined ? undefined : this.from
    this.handles.rewound(this.from)
    this.next = this.from + 1
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

  private receive(connection: Connection, first: Chunk.Chunk<unknown>): Effect.Effect<never, ClientError> {
    return Effect.gen(this, function* () {
      let frames: Chunk.Chunk<unknown> = first
      for (;;) {
        this.line.received()
        for (const frame of frames) {
          const problem = this.handle(frame)
          if (problem !== undefined) return yield* problem
        }
        if (this.duplicated && !this.warned) {
          this.warned = true
          yield* Effect.logWarning("the runtime has sent an event twice; the second one is dropped")
        }
        if (this.lastEventSeq - this.acked >= this.options.ackEvery) this.acknowledge(this.options.ackEvery)
        if (this.crowded.size > 0) yield* this.makeRoom
        this.line.listen()
        frames = yield* Effect.mapError(connection.take, (closed) => {
          if (closed.code !== closeCode.superseded) return lost(closed)
          this.superseded = true
          return new ResumeWindowExpired({ message: "another connection has resumed this session" })
        })
      }
    })
  }

  /** A reader at work is given a moment to make room; a lane that nobody reads falls behind at once. */
  private readonly makeRoom: Effect.Effect<void> = Effect.gen(this, function* () {
    const lanes = [...this.crowded]
    this.crowded.clear()
    for (const lane of lanes) {
      if (lane.full && lane.reading)
        yield* Effect.async<void>((resume) => lane.onRoom(() => resume(Effect.void))).pipe(
          Effect.timeoutTo({ duration: patience, onSuccess: () => {}, onTimeout: () => {} })
        )
      lane.behind = lane.full
    }
  })

  private handle(frame: unknown): ProtocolViolation | TransportError | undefined {
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
        return this.event(message, (frame as string).length)
      default:
        return undefined
    }
  }

  private event(
    message: RuntimeMessage & { readonly type: JobFrame["type"] },
    bytes: number
  ): ProtocolViolation | TransportError | undefined {
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
    if (seq !== this.next) {
      // A refusal is repeated to a repeated submit, out of turn when a replay is still on its way to it.
      if (refused) return undefined
      if (seq < this.next) {
        this.duplicated = true
        return undefined
      }
      const problem = `event ${seq} came where ${this.next} follows`
      if (this.gapAt === this.next)
        return new ProtocolViolation({ message: `${problem}, also after a resume` })
      this.gapAt = this.next
      return new TransportError({ message: problem })
    }
    this.next = seq + 1
    this.lastEventSeq = Math.max(this.lastEventSeq, seq)
    this.read()
    if (!refused) this.handles.deliver(jobId, message as unknown as JobFrame, bytes, this.requests.claiming)
    return undefined
  }
}
