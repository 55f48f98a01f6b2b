import { expect } from "vitest"
import type WebSocket from "ws"
import { type Frame, features, frameViolations, isTerminal, type Payload } from "./Frame.js"
import { SessionRecord } from "./SessionRecord.js"
import { type Closure, dial, type Wire, type WireListener } from "./Wire.js"

export type Match = (frame: Frame) => boolean

interface Waiter {
  readonly match: Match
  readonly resolve: (frame: Frame) => void
  readonly reject: (error: Error) => void
  readonly timer: NodeJS.Timeout
}

export interface HelloOptions {
  readonly token?: string
  readonly features?: ReadonlyArray<string>
  readonly arcp?: string
  readonly payload?: Record<string, unknown>
}

/** Generous: a rendezvous that works never waits this long, even on a busy machine. */
const deadlineMs = 100_000

const versions = ["1", "1.0", "1.1"]
const open = new Set<WireClient>()
let ids = 0

/** Ends every client of the test and fails it when a session broke a rule that holds always. */
export const settleClients = (): void => {
  const clients = [...open]
  open.clear()
  for (const client of clients) client.drop()
  const violations = clients.flatMap((client) => client.session.violations)
  expect([...new Set(violations)].slice(0, 10)).toEqual([])
}

/** A raw client: it sends what it is told and records what arrives. */
export class WireClient {
  readonly frames: Array<Frame> = []
  /** Answer the runtime's pings. */
  answersPings = true
  closure: Closure | undefined
  private wire: Wire | undefined
  private muted = false
  private expected = 1
  private readonly inbox: Array<Frame> = []
  private readonly waiters = new Set<Waiter>()
  private readonly pendingSubmits = new Set<string>()
  private readonly closers = new Set<(closure: Closure) => void>()

  private constructor(
    readonly session: SessionRecord,
    private readonly resumeFrom?: number
  ) {
    if (resumeFrom !== undefined) this.expected = resumeFrom + 1
    open.add(this)
  }

  /** A connected client that has not said anything. */
  static async connect(
    url: string,
    options: {
      readonly ws?: WebSocket.ClientOptions
      readonly session?: SessionRecord
      readonly from?: number
    } = {}
  ): Promise<WireClient> {
    return WireClient.over((listener) => dial(url, listener, options.ws), options.session, options.from)
  }

  static async over(
    dial: (listener: WireListener) => Promise<Wire>,
    session = new SessionRecord(),
    from?: number
  ): Promise<WireClient> {
    const client = new WireClient(session, from)
    client.wire = await dial({
      text: (text) => client.receive(text),
      closed: (closure) => client.ended(closure)
    })
    return client
  }

  /** A client with an open session. */
  static async open(url: string, options: HelloOptions = {}): Promise<WireClient> {
    const client = await WireClient.connect(url)
    await client.hello(options)
    return client
  }

  /** A client that resumed `session` after `from`, its newest event when not given. */
  static async resume(
    url: string,
    session: SessionRecord,
    options: HelloOptions & { readonly from?: number; readonly resumeToken?: string } = {}
  ): Promise<WireClient> {
    const client = await WireClient.resuming(url, session, options)
    await client.next((frame) => frame.type === "session.welcome")
    return client
  }

  /** As `resume`, but the answer is the caller's. */
  static async resuming(
    url: string,
    session: SessionRecord,
    options: HelloOptions & { readonly from?: number; readonly resumeToken?: string } = {}
  ): Promise<WireClient> {
    const from = options.from ?? session.lastSeq
    const client = await WireClient.connect(url, { session, from })
    client.sendHello({
      ...options,
      payload: {
        resume: {
          session_id: session.id,
          resume_token: options.resumeToken ?? session.resumeToken,
          last_event_seq: from
        },
        ...options.payload
      }
    })
    return client
  }

  /** Sends a hello; the answer is the caller's. */
  sendHello(options: HelloOptions = {}): string {
    const version = options.arcp ?? "1.1"
    this.session.version = version
    const wanted = options.features ?? features
    return this.request("session.hello", {
      client: { name: "wire-client", version: "1.0.0" },
      auth: { scheme: "bearer", token: options.token ?? "tok-a" },
      ...(wanted.length > 0 ? { capabilities: { encodings: ["json"], features: wanted } } : {}),
      ...options.payload
    })
  }

  async hello(options: HelloOptions = {}): Promise<Frame> {
    this.sendHello(options)
    return this.next((frame) => frame.type === "session.welcome")
  }

  sendText(text: string | Uint8Array): void {
    this.wire?.send(text)
  }

  /** Sends a well-formed envelope and returns its id; `top` adds or replaces top-level fields. */
  request(type: string, payload: Record<string, unknown> = {}, top: Record<string, unknown> = {}): string {
    const id = typeof top["id"] === "string" ? top["id"] : `c-${process.pid}-${++ids}`
    const session = type === "session.hello" ? {} : { session_id: this.session.id }
    if (type === "job.submit") this.pendingSubmits.add(id)
    this.sendText(JSON.stringify({ arcp: this.session.version, id, type, ...session, ...top, payload }))
    return id
  }

  submit(
    agent: string,
    input: unknown,
    more: Record<string, unknown> = {},
    top: Record<string, unknown> = {}
  ): string {
    return this.request("job.submit", { agent, input, ...more }, top)
  }

  /** The first frame not yet taken that matches, waiting for it if need be. */
  next(match: Match, ms = deadlineMs): Promise<Frame> {
    const index = this.inbox.findIndex(match)
    const found = this.inbox[index]
    if (found !== undefined) {
      this.inbox.splice(index, 1)
      return Promise.resolve(found)
    }
    if (this.closure !== undefined) return Promise.reject(this.unmet(match, "the transport is closed"))
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.waiters.delete(waiter)
        reject(this.unmet(match, `nothing within ${ms} ms`))
      }, ms)
      const waiter: Waiter = { match, resolve, reject, timer }
      this.waiters.add(waiter)
    })
  }

  nextOf(type: string): Promise<Frame> {
    return this.next((frame) => frame.type === type)
  }

  /** The answer to a request, whatever it is. */
  answer(requestId: string): Promise<Frame> {
    return this.next(
      ({ payload }) =>
        payload.request_id === requestId ||
        payload.details?.["request_id"] === requestId ||
        payload["ping_nonce"] === requestId
    )
  }

  /** Submits and waits for `job.accepted`; fails on a rejection. */
  async accept(agent: string, input: unknown, more: Record<string, unknown> = {}): Promise<Frame> {
    const frame = await this.answer(this.submit(agent, input, more))
    expect(frame.type, JSON.stringify(frame.payload)).toBe("job.accepted")
    return frame
  }

  terminal(jobId: string | undefined, ms?: number): Promise<Frame> {
    return this.next((frame) => frame.job_id === jobId && isTerminal(frame), ms)
  }

  /** Submits, waits for the end and gives it together with every event of the job. */
  async run(agent: string, input: unknown, more: Record<string, unknown> = {}) {
    const accepted = await this.accept(agent, input, more)
    const terminal = await this.terminal(accepted.job_id)
    return { accepted, terminal, events: this.eventsOf(accepted.job_id) }
  }

  /** What arrived of a job on this transport so far, its terminal message included. */
  eventsOf(jobId: string | undefined): ReadonlyArray<Frame> {
    return this.frames.filter((frame) => frame.job_id === jobId && frame.event_seq !== undefined)
  }

  /** A refused request: one `session.error` that names it. */
  async refusal(requestId: string): Promise<Payload> {
    const frame = await this.answer(requestId)
    expect(frame.type, JSON.stringify(frame.payload)).toBe("session.error")
    return frame.payload
  }

  /** A refused submit: one `job.error` on a fresh job that names it. */
  async rejection(requestId: string): Promise<Payload> {
    const frame = await this.answer(requestId)
    expect(frame.type, JSON.stringify(frame.payload)).toBe("job.error")
    expect(frame.payload.final_status).toBe("error")
    return frame.payload
  }

  /** Milliseconds from ping to pong. Also proves that the session is alive and all before it handled. */
  async ping(): Promise<number> {
    const nonce = `n-${++ids}`
    const started = performance.now()
    this.request("session.ping", { nonce, sent_at: new Date().toISOString() })
    await this.next(({ type, payload }) => type === "session.pong" && payload["ping_nonce"] === nonce)
    return performance.now() - started
  }

  /** Asserts that nothing matching arrives for a while. */
  async silence(match: Match, ms = 300): Promise<void> {
    const count = this.frames.filter(match).length
    await new Promise((resolve) => setTimeout(resolve, ms))
    expect(this.frames.filter(match).slice(count)).toEqual([])
  }

  /** Waits until the runtime (or the network) has closed the transport. */
  closing(ms = deadlineMs): Promise<Closure> {
    if (this.closure !== undefined) return Promise.resolve(this.closure)
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`still open after ${ms} ms; ${this.tail()}`)), ms)
      this.closers.add((closure) => {
        clearTimeout(timer)
        resolve(closure)
      })
    })
  }

  drop(): void {
    if (this.pendingSubmits.size > 0) this.session.answersLost = true
    this.wire?.drop()
  }

  pause(): void {
    this.wire?.pause()
  }

  unpause(): void {
    this.wire?.resume()
  }

  /** From now on frames are thrown away unread: a load should not cost the test its own time. */
  mute(): void {
    this.muted = true
  }

  private receive(text: string) {
    if (this.muted) return
    let frame: Frame
    try {
      frame = JSON.parse(text) as Frame
    } catch {
      this.session.violations.push(`not JSON: ${text.slice(0, 200)}`)
      return
    }
    if (frame.type === "session.welcome") {
      const { session_id, resume_token } = frame.payload
      if (this.resumeFrom !== undefined && session_id !== this.session.id) {
        this.session.violations.push(`resumed ${this.session.id}, welcomed to ${session_id}`)
      }
      this.session.id = String(session_id)
      this.session.resumeToken = String(resume_token)
    }
    // Refused before welcome: the error's session id is provisional.
    const welcomed = this.frames.some(({ type }) => type === "session.welcome")
    if (welcomed || frame.type === "session.welcome")
      this.expected = this.session.observe(frame, this.expected)
    else
      this.session.violations.push(
        ...frameViolations(frame, versions.includes(frame.arcp) ? frame.arcp : "1.1")
      )
    this.pendingSubmits.delete(String(frame.payload?.request_id ?? frame.payload?.details?.["request_id"]))
    this.frames.push(frame)
    if (frame.type === "session.ping" && this.answersPings && this.closure === undefined) {
      const ping_nonce = frame.payload["nonce"]
      this.request("session.pong", { ping_nonce, received_at: new Date().toISOString() })
    }
    for (const waiter of this.waiters) {
      if (waiter.match(frame)) {
        this.waiters.delete(waiter)
        clearTimeout(waiter.timer)
        waiter.resolve(frame)
        return
      }
    }
    this.inbox.push(frame)
  }

  private ended(closure: Closure) {
    this.closure = closure
    if (this.pendingSubmits.size > 0) this.session.answersLost = true
    for (const closer of this.closers) closer(closure)
    for (const waiter of this.waiters) {
      clearTimeout(waiter.timer)
      waiter.reject(this.unmet(waiter.match, `the transport closed (${closure.code} ${closure.reason})`))
    }
    this.waiters.clear()
  }

  private unmet(match: Match, why: string): Error {
    return new Error(`${why}, waiting for ${match.toString()}; ${this.tail()}`)
  }

  private tail(): string {
    const last = this.frames.slice(-5).map((frame) => JSON.stringify(frame).slice(0, 400))
    return `last of ${this.frames.length} frames:\n${last.join("\n")}`
  }
}
