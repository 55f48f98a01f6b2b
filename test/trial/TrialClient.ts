/**
 * A client of a trial: one session over as many transports as it takes, which sends what was not answered again. It keeps what it
 * has seen of each job, and what it was promised.
 */
import { setTimeout as sleep } from "node:timers/promises"
import WebSocket from "ws"
import { type Frame, features, isNumbered, isTerminal } from "../e2e/support/Frame.js"
import { SessionRecord } from "../e2e/support/SessionRecord.js"

/** A transport on which nothing comes for as long, though the client asks, is given up. */
const silenceMs = 10_000
const pingMs = 2_000
const welcomeMs = 10_000
const ackEvery = 64

/** What a session was shown of a job, from where it began to observe it. */
export interface Observation {
  readonly jobId: string
  /** Its beginning was told. What comes of a subscription whose answer was lost is of no observation that is known. */
  isAnnounced: boolean
  /** It was shown all of it, from its first event. */
  readonly isWhole: boolean
  /** It is of the session's own, or of one that such a job has delegated to. */
  readonly isOwn: boolean
  /** Each event as text: its type and its payload. */
  readonly seen: Array<string>
  hasEnded: boolean
  /** The session's events up to this number are of an observation before. */
  readonly after: number
}

/** What somebody asks for, until it is answered. */
interface Request {
  readonly frame: Record<string, unknown>
  /** Sent again on the next transport; others fail with this one. */
  readonly isRepeated: boolean
  /** A transport was lost since it was sent: it may have been answered there, and then the same answer begins nothing. */
  isAnswerLost: boolean
  readonly answer: (frame: Frame | undefined) => void
}

export const textOf = (type: string, payload: unknown): string => JSON.stringify([type, payload])

let ids = 0

export class TrialClient {
  private record = new SessionRecord()
  /** Of this session. */
  private readonly observations = new Map<string, Observation>()
  /** Of sessions before, and of jobs that were observed again. */
  private readonly past: Array<Observation> = []
  private readonly requests = new Map<string, Request>()
  private socket: WebSocket | undefined
  private isOver = false
  private readonly running: Promise<void>
  /** What is wrong with what it has seen. */
  readonly violations: Array<string> = []
  /** Milliseconds from each dial to the welcome of a session that was resumed. */
  readonly resumes: Array<number> = []
  /** Answers to hellos that were no welcome, by their code. */
  readonly refusals = new Map<string, number>()
  /** What it was told was cancelled. */
  readonly cancelled = new Set<string>()
  /** Called with each event that it has not seen before. */
  onEvent: (frame: Frame) => void = () => undefined

  constructor(
    readonly name: string,
    /** Where it dials. */
    private readonly url: () => string
  ) {
    this.running = this.run()
  }

  /** Everything that it has observed. */
  get observed(): ReadonlyArray<Observation> {
    return [...this.past, ...this.observations.values()]
  }

  get isAttached(): boolean {
    return this.socket !== undefined
  }

  /** Jobs of which it waits for the end. */
  get waited(): ReadonlyArray<Observation> {
    return [...this.observations.values()].filter(({ hasEnded }) => !hasEnded)
  }
  get open(): number {
    return this.waited.length
  }

  /** Returns whether it observes a job, or has asked to and has no answer. */
  follows(jobId: string): boolean {
    const isAsked = [...this.requests.values()].some(
      ({ frame }) => frame["type"] === "job.subscribe" && frame["job_id"] === jobId
    )
    return isAsked || this.observed.some((each) => each.jobId === jobId)
  }

  /** Submits that are not answered. */
  get pending(): number {
    return this.requests.size
  }

  /** Asks for something; `undefined` when the transport ended before it was answered. */
  request(type: string, payload: Record<string, unknown>, jobId?: string): Promise<Frame | undefined> {
    const id = `c-${this.name}-${++ids}`
    const isRepeated = type === "job.submit"
    const job = jobId === undefined ? {} : { job_id: jobId }
    return new Promise((answer) => {
      const request = {
        frame: { arcp: "1.1", id, type, ...job, payload },
        isRepeated,
        isAnswerLost: false,
        answer
      }
      if (!isRepeated && this.socket === undefined) return answer(undefined)
      this.requests.set(id, request)
      this.send(request.frame)
    })
  }

  /** Loses the transport, and dials again at once. */
  drop(): void {
    this.socket?.terminate()
  }

  /** Forgets what it has observed of jobs that have ended; it goes on in a new session. */
  async renew(): Promise<void> {
    for (let tries = 0; this.socket === undefined && tries < 300; tries++) await sleep(100)
    const { socket } = this
    if (socket !== undefined) {
      this.send({ arcp: "1.1", id: `c-${this.name}-${++ids}`, type: "session.close", payload: {} })
      await Promise.race([new Promise((resolve) => socket.once("close", resolve)), sleep(2_000)])
    }
    this.forget()
    this.past.length = 0
    this.drop()
  }

  async stop(): Promise<void> {
    this.isOver = true
    this.drop()
    await this.running
    this.fold()
  }

  private send(frame: Record<string, unknown>): void {
    if (this.socket === undefined) return
    const session = frame["type"] === "session.hello" ? {} : { session_id: this.record.id }
    this.socket.send(JSON.stringify({ ...frame, ...session }))
  }

  /** Takes over what the record of the session has found. */
  private fold(): void {
    this.violations.push(...this.record.violations.splice(0))
  }

  /** Begins a session anew. */
  private forget(): void {
    this.fold()
    this.past.push(...this.observations.values())
    this.observations.clear()
    this.record = new SessionRecord()
  }

  private async run(): Promise<void> {
    while (!this.isOver) {
      await this.transport()
      if (!this.isOver) await sleep(50)
    }
    for (const { answer } of this.requests.values()) answer(undefined)
  }

  /** Over one transport, until that ends. */
  private transport(): Promise<void> {
    return new Promise((resolve) => {
      const dialled = performance.now()
      const socket = new WebSocket(this.url(), { perMessageDeflate: false, handshakeTimeout: welcomeMs })
      const { id, lastSeq, resumeToken } = this.record
      let expected = lastSeq + 1
      let heard = dialled
      let isWelcome = false
      const timer = setInterval(() => {
        const silent = performance.now() - heard
        if (silent > (isWelcome ? silenceMs : welcomeMs)) socket.terminate()
        else if (isWelcome)
          this.send({
            ...{ arcp: "1.1", id: `c-${this.name}-${++ids}`, type: "session.ping" },
            payload: { nonce: "n", sent_at: new Date().toISOString() }
          })
      }, pingMs)
      socket.on("error", () => undefined)
      socket.on("open", () => socket.send(JSON.stringify(this.hello(id, resumeToken, lastSeq))))
      socket.on("message", (data) => {
        heard = performance.now()
        const frame = JSON.parse(String(data)) as Frame
        if (isWelcome) {
          if (this.socket === socket) expected = this.take(frame, expected)
          return
        }
        if (frame.type !== "session.welcome") {
          this.refused(frame)
          socket.terminate()
          return
        }
        isWelcome = true
        if (this.isOver) return socket.terminate()
        if (id !== "") this.resumes.push(performance.now() - dialled)
        if (id !== "" && frame.session_id !== id)
          this.violations.push(`${this.name}: resumed ${id}, welcomed to ${frame.session_id}`)
        this.record.id = String(frame.session_id)
        this.record.resumeToken = String(frame.payload["resume_token"])
        expected = this.record.observe(frame, expected)
        this.socket = socket
        for (const { frame, isRepeated } of this.requests.values()) if (isRepeated) this.send(frame)
      })
      socket.on("close", () => {
        clearInterval(timer)
        if (this.socket === socket) this.socket = undefined
        this.lose()
        resolve()
      })
    })
  }

  private hello(id: string, token: string, from: number): Record<string, unknown> {
    const resume = id === "" ? {} : { resume: { session_id: id, resume_token: token, last_event_seq: from } }
    return {
      ...{ arcp: "1.1", id: `c-${this.name}-${++ids}`, type: "session.hello" },
      payload: {
        client: { name: this.name, version: "1.0.0" },
        auth: { scheme: "bearer", token: "tok-a" },
        capabilities: { encodings: ["json"], features },
        ...resume
      }
    }
  }

  /** A hello that was answered with an error; only a failure that may pass is none of the runtime's. */
  private refused(frame: Frame): void {
    const { code, details, message } = frame.payload
    const why = `${code}${details?.["reason"] === undefined ? "" : ` ${details["reason"]}`}`
    this.refusals.set(why, (this.refusals.get(why) ?? 0) + 1)
    if (code === "INTERNAL_ERROR") return
    this.violations.push(`${this.name}: hello of ${this.record.id} refused: ${why}: ${message}`)
    this.forget()
  }

  /** The transport is gone, and with it answers that were on their way. */
  private lose(): void {
    for (const [id, request] of this.requests) {
      const { answer, frame, isRepeated } = request
      request.isAnswerLost = true
      const isSubscription = frame["type"] === "job.subscribe"
      if (isRepeated || isSubscription) this.record.answersLost = true
      // It may have begun all the same: then its history comes after whatever was seen of the job.
      const observation = isSubscription ? this.observations.get(String(frame["job_id"])) : undefined
      if (observation !== undefined) observation.isAnnounced = false
      if (isRepeated) continue
      this.requests.delete(id)
      answer(undefined)
    }
  }

  private take(frame: Frame, expected: number): number {
    const isNew = (frame.event_seq ?? 0) > this.record.lastSeq
    const next = this.record.observe(frame, expected)
    const { job_id, payload, type } = frame
    if (type === "session.ping")
      this.send({
        ...{ arcp: "1.1", id: `c-${this.name}-${++ids}`, type: "session.pong" },
        payload: { ping_nonce: payload["nonce"], received_at: new Date().toISOString() }
      })
    if (job_id !== undefined && (type === "job.accepted" || type === "job.subscribed"))
      this.observe(job_id, frame)
    if (job_id !== undefined && isNumbered(frame) && isNew) this.event(frame, job_id)
    const requestId = String(payload.request_id ?? payload.details?.["request_id"])
    const request = this.requests.get(requestId)
    if (request !== undefined) {
      this.requests.delete(requestId)
      request.answer(frame)
    }
    return next
  }

  private readonly known = new Set<string>()

  /** It begins to observe a job; the same answer again begins nothing. */
  private observe(jobId: string, { payload, type }: Frame): void {
    const isSubscription = type === "job.subscribed"
    const requestId = String(payload.request_id)
    const request = this.requests.get(requestId)
    const asked = request?.frame["payload"] as Record<string, unknown> | undefined
    const key = `${this.record.id} ${jobId} ${requestId}`
    if (this.known.has(key)) return
    this.known.add(key)
    const before = this.observations.get(jobId)
    // What came of a submit whose answer was lost has been replayed already; sent again, it is told just the answer.
    if (before?.isAnnounced === false && request?.isRepeated === true && request.isAnswerLost) {
      before.isAnnounced = true
      return
    }
    if (before !== undefined) this.past.push(before)
    const parent = this.observations.get(String(payload["parent_job_id"]))
    const isKeyed = asked !== undefined && "idempotency_key" in asked
    const isOwn =
      !isSubscription && before === undefined && !isKeyed && (asked !== undefined || parent?.isOwn === true)
    // A subscription here always asks for history; whoever comes with a key that is used is shown what comes from then on.
    this.observations.set(jobId, {
      jobId,
      isAnnounced: true,
      isWhole: isSubscription || isOwn,
      isOwn,
      seen: [],
      hasEnded: false,
      after: Number(payload["subscribed_from"] ?? 0)
    })
  }

  private event(frame: Frame, jobId: string): void {
    const observation = this.observations.get(jobId)
    if (observation === undefined) {
      // A refused submit, or one whose answer was lost: the record tells them apart.
      const isRefusal = frame.type === "job.error" && frame.payload.details?.["request_id"] !== undefined
      if (!isRefusal)
        this.observations.set(jobId, {
          ...{ jobId, isAnnounced: false, isWhole: false, isOwn: false, seen: [], after: 0 },
          hasEnded: isTerminal(frame)
        })
      this.observations.get(jobId)?.seen.push(textOf(frame.type, frame.payload))
    } else if ((frame.event_seq ?? 0) > observation.after) {
      observation.seen.push(textOf(frame.type, frame.payload))
      if (isTerminal(frame)) observation.hasEnded = true
    }
    this.onEvent(frame)
    const seq = frame.event_seq ?? 0
    if (seq % ackEvery === 0)
      this.send({
        ...{ arcp: "1.1", id: `c-${this.name}-${++ids}`, type: "session.ack" },
        payload: { last_processed_seq: seq }
      })
  }
}
