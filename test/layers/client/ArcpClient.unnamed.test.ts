/** What names no request, from a runtime that otherwise says which request its answers and refusals are for. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import type * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import { renewal } from "../../../src/protocol/Features.js"
import * as Vendor from "../../../src/protocol/Vendor.js"
import { closeCode } from "../../../src/services/transport/Transport.js"
import * as ScriptedRuntime from "../../../src/testing/ScriptedRuntime.js"
import { scripted } from "./scripted.js"

const { accepted, jobError, message, result, sessionError } = ScriptedRuntime

const features = ["list_jobs", "subscribe", Vendor.requests]
const welcome = ScriptedRuntime.welcome(features)

const code = <A, R>(effect: Effect.Effect<A, ArcpClient.ClientError, R>) =>
  Effect.map(Effect.flip(Effect.asVoid(effect)), (error): string => error.code)

describe("a session.error that names no request", () => {
  for (const [said, closed] of [
    ["UNAUTHENTICATED", closeCode.policy],
    ["PERMISSION_DENIED", closeCode.normal],
    ["INVALID_REQUEST", closeCode.protocolError]
  ] as const)
    for (const named of [true, false])
      it.scoped(`${said} and a close ends the session${named ? "" : ", of who names none ever, too"}`, () =>
        Effect.gen(function* () {
          const { dialled, open } = yield* scripted
          const { client, server } = yield* open(named ? welcome : undefined)
          const submitting = yield* Effect.fork(code(client.submit("x", 1)))
          yield* server.expect("job.submit")
          yield* server.send(sessionError(said))
          yield* server.connection.close(closed, "")
          assert.strictEqual(yield* Fiber.join(submitting), said)
          assert.strictEqual(yield* code(client.ping), said)
          assert.strictEqual(yield* dialled, 1)
        })
      )

  it.scoped("that may be retried, and a close: the session is resumed, and the request sent again", () =>
    Effect.gen(function* () {
      const { greeted, open } = yield* scripted
      const { client, server } = yield* open(welcome)
      const submitting = yield* Effect.fork(client.submit("x", 1))
      const { id } = yield* server.expect("job.submit")
      yield* server.send(sessionError("INTERNAL_ERROR", true))
      yield* server.connection.close(closeCode.tryLater, "")
      const { hello, server: second } = yield* greeted
      assert.isDefined(hello.payload["resume"])
      yield* second.send(welcome, accepted(id), result(1))
      assert.strictEqual(yield* (yield* Fiber.join(submitting)).result, 7)
    })
  )

  it.scoped("that a request brings about on each connection is what that fails with", () =>
    Effect.gen(function* () {
      const { greeted, open } = yield* scripted
      const { client, server } = yield* open(welcome)
      const submitting = yield* Effect.fork(code(client.submit("x", 1)))
      yield* Effect.forkScoped(
        Effect.iterate(server, {
          while: () => true,
          body: (current) =>
            Effect.gen(function* () {
              yield* current.expect("job.submit")
              yield* TestClock.adjust("4 seconds")
              yield* current.send(sessionError("INTERNAL_ERROR", true))
              yield* current.connection.close(closeCode.tryLater, "")
              const { server: next } = yield* greeted
              yield* next.send(welcome)
              return next
            })
        })
      )
      assert.strictEqual(yield* Fiber.join(submitting), "INTERNAL_ERROR")
    })
  )

  it.scoped(
    "of a token that is asked for, and a close: another one is shown, and the request sent again",
    () =>
      Effect.gen(function* () {
        const { connecting, greeted, welcomed } = yield* scripted
        let asked = 0
        const all = ScriptedRuntime.welcome([...features, renewal])
        const connected = yield* connecting({
          reconnect: Schedule.recurs(20),
          token: () => `opaque ${++asked}`
        })
        const server = yield* welcomed(all)
        const client = yield* Fiber.join(connected)
        const submitting = yield* Effect.fork(client.submit("x", 1))
        const { id } = yield* server.expect("job.submit")
        yield* server.send(sessionError("UNAUTHENTICATED"))
        yield* server.connection.close(closeCode.tokenEnded, "the token has ended")
        const { hello, server: second } = yield* greeted
        assert.deepStrictEqual(hello.payload["auth"], { scheme: "bearer", token: "opaque 2" })
        yield* second.send(all, accepted(id))
        assert.strictEqual((yield* Fiber.join(submitting)).jobId, "job_1")
      })
  )

  it.scoped("is that of the only request, when the transport does not close behind it", () =>
    Effect.gen(function* () {
      const { dialled, open, submitted } = yield* scripted
      const { client, server } = yield* open(welcome)
      const submitting = yield* Effect.fork(code(client.submit("x", 1)))
      yield* server.expect("job.submit")
      yield* server.send(sessionError("PERMISSION_DENIED"))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(submitting), "PERMISSION_DENIED")
      // Nor is a close of later about it.
      const job = yield* submitted(client, server)
      assert.strictEqual(yield* dialled, 1)
      yield* server.drop
      assert.strictEqual(job.jobId, "job_1")
      assert.notStrictEqual((yield* client.status.get)._tag, "Closed")
    })
  )

  it.scoped("is nobody's when there are two, or when it is about a job", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { client, server } = yield* open(welcome)
      const first = yield* Effect.fork(client.cancel("job_1"))
      yield* server.expect("job.cancel")
      const second = yield* Effect.fork(client.cancel("job_2"))
      yield* server.expect("job.cancel")
      yield* server.send(sessionError("PERMISSION_DENIED"))
      yield* TestClock.adjust("1 second")
      yield* server.send(message("job.cancelled", {}, { job_id: "job_1" }))
      yield* Fiber.join(first)
      const about = (job_id: string) =>
        message("session.error", { code: "INTERNAL_ERROR", message: "", details: { job_id } })
      // As of one whose end cannot be stored at the moment: the answer comes when it is.
      for (const job of ["job_1", "job_2"]) {
        yield* server.send(about(job))
        yield* TestClock.adjust("1 second")
        assert.isNull(second.unsafePoll())
      }
      yield* server.send(message("job.cancelled", {}, { job_id: "job_2" }))
      yield* Fiber.join(second)
    })
  )
})

describe("an answer that names no request", () => {
  it.scoped("is that of the oldest of its kind", () =>
    Effect.gen(function* () {
      const { open, submitted } = yield* scripted
      const { client, server } = yield* open(welcome)
      yield* submitted(client, server)
      const listing = yield* Effect.fork(Stream.runDrain(client.list()))
      yield* server.expect("session.list_jobs")
      const cancelling = yield* Effect.fork(client.cancel("job_1"))
      yield* server.expect("job.cancel")
      yield* server.send(
        message("session.jobs", { jobs: [], next_cursor: null }),
        message("job.cancelled", {}, { job_id: "job_1" })
      )
      yield* Fiber.join(listing)
      yield* Fiber.join(cancelling)
    })
  )

  it.scoped("the end of a job answers its cancel", () =>
    Effect.gen(function* () {
      const { open, submitted } = yield* scripted
      const { client, server } = yield* open(welcome)
      const job = yield* submitted(client, server)
      const cancelling = yield* Effect.fork(job.cancel())
      yield* server.expect("job.cancel")
      yield* server.send(jobError(1, "CANCELLED"))
      yield* Fiber.join(cancelling)
      assert.strictEqual(yield* code(job.result), "CANCELLED")
    })
  )

  it.scoped("and the accept of a delegated job answers no submit", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { client, server } = yield* open(welcome)
      const submitting = yield* Effect.fork(client.submit("x", 1))
      const { id } = yield* server.expect("job.submit")
      yield* server.send(
        message("job.accepted", { job_id: "job_child", agent: "y", lease: {}, parent_job_id: "job_0" }),
        accepted(id)
      )
      assert.strictEqual((yield* Fiber.join(submitting)).jobId, "job_1")
    })
  )
})
