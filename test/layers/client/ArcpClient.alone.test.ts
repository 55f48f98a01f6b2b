/**
 * Each way in which another runtime is known to differ, alone: everything else is as ours does it, so that each test is the
 * proof of one thing. Whatever would be waited for fails after what an answer may take.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import type * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import * as ScriptedRuntime from "../../../src/testing/ScriptedRuntime.js"
import { scripted } from "./scripted.js"

const { jobError, message, result, sessionError, welcome } = ScriptedRuntime

/** The code of the failure, or `ok`, or `waits` where nothing came of it in time. */
const outcome = <A>(fiber: Fiber.RuntimeFiber<A, ArcpClient.ClientError>) =>
  Effect.gen(function* () {
    for (let i = 0; i < 40 && fiber.unsafePoll() === null; i++) yield* TestClock.adjust("1 second")
    const exit = fiber.unsafePoll()
    if (exit === null) return "waits"
    return exit._tag === "Success" ? "ok" : (yield* Effect.flip(exit)).code
  })

const submitted = (first?: string, options?: ArcpClient.SubmitOptions) =>
  Effect.gen(function* () {
    const { open } = yield* scripted
    const { client, server } = yield* open(first)
    const submitting = yield* Effect.fork(client.submit("a", 1, options))
    const submit = yield* server.expect("job.submit")
    return { client, server, submit, submitting }
  })

describe("a runtime that differs in one thing", () => {
  it.scoped("names the session on the envelope of its welcome only", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { client } = yield* open(welcome([], { session_id: undefined }))
      assert.strictEqual((yield* client.resumeState).sessionId, "sess_1")
    })
  )

  it.scoped("names the session in the payload of its welcome only", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { session_id: _, ...rest } = JSON.parse(welcome()) as Record<string, unknown>
      const { client } = yield* open(JSON.stringify(rest))
      assert.strictEqual((yield* client.resumeState).sessionId, "sess_1")
    })
  )

  it.scoped("gives results without completed_at", () =>
    Effect.gen(function* () {
      const { server, submit, submitting } = yield* submitted()
      yield* server.send(
        ScriptedRuntime.accepted(submit.id),
        message("job.result", { final_status: "success", result: 7 }, { job_id: "job_1", event_seq: 1 })
      )
      assert.strictEqual(yield* (yield* Fiber.join(submitting)).result, 7)
    })
  )

  it.scoped("accepts without request_id", () =>
    Effect.gen(function* () {
      const { server, submit, submitting } = yield* submitted()
      yield* server.send(
        message(
          "job.accepted",
          { job_id: "job_1", agent: "a@1", lease: {}, accepted_at: "2026-01-01T00:00:00Z" },
          { job_id: "job_1", trace_id: submit.trace_id }
        ),
        result(1)
      )
      assert.strictEqual(yield* outcome(submitting), "ok")
    })
  )

  it.scoped("accepts without request_id and without repeating the trace", () =>
    Effect.gen(function* () {
      const { server, submitting } = yield* submitted()
      yield* server.send(message("job.accepted", { job_id: "job_1", agent: "a@1", lease: {} }))
      assert.strictEqual(yield* outcome(submitting), "ok")
    })
  )

  it.scoped("accepts with the job on the envelope only", () =>
    Effect.gen(function* () {
      const { server, submit, submitting } = yield* submitted()
      yield* server.send(
        message("job.accepted", { request_id: submit.id, agent: "a@1", lease: {} }, { job_id: "job_1" })
      )
      assert.strictEqual(yield* outcome(submitting), "ok")
    })
  )

  it.scoped("names the request of an answer on the envelope only", () =>
    Effect.gen(function* () {
      const { server, submit, submitting } = yield* submitted(welcome(["x-vendor.effect-arcp.requests"]))
      yield* server.send(
        message("job.accepted", { job_id: "job_1", agent: "a@1", lease: {} }, { request_id: submit.id })
      )
      assert.strictEqual(yield* outcome(submitting), "ok")
    })
  )

  it.scoped("refuses a submit by a job.error on a fresh id without details", () =>
    Effect.gen(function* () {
      const { server, submitting } = yield* submitted()
      yield* server.send(jobError(1, "AGENT_NOT_AVAILABLE", false, "job_fresh"))
      assert.strictEqual(yield* outcome(submitting), "AGENT_NOT_AVAILABLE")
    })
  )

  it.scoped("refuses an unknown version by a bare session.error", () =>
    Effect.gen(function* () {
      const { server, submitting } = yield* submitted()
      yield* server.send(sessionError("AGENT_VERSION_NOT_AVAILABLE"))
      assert.strictEqual(yield* outcome(submitting), "AGENT_VERSION_NOT_AVAILABLE")
    })
  )

  it.scoped("accepts a key of a finished job, and sends nothing before that is subscribed to", () =>
    Effect.gen(function* () {
      const { server, submit, submitting } = yield* submitted(welcome(["subscribe"]), { idempotencyKey: "k" })
      yield* server.send(ScriptedRuntime.accepted(submit.id))
      const job = yield* Fiber.join(submitting)
      const waiting = yield* Effect.fork(job.result)
      yield* TestClock.adjust("1 second")
      const asked = (yield* server.received).map(({ type }) => type)
      assert.deepStrictEqual(asked, ["job.subscribe"])
      yield* server.send(result(1))
      assert.strictEqual(yield* Fiber.join(waiting), 7)
    })
  )

  it.scoped("accepts a key of a finished job, and sends nothing, and has no subscriptions", () =>
    Effect.gen(function* () {
      const { server, submit, submitting } = yield* submitted(welcome(), { idempotencyKey: "k" })
      yield* server.send(ScriptedRuntime.accepted(submit.id))
      const waiting = yield* Effect.fork((yield* Fiber.join(submitting)).result)
      assert.strictEqual(yield* outcome(waiting), "REQUEST_TIMEOUT")
    })
  )

  it.scoped("does not know session.close", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { client, server } = yield* open()
      const closing = yield* Effect.fork(client.close)
      const { id } = yield* server.expect("session.close")
      yield* Effect.ignore(server.send(sessionError("INVALID_REQUEST", false, id)))
      assert.strictEqual(yield* outcome(closing), "ok")
      assert.deepInclude(yield* client.status.get, { _tag: "Closed", error: undefined })
    })
  )
})
