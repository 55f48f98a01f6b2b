/** What a client makes of answers that do not end, are no JSON, or ask to wait. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import * as Errors from "../../../src/protocol/Errors.js"
import * as ScriptedRuntime from "../../../src/testing/ScriptedRuntime.js"
import { scripted } from "./scripted.js"

const { event, message, result } = ScriptedRuntime

describe("a client", () => {
  it.scoped("does not follow the pages of a listing round in a circle", () =>
    Effect.gen(function* () {
      for (const circle of [1, 2, 7]) {
        const { open } = yield* scripted
        const { client, server } = yield* open()
        const listing = yield* Effect.fork(Effect.flip(Stream.runDrain(client.list())))
        yield* Effect.forkScoped(
          Effect.forever(
            Effect.flatMap(server.expect("session.list_jobs"), ({ id, payload }) => {
              const at = Number(payload["cursor"] ?? 0)
              return server.send(
                message("session.jobs", { request_id: id, jobs: [], next_cursor: `${(at % circle) + 1}` })
              )
            })
          )
        )
        assert.strictEqual((yield* Fiber.join(listing))._tag, "ProtocolViolation")
      }
    })
  )

  it.scoped("fails a streamed result that is no JSON where it should be", () =>
    Effect.gen(function* () {
      const { open, submitted } = yield* scripted
      const { client, server } = yield* open()
      const job = yield* submitted(client, server)
      const chunk = { result_id: "res_1", chunk_seq: 0, data: '{"half', encoding: "utf8", more: false }
      yield* server.send(
        event(1, chunk, "result_chunk"),
        result(2, { result_id: "res_1", result_size: 6, "x-vendor.effect-arcp.encoding": "json" })
      )
      const error = yield* Effect.flip(job.result)
      assert.strictEqual(error._tag, "ProtocolViolation")
      assert.include(error.message, "no JSON")
      yield* Effect.fork(client.ping)
      yield* server.expect("session.ping")
    })
  )

  it.effect("waits as long as it was asked to before it tries again", () =>
    Effect.gen(function* () {
      let tries = 0
      const later = Effect.suspend(() =>
        ++tries === 3
          ? Effect.succeed(tries)
          : new Errors.InternalError({ message: "later", details: { retry_after: 300 } })
      )
      const trying = yield* Effect.fork(Effect.retry(later, ArcpClient.retrySchedule))
      yield* TestClock.adjust("299 seconds")
      assert.strictEqual(tries, 1)
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(tries, 2)
      yield* TestClock.adjust("301 seconds")
      assert.strictEqual(yield* Fiber.join(trying), 3)
    })
  )

  it("says which of its own errors may be repeated", () => {
    assert.isTrue(ArcpClient.isRetryable(new ArcpClient.RequestTimeout({ message: "" })))
    assert.isTrue(ArcpClient.isRetryable(new ArcpClient.TokenUnavailable({ message: "", retryable: true })))
    assert.isFalse(ArcpClient.isRetryable(new ArcpClient.TokenUnavailable({ message: "", retryable: false })))
    assert.isFalse(ArcpClient.isRetryable(new ArcpClient.ProtocolViolation({ message: "" })))
  })
})
