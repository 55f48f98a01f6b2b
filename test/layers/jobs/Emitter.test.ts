import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Stream from "effect/Stream"
import * as Emitter from "../../../src/layers/jobs/Emitter.js"
import { InternalError } from "../../../src/protocol/Errors.js"
import type { EventLog, JobLog, NewEvent } from "../../../src/services/log/EventLog.js"
import * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import type { JobRecord } from "../../../src/services/store/Store.js"

interface Chunk {
  readonly data: string
  readonly chunk_seq: number
  readonly more: boolean
}

const record = { jobId: "job_1", lease: {} } as JobRecord
const job: JobLog = {
  jobId: "job_1",
  ended: false,
  isElsewhere: false,
  broken: undefined,
  whenBroken: () => {},
  endure: () => {},
  lastEventSeq: 0,
  remaining: new Map(),
  allRemaining: [],
  exhausted: undefined,
  budgets: () => false
}

/** An emitter over a log that refuses the appends whose number, from 1, is in `failing`, and gives those in `held` no place. */
const emitter = (
  failing: ReadonlyArray<number>,
  chunked = true,
  options: RuntimeOptions.Input = {},
  maxStreamedBytes = 16 * 1024 * 1024,
  held: ReadonlyArray<number> = []
) => {
  const appended: Array<NewEvent> = []
  let n = 0
  const log = {
    append: (_: JobLog, event: NewEvent) => {
      if (held.includes(++n)) return Effect.never
      return failing.includes(n)
        ? new InternalError({ message: "the log could not commit: disk full" })
        : Effect.sync(() => {
            appended.push(event)
          })
    }
  } as unknown as EventLog["Type"]
  const made = Emitter.make({
    log,
    job,
    record,
    deadline: undefined,
    now: () => 0,
    resultId: () => "res_1",
    options: RuntimeOptions.make(options),
    awaitEmits: false,
    chunked,
    maxStreamedBytes
  })
  return { ...made, appended }
}

/** A value whose JSON is another. */
const saying = (said: unknown) => ({ toJSON: () => said })
const throws = {
  get a() {
    return assert.fail()
  }
}
const never = new Proxy(
  {},
  { get: () => assert.fail(), has: () => assert.fail(), ownKeys: () => assert.fail() }
)

/** What is emitted, as JavaScript can: what is refused, and what is written where it is not. */
const bodies: ReadonlyArray<
  readonly [
    string,
    (service: Emitter.EmitService, spend: Emitter.Emitter["spend"]) => Effect.Effect<void, unknown>
  ]
> = [
  ["bad x-vendor.a.b event: body: is missing", (job) => job.emit("x-vendor.a.b", saying(undefined))],
  ["bad status event: body: is missing", (job) => job.status("p", saying(undefined))],
  ["bad log event: body.attributes: expected", (job) => job.log("info", "m", new URL("a:b") as never)],
  ["bad log event: body.attributes: expected", (job) => job.log("info", "m", saying(null))],
  ["bad log event: body.attributes: cannot be written as JSON", (job) => job.log("info", "m", throws)],
  ["bad log event: body.attributes", (job) => job.log("info", "m", never)],
  ["bad status event: body: cannot be read", (job) => job.status("p", throws)],
  ["bad metric event: body: cannot be read", (job) => job.metric(undefined as never)],
  ["bad metric event: body: cannot be read", (job) => job.metric(never as never)],
  [
    "bad metric event: body.dimensions",
    (job) => job.metric({ name: "m", value: 1, dimensions: saying(1) as never })
  ],
  ["bad tool_result event: body: cannot be read", (job) => job.toolResult({ call_id: "c", error: never })],
  [
    "bad metric event: body.name: expected",
    (_, spend) => spend({ amount: 1, currency: "USD", name: {} as never })
  ],
  ["bad metric event: body.unit: expected", (_, spend) => spend({ amount: 1, currency: 5 as never })],
  [
    "bad metric event: body.dimensions: expected",
    (_, spend) => spend({ amount: 1, currency: "USD", dimensions: saying([]) as never })
  ],
  ["bad metric event: body: cannot be read", (_, spend) => spend(never as never)]
]

describe("a body is checked as it is written", () => {
  for (const [problem, emit] of bodies)
    it.effect(`${emit}: ${problem}`, () =>
      Effect.gen(function* () {
        const { appended, service, spend } = emitter([])
        const error = yield* Effect.flip(Effect.suspend(() => emit(service, spend)))
        assert.strictEqual((error as InternalError).code, "INVALID_REQUEST" as string)
        assert.include((error as InternalError).message, problem)
        assert.deepStrictEqual(appended, [])
      })
    )

  it.effect("and what reads as JSON goes out as that", () =>
    Effect.gen(function* () {
      const { appended, service, spend } = emitter([])
      yield* service.emit("x-vendor.a.b", new Date(0))
      yield* service.log("info", "m", { at: new Date(0), of: saying({ n: 1 }) })
      yield* spend({ amount: "0.10", currency: "USD", name: "model", dimensions: { at: new Date(0) } })
      const at = "1970-01-01T00:00:00.000Z"
      assert.deepStrictEqual(
        appended.map(({ payload }) => JSON.parse(payload).body),
        [
          at,
          { level: "info", message: "m", attributes: { at, of: { n: 1 } } },
          { value: 0.1, name: "cost.model", unit: "USD", dimensions: { at } }
        ]
      )
    })
  )
})

describe("an event", () => {
  it.effect("may have what a frame may, and not more: that emit fails, and the next goes on", () =>
    Effect.gen(function* () {
      const { appended, service } = emitter([], true, { maxOutboundFrameBytes: 20_000 })
      yield* service.thought("x".repeat(15_600))
      const refused = yield* Effect.flip(service.thought("x".repeat(16_000)))
      assert.deepStrictEqual("details" in refused ? refused.details : undefined, { limit: "event_bytes" })
      yield* service.thought("short")
      assert.strictEqual(appended.length, 2)
    })
  )
})

describe("a streamed result", () => {
  it.effect("may have chunks, and be altogether, of as many bytes as the options say, and not one more", () =>
    Effect.gen(function* () {
      const limitOf = (error: object) => ("details" in error ? error.details : undefined)
      const { appended, service } = emitter([], true, { maxChunkBytes: 10 }, 25)
      const result = yield* service.openResult()
      // Eleven bytes in six characters: bytes of UTF-8 count.
      const refused = yield* Effect.flip(result.write("ééééé-"))
      assert.deepStrictEqual(limitOf(refused), { limit: "result_chunk_bytes" })
      yield* result.write("ééééé")
      yield* result.write("0123456789")
      const over = yield* Effect.flip(result.write("012345"))
      assert.deepStrictEqual(limitOf(over), { limit: "streamed_result_bytes" })
      yield* result.end("01234")
      assert.strictEqual(appended.length, 3)
    })
  )

  it.effect("that lost a chunk does not end in success, also when the handler caught the failure", () =>
    Effect.gen(function* () {
      const { service, finish, appended } = emitter([2])
      const result = yield* service.openResult()
      yield* result.write("a")
      assert.isTrue(Exit.isFailure(yield* Effect.exit(result.write("b"))))
      const after = yield* Effect.flip(result.write("c"))
      assert.match(after.message, /disk full/)
      const error = yield* Effect.flip(finish(undefined))
      assert.match(error.message, /disk full/)
      assert.strictEqual(appended.length, 1)
    })
  )

  it.effect(
    "whose write was interrupted does not end in success: its chunk may have no place in the log",
    () =>
      Effect.gen(function* () {
        const { service, finish } = emitter([], true, {}, 1024, [1])
        const result = yield* service.openResult()
        const writing = yield* Effect.fork(result.write("a"))
        yield* Effect.yieldNow()
        yield* Fiber.interrupt(writing)
        assert.match((yield* Effect.flip(result.write("b"))).message, /interrupted/)
        assert.match((yield* Effect.flip(finish(undefined))).message, /interrupted/)
      })
  )

  it.effect("takes text and bytes, and nothing else", () =>
    Effect.gen(function* () {
      for (const encoding of ["utf8", "base64"] as const) {
        const { service, finish } = emitter([])
        const result = yield* service.openResult(encoding)
        for (const data of [undefined, 1, new Map(), new ArrayBuffer(2), { length: 2 }]) {
          const error = yield* Effect.flip(result.write(data as unknown as string))
          assert.strictEqual(error.message, "a streamed result is written as text or as bytes")
        }
        yield* result.write(Buffer.from("ab"))
        assert.strictEqual((yield* finish(undefined))?.size, 2)
      }
    })
  )

  it.effect("goes on after a chunk that was refused for what it is", () =>
    Effect.gen(function* () {
      const { service, finish, appended } = emitter([])
      const result = yield* service.openResult()
      yield* Effect.flip(result.write(Uint8Array.of(0xff, 0x78)))
      yield* result.write("a")
      assert.deepStrictEqual(yield* finish(undefined), { resultId: "res_1", size: 1, summary: undefined })
      assert.strictEqual(appended.length, 2)
    })
  )

  it.effect("of text outside the BMP keeps every code point whole, wherever it is cut", () =>
    Effect.gen(function* () {
      // Surrogate pairs at every parity around the places where chunks are cut, and pieces cut inside one.
      for (const lead of ["", "a", "ab"]) {
        const text = lead + "\u{1F600}\u{10FFFF}é漢".repeat(20_000)
        const pieces: Array<string> = []
        for (let at = 0; at < text.length; at += 21_503) pieces.push(text.slice(at, at + 21_503))
        for (const source of [[text], pieces, [new TextEncoder().encode(text)]]) {
          const { service, finish, appended } = emitter([])
          yield* service.streamResult(Stream.fromIterable<string | Uint8Array>(source))
          const chunks = appended.map(({ payload }) => JSON.parse(payload).body as Chunk)
          assert.strictEqual(chunks.map(({ data }) => data).join(""), text)
          assert.deepStrictEqual(
            chunks.map(({ chunk_seq, more }) => [chunk_seq, more]),
            chunks.map((_, i) => [i, i < chunks.length - 1])
          )
          for (const { data } of chunks) {
            assert.strictEqual(new TextDecoder().decode(new TextEncoder().encode(data)), data)
            assert.isAtMost(new TextEncoder().encode(data).length, 64 * 1024)
          }
          assert.strictEqual((yield* finish(undefined))?.size, new TextEncoder().encode(text).length)
        }
      }
    })
  )

  it.effect("that was left open with half a code point ends with U+FFFD", () =>
    Effect.gen(function* () {
      const { appended, service, finish } = emitter([])
      const result = yield* service.openResult()
      yield* result.write("a\ud83d")
      assert.deepStrictEqual(yield* finish(undefined), { resultId: "res_1", size: 4, summary: undefined })
      const last = appended.at(-1)
      assert.strictEqual((JSON.parse(last?.payload ?? "{}").body as Chunk).data, "\ufffd")
    })
  )
})
