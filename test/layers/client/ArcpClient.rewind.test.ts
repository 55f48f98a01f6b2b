/** Connections that end while what was skipped for a lane is on its way again. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as TestClock from "effect/TestClock"
import type { Scripted } from "../../../src/testing/ScriptedRuntime.js"
import * as ScriptedRuntime from "../../../src/testing/ScriptedRuntime.js"
import { collect, scripted } from "./scripted.js"

const { event, result, sessionError, welcome } = ScriptedRuntime

/** The next connection, welcomed; returns after which event it is to begin. */
const resumed = (greeted: Effect.Effect<{ server: Scripted; hello: ScriptedRuntime.Received }>) =>
  Effect.gen(function* () {
    const { hello, server } = yield* greeted
    yield* server.send(welcome(["ack"]))
    const { last_event_seq } = hello.payload["resume"] as { readonly last_event_seq: number }
    return { server, after: last_event_seq }
  })

/** A job whose events to 3 are held and to 6 were skipped, and the connection on which its reader has 4 of them again. */
const rewinding = Effect.gen(function* () {
  const runtime = yield* scripted
  const { client, server } = yield* runtime.open(welcome(["ack"]), {
    held: { events: 2 },
    ack: { events: 1000, interval: "1 second" }
  })
  const job = yield* runtime.submitted(client, server)
  for (const seq of [1, 4]) {
    yield* server.send(event(seq), event(seq + 1), event(seq + 2))
    // Its pong comes after what was sent, which has been taken in then.
    const pinging = yield* Effect.fork(client.ping)
    const { payload } = yield* server.expect("session.ping")
    yield* server.send(
      ScriptedRuntime.message("session.pong", { ping_nonce: payload["nonce"], received_at: "" })
    )
    yield* Fiber.join(pinging)
  }
  const reading = yield* Effect.fork(collect(job.events))
  const second = yield* resumed(runtime.greeted)
  assert.strictEqual(second.after, 3)
  yield* second.server.send(event(4))
  return { ...runtime, client, job, reading, server: second.server }
})

const seqs = (events: ReadonlyArray<{ readonly eventSeq: number }>) => events.map(({ eventSeq }) => eventSeq)

describe("a connection that ends while what was skipped comes again", () => {
  it.scoped("is followed by one that goes on there, and not after the newest event that was ever seen", () =>
    Effect.gen(function* () {
      const { greeted, job, reading, server } = yield* rewinding
      yield* server.drop
      const third = yield* resumed(greeted)
      assert.isAtMost(third.after, 4)
      const missing = [4, 5, 6].filter((seq) => seq > third.after)
      yield* third.server.send(...missing.map((seq) => event(seq)), result(7))
      assert.deepStrictEqual(seqs(yield* Fiber.join(reading)), [1, 2, 3, 4, 5, 6])
      assert.strictEqual(yield* job.result, 7)
    })
  )

  it.scoped("is followed by one more when no more comes, and then that is named", () =>
    Effect.gen(function* () {
      const { dialled, greeted, reading, server } = yield* rewinding
      const answered = (server: ScriptedRuntime.Scripted) =>
        Effect.flatMap(server.expect("session.ping"), ({ payload }) =>
          server.send(ScriptedRuntime.message("session.pong", { ping_nonce: payload["nonce"] }))
        )
      const next = yield* Effect.fork(resumed(greeted))
      // Half of it may have passed when the last one came.
      yield* TestClock.adjust("46 seconds")
      yield* answered(server)
      const third = yield* Fiber.join(next)
      assert.strictEqual(third.after, 4)
      yield* TestClock.adjust("31 seconds")
      yield* answered(third.server)
      const error = yield* Effect.flip(Fiber.join(reading))
      assert.strictEqual(error._tag, "ProtocolViolation")
      assert.include(error.message, "event 5 does not come")
      assert.strictEqual(yield* dialled, 3)
    })
  )

  it.scoped("acknowledges no more than has come again", () =>
    Effect.gen(function* () {
      const { client, server } = yield* rewinding
      yield* TestClock.adjust("1 second")
      const acked = yield* server.expect("session.ack")
      assert.isAtMost(acked.payload["last_processed_seq"] as number, 4)
      assert.isAtMost((yield* client.resumeState).lastEventSeq, 4)
    })
  )

  it.scoped("says what is missing when the runtime has it no longer, and the session goes on", () =>
    Effect.gen(function* () {
      const { greeted, job, reading, server } = yield* rewinding
      yield* server.drop
      const third = yield* greeted
      yield* third.server.send(sessionError("RESUME_WINDOW_EXPIRED"))
      const fourth = yield* resumed(greeted)
      assert.strictEqual(fourth.after, 6)
      yield* fourth.server.send(event(7), result(8))
      const events = yield* Fiber.join(reading)
      assert.deepStrictEqual(
        events.map(({ eventSeq, kind }) => (kind === "gap" ? kind : eventSeq)),
        [1, 2, 3, 4, "gap", 7]
      )
      assert.strictEqual(yield* job.result, 7)
    })
  )
})
