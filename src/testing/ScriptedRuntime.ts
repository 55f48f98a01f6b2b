/**
 * A runtime that says what the test says, for testing clients: what a real one would never send, and the moments that
 * are hard to catch. Nothing is checked or answered by itself; messages are built by the functions below.
 */
import * as Chunk from "effect/Chunk"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Mailbox from "effect/Mailbox"
import * as TransportMemory from "../layers/transport/TransportMemory.js"
import { encode } from "../protocol/Envelope.js"
import type { ErrorCode } from "../protocol/Errors.js"
import { type Closed, type Connection, closeCode, Dialer } from "../services/transport/Transport.js"
import { CheckFailed } from "./Check.js"

/** A message of the client. */
export interface Received {
  readonly id: string
  readonly type: string
  readonly session_id?: string | undefined
  readonly job_id?: string | undefined
  readonly trace_id?: string | undefined
  readonly extensions?: Readonly<Record<string, unknown>> | undefined
  readonly payload: Readonly<Record<string, unknown>>
}

/** The runtime's end of a connection. */
export interface Scripted {
  readonly connection: Connection
  /** Sends messages, as they are. */
  readonly send: (...messages: ReadonlyArray<string>) => Effect.Effect<void>
  /** All messages that have come since the last call, at least one. */
  readonly received: Effect.Effect<ReadonlyArray<Received>, Closed>
  /** The next message of that type; those before it are skipped, and named if the connection ends without it. */
  readonly expect: (type: string) => Effect.Effect<Received>
  /** Answers the submit that comes next with a job. */
  readonly accept: (jobId?: string) => Effect.Effect<Received>
  readonly drop: Effect.Effect<void>
}

/** A runtime that says what the test says. */
export class ScriptedRuntime extends Context.Tag("arcp/testing/ScriptedRuntime")<
  ScriptedRuntime,
  {
    /** How many connections were made so far. */
    readonly dialled: Effect.Effect<number>
    /** The next connection, as it is. */
    readonly connection: Effect.Effect<Scripted>
    /** The next connection, and the hello that came over it, not yet answered. */
    readonly greeted: Effect.Effect<{ readonly server: Scripted; readonly hello: Received }>
    /** The next connection, its hello answered; by default with `welcome()`. */
    readonly welcomed: (message?: string) => Effect.Effect<Scripted>
  }
>() {}

const script = (connection: Connection): Scripted => {
  let waiting: Array<Received> = []
  const arrive = Effect.map(connection.take, (frames) => {
    waiting.push(...Chunk.toReadonlyArray(frames).map((text) => JSON.parse(String(text)) as Received))
  })
  const send: Scripted["send"] = (...messages) => connection.send(messages)
  const expect = (type: string) =>
    Effect.gen(function* () {
      const skipped: Array<string> = []
      for (;;) {
        for (let message = waiting.shift(); message !== undefined; message = waiting.shift()) {
          if (message.type === type) return message
          skipped.push(message.type)
        }
        yield* Effect.catchAll(arrive, ({ code, reason }) =>
          Effect.die(
            new CheckFailed(
              `expected ${type}; the connection ended (${code} ${reason}) after ${skipped.join(", ") || "nothing"}`
            )
          )
        )
      }
    })
  return {
    connection,
    send,
    received: Effect.gen(function* () {
      while (waiting.length === 0) yield* arrive
      const all = waiting
      waiting = []
      return all
    }),
    expect,
    accept: (jobId) =>
      Effect.tap(expect("job.submit"), ({ id }) => send(accepted(id, jobId === undefined ? {} : { jobId }))),
    drop: connection.close(closeCode.goingAway, "dropped by the script")
  }
}

/** The runtime, and the `Dialer` of the client under test. */
export const layer = (): Layer.Layer<ScriptedRuntime | Dialer> =>
  Layer.scopedContext(
    Effect.gen(function* () {
      const dialled = yield* Mailbox.make<Connection>()
      let count = 0
      const connection = Effect.map(Effect.orDie(dialled.take), script)
      const greeted = Effect.gen(function* () {
        const server = yield* connection
        return { server, hello: yield* server.expect("session.hello") }
      })
      return Context.make(Dialer, {
        connect: Effect.map(TransportMemory.make, ([client, server]) => {
          count++
          dialled.unsafeOffer(server)
          return client
        })
      }).pipe(
        Context.add(ScriptedRuntime, {
          dialled: Effect.sync(() => count),
          connection,
          greeted,
          welcomed: (message = welcome()) =>
            Effect.tap(
              Effect.map(greeted, ({ server }) => server),
              (server) => server.send(message)
            )
        })
      )
    })
  )

let ids = 0
const at = "2026-01-01T00:00:00Z"

/** A message of the runtime; `more` are keys of the envelope. */
export const message = (
  type: string,
  payload: unknown,
  more: Readonly<Record<string, unknown>> = {}
): string => encode({ id: `${++ids}`.padStart(26, "0"), type, session_id: "sess_1", payload, ...more })

/** `session.welcome` (§6.2), of a session `sess_1` that may be resumed with `rt_1`. `more` are keys of its payload. */
export const welcome = (
  features: ReadonlyArray<string> = [],
  more: Readonly<Record<string, unknown>> = {}
): string =>
  message("session.welcome", {
    session_id: "sess_1",
    runtime: { name: "script", version: "1" },
    resume_token: "rt_1",
    resume_window_sec: 600,
    capabilities: { encodings: ["json"], features, agents: [] },
    ...more
  })

/** `job.accepted` (§7.1) */
export const accepted = (
  requestId: string,
  options: { readonly jobId?: string | undefined; readonly agent?: string | undefined } = {}
): string => {
  const { agent = "x@1", jobId = "job_1" } = options
  return message(
    "job.accepted",
    { request_id: requestId, job_id: jobId, agent, lease: {}, accepted_at: at },
    { job_id: jobId }
  )
}

/** `job.event` (§8.1); without more, a log line that tells its number. */
export const event = (
  seq: number,
  body: unknown = { level: "info", message: `event ${seq}` },
  kind = "log",
  jobId = "job_1"
): string => message("job.event", { kind, ts: at, body }, { job_id: jobId, event_seq: seq })

/** `job.result` (§8.4) with the result 7; `more` are keys of its payload. */
export const result = (
  seq: number,
  more: Readonly<Record<string, unknown>> = { result: 7 },
  jobId = "job_1"
): string =>
  message(
    "job.result",
    { final_status: "success", completed_at: at, ...more },
    { job_id: jobId, event_seq: seq }
  )

/** `job.error` (§12) */
export const jobError = (seq: number, code: ErrorCode, retryable = false, jobId = "job_1"): string =>
  message(
    "job.error",
    {
      code,
      message: "scripted",
      retryable,
      final_status: code === "CANCELLED" ? "cancelled" : code === "TIMEOUT" ? "timed_out" : "error",
      completed_at: at
    },
    { job_id: jobId, event_seq: seq }
  )

/** `session.error` (§12); of a request, when that is named. */
export const sessionError = (code: ErrorCode, retryable = false, requestId?: string): string =>
  message("session.error", {
    code,
    message: "scripted",
    retryable,
    ...(requestId === undefined ? {} : { details: { request_id: requestId } })
  })

/** `job.subscribed` (§7.6) to a running job. */
export const subscribed = (requestId: string, from: number, jobId = "job_1"): string =>
  message(
    "job.subscribed",
    {
      request_id: requestId,
      job_id: jobId,
      current_status: "running",
      agent: "x@1",
      lease: {},
      parent_job_id: null,
      trace_id: `${"0".repeat(31)}1`,
      subscribed_from: from,
      replayed: true
    },
    { job_id: jobId }
  )
