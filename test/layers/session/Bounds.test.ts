/** No frame of a runtime is larger than its bound (§4). */
import { assert, describe, it } from "@effect/vitest"
import type * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as fc from "effect/FastCheck"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as AuthLayer from "../../../src/layers/auth/Auth.js"
import * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import { encode } from "../../../src/protocol/Codec.js"
import { InternalError, toPayload, Unauthenticated } from "../../../src/protocol/Errors.js"
import { all, vendor } from "../../../src/protocol/Features.js"
import * as Vendor from "../../../src/protocol/Vendor.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Auth } from "../../../src/services/auth/Auth.js"
import { Job } from "../../../src/services/jobs/Job.js"
import type * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { type Closed, Dialer } from "../../../src/services/transport/Transport.js"
import { Disk, rig } from "../../support/Rig.js"
import { type Frame, hello, nextId, runtime } from "../../support/Wire.js"

const Large = Agent.make("large", { version: "1.0.0", input: Schema.Struct({ what: Schema.String }) })
const big = "é".repeat(2 * 1024 * 1024)
const large = Agent.handle(Large, ({ what }) =>
  Effect.gen(function* () {
    const job = yield* Job
    switch (what) {
      case "text":
        return big
      case "object":
        return { big }
      case "event":
        return yield* Effect.match(job.thought(big), { onSuccess: () => "", onFailure: ({ code }) => code })
      case "summary": {
        const result = yield* job.openResult()
        return yield* result.end("all of it", { summary: "in short" })
      }
      default:
        return yield* new InternalError({ message: "no", details: { big, small: 7 } })
    }
  })
)
const client = (features = all.filter(() => true)) =>
  ArcpClient.make({ token: Redacted.make("alice"), features })

describe("a frame over the bound is not made", () => {
  it.scoped("a result is streamed, a text as it is and anything else as JSON", () =>
    Effect.gen(function* () {
      const { submit } = yield* client()
      for (const what of ["text", "object"]) {
        const job = yield* submit("large", { what })
        assert.deepStrictEqual(yield* job.result, what === "text" ? big : { big })
      }
    }).pipe(Effect.provide(runtime([large])))
  )

  it.scoped("without result_chunk the job ends in INTERNAL_ERROR that names the limit", () =>
    Effect.gen(function* () {
      const { submit } = yield* client(all.filter((name) => name !== "result_chunk"))
      const job = yield* submit("large", { what: "object" })
      assert.deepInclude(yield* Effect.flip(job.result), {
        code: "INTERNAL_ERROR",
        details: { limit: "outbound_frame_bytes" }
      })
    }).pipe(Effect.provide(runtime([large])))
  )

  it.scoped("an event fails its emit, an error loses the largest of its details", () =>
    Effect.gen(function* () {
      const { submit } = yield* client()
      const emitting = yield* submit("large", { what: "event" })
      assert.strictEqual(yield* emitting.result, "INTERNAL_ERROR")
      const failing = yield* submit("large", { what: "error" })
      assert.deepInclude(yield* Effect.flip(failing.result), {
        details: { small: 7, limit: "outbound_frame_bytes" }
      })
    }).pipe(Effect.provide(runtime([large])))
  )
})

/** Bytes that a frame may have in what follows. */
const limit = 20_000
type Wire = Effect.Effect.Success<ReturnType<typeof connectRecording>>

/** A connection whose every inbound frame is measured. */
const connectRecording = Effect.fnUntraced(function* () {
  const dialer = yield* Dialer
  const connection = yield* dialer.connect
  yield* connection.setMaxFrameBytes(64 * 1024 * 1024)
  const frames: Array<Frame> = []
  const next = (want: (frame: Frame) => boolean, from = 0): Effect.Effect<Frame, Closed> =>
    Effect.suspend(() => {
      const found = frames.slice(from).find(want)
      if (found !== undefined) return Effect.succeed(found)
      return Effect.flatMap(connection.take, (taken) => {
        for (const text of taken) {
          assert.isAtMost(Buffer.byteLength(text as string), limit, (text as string).slice(0, 200))
          frames.push(JSON.parse(text as string))
        }
        return next(want, from)
      })
    })
  const send = (type: string, payload: unknown, more: Record<string, unknown> = {}) => {
    const id = nextId()
    return Effect.as(connection.send([encode({ id, type, payload, ...more })]), id)
  }
  return { next, send, frames }
})

const session = (features: ReadonlyArray<string> = [...all, Vendor.requests]) =>
  Effect.gen(function* () {
    const wire = yield* connectRecording()
    yield* wire.send("session.hello", hello({}, features))
    const welcome = yield* wire.next(({ type }) => type === "session.welcome")
    const { session_id } = welcome
    const ask = (type: string, payload: unknown, more: Record<string, unknown> = {}) =>
      Effect.flatMap(wire.send(type, payload, { session_id, ...more }), (id) =>
        wire.next(
          ({ payload: { details, ping_nonce, request_id } }) =>
            request_id === id || details?.request_id === id || ping_nonce === id
        )
      )
    return { ...wire, welcome, ask, session_id }
  })

/** Long in characters, in bytes, or when it is written as JSON. */
const texts = fc
  .constantFrom("x", "é", "\u2028", "🦉", '"', "\\", "\u0007")
  .chain((unit) => fc.integer({ min: 1, max: 60_000 }).map((length) => unit.repeat(length)))

const Emits = Agent.make("emits", { version: "1.0.0" })
const emits = Agent.handle(Emits, (input) =>
  Effect.gen(function* () {
    const job = yield* Job
    const { kind, text } = input as { readonly kind: string; readonly text: string }
    const tried = yield* Effect.exit(
      Effect.gen(function* () {
        switch (kind) {
          case "log":
            return yield* job.log("info", text, { text })
          case "thought":
            return yield* job.thought(text)
          case "status":
            return yield* job.status(text, { message: text })
          case "metric":
            return yield* job.metric({ name: text, value: 1, dimensions: { text } })
          case "tool_call":
            return yield* job.toolCall({ tool: "t", args: text, call_id: "c" })
          case "tool_result":
            return yield* job.toolResult({ call_id: "c", result: text })
          case "tool_error":
            return yield* job.toolResult({
              call_id: "c",
              error: toPayload(new InternalError({ message: text, details: { text, small: 1 } }))
            })
          case "artifact":
            return yield* job.artifact({ uri: `file:///${encodeURIComponent(text)}`, content_type: "a/b" })
          case "progress":
            return yield* job.progress({ current: 1, message: text })
          case "vendor":
            return yield* job.emit("x-vendor.acme.thing", { text })
          case "chunks":
            return yield* job.streamResult(Stream.make(text, text))
          case "delegate":
            return yield* Effect.asVoid(job.delegate("emits", { kind: "none", text }))
          case "error":
            return yield* new InternalError({ message: text, details: { text, small: 1 } })
          case "result":
            return text
          default:
            return "nothing"
        }
      })
    )
    if (Exit.isSuccess(tried)) return kind === "chunks" ? undefined : (tried.value ?? "nothing")
    return yield* Effect.failCause(tried.cause as Cause.Cause<InternalError>)
  })
)
const kinds = [
  "log",
  "thought",
  "status",
  "metric",
  "tool_call",
  "tool_result",
  "tool_error",
  "artifact",
  "progress",
  "vendor",
  "chunks",
  "delegate",
  "error",
  "result"
]

const small: RuntimeOptions.Input = { maxOutboundFrameBytes: limit, maxJobsPerSession: 1_000 }

describe("whatever is asked and emitted", () => {
  it.scopedLive("a result of nearly a frame comes inline or is streamed, and never fails", () =>
    Effect.gen(function* () {
      const { ask, next } = yield* session()
      for (const unit of ["x", '"', "\u0007", "é"])
        for (let bytes = 15_300; bytes < 16_600; bytes += 20) {
          const written = Buffer.byteLength(JSON.stringify(unit)) - 2
          const text = unit.repeat(Math.floor(bytes / written))
          const { job_id } = yield* ask("job.submit", { agent: "emits", input: { kind: "result", text } })
          const end = yield* next(
            (frame) => frame.job_id === job_id && (frame.type === "job.result" || frame.type === "job.error")
          )
          assert.strictEqual(end.type, "job.result", `${bytes} bytes of ${JSON.stringify(unit)}`)
        }
    }).pipe(Effect.provide(runtime([emits], small)))
  )

  it.scopedLive("no frame is over the bound, and every request has an answer", () =>
    Effect.gen(function* () {
      for (const features of [[...all, Vendor.requests], all.filter((name) => name !== "result_chunk")]) {
        const { ask, next, send, session_id } = yield* session(features)
        yield* Effect.promise(() =>
          fc.assert(
            fc.asyncProperty(fc.constantFrom(...kinds), texts, (kind, text) =>
              Effect.runPromise(
                Effect.gen(function* () {
                  const accepted = yield* ask("job.submit", {
                    agent: "emits",
                    input: { kind, text },
                    lease_request: { "agent.delegate": ["emits"] }
                  })
                  assert.strictEqual(accepted.type, "job.accepted")
                  const end = yield* next(
                    ({ job_id, type }) =>
                      job_id === accepted.job_id && (type === "job.result" || type === "job.error")
                  )
                  if (end.type === "job.error" && kind === "error")
                    assert.strictEqual(end.payload.details.small, 1)
                  else if (end.type === "job.error") {
                    assert.include(["event_bytes", "outbound_frame_bytes"], end.payload.details?.limit, kind)
                    // Whoever takes chunks gets a result of any size.
                    assert.isFalse(
                      features.includes("result_chunk") && (kind === "chunks" || kind === "result"),
                      kind
                    )
                  }
                })
              )
            ),
            { numRuns: 150 }
          )
        )
        yield* Effect.promise(() =>
          fc.assert(
            fc.asyncProperty(texts, (text) =>
              Effect.runPromise(
                Effect.gen(function* () {
                  for (const [type, payload, more] of [
                    ["job.submit", { agent: "emits", input: 1, lease_request: { "tool.call": [text] } }],
                    ["job.submit", { agent: text, input: 1 }],
                    ["job.submit", { agent: "emits", input: 1, idempotency_key: text }],
                    ["job.submit", { agent: "emits", input: 1, max_runtime_sec: text }],
                    ["job.cancel", { reason: text }, { job_id: "job_none" }],
                    ["job.subscribe", { job_id: text }],
                    ["session.list_jobs", { cursor: text }],
                    ["session.list_jobs", { filter: { agent: text } }],
                    [text, {}],
                    ["x-vendor.acme.thing", { text }]
                  ] as const) {
                    const answer = yield* ask(type, payload, more)
                    assert.match(answer.type, /^(session\.error|session\.jobs|job\.error|job\.accepted)$/)
                  }
                  const pinged = yield* send("session.ping", { nonce: text, sent_at: "x" }, { session_id })
                  yield* next(
                    ({ payload: { details, ping_nonce }, type }) =>
                      details?.request_id === pinged || (type === "session.pong" && ping_nonce === text)
                  )
                })
              )
            ),
            { numRuns: 40 }
          )
        )
      }
    }).pipe(Effect.provide(runtime([emits], { ...small, maxMalformedFrames: 100_000 })))
  )

  it.scoped(
    "a streamed result that is longer when it is written as JSON is named to who takes no chunks",
    () =>
      Effect.gen(function* () {
        const owner = yield* session()
        const observer = yield* session([...all.filter((name) => name !== "result_chunk"), Vendor.requests])
        for (const [unit, length, isInline] of [
          ["x", 5_000, true],
          ['"', 7_000, false],
          ["\u0007", 2_000, false],
          ["é", 7_000, false],
          ["🦉", 1_500, true]
        ] as const) {
          const text = unit.repeat(length)
          const { job_id } = yield* owner.ask("job.submit", {
            agent: "emits",
            input: { kind: "chunks", text }
          })
          yield* owner.next((frame) => frame.job_id === job_id && frame.type === "job.result")
          yield* observer.ask("job.subscribe", { job_id, history: true })
          const { payload } = yield* observer.next(
            (frame) => frame.job_id === job_id && frame.type === "job.result"
          )
          if (isInline) assert.strictEqual(payload.result, text + text)
          else assert.deepInclude(payload, { result_size: 2 * Buffer.byteLength(text) })
        }
      }).pipe(Effect.provide(runtime([emits], small)))
  )

  it.scoped(
    "a streamed result that is longer than what clients may send is given whole to who takes no chunks",
    () =>
      Effect.gen(function* () {
        const { ask, next } = yield* session()
        const observer = yield* session([...all.filter((name) => name !== "result_chunk"), Vendor.requests])
        const text = "x".repeat(3_000)
        const { job_id } = yield* ask("job.submit", { agent: "emits", input: { kind: "chunks", text } })
        const isEnd = (frame: { readonly job_id?: unknown; readonly type: string }) =>
          frame.job_id === job_id && frame.type === "job.result"
        yield* next(isEnd)
        yield* observer.ask("job.subscribe", { job_id, history: true })
        assert.strictEqual((yield* observer.next(isEnd)).payload.result, text + text)
      }).pipe(Effect.provide(runtime([emits], { ...small, maxFrameBytes: 4_096 })))
  )

  it.scoped("a reason is as long as it may be, and repeated whole", () =>
    Effect.gen(function* () {
      const { ask, next, send, session_id } = yield* session()
      const reason = "\u0007".repeat(1_024)
      const waiting = yield* ask("job.submit", { agent: "patient", input: 1 })
      yield* send("job.cancel", { reason }, { session_id, job_id: waiting.job_id })
      assert.strictEqual((yield* next(({ type }) => type === "job.cancelled")).payload.reason, reason)
      yield* next(({ type, payload }) => type === "job.error" && payload.code === "CANCELLED")
      yield* send("session.close", { reason }, { session_id })
      assert.strictEqual((yield* next(({ type }) => type === "session.closed")).payload.reason, reason)
    }).pipe(Effect.provide(runtime([patient], small)))
  )

  it.scoped(
    "a lease that no accept could tell is refused, one that just fits is told wherever it is asked for",
    () =>
      Effect.gen(function* () {
        const { ask, next } = yield* session()
        let fits = 0
        for (const size of [1_000, 7_000, 9_000, 12_000, 15_000, 15_500, 16_000, 19_000, 100_000]) {
          const lease = {
            "tool.call": Array.from({ length: size / 100 }, (_, i) => `${i}é"`.padEnd(96, '"'))
          }
          const answer = yield* ask("job.submit", { agent: "patient", input: 1, lease_request: lease })
          if (answer.type === "job.error") {
            assert.strictEqual(answer.payload.details.limit, "outbound_frame_bytes")
            continue
          }
          fits++
          assert.deepStrictEqual(answer.payload.lease, lease)
          const subscribed = yield* ask("job.subscribe", { job_id: answer.job_id })
          assert.deepStrictEqual(subscribed.payload.lease, lease)
        }
        assert.isAbove(fits, 1)
        let cursor: string | null = null
        let listed = 0
        do {
          const page: Frame = yield* ask("session.list_jobs", cursor === null ? {} : { cursor })
          assert.strictEqual(page.type, "session.jobs")
          listed += page.payload.jobs.length
          cursor = page.payload.next_cursor
        } while (cursor !== null)
        assert.strictEqual(listed, fits)
        yield* next(({ type }) => type === "session.jobs")
      }).pipe(Effect.provide(runtime([patient], small)))
  )

  it.scoped("a listing of 21 MB comes in pages that fit, each job once", () =>
    Effect.gen(function* () {
      const { ask } = yield* session()
      const jobIds: Array<string> = []
      // Some 14 kB each, of characters that JSON writes as two.
      const lease = { "tool.call": Array.from({ length: 70 }, (_, i) => `${i}`.padEnd(100, '"')) }
      for (let i = 0; i < 1_500; i++) {
        const accepted = yield* ask("job.submit", {
          agent: "emits",
          input: { kind: "" },
          lease_request: lease
        })
        assert.strictEqual(accepted.type, "job.accepted")
        jobIds.push(accepted.job_id as string)
      }
      const found: Array<string> = []
      let cursor: string | null = null
      do {
        const page: Frame = yield* ask("session.list_jobs", {
          limit: 1_000,
          ...(cursor === null ? {} : { cursor })
        })
        found.push(...page.payload.jobs.map((job: { readonly job_id: string }) => job.job_id))
        cursor = page.payload.next_cursor
      } while (cursor !== null)
      assert.deepStrictEqual(found, jobIds)
    }).pipe(Effect.provide(runtime([emits], small)))
  )

  it.scoped("a welcome names as many agents, and says as much of them, as fits", () =>
    Effect.gen(function* () {
      for (const features of [all, [...all, ...vendor], []]) {
        const { welcome } = yield* session(features)
        const { agents } = welcome.payload.capabilities
        assert.isAbove(agents.length, 50)
        assert.isBelow(agents.length, 1_000)
      }
    }).pipe(Effect.provide(runtime(many, small)))
  )

  it.scoped("an error before the welcome, and one that JSON cannot say, are told without their details", () =>
    Effect.gen(function* () {
      for (const details of [{ big }, { huge: 1n as unknown }]) {
        const auth = AuthLayer.fromToken(() => new Unauthenticated({ message: big, details }))
        const layer = rig([], {
          store: (yield* Disk.make).process().service,
          auth: Layer.succeed(Auth, auth),
          options: small
        })
        yield* Effect.provide(
          Effect.gen(function* () {
            const wire: Wire = yield* connectRecording()
            const id = yield* wire.send("session.hello", hello())
            const { payload } = yield* wire.next(({ type }) => type === "session.error")
            assert.deepStrictEqual([payload.code, payload.details.request_id], ["UNAUTHENTICATED", id])
          }),
          layer
        )
      }
    })
  )
})

const patient = Agent.handle(Agent.make("patient", { version: "1.0.0" }), () => Effect.never)
const many = Array.from({ length: 1_000 }, (_, i) =>
  Agent.handle(
    Agent.make(`agent-${i}`, { version: "1.0.0", description: "é".repeat(i % 3 === 0 ? 20_000 : 20) }),
    () => Effect.void
  )
)
