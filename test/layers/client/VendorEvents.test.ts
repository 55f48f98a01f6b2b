/** Events of a vendor's kind with a schema, from the handler to the client. */
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import { Arcp } from "../../../src/promise.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { vendor } from "../../../src/services/agents/VendorEvent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { Dialer } from "../../../src/services/transport/Transport.js"
import * as TestRuntime from "../../../src/testing/TestRuntime.js"

const Step = vendor(
  "x-vendor.acme.step",
  Schema.Struct({ name: Schema.NonEmptyString, at: Schema.Date, share: Schema.NumberFromString })
)
const Score = vendor("x-vendor.acme.score", Schema.Int)

const Build = Agent.make("build", { version: "1.0.0", events: [Step, Score] })
const at = new Date("2026-01-31T12:00:00Z")
const steps = [
  { name: "compile", at, share: 0.5 },
  { name: "link", at, share: 1 }
]
const build = Agent.handle(Build, () =>
  Effect.gen(function* () {
    const job = yield* Job
    for (const step of steps) {
      yield* job.emit(Step, step)
      yield* job.emit(Score, 7)
      yield* job.log("info", step.name)
    }
    const failed = yield* Effect.either(job.emit(Step, { name: "", at, share: 1 }))
    return Either.isLeft(failed) ? [failed.left.code, failed.left.message] : "emitted"
  })
)
/** Says what the schema of the kind does not. */
const liar = Agent.handle(Agent.make("liar", { version: "1.0.0" }), () =>
  Effect.gen(function* () {
    const job = yield* Job
    yield* job.emit(Score, 1)
    yield* job.emit("x-vendor.acme.score", "two")
  })
)
const promising = Agent.fromPromise("promising", { version: "1.0.0", events: [Score] }, async (_, job) => {
  await job.emit(Score, 3)
  return job.emit(Score, 0.5).catch((error: { readonly code: string }) => error.code)
})

const runtime = () => TestRuntime.layer([build, liar, promising])

describe("typed events", () => {
  it.scoped("are encoded by the agent and decoded by the client, those of other kinds left out", () =>
    Effect.gen(function* () {
      const client = yield* ArcpClient.ArcpClient
      const job = yield* client.submit(Build, {})
      assert.deepStrictEqual(Chunk.toReadonlyArray(yield* Stream.runCollect(job.of(Step))), steps)
      const other = yield* client.submit(Build, {})
      assert.deepStrictEqual(Chunk.toReadonlyArray(yield* Stream.runCollect(other.of(Score))), [7, 7])
      const events = yield* Stream.runCollect((yield* client.submit(Build, {})).events)
      const first = Chunk.toReadonlyArray(events).find(({ kind }) => kind === Step.kind)
      assert.deepStrictEqual(first?.body, { name: "compile", at: at.toISOString(), share: "0.5" })
    }).pipe(Effect.provide(runtime()))
  )

  it.scoped("a value that the schema does not take fails its emit, with the path, and nothing else", () =>
    Effect.gen(function* () {
      const client = yield* ArcpClient.ArcpClient
      const job = yield* client.submit(Build, {})
      const result = yield* job.result
      assert.deepStrictEqual(result, [
        "INVALID_REQUEST",
        "bad x-vendor.acme.step event: body.name: expected a non empty string"
      ])
    }).pipe(Effect.provide(runtime()))
  )

  it.scoped("a body that is not what the schema says fails the stream, after those that are", () =>
    Effect.gen(function* () {
      const client = yield* ArcpClient.ArcpClient
      const seen: Array<number> = []
      const job = yield* client.submit("liar", {})
      const exit = yield* Effect.exit(
        Stream.runForEach(job.of(Score), (score) => Effect.sync(() => seen.push(score)))
      )
      assert.deepStrictEqual(seen, [1])
      assert.deepStrictEqual(
        exit,
        Exit.fail(
          new ArcpClient.ProtocolViolation({
            message: "bad x-vendor.acme.score event: body: expected a number"
          })
        )
      )
    }).pipe(Effect.provide(runtime()))
  )

  it.scoped("work without Effect, on both sides", () =>
    Effect.gen(function* () {
      const dialer = Layer.succeed(Dialer, yield* Dialer)
      yield* Effect.promise(async () => {
        const arcp = await Arcp.connect({ dialer, token: "test" })
        const job = await arcp.submit("promising", {})
        const scores: Array<number> = []
        for await (const score of job.of(Score)) scores.push(score)
        assert.deepStrictEqual(scores, [3])
        assert.strictEqual(await job.result, "INVALID_REQUEST")
        const lying = await arcp.submit("liar", {})
        const failed = await (async () => {
          for await (const score of lying.of(Score)) assert.strictEqual(score, 1)
        })().catch((error: unknown) => error)
        assert.instanceOf(failed, ArcpClient.ProtocolViolation)
        await arcp.close()
      })
    }).pipe(Effect.provide(runtime()))
  )

  it("have a kind that is a vendor's", () => {
    for (const kind of ["x-vendor.acme", "x-vendor..step", "x-vendor.acme.", "x-vendor.a b.c"] as const)
      assert.throws(() => vendor(kind, Schema.String), /use x-vendor\.<vendor>\.<name>/)
  })
})
