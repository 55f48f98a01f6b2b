/**
 * A session as the client has it, over connections that come and go: what is known of it, the requests that wait for
 * an answer, the handles of its jobs. Requests that were not answered are sent again with the same id, which the
 * runtime answers again without doing them twice (§7.1).
 *
 * connecting.ts makes and keeps its connection, receiving.ts reads it.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Schedule from "effect/Schedule"
import { type Envelope, encode, encodeChecked } from "../../protocol/Envelope.js"
import { InvalidRequest, type ResumeWindowExpired } from "../../protocol/Errors.js"
import type { Feature } from "../../protocol/Features.js"
import type * as Message from "../../protocol/Message.js"
import { exceeds } from "../../protocol/Utf8.js"
import * as Vendor from "../../protocol/Vendor.js"
import type {
  ClientError,
  ProtocolViolation,
  ResumeState,
  Status,
  TokenSource
} from "../../services/client/ArcpClient.js"
import { type Connection, closeCode, type Dialer } from "../../services/transport/Transport.js"
import { Cell } from "./Cell.js"
import { Handles } from "./Handles.js"
import type { JobInbox } from "./JobInbox.js"
import type { AnyLane, Host } from "./Lane.js"
import { Line } from "./Line.js"
import { Numbering } from "./Numbering.js"
import { type Answer, type Pending, Requests, remember } from "./Requests.js"
import { violation } from "./violation.js"

/** What a client's session is told by its client. */
export interface SessionOptions {
  readonly token: TokenSource | undefined
  readonly name: string
  readonly version: string
  readonly features: ReadonlyArray<Feature>
  /** Delays between attempts to reconnect. Attempts end with it, or with the session's resume window. */
  readonly reconnect: Schedule.Schedule<unknown> | undefined
  /** Acknowledge after so many events that the application has taken, and so often while there are any. */
  readonly ackEvery: number
  readonly ackInterval: Duration.DurationInput
  readonly maxHeld: Host["options"]["maxHeld"]
  /** Milliseconds that an answer may take. */
  readonly requestTimeout: number
  /** Continue a session of another process. */
  readonly resume?: ResumeState | undefined
  /** When that is gone, open another one. */
  readonly mayBeGone: boolean
  /** Its place is kept for the next process: somebody may have a copy of it, and take the session over by mistake. */
  readonly kept: boolean
  readonly nextId: () => string
  /** Returns a trace id for what is in no trace yet. */
  readonly traceId: () => string
  /** Epoch ms. */
  readonly now: () => number
  /** Milliseconds of a clock that only goes forward, whatever becomes of the wall clock. */
  readonly elapsed: () => number
  /** The session's token or place has changed: called, and waited for, before anything shows it to the runtime. */
  readonly save: Effect.Effect<void>
  /**
   * A new session is open in place of one that is `lost`: all jobs with handles are looked for. Or, without it, the same one with
   * another token: subscriptions may have ended. Waits for nothing.
   */
  readonly reattach: (lost: ResumeWindowExpired | undefined) => Effect.Effect<void>
}

const request = "the request"

/** A frame is larger than the runtime takes: what it is, and the bound. */
export const tooBig = (what: string, why: string) =>
  new InvalidRequest({ message: `${what} is too big: ${why}`, details: { limit: "frame_bytes" } })

/** A session as the client has it: what it has asked for, and the jobs whose frames it takes, over every connection. */
export class ClientSession implements Host {
  // `declare`: what has no value at first takes no place in a browser's bundle.
  declare readonly dialer: Dialer["Type"]
  declare readonly options: SessionOptions
  readonly status = new Cell<Status>({ _tag: "Connecting" })
  readonly handles = new Handles()
  declare readonly requests: Requests
  declare readonly numbers: Numbering
  declare readonly line: Line
  declare sessionId: string | undefined
  /** The resume token; secret. */
  declare token: string | undefined
  /** A bearer token that was asked for before the hello that it is for; secret. */
  declare fresh: string | undefined
  /** The bearer token was refused, since the last welcome. */
  declare refused: boolean | undefined
  /** As the newest welcome says, without which nobody asks; what the runtime hosts, too. */
  declare features: ReadonlyArray<string>
  declare agents: ReadonlyArray<Message.AgentEntry>
  /** Bytes of the largest frame that the runtime takes; a welcome says it. */
  declare frameBytes: number
  /** Milliseconds, as a welcome says. */
  declare resumeWindow: number
  /** Seconds, as the runtime asked for; `undefined` or 0: no heartbeats. */
  declare heartbeatSec: number | undefined
  /** Set when the session is over for good. */
  declare over: ClientError | undefined
  /** Set when somebody else has resumed this session: it is not ours to come back to. Where it is kept, another one is. */
  declare superseded: boolean | undefined
  /** A resume from before what was left unread was refused: the next hello is from the newest event, and that is given up if it is taken. */
  declare evicted: boolean | undefined
  /** Hellos for this session that went out on connections that ended without an answer: each may arrive after that of a later one. */
  unanswered = 0
  /** Lanes that hold as much as they may. */
  readonly crowded = new Set<AnyLane>()
  /** The connection there is now. */
  declare connection: Connection | undefined
  /** Ends the connection, to read again from further back. */
  declare cut: (() => void) | undefined
  /** Set when something has come, or was read, since that was looked at; then `wake` is called. */
  declare stirred: boolean | undefined
  declare wake: (() => void) | undefined
  /** The connection has brought something that somebody waited for: its end is no reason to wait longer for the next. */
  declare delivered: boolean | undefined
  /** A `session.error` of a moment ago that names no request, and the only one that it can have refused. */
  declare said: { readonly error: ClientError; readonly blamed: unknown } | undefined
  /** Jobs under way that have no handle here: an error of theirs refuses nothing. Of the runtimes that say not what. */
  readonly strangers = new Set<unknown>()
  /** Why the session before is gone: its jobs are to be found again in this one. */
  declare orphaned: ResumeWindowExpired | undefined
  /** The token of the last hello. */
  declare told: string | undefined
  /** It is another than before, which may have ended, and with it subscriptions to jobs of others. */
  declare doubts: boolean | undefined
  /** Jobs for which it was asked whether they are subscribed to still, without an answer; and how often that began. */
  doubtful = new Set<string>()
  round = 0

  constructor(dialer: Dialer["Type"], options: SessionOptions) {
    this.dialer = dialer
    this.options = options
    this.line = new Line(options.elapsed)
    this.requests = new Requests(options.elapsed, options.requestTimeout)
    this.requests.onClaimed = (oldest) => {
      this.handles.unclaimed(oldest)
      // What was kept has held acknowledgements back.
      this.read()
    }
    this.sessionId = options.resume?.sessionId
    this.token = options.resume?.resumeToken
    this.numbers = new Numbering(options.resume?.lastEventSeq ?? 0)
  }

  get resumeState(): ResumeState {
    return {
      sessionId: this.sessionId ?? "",
      resumeToken: this.token ?? "",
      lastEventSeq: Math.max(this.numbers.acked, this.handles.consumed(this.numbers.seen))
    }
  }

  /** The runtime does not say which request its answers and refusals are for. */
  get guesses(): boolean {
    return !this.features.includes(Vendor.requests)
  }
  /** A job has no handle here, and goes on until `ended`. */
  stranger(jobId: string, ended?: boolean): void {
    if (ended) this.strangers.delete(jobId)
    else remember(this.strangers, jobId)
  }
  read(): void {
    this.stirred = true
    this.wake?.()
  }
  starved(): void {
    // The runtime would go with the connection, and what was skipped with it; or nothing can be asked for again.
    if (this.dialer.ephemeral === true || this.token === undefined) this.handles.evicted()
    else this.cut?.()
  }

  /** Sends a message that expects no answer; dropped when there is no connection. */
  post(type: string, payload: unknown, jobId?: string): void {
    if (this.connection && this.sessionId)
      this.line.push(
        encode({ id: this.options.nextId(), type, session_id: this.sessionId, job_id: jobId, payload })
      )
  }

  /** Sends a request on this connection, or refuses it: a frame that the runtime does not take would end that (§4). */
  #put(key: unknown, pending: Pending): void {
    const { leaves } = pending
    if (leaves && !this.#wants(leaves)) {
      this.post("job.unsubscribe", { job_id: leaves }, leaves)
      // Others answer that with an error, if they do not know the job.
      this.stranger(leaves)
    }
    // Written once, when it was asked for; the session is what may be another by now.
    const frame = `{"session_id":${JSON.stringify(this.sessionId)},${pending.text.slice(1)}`
    if (exceeds(frame, this.frameBytes))
      this.requests.reject(key, tooBig(request, `more than ${this.frameBytes} bytes`))
    else this.line.push(frame, () => this.requests.sends(key))
  }

  /** There is a connection: what waits for an answer is sent again. */
  begin(connection: Connection): void {
    this.connection = connection
    this.line.open()
    for (const [key, pending] of this.requests.resent()) this.#put(key, pending)
  }

  /** The connection ended over a frame that was too big: a request, which that ends, else one that would only come again. */
  oversized<E extends { readonly message: string }>(closed: E): E | ProtocolViolation {
    const { largest } = this.requests
    return this.requests.reject(largest, tooBig(request, closed.message)) ? closed : violation(closed.message)
  }

  /** Sends a request and waits for its answer, over as many connections as it takes. */
  request<A extends Answer["type"]>(
    type: string,
    answer: A,
    payload: unknown,
    more: {
      readonly jobId?: string | undefined
      readonly traceId?: string | undefined
      readonly extensions?: Envelope["extensions"] | undefined
      readonly repeatable?: boolean | undefined
      readonly leaves?: string | undefined
      /** Called synchronously with the answer, before any later frame is looked at. */
      readonly onAnswer?: ((answer: Answer & { readonly type: A }) => void) | undefined
      /** Called with an answer that comes when nobody waits for it any more. */
      readonly onLateAnswer?: ((answer: Answer & { readonly type: A }) => void) | undefined
    } = {}
  ): Effect.Effect<Answer & { readonly type: A }, ClientError> {
    return Effect.async((resume) => {
      if (this.over) return resume(this.over)
      const id = this.options.nextId()
      const text = encodeChecked(
        {
          id,
          type,
          job_id: more.jobId,
          trace_id: more.traceId,
          extensions: more.extensions,
          payload
        },
        (message) => resume(new InvalidRequest({ message }))
      )
      if (!text) return
      // A pong names the nonce of its ping, everything else the id of the request.
      const key = type === "session.ping" ? (payload as { nonce: string }).nonce : id
      const pending: Pending = {
        repeatable: true,
        ...more,
        answer,
        text,
        claims: more.onAnswer !== undefined,
        failed: resume,
        answered: (message) => {
          this.delivered = true
          more.onAnswer?.(message as Answer & { readonly type: A })
          resume(Effect.succeed(message as Answer & { readonly type: A }))
        }
      }
      this.requests.add(key, pending)
      if (this.connection) this.#put(key, pending)
      return Effect.sync(() => this.requests.leave(key, more.onLateAnswer as Pending["answered"] | undefined))
    })
  }

  /** What a ping says. */
  get ping() {
    return { nonce: this.options.nextId(), sent_at: new Date(this.options.now()).toISOString() }
  }

  /** Has the job a handle, or will have one? What is said of it meanwhile would come after what it is subscribed by. */
  #wants(jobId: string): unknown {
    return this.handles.has(jobId) || this.requests.like("job.subscribed", { job_id: jobId })
  }

  /**
   * Wants no more of a job, unless that has a handle: says so, also when the connection is just away, until it has arrived.
   * What follows it is a ping, since nothing answers it.
   */
  unsubscribe(leaves: string): void {
    if (this.#wants(leaves)) return
    Effect.runFork(
      Effect.ignore(this.request("session.ping", "session.pong", this.ping, { leaves, repeatable: false }))
    )
  }

  /** From now on the job's frames go there too. */
  register(jobId: string, inbox: JobInbox): void {
    if (this.over) inbox.fail(this.over)
    else this.handles.register(jobId, inbox)
  }

  readonly dropTransport = Effect.suspend(() => this.connection?.close(closeCode.normal, "") ?? Effect.void)

  /** Hands over what was said, to a connection that is about to be closed. */
  readonly flush = Effect.suspend(() => (this.connection ? this.line.flush(this.connection) : Effect.void))

  /** Ends everything that waits. `reported` goes into the status; `null` when it was meant to end. */
  finish(error: ClientError, reported: ClientError | null = error): void {
    if (this.over) return
    this.over = error
    this.requests.fail(error, false)
    this.handles.failAll(error)
    this.status.set({ _tag: "Closed", error: reported ?? undefined })
    this.status.end()
  }

  /** Acknowledges what the application has taken, when that is at least so many events more than before. */
  acknowledge(atLeast: number): void {
    const consumed = this.handles.consumed(this.numbers.seen)
    if (consumed - this.numbers.acked < atLeast) return
    this.numbers.acked = consumed
    if (this.features.includes("ack")) this.post("session.ack", { last_processed_seq: consumed })
  }

  /** Notes what a welcome says, and what it leaves out. */
  open(sessionId: string, welcome: Message.Welcome): void {
    const { agents = [], features = [], [Vendor.limits]: limits } = welcome.capabilities ?? {}
    if (this.evicted) this.handles.evicted()
    this.evicted = false
    this.handles.rewound(this.numbers.from)
    // What comes on this connection begins after that.
    this.numbers.seen = this.numbers.from
    // Those before asked for another session.
    if (this.sessionId !== sessionId) this.unanswered = 0
    this.sessionId = sessionId
    this.token = welcome.resume_token || undefined
    this.resumeWindow = (welcome.resume_window_sec ?? 600) * 1000
    this.frameBytes = limits?.frame_bytes ?? 1024 * 1024
    this.heartbeatSec = welcome.heartbeat_interval_sec
    this.features = features
    this.agents = agents.map((agent) => (typeof agent === "string" ? { name: agent, versions: [] } : agent))
  }

  /** The session is gone: its requests fail, and its jobs are looked for from the next one. */
  forget(error: ResumeWindowExpired): void {
    this.requests.fail(error, true)
    this.handles.lose()
    this.orphaned = error
    this.doubtful = new Set()
    this.sessionId = undefined
    this.token = undefined
    this.superseded = this.evicted = false
    this.numbers.follow(0)
    this.strangers.clear()
  }
}
