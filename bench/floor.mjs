/**
 * The floor: what a server costs that only does `JSON.stringify` and `ws.send`, one frame at a time.
 *
 * It speaks as much ARCP as the client in `client.mjs` needs, keeps nothing, checks nothing, and makes
 * frames of the same shape and size as a runtime does. It leaves the event loop room after every
 * `turnFrames` events: faster than one frame per turn, and other connections get their answers.
 *
 * Prints `listening ws://HOST:PORT/arcp`, and ends with its parent (when stdin closes).
 */
import { setImmediate as nextTurn, setTimeout as pause } from "node:timers/promises"
import { WebSocketServer } from "ws"

const turnFrames = 64
/** Unwritten bytes above which the sender waits for the kernel. */
const highWaterBytes = 1024 * 1024

const traceId = "4bf92f3577b34da6a3ce929d0e0e4736"
/** The time of what is sent: made once for every turn of the event loop. */
let ts = new Date().toISOString()
let ids = 0
const ulid = () => String(ids++).padStart(26, "0")

const sessions = new Map()
const jobs = new Map()

const send = (session, type, fields) =>
  session.ws.send(JSON.stringify({ arcp: "1.1", id: ulid(), type, session_id: session.id, ...fields }))

/** One numbered frame to everybody who observes the job. */
const publish = (job, type, payload) => {
  for (const session of job.observers)
    session.ws.send(
      JSON.stringify({
        arcp: "1.1",
        id: ulid(),
        type,
        session_id: session.id,
        job_id: job.id,
        trace_id: traceId,
        event_seq: ++session.seq,
        payload
      })
    )
}

const status = () => ({ kind: "status", ts, body: { phase: "running" } })
const log = (message) => ({ kind: "log", ts, body: { level: "info", message } })
const result = (value) => ({ final_status: "success", result: value, completed_at: ts })

const drained = (ws) =>
  ws.bufferedAmount <= highWaterBytes || ws.readyState !== ws.OPEN
    ? nextTurn()
    : new Promise((resolve) => ws.ping(undefined, undefined, () => resolve()))

const roomFor = (job) => Promise.all(Array.from(job.observers, (session) => drained(session.ws)))

const agents = {
  async emit(job, { count, size = 100, startDelayMs = 0, delayMs = 0 }) {
    if (startDelayMs > 0) await pause(startDelayMs)
    ts = new Date().toISOString()
    for (let i = 0; i < count && !job.cancelled; i++) {
      publish(job, "job.event", log(String(i).padEnd(size, ".").slice(0, size)))
      if (delayMs > 0) await pause(delayMs)
      else if (i % turnFrames === turnFrames - 1) await roomFor(job)
      else continue
      ts = new Date().toISOString()
    }
    if (!job.cancelled) end(job, "job.result", result({ count }))
  },
  echo: (job, input) => end(job, "job.result", result(input)),
  sleep: () => {}
}

const end = (job, type, payload) => {
  publish(job, type, payload)
  jobs.delete(job.id)
}

const submit = (session, frame) => {
  const { agent, input } = frame.payload
  const job = { id: `job_${ulid()}`, agent, input, observers: new Set([session]), cancelled: false }
  jobs.set(job.id, job)
  session.job = job
  send(session, "job.accepted", {
    job_id: job.id,
    trace_id: traceId,
    payload: {
      request_id: frame.id,
      job_id: job.id,
      agent: `${agent}@1.0.0`,
      lease: {},
      accepted_at: ts,
      trace_id: traceId
    }
  })
  publish(job, "job.event", status())
  agents[agent](job, input)
}

const cancel = (session, frame) => {
  const job = jobs.get(frame.job_id)
  send(session, "job.cancelled", { job_id: frame.job_id, payload: {} })
  if (job === undefined) return
  job.cancelled = true
  publish(job, "job.event", log("cleanup"))
  end(job, "job.error", {
    code: "CANCELLED",
    message: "cancelled",
    retryable: false,
    final_status: "cancelled",
    completed_at: ts
  })
}

const subscribe = (session, frame) => {
  const job = jobs.get(frame.payload.job_id)
  job.observers.add(session)
  send(session, "job.subscribed", {
    job_id: job.id,
    payload: { request_id: frame.id, job_id: job.id, current_status: "running", subscribed_from: session.seq }
  })
}

/** Makes the frames of the session's last job again, those after `from`, and sends them as it did the first time. */
const replay = async (session, from) => {
  session.seq = from
  const job = { ...session.job, observers: new Set([session]) }
  if (from === 0) publish(job, "job.event", status())
  await agents[job.agent](job, job.input)
}

const hello = (ws, { payload }) => {
  const session = sessions.get(payload.resume?.session_id) ?? { id: `sess_${ulid()}`, seq: 0, job: undefined }
  session.ws = ws
  sessions.set(session.id, session)
  send(session, "session.welcome", {
    payload: {
      session_id: session.id,
      runtime: { name: "floor", version: "0" },
      resume_token: `rt_${"0".repeat(64)}`,
      resume_window_sec: 600,
      heartbeat_interval_sec: 30,
      capabilities: { encodings: ["json"], features: payload.capabilities.features, agents: [] }
    }
  })
  if (payload.resume !== undefined) void replay(session, payload.resume.last_event_seq)
  return session
}

const receive = (session, frame) => {
  switch (frame.type) {
    case "job.submit":
      return submit(session, frame)
    case "job.cancel":
      return cancel(session, frame)
    case "job.subscribe":
      return subscribe(session, frame)
    case "session.ping":
      return send(session, "session.pong", { payload: { ping_nonce: frame.payload.nonce, received_at: ts } })
    case "session.close":
      send(session, "session.closed", { payload: {} })
      sessions.delete(session.id)
      return session.ws.close()
  }
}

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: 0,
  path: "/arcp",
  perMessageDeflate: false,
  backlog: 1024
})
server.on("connection", (ws) => {
  let session
  ws.on("message", (data) => {
    const frame = JSON.parse(data.toString())
    if (session === undefined) session = hello(ws, frame)
    else receive(session, frame)
  })
  ws.on("error", () => {})
})
server.on("listening", () => console.log(`listening ws://127.0.0.1:${server.address().port}/arcp`))

process.stdin.on("end", () => process.exit(0)).resume()
