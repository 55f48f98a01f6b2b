import * as FileSystem from "@effect/platform/FileSystem"
import { describe, expect, it } from "@effect/vitest"
import * as Cause from "effect/Cause"
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as TestClock from "effect/TestClock"
import * as RegistryLayer from "../../../src/layers/agents/Registry.js"
import { agents } from "../../../src/programs/agents/conformance.js"
import { Registry } from "../../../src/services/agents/Registry.js"
import { type Recorder, recorder, run } from "./recorder.js"

const files = FileSystem.layerNoop({})
const runs = (ref: string, input: unknown, job: Recorder = recorder()) =>
  Effect.provide(run(agents, ref, input, job), files)
const messages = (job: Recorder) => job.events.map(({ body }) => String(body["message"]))

it.effect("all of them can be hosted together; ver means 2.0.0", () =>
  Effect.gen(function* () {
    const { inventory } = yield* Registry
    expect(inventory.map(({ name }) => name)).toEqual([
      "echo",
      "emit",
      "sleep",
      "stubborn",
      "chunks",
      "fail",
      "spend",
      "read",
      "fetch",
      "model",
      "delegate",
      "steps",
      "nap",
      "ask",
      "ver"
    ])
    expect(inventory.find(({ name }) => name === "ver")).toEqual({
      name: "ver",
      versions: ["1.0.0", "2.0.0"],
      default: "2.0.0"
    })
    expect(yield* runs("ver@1.0.0", {})).toEqual({ version: "1.0.0" })
    expect(yield* runs("ver@2.0.0", {})).toEqual({ version: "2.0.0" })
  }).pipe(Effect.provide(Layer.fresh(RegistryLayer.layer(agents)).pipe(Layer.provide(files))))
)

it.effect("echo returns its input, whatever it is", () =>
  Effect.gen(function* () {
    for (const input of [null, 0, "", [1, { a: [] }], { x: "ä" }])
      expect(yield* runs("echo", input)).toEqual(input)
  })
)

it.effect("a bad input is refused and the path named", () =>
  Effect.gen(function* () {
    for (const [ref, input, path] of [
      ["emit", {}, "payload.input.count"],
      ["emit", { count: -1 }, "payload.input.count"],
      ["emit", { count: 1, batch: 0 }, "payload.input.batch"],
      ["sleep", { ms: "1" }, "payload.input.ms"],
      ["chunks", { chunks: 1 }, "payload.input.size"],
      ["fail", { mode: "explode" }, "payload.input.mode"],
      ["stubborn", null, "payload.input"]
    ] as const) {
      const error = yield* Effect.flip(runs(ref, input))
      expect(error.code).toBe("INVALID_REQUEST")
      expect(error.message).toContain(path)
    }
  })
)

describe("emit", () => {
  it.effect("emits count messages of size characters, in order, each awaited", () =>
    Effect.gen(function* () {
      let inFlight = 0
      let most = 0
      const commit = Effect.suspend(() => {
        most = Math.max(most, ++inFlight)
        return Effect.yieldNow().pipe(Effect.tap(() => void inFlight--))
      })
      const job = recorder(commit)
      expect(yield* runs("emit", { count: 300 }, job)).toEqual({ count: 300 })
      expect(most).toBe(1)
      expect(job.events).toHaveLength(300)
      job.events.forEach(({ kind, body }, i) => {
        expect(kind).toBe("log")
        expect(body["level"]).toBe("info")
        expect(body["message"]).toHaveLength(100)
        expect(body["message"]).toBe(String(i).padEnd(100, "."))
      })
    })
  )

  it.effect("size 0 and sizes below the index's still give exactly size characters", () =>
    Effect.gen(function* () {
      for (const size of [0, 1, 2]) {
        const job = recorder()
        yield* runs("emit", { count: 12, size }, job)
        expect(messages(job).map((message) => message.length)).toEqual(Array(12).fill(size))
      }
      const none = recorder()
      expect(yield* runs("emit", { count: 0, batch: 4 }, none)).toEqual({ count: 0 })
      expect(none.events).toEqual([])
    })
  )

  for (const [name, commit] of [
    ["at once", Effect.void],
    ["later", Effect.yieldNow()]
  ] as const)
    it.effect(`with batch keeps that many in flight, in order, when a commit ends ${name}`, () =>
      Effect.gen(function* () {
        let inFlight = 0
        let most = 0
        const job = recorder(
          Effect.suspend(() => {
            most = Math.max(most, ++inFlight)
            return Effect.ensuring(
              commit,
              Effect.sync(() => void inFlight--)
            )
          })
        )
        expect(yield* runs("emit", { count: 20_000, size: 5, batch: 16 }, job)).toEqual({ count: 20_000 })
        expect(messages(job).map((message) => Number.parseInt(message, 10))).toEqual(
          Array.from({ length: 20_000 }, (_, i) => i)
        )
        expect(most).toBe(name === "later" ? 16 : 1)
      })
    )

  it.effect("waits startDelayMs first and delayMs between two", () =>
    Effect.gen(function* () {
      const job = recorder()
      const fiber = yield* Effect.fork(runs("emit", { count: 3, delayMs: 10, startDelayMs: 50 }, job))
      const after = (ms: number) =>
        Effect.as(TestClock.adjust(ms), job).pipe(Effect.map((j) => j.events.length))
      expect(yield* after(49)).toBe(0)
      expect(yield* after(1)).toBe(1)
      expect(yield* after(9)).toBe(1)
      expect(yield* after(1)).toBe(2)
      expect(yield* after(10)).toBe(3)
      // No delay behind the last one.
      expect(yield* Fiber.join(fiber)).toEqual({ count: 3 })
    })
  )
})

it.effect("sleep can be interrupted; its finalizer emits cleanup", () =>
  Effect.gen(function* () {
    const job = recorder()
    const fiber = yield* Effect.fork(runs("sleep", { ms: 1_000 }, job))
    yield* TestClock.adjust(999)
    expect(job.events).toEqual([])
    yield* Fiber.interrupt(fiber)
    expect(job.events).toEqual([{ kind: "log", body: { level: "info", message: "cleanup" } }])
    const other = yield* Effect.fork(runs("sleep", { ms: 1_000 }))
    yield* TestClock.adjust(1_000)
    expect(yield* Fiber.join(other)).toEqual({ ms: 1_000 })
  })
)

it.effect("stubborn cannot be interrupted before its time", () =>
  Effect.gen(function* () {
    const fiber = yield* Effect.fork(runs("stubborn", { ms: 1_000 }))
    yield* TestClock.adjust(1)
    const ended = yield* Deferred.make<void>()
    yield* Effect.fork(Effect.zipRight(Fiber.interrupt(fiber), Deferred.succeed(ended, undefined)))
    yield* TestClock.adjust(998)
    expect(yield* Deferred.isDone(ended)).toBe(false)
    yield* TestClock.adjust(1)
    yield* Deferred.await(ended)
  })
)

describe("chunks", () => {
  it.effect("streams chunks of one letter each", () =>
    Effect.gen(function* () {
      const job = recorder()
      expect(yield* runs("chunks", { chunks: 28, size: 3 }, job)).toBeUndefined()
      expect(job.encoding).toBe("utf8")
      expect(job.ended).toBe(true)
      expect(job.written).toHaveLength(28)
      expect(job.written.slice(0, 2)).toEqual(["aaa", "bbb"])
      expect(job.written.slice(-3)).toEqual(["zzz", "aaa", "bbb"])
    })
  )

  it.effect("base64 chunks are bytes; no chunks is an empty result", () =>
    Effect.gen(function* () {
      const job = recorder()
      yield* runs("chunks", { chunks: 2, size: 2, encoding: "base64" }, job)
      expect(job.encoding).toBe("base64")
      expect(job.written).toEqual([Uint8Array.of(97, 97), Uint8Array.of(98, 98)])
      const none = recorder()
      yield* runs("chunks", { chunks: 0, size: 10 }, none)
      expect(none.written).toEqual([""])
      expect(none.ended).toBe(true)
    })
  )
})

it.effect("fail fails with a typed failure, a defect or a throw", () =>
  Effect.gen(function* () {
    const failure = yield* Effect.flip(runs("fail", { message: "oh" }))
    expect(failure).toMatchObject({
      code: "INTERNAL_ERROR",
      message: "oh",
      details: { error: { _tag: "ConformanceFailure", message: "oh" } }
    })
    for (const mode of ["defect", "throw"]) {
      const exit = yield* Effect.exit(runs("fail", { mode, message: "boom" }))
      if (!Exit.isFailure(exit)) throw new Error("must fail")
      expect(Chunk.toReadonlyArray(Cause.defects(exit.cause)).map(String)).toEqual(["Error: boom"])
    }
  })
)
