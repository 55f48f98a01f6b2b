/** One raw ARCP session over `ws`: parses every frame, checks every sequence number, calls back. */
import { WebSocket } from "ws"

const features = ["heartbeat", "ack", "list_jobs", "subscribe", "agent_versions", "cost.budget"]
/** Events between two acknowledgements, well below the lag at which a runtime reports back-pressure. */
const ackEvery = 256

/** Takes what waits under `key`; a server that does not say which request it answers answers the oldest. */
const takeOf = (waiting, key) => {
  const found = key === undefined ? waiting.keys().next().value : key
  const value = waiting.get(found)
  waiting.delete(found)
  return value
}

/** Returns the template with every string `$name` in it replaced by that field of the input. */
const filled = (template, input) => {
  if (typeof template === "string" && template.startsWith("$")) return input[template.slice(1)]
  if (Array.isArray(template)) return template.map((each) => filled(each, input))
  if (template === null || typeof template !== "object") return template
  return Object.fromEntries(Object.entries(template).map(([key, each]) => [key, filled(each, input)]))
}

export class Session {
  id
  resumeToken
  seq = 0
  bytes = 0
  /** Called with every `job.event`, when set. */
  onEvent
  /** What the server calls our agents, and how it takes their input. */
  #agents
  #ws
  #ids = 0
  #acked = 0
  #ack
  #fail
  #closing = false
  #onRefused
  #jobs = new Map()
  #submits = new Map()
  #answers = new Map()
  #welcomed
  #awaited = { seq: 0, reached: () => {} }

  /** Connects, says hello and resolves with the session. `fail` gets whatever goes wrong from then on. */
  static open(target, fail, { ack = true } = {}) {
    const session = new Session(target, fail, ack)
    return session.#connect(target, undefined)
  }

  constructor({ agents }, fail, ack) {
    this.#agents = agents ?? {}
    this.#fail = fail
    this.#ack = ack
  }

  /** Resolves on the frame with this sequence number. */
  reach(seq) {
    return new Promise((reached) => {
      this.#awaited = { seq, reached }
    })
  }

  /**
   * Drops the transport and resumes on a new one after the event `from`; `seq` counts again from there. With `onRefused` a
   * connection that ends before the welcome is told there, and nothing has failed.
   */
  resume(target, { from = 0, onHello, onRefused } = {}) {
    this.drop()
    this.seq = from
    this.#onRefused = onRefused
    const resume = { session_id: this.id, resume_token: this.resumeToken, last_event_seq: from }
    return this.#connect(target, resume, onHello)
  }

  /** Drops the transport; the session can be resumed. */
  drop() {
    this.#closing = true
    this.#ws.terminate()
  }

  #connect({ url, token }, resume, onHello = () => {}) {
    const ws = new WebSocket(url, { perMessageDeflate: false })
    this.#ws = ws
    this.#closing = false
    ws.on("error", (error) => this.#broken(ws, `connection: ${error.message}`))
    ws.on("close", (code) => this.#broken(ws, `connection closed with ${code}`))
    ws.on("message", (data) => this.#receive(data))
    ws.on("open", () => {
      onHello()
      this.#send("session.hello", undefined, {
        client: { name: "bench", version: "1" },
        auth: { scheme: "bearer", token },
        capabilities: {
          encodings: ["json"],
          features: this.#ack ? features : features.filter((f) => f !== "ack")
        },
        ...(resume === undefined ? {} : { resume })
      })
    })
    return new Promise((resolve) => {
      this.#welcomed = () => resolve(this)
    })
  }

  #broken(ws, reason) {
    if (ws !== this.#ws || this.#closing) return
    if (this.#onRefused === undefined) return this.#fail(new Error(reason))
    this.#closing = true
    this.#onRefused()
  }

  #send(type, jobId, payload) {
    const id = `m${++this.#ids}`
    this.#ws.send(JSON.stringify({ arcp: "1.1", id, type, session_id: this.id, job_id: jobId, payload }))
    return id
  }

  #receive(data) {
    this.bytes += data.length
    const frame = JSON.parse(data.toString())
    if (frame.event_seq !== undefined) {
      if (frame.event_seq !== this.seq + 1)
        return this.#fail(new Error(`event_seq ${frame.event_seq} after ${this.seq}`))
      this.seq = frame.event_seq
      if (this.seq === this.#awaited.seq) this.#awaited.reached()
      if (this.#ack && this.seq - this.#acked >= ackEvery) {
        this.#acked = this.seq
        this.#send("session.ack", undefined, { last_processed_seq: this.seq })
      }
    }
    switch (frame.type) {
      case "job.event":
        this.#jobs.get(frame.job_id)?.onEvent?.(frame)
        return this.onEvent?.(frame)
      case "job.result":
      case "job.error":
        return this.#ended(frame)
      case "job.accepted": {
        const job = takeOf(this.#submits, frame.payload.request_id)
        const jobId = frame.payload.job_id ?? frame.job_id
        if (job === undefined) return
        this.#jobs.set(jobId, job)
        return job.onAccepted?.(jobId)
      }
      case "job.cancelled":
        return this.#jobs.get(frame.job_id)?.onCancelled?.(frame)
      case "job.subscribed":
        return this.#answer(frame.payload.request_id, frame)
      case "session.pong":
        return this.#answer(frame.payload.ping_nonce, frame)
      case "session.ping":
        return this.#send("session.pong", undefined, {
          ping_nonce: frame.payload.nonce,
          received_at: new Date().toISOString()
        })
      case "session.welcome":
        this.id = frame.payload.session_id ?? frame.session_id
        this.resumeToken = frame.payload.resume_token
        this.#onRefused = undefined
        this.#ack &&= frame.payload.capabilities?.features?.includes("ack") === true
        return this.#welcomed()
      case "session.error":
        return this.#fail(new Error(`session.error ${frame.payload.code}: ${frame.payload.message}`))
    }
  }

  #ended(frame) {
    const job = this.#jobs.get(frame.job_id)
    this.#jobs.delete(frame.job_id)
    if (job !== undefined && frame.type === "job.result") return job.onResult?.(frame)
    if (job?.onCancelled !== undefined && frame.payload.code === "CANCELLED") return job.onError?.(frame)
    if (frame.type === "job.error")
      this.#fail(new Error(`job.error ${frame.payload.code}: ${frame.payload.message}`))
  }

  #answer(key, frame) {
    takeOf(this.#answers, key)?.(frame)
  }

  /** `handlers`: `onAccepted(jobId)`, `onEvent`, `onResult`; with `onCancelled`, also `onError` at its end. */
  submit(agent, input, handlers, lease) {
    const known = this.#agents[agent] ?? {}
    const id = this.#send("job.submit", undefined, {
      agent: known.name ?? agent,
      input: known.input === undefined ? input : filled(known.input, input),
      lease_request: lease
    })
    this.#submits.set(id, handlers)
  }

  cancel(jobId) {
    this.#send("job.cancel", jobId, {})
  }

  /** Resolves once subscribed; `handlers` as in `submit`. */
  subscribe(jobId, handlers) {
    this.#jobs.set(jobId, handlers)
    return new Promise((resolve) => {
      this.#answers.set(this.#send("job.subscribe", undefined, { job_id: jobId }), resolve)
    })
  }

  ping() {
    const nonce = `p${this.#ids}`
    return new Promise((resolve) => {
      this.#answers.set(nonce, resolve)
      this.#send("session.ping", undefined, { nonce, sent_at: new Date().toISOString() })
    })
  }

  /** Ends the session in both sides' books and resolves when the transport is gone. */
  close() {
    this.#closing = true
    const ws = this.#ws
    if (ws.readyState !== WebSocket.OPEN) return Promise.resolve(ws.terminate())
    return new Promise((resolve) => {
      const timer = setTimeout(() => ws.terminate(), 2_000)
      ws.on("close", () => resolve(clearTimeout(timer)))
      this.#send("session.close", undefined, {})
    })
  }
}
