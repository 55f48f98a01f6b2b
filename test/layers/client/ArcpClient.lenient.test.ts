/** The client with runtimes that leave out, rename, repeat and delay: nothing hangs, and nothing goes to the wrong caller. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import type * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import * as ScriptedRuntime from "../../../src/testing/ScriptedRuntime.js"
import { collect, scripted } from "./scripted.js"

const { event, message } = ScriptedRuntime

/** Its welcome, with nothing of ours. */
const welcome = (more: Readonly<Record<string, unknown>> = {}) =>
  message("session.welcome", {
    session_id: "sess_1",
    runtime: { name: "other", version: "1" },
    resume_token: "rt_1",
    resume_window_sec: 600,
    capabilities: { encodings: ["json"], features: ["subscribe", "list_jobs", "ack"] },
    ...more
  })
const accepted = (jobId: string, traceId?: unknown, more: Readonly<Record<string, unknown>> = {}) =>
  message("job.accepted", { job_id: jobId, ...more }, { job_id: jobId, trace_id: traceId })
const frame = (type: string, seq: number, payload: unknown, jobId = "job_1") =>
  message(type, payload, { job_id: jobId, event_seq: seq })

const failure = <A, R>(effect: Effect.Effect<A, ArcpClient.ClientError, R>) =>
  Effect.map(Effect.flip(Effect.asVoid(effect)), (error): string => error.code)

/** A client with one job. */
const running = Effect.gen(function* () {
  const { open } = yield* scripted
  const { client, server } = yield* open(welcome())
  const submitting = yield* Effect.fork(client.submit("a", 1))
  const { trace_id } = yield* server.expect("job.submit")
  yield* server.send(accepted("job_1", trace_id))
  return { client, server, trace: trace_id, job: yield* Fiber.join(submitting) }
})

describe("with a runtime that answers an unsubscribe with an error, and names no request", () => {
  it.scoped("that refuses no submit", () =>
    Effect.gen(function* () {
      const { client, server } = yield* running
      const subscribing = yield* Effect.fork(failure(client.subscribe("job_2")))
      yield* server.expect("job.subscribe")
      yield* server.send(message("job.error", { code: "JOB_NOT_FOUND", message: "" }, { job_id: "job_2" }))
      assert.strictEqual(yield* Fiber.join(subscribing), "JOB_NOT_FOUND")
      yield* server.expect("job.unsubscribe")
      const submitting = yield* Effect.fork(client.submit("b", 1))
      const { trace_id } = yield* server.expect("job.submit")
      const error = { code: "JOB_NOT_FOUND", message: "no such subscription" }
      yield* server.send(message("job.error", error, { job_id: "job_2" }))
      yield* server.send(accepted("job_3", trace_id))
      assert.strictEqual((yield* Fiber.join(submitting)).jobId, "job_3")
    })
  )

  it.scoped("what refuses a subscription refuses no submit that was asked before it", () =>
    Effect.gen(function* () {
      const { client, server } = yield* running
      const submitting = yield* Effect.fork(client.submit("b", 1))
      const { trace_id } = yield* server.expect("job.submit")
      const subscribing = yield* Effect.fork(failure(client.subscribe("job_2")))
      yield* server.expect("job.subscribe")
      yield* server.send(message("job.error", { code: "JOB_NOT_FOUND", message: "" }, { job_id: "job_2" }))
      assert.strictEqual(yield* Fiber.join(subscribing), "JOB_NOT_FOUND")
      yield* server.send(accepted("job_3", trace_id))
      assert.strictEqual((yield* Fiber.join(submitting)).jobId, "job_3")
    })
  )
})

describe("with a runtime whose answers name nothing", () => {
  const subscribed = (current_status: string) =>
    message("job.subscribed", { job_id: "job_2", current_status, subscribed_from: 0 }, { job_id: "job_2" })

  it.scoped("the answer to a subscription that was given up is not taken for that to the next", () =>
    Effect.gen(function* () {
      const { client, server } = yield* running
      const given = yield* Effect.fork(client.subscribe("job_2"))
      yield* server.expect("job.subscribe")
      yield* Fiber.interrupt(given)
      const next = yield* Effect.fork(client.subscribe("job_2"))
      yield* server.expect("job.subscribe")
      yield* server.send(subscribed("pending"), subscribed("running"))
      assert.strictEqual((yield* Fiber.join(next)).subscribed.current_status, "running")
    })
  )

  it.scoped("a subscription that was given up is left when its answer comes", () =>
    Effect.gen(function* () {
      const { client, server } = yield* running
      const given = yield* Effect.fork(client.subscribe("job_2"))
      yield* server.expect("job.subscribe")
      yield* Fiber.interrupt(given)
      yield* server.send(subscribed("running"))
      assert.strictEqual((yield* server.expect("job.unsubscribe")).job_id, "job_2")
    })
  )
})

describe("with a runtime that leaves out and renames", () => {
  it.scoped("null is as good as nothing, everywhere", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const nothing = { session_id: null, job_id: null, trace_id: null, event_seq: null, extensions: null }
      const { client, server } = yield* open(
        message(
          "session.welcome",
          {
            session_id: "sess_1",
            runtime: { name: "other", version: "1" },
            resume_token: "rt_1",
            resume_window_sec: null,
            heartbeat_interval_sec: null,
            capabilities: {
              encodings: null,
              features: null,
              agents: null,
              "x-vendor.effect-arcp.limits": null
            }
          },
          nothing
        )
      )
      const submitting = yield* Effect.fork(client.submit("a", 1))
      yield* server.expect("job.submit")
      yield* server.send(
        message(
          "job.accepted",
          {
            request_id: null,
            job_id: "job_1",
            agent: null,
            lease: null,
            lease_constraints: null,
            budget: null,
            credentials: null,
            accepted_at: null,
            parent_job_id: null,
            delegate_id: null,
            trace_id: null
          },
          { ...nothing, job_id: "job_1" }
        ),
        frame("job.event", 1, {
          kind: "progress",
          ts: null,
          body: { current: 1, total: null, units: null, message: null }
        }),
        frame("job.result", 2, {
          final_status: null,
          result: null,
          result_id: null,
          result_size: null,
          summary: null,
          completed_at: null
        })
      )
      const job = yield* Fiber.join(submitting)
      assert.deepStrictEqual([job.agent, job.lease, job.leaseConstraints], ["a", {}, {}])
      assert.deepStrictEqual(
        (yield* collect(job.events)).map(({ kind }) => kind),
        ["progress"]
      )
      assert.isNull(yield* job.result)
      const refused = yield* Effect.fork(failure(client.cancel("job_2")))
      yield* server.expect("job.cancel")
      yield* server.send(
        message(
          "session.error",
          { code: "PERMISSION_DENIED", message: "no", retryable: null, details: null },
          nothing
        )
      )
      assert.strictEqual(yield* Fiber.join(refused), "PERMISSION_DENIED")
    })
  )

  it.scoped("an interval of 0 is none: nothing is pinged, and nothing given up", () =>
    Effect.gen(function* () {
      const { dialled, open } = yield* scripted
      const { client, server } = yield* open(welcome({ heartbeat_interval_sec: 0, resume_window_sec: 0 }))
      yield* TestClock.adjust("1 hour")
      const cancelling = yield* Effect.fork(failure(client.cancel("job_1")))
      assert.strictEqual((yield* server.received)[0]?.type, "job.cancel")
      yield* server.send(ScriptedRuntime.sessionError("JOB_NOT_FOUND"))
      assert.strictEqual(yield* Fiber.join(cancelling), "JOB_NOT_FOUND")
      assert.strictEqual(yield* dialled, 1)
    })
  )

  it.scoped(
    "numbers, times, ids and members may look otherwise, in any order and in any number of frames",
    () =>
      Effect.gen(function* () {
        const { open } = yield* scripted
        const { client, server } = yield* open(
          `{"payload":{"capabilities":{"agents":[{"versions":null,"name":"a","tier":3},"b"],"features":` +
            `["list_jobs","subscribe","x-other.thing"],"encodings":["json","cbor"],"limits":{}},` +
            `"resume_window_sec":6e2,"heartbeat_interval_sec":30.0,"resume_token":"","session_id":"S-1",` +
            `"runtime":{"name":"other"}},"session_id":"S-1","type":"session.welcome","id":7,"arcp":"1.1",` +
            `"sent":"2026-11-28T10:00:00+02:00"}`
        )
        assert.deepStrictEqual(
          (yield* client.agents).map(({ name }) => name),
          ["a", "b"]
        )
        const submitting = yield* Effect.fork(client.submit("a", 1))
        const { id } = yield* server.expect("job.submit")
        yield* server.send(
          `  {"payload":{"job_id":"0b9cfd7e-2c5f","request_id":"${id}","lease":{"x-other.thing":[]},` +
            `"lease_constraints":{"expires_at":"2026-11-28T10:00:00.123456789+02:00"},"agent":"a@1"},` +
            `"type":"job.accepted"}\r\n`,
          `{"job_id":"0b9cfd7e-2c5f","event_seq":1.0,"type":"job.event","payload":{"body":{"percent":50},` +
            `"kind":"other.kind","ts":1764324000}}`,
          `{"job_id":"0b9cfd7e-2c5f","event_seq":2.0,"type":"job.event","payload":{"body":{"current":1.0,` +
            `"total":2,"eta":{}},"kind":"progress","ts":"2026-11-28T10:00:00+02:00"}}`,
          `{"job_id":"0b9cfd7e-2c5f","event_seq":3e0,"type":"job.result","payload":{"result":{"n":1.0},` +
            `"final_status":"success","duration_ms":3}}`
        )
        const job = yield* Fiber.join(submitting)
        assert.strictEqual(job.jobId, "0b9cfd7e-2c5f")
        assert.deepStrictEqual(
          (yield* collect(job.events)).map(({ kind }) => kind),
          ["other", "progress"]
        )
        assert.deepStrictEqual(yield* job.result, { n: 1 })
      })
  )

  it.scoped("a cancelled job, or one that took too long, may end in a job.result", () =>
    Effect.gen(function* () {
      for (const [status, code] of [
        ["cancelled", "CANCELLED"],
        ["timed_out", "TIMEOUT"],
        ["error", "INTERNAL_ERROR"]
      ] as const) {
        const { job, server } = yield* running
        const cancelling = yield* Effect.fork(job.cancel())
        yield* server.expect("job.cancel")
        yield* server.send(
          frame("job.result", 1, { final_status: status, completed_at: "2026-01-01T00:00:00Z" })
        )
        assert.strictEqual(yield* failure(job.result), code)
        yield* Fiber.join(cancelling)
      }
    })
  )

  it.scoped("a job.error without a code is told apart by its final_status", () =>
    Effect.gen(function* () {
      for (const [status, code, retryable] of [
        ["cancelled", "CANCELLED", false],
        ["timed_out", "TIMEOUT", true],
        ["error", "INTERNAL_ERROR", true]
      ] as const) {
        const { job, server } = yield* running
        yield* server.send(frame("job.error", 1, { message: "x", code: null, final_status: status }))
        const error = yield* Effect.flip(job.result)
        assert.deepInclude(error as object, { code, retryable, message: "x" })
      }
    })
  )

  it.scoped("listings name the time of submission in one way or the other, and tell little", () =>
    Effect.gen(function* () {
      const { client, server } = yield* running
      const listing = yield* Effect.fork(collect(client.list()))
      yield* server.expect("session.list_jobs")
      yield* server.send(
        message("session.jobs", {
          jobs: [{ job_id: "job_1", agent: "a", status: "running", submitted_at: "2026-01-01T00:00:00Z" }]
        })
      )
      const [entry] = yield* Fiber.join(listing)
      assert.deepInclude(entry, {
        job_id: "job_1",
        created_at: "2026-01-01T00:00:00Z",
        lease: {},
        parent_job_id: null,
        last_event_seq: 0
      })
    })
  )
})

describe("with a runtime that does not say how a job has ended", () => {
  const subscribed = (requestId: string, status: string, replayed: boolean | number) =>
    message("job.subscribed", {
      request_id: requestId,
      job_id: "job_1",
      current_status: status,
      agent: "a",
      subscribed_from: 0,
      replayed
    })

  it.scoped("a subscription to it asks for the history, and then fails", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { client, server } = yield* open(welcome())
      const subscribing = yield* Effect.fork(client.subscribe("job_1"))
      yield* server.send(subscribed((yield* server.expect("job.subscribe")).id, "success", 0))
      const job = yield* Fiber.join(subscribing)
      const waiting = yield* Effect.fork(failure(job.result))
      yield* TestClock.adjust("1 second")
      const again = yield* server.expect("job.subscribe")
      assert.deepInclude(again.payload, { history: true })
      yield* server.send(subscribed(again.id, "success", 0), event(1))
      yield* TestClock.adjust("1 second")
      yield* TestClock.adjust("1 second")
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(waiting), "JOB_NOT_FOUND")
    })
  )

  it.scoped("and so does a submit whose key names it", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { client, server } = yield* open(welcome())
      const submitting = yield* Effect.fork(client.submit("a", 1, { idempotencyKey: "k" }))
      yield* server.expect("job.submit")
      yield* server.send(accepted("job_1"))
      const job = yield* Fiber.join(submitting)
      const waiting = yield* Effect.fork(failure(job.result))
      yield* TestClock.adjust("1 second")
      yield* server.send(subscribed((yield* server.expect("job.subscribe")).id, "error", 3))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(waiting), "JOB_NOT_FOUND")
    })
  )

  it.scoped("history that takes its time is waited for", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { client, server } = yield* open(welcome())
      const subscribing = yield* Effect.fork(client.subscribe("job_1", { history: true }))
      yield* server.send(subscribed((yield* server.expect("job.subscribe")).id, "success", true))
      const job = yield* Fiber.join(subscribing)
      for (let seq = 1; seq <= 5; seq++) {
        yield* server.send(event(seq))
        yield* TestClock.adjust("900 millis")
      }
      yield* server.send(frame("job.result", 6, { result: 7 }))
      assert.strictEqual(yield* job.result, 7)
    })
  )
})

describe("with a runtime that answers late, or twice", () => {
  it.scoped("the accept of a submit that was given up is nobody else's", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { client, server } = yield* open(welcome())
      const first = yield* Effect.fork(failure(client.submit("a", 1)))
      const { trace_id: one } = yield* server.expect("job.submit")
      const left = yield* Effect.fork(client.submit("a", 1, { onInterrupt: "detach" }))
      const { trace_id: two } = yield* server.expect("job.submit")
      yield* Fiber.interrupt(left)
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual(yield* Fiber.join(first), "REQUEST_TIMEOUT")
      const third = yield* Effect.fork(client.submit("b", 2))
      const { trace_id: three } = yield* server.expect("job.submit")
      yield* server.send(accepted("job_1", one), accepted("job_2", two), accepted("job_3", three))
      assert.strictEqual((yield* Fiber.join(third)).jobId, "job_3")
    })
  )

  it.scoped("an accept that comes again is not the answer to the next submit", () =>
    Effect.gen(function* () {
      const { client, job, server, trace } = yield* running
      const second = yield* Effect.fork(client.submit("b", 2))
      const { trace_id } = yield* server.expect("job.submit")
      yield* server.send(accepted("job_1", trace), accepted("job_2", trace_id))
      assert.strictEqual((yield* Fiber.join(second)).jobId, "job_2")
      const keyed = yield* Effect.fork(client.submit("a", 1, { idempotencyKey: "k" }))
      yield* server.expect("job.submit")
      yield* server.send(accepted("job_1", trace))
      assert.strictEqual((yield* Fiber.join(keyed)).jobId, "job_1")
      // A runtime that does not repeat traces makes its own.
      const fourth = yield* Effect.fork(client.submit("b", 2))
      yield* server.expect("job.submit")
      yield* server.send(accepted("job_4", "f".repeat(32)))
      assert.strictEqual((yield* Fiber.join(fourth)).jobId, "job_4")
      const cancelling = yield* Effect.fork(job.cancel())
      yield* server.expect("job.cancel")
      yield* server.send(
        message(
          "job.error",
          { final_status: "cancelled", code: "CANCELLED", message: "no" },
          { job_id: "job_1", trace_id: trace, event_seq: 1 }
        )
      )
      yield* Fiber.join(cancelling)
      assert.strictEqual(yield* failure(job.result), "CANCELLED")
    })
  )
})

describe("what JSON cannot say", () => {
  it.scoped("is refused by name, in place of being left out", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { client } = yield* open(welcome())
      const cyclic: { self?: unknown } = {}
      cyclic.self = cyclic
      const wrong = [
        () => 1,
        Symbol("s"),
        Promise.resolve(1),
        new Map(),
        new Set(),
        new WeakMap(),
        new Error("no"),
        /x/,
        new Uint8Array(1),
        new ArrayBuffer(1),
        new Headers(),
        new Blob([]),
        1n,
        NaN,
        cyclic,
        "\ud800"
      ]
      for (const value of wrong)
        for (const input of [value, { deep: [value] }]) {
          const error = yield* Effect.flip(client.submit("a", input))
          assert.strictEqual(error.code, "INVALID_REQUEST")
        }
      const error = yield* Effect.flip(client.submit("a", { tool: () => 1 }))
      assert.include(error.message, "tool")
    })
  )
})
