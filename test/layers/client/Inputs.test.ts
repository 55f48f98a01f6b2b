/** What jobs ask, and its answers, seen by the client. */
import { createHash } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import { Arcp } from "../../../src/promise.js"
import * as Vendor from "../../../src/protocol/Vendor.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { Dialer } from "../../../src/services/transport/Transport.js"
import * as ScriptedRuntime from "../../../src/testing/ScriptedRuntime.js"
import * as TestRuntime from "../../../src/testing/TestRuntime.js"
import { collect, scripted } from "./scripted.js"

const { message, result, subscribed } = ScriptedRuntime

const Approval = Schema.Struct({ yes: Schema.Boolean })

const approve = Agent.handle(Agent.make("approve", { version: "1.0.0", durable: true }), () =>
  Effect.gen(function* () {
    const job = yield* Job
    const about = { hosts: ["a", "b"] }
    const { yes } = yield* job.input("first", { prompt: "Deploy?", schema: Approval, about })
    const how = yield* job.input("second", { prompt: "How?", choices: ["fast", "slow"] })
    return [yes, how]
  }).pipe(Effect.orDie)
)

const sha256 = createHash("sha256").update('{"hosts":["a","b"]}').digest("hex")

describe("client.answer and handle.inputs", () => {
  it.scopedLive("answer what a job asks, of this session or another, and say why not", () =>
    Effect.gen(function* () {
      const client = yield* ArcpClient.ArcpClient
      const job = yield* client.submit("approve", null)
      const refused = yield* Effect.fork(
        Effect.gen(function* () {
          const [first] = Chunk.toReadonlyArray(yield* Stream.runCollect(Stream.take(job.inputs, 1)))
          const { input_id } = first as ArcpClient.InputRequest
          const reasonOf = (value: unknown, options?: ArcpClient.AnswerOptions) =>
            client.answer(job.jobId, input_id, value, options).pipe(
              Effect.flip,
              Effect.map((error) => "details" in error && error.details?.["reason"])
            )
          const about = { about: sha256 }
          return [
            yield* reasonOf({ yes: true }),
            yield* reasonOf("yes", about),
            yield* reasonOf(undefined, about)
          ]
        })
      )
      assert.deepStrictEqual(yield* Fiber.join(refused), ["about", "value", undefined])
      const asked: Array<ArcpClient.InputRequest> = []
      yield* Stream.runForEach(job.inputs, (request) => {
        asked.push(request)
        return request.choices === undefined
          ? client.answer(job.jobId, request.input_id, { yes: true }, { about: request.about?.sha256 })
          : client.answer(job.jobId, request.input_id, "slow")
      })
      assert.deepStrictEqual(yield* job.result, [true, "slow"])
      assert.deepStrictEqual(
        asked.map(({ input_id: _, schema: __, ...rest }) => rest),
        [
          { prompt: "Deploy?", about: { value: { hosts: ["a", "b"] }, sha256 } },
          { prompt: "How?", choices: ["fast", "slow"] }
        ] as never
      )
      // The same again is accepted; of a job that has ended too.
      yield* client.answer(job.jobId, asked[1]?.input_id ?? "", "slow")
      const missing = yield* Effect.flip(client.answer(`job_${"0".repeat(26)}`, "inp", 1))
      assert.strictEqual(missing._tag, "JobNotFound")
    }).pipe(Effect.provide(TestRuntime.layer([approve])))
  )

  it("are there without Effect", async () => {
    await Effect.runPromise(
      Effect.gen(function* () {
        const dialer = yield* Dialer
        yield* Effect.promise(async () => {
          const arcp = await Arcp.connect({ token: "alice", dialer: Layer.succeed(Dialer, dialer) })
          const job = await arcp.submit("approve", null)
          for await (const { about, choices, input_id } of job.inputs)
            await arcp.answer(job.jobId, input_id, choices?.[0] ?? { yes: false }, { about: about?.sha256 })
          assert.deepStrictEqual(await job.result, [false, "fast"])
          const failed = await arcp.answer(job.jobId, "inp_none", 1).catch((error: unknown) => error)
          assert.include(Object(failed), { code: "INVALID_REQUEST" })
          await arcp.close()
        })
      }).pipe(Effect.provide(TestRuntime.layer([approve])), Effect.scoped)
    )
  })

  const request = (seq: number, input_id: unknown, more: object = {}) =>
    message(
      "job.event",
      { kind: Vendor.inputRequest, ts: "", body: { input_id, prompt: "?", ...more } },
      { job_id: "job_1", event_seq: seq }
    )
  const closed = (seq: number, input_id: string) =>
    message(
      "job.event",
      { kind: Vendor.inputClosed, ts: "", body: { input_id, reason: "cancelled" } },
      { job_id: "job_1", event_seq: seq }
    )

  it.scopedLive("give what is open, once each, over a drop and a session that is lost", () =>
    Effect.gen(function* () {
      const { greeted, open, replaced, submitted } = yield* scripted
      const { client, server } = yield* open()
      const job = yield* submitted(client, server)
      const seen = yield* Queue.unbounded<string>()
      yield* Effect.forkScoped(Stream.runForEach(job.inputs, ({ input_id }) => seen.offer(input_id)))
      yield* server.send(
        request(1, "a"),
        request(2, "b"),
        closed(3, "b"),
        request(4, 7),
        request(5, "c", { about: 1 })
      )
      assert.strictEqual(yield* seen.take, "a")
      yield* server.drop
      const second = yield* greeted
      yield* second.server.send(ScriptedRuntime.welcome())
      yield* second.server.send(closed(6, "a"), request(7, "d"), request(8, "e"), closed(9, "d"))
      assert.strictEqual(yield* seen.take, "e")
      const third = yield* replaced(second.server, ["subscribe"])
      const { id } = yield* third.expect("job.subscribe")
      yield* third.send(
        subscribed(id, 0),
        ...[request(1, "a"), closed(2, "a"), request(3, "e"), closed(4, "e"), request(5, "f"), result(6)]
      )
      assert.strictEqual(yield* job.result, 7)
      // Another reader is given what is still open.
      assert.deepStrictEqual(
        (yield* collect(job.inputs)).map(({ input_id }) => input_id),
        ["f"]
      )
      assert.deepStrictEqual(Option.getOrNull(yield* Queue.poll(seen)), "f")
      assert.strictEqual(yield* Queue.size(seen), 0)
    })
  )

  it.scopedLive("send an answer again that was not answered, also to another session", () =>
    Effect.gen(function* () {
      const { greeted, open } = yield* scripted
      const { client, server } = yield* open()
      const answering = yield* Effect.fork(client.answer("job_9", "inp_1", { a: 1 }, { about: "00" }))
      const first = yield* server.expect(Vendor.jobInput)
      assert.deepStrictEqual(first.payload, { input_id: "inp_1", value: { a: 1 }, about_sha256: "00" })
      assert.strictEqual(first.job_id, "job_9")
      yield* server.drop
      const second = yield* greeted
      yield* second.server.send(ScriptedRuntime.welcome())
      const again = yield* second.server.expect(Vendor.jobInput)
      assert.strictEqual(again.id, first.id)
      yield* second.server.send(
        message(Vendor.jobInputAccepted, { request_id: again.id, input_id: "inp_1" }, { job_id: "job_9" })
      )
      yield* Fiber.join(answering)
    })
  )
})
