/** A shutdown ends in bounded time whatever the store does, and says bye (protocol 4.7); a log that stops brings one. */
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import { afterEach, vi } from "vitest"
import { Transaction } from "../../../src/layers/log/Transaction.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import { encode } from "../../../src/protocol/Codec.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import { Sessions } from "../../../src/services/session/Sessions.js"
import { Closed, closeCode } from "../../../src/services/transport/Transport.js"
import { boot, Disk } from "../../support/Rig.js"
import { connect, hello, open } from "../../support/Wire.js"

const forever = Agent.handle(Agent.make("forever", { version: "1.0.0" }), () => Effect.never)

describe("a shutdown of a store that", () => {
  for (const mode of ["fails", "hangs"] as const)
    it.scopedLive(`${mode}: ends, and says bye to everybody`, () =>
      Effect.gen(function* () {
        const disk = yield* Disk.make
        const { run } = yield* boot([forever], { disk })
        yield* run(
          Effect.gen(function* () {
            const session = yield* open()
            yield* session.request("job.submit", { agent: "forever", input: {} })
            yield* session.expect("job.event")
            disk.mode = mode
            const { shutdown } = yield* Sessions
            yield* Effect.fork(shutdown)
            yield* session.expect("session.bye")
            assert.strictEqual((yield* session.closed).code, 1001)
            // Its turn is over: a second one has nothing to wait for.
            yield* shutdown
          })
        )
        yield* disk.release()
      })
    )
})

describe("a shutdown", () => {
  const count = Agent.handle(Agent.make("count", { version: "1.0.0", input: Schema.Number }), (to) =>
    Effect.flatMap(Job, (job) =>
      Effect.forEach(
        Array.from({ length: to }, (_, i) => i + 1),
        (i) => job.log("info", `${i}`),
        { discard: true }
      )
    )
  )

  it.scoped("says bye after everything that was to be sent, also to a client that is slow to read it", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot([count], { disk })
      yield* run(
        Effect.gen(function* () {
          // Without `ack` there is nothing else that it is told.
          const session = yield* open({}, ["subscribe"])
          const watcher = yield* open({}, ["subscribe"])
          yield* session.request("job.submit", { agent: "count", input: 1_500 })
          const { job_id } = yield* session.expect("job.accepted")
          yield* watcher.request("job.subscribe", { job_id, history: true })
          yield* watcher.expect("job.result")
          // The owner has not read on; the transport holds some of it, and the log the rest.
          const { shutdown } = yield* Sessions
          const stopping = yield* Effect.fork(shutdown)
          yield* watcher.expect("session.bye")
          yield* session.expect("session.bye")
          assert.strictEqual(session.seen.at(-2)?.type, "job.result")
          assert.strictEqual(session.seen.at(-2)?.event_seq, 1_502)
          yield* Fiber.join(stopping)
        })
      )
    })
  )

  it.scoped("waits for no peer that asks for nothing more, and reads nothing of what is said last", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot([count], { disk })
      yield* run(
        Effect.gen(function* () {
          const closed = yield* Deferred.make<void>()
          const input = [encode({ id: "h", type: "session.hello", payload: hello() })]
          const sent: Array<string> = []
          const { serve } = yield* Sessions
          const serving = yield* Effect.fork(
            serve({
              kind: "stdio",
              remote: "stdio",
              take: Effect.suspend(() => {
                const frame = input.pop()
                return frame === undefined
                  ? new Closed({ code: closeCode.normal, reason: "end of input", stillReads: true })
                  : Effect.succeed(Chunk.of(frame))
              }),
              // The welcome has room in the pipe.
              send: (frames) => (sent.push(...frames) > 1 ? Deferred.await(closed) : Effect.void),
              close: () => Effect.asVoid(Deferred.succeed(closed, undefined)),
              progress: () => "",
              setMaxFrameBytes: () => Effect.void
            })
          )
          while (sent.length < 2) yield* eventLoop.next
          assert.include(sent[1], "session.bye")
          yield* TestClock.adjust("30 seconds")
          assert.isNull(serving.unsafePoll())
          let minutes = 0
          for (; serving.unsafePoll() === null; minutes++) {
            yield* TestClock.adjust("1 minute")
            yield* eventLoop.next
          }
          // The resume window is ten.
          assert.isAtMost(minutes, 12)
        })
      )
    })
  )

  it.scoped("stores what sessions have become, also when that had just failed", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run, stop } = yield* boot([count], { disk })
      const ids = yield* run(
        Effect.gen(function* () {
          const reader = yield* open()
          yield* reader.request("job.submit", { agent: "count", input: 3 })
          yield* reader.expect("job.result")
          const gone = yield* open()
          disk.mode = "hangs"
          yield* gone.connection.close(1000, "")
          yield* Effect.repeat(eventLoop.next, { until: () => Effect.sync(() => disk.hanging > 0) })
          yield* disk.release("fails")
          yield* reader.request("session.ack", { last_processed_seq: 4 })
          yield* reader.request("session.ping", { nonce: "n" })
          yield* reader.expect("session.pong")
          return [gone.sessionId, reader.sessionId]
        })
      )
      disk.mode = "works"
      yield* stop
      const stored = yield* Effect.forEach(ids, disk.store.session)
      assert.deepStrictEqual(
        stored.map((record) => [record?.attached, record?.acked]),
        [
          [false, 0],
          [false, 4]
        ]
      )
    })
  )
})

describe("a log that has stopped", () => {
  afterEach(() => {
    vi.restoreAllMocks()
  })

  it.scopedLive("ends every session, takes no new one, and whoever serves is told", () =>
    Effect.gen(function* () {
      const disk = yield* Disk.make
      const { run } = yield* boot([forever], { disk })
      yield* run(
        Effect.gen(function* () {
          const session = yield* open()
          const other = yield* open({ auth: { scheme: "bearer", token: "bob" } })
          const serving = yield* Effect.fork(Effect.flip(Runtime.serveAll))
          vi.spyOn(Transaction.prototype, "apply").mockImplementation(() => {
            throw new Error("memory and store differ")
          })
          yield* session.request("job.submit", { agent: "forever", input: {} })
          yield* session.expect("session.bye")
          yield* other.expect("session.bye")
          assert.strictEqual((yield* Fiber.join(serving)).code, "INTERNAL_ERROR")
          const late = yield* connect
          yield* late.send("session.hello", hello())
          assert.strictEqual((yield* late.expect("session.error")).payload.details.reason, "shutdown")
        })
      )
    })
  )
})
