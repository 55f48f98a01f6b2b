/** Clients that others have written: `null` for what is left out, and no knowledge of our extensions (protocol 2, 3 and 5.7). */
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import { frameOf } from "../../../src/layers/jobs/fitting.js"
import { all } from "../../../src/protocol/Features.js"
import * as Vendor from "../../../src/protocol/Vendor.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { connect, open, runtime } from "../../support/Wire.js"

const echo = Agent.handle(Agent.make("echo", { version: "1.0.0" }), (input) => Effect.succeed(input))
const forever = Agent.handle(Agent.make("forever", { version: "1.0.0" }), () => Effect.never)
const agents = [echo, forever]

const unaware = all.filter((feature) => feature !== Vendor.requests)
const envelope = { trace_id: null, job_id: null, event_seq: null, extensions: null }
const nothing = { lease_request: null, lease_constraints: null, idempotency_key: null, max_runtime_sec: null }

describe("null stands for what is left out", () => {
  it.scoped("in a hello", () =>
    Effect.gen(function* () {
      const wire = yield* connect
      const client = { name: "other", version: "1", fingerprint: null, principal: null }
      const payload = { client, auth: { scheme: "bearer", token: "alice" }, resume: null }
      yield* wire.send(
        "session.hello",
        { ...payload, capabilities: { features: ["ack"], encodings: null } },
        { session_id: null, ...envelope }
      )
      const welcome = yield* wire.expect("session.welcome")
      assert.deepStrictEqual(welcome.payload.capabilities.features, ["ack"])
      const other = yield* connect
      yield* other.send("session.hello", { ...payload, capabilities: null })
      assert.deepStrictEqual((yield* other.expect("session.welcome")).payload.capabilities.features, [])
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("in requests, and an input that is null, or has it, stays", () =>
    Effect.gen(function* () {
      const session = yield* open()
      for (const input of [null, { a: null, lease_request: null, "x-vendor": { filter: null } }]) {
        const more = { ...envelope, extensions: { optional: null } }
        yield* session.request("job.submit", { agent: "echo", input, ...nothing }, more)
        assert.deepStrictEqual((yield* session.expect("job.result")).payload.result, input)
      }
      // Of what bounds a job nothing is guessed.
      const unbounded = { agent: "echo", input: 1, lease_constraints: { expires_at: null } }
      yield* session.request("job.submit", unbounded)
      assert.strictEqual((yield* session.expect("job.error")).payload.code, "INVALID_REQUEST")
      const filter = {
        status: null,
        agent: null,
        created_after: null,
        created_before: null,
        parent_job_id: null
      }
      for (const payload of [{ filter: null, limit: null, cursor: null }, { filter }]) {
        yield* session.request("session.list_jobs", payload, envelope)
        assert.lengthOf((yield* session.expect("session.jobs")).payload.jobs, 2)
      }
      yield* session.request("job.submit", { agent: "forever", input: 1 })
      const { job_id } = yield* session.expect("job.accepted")
      yield* session.request("job.subscribe", { job_id, history: null, from_event_seq: null })
      assert.strictEqual((yield* session.expect("job.subscribed")).payload.replayed, false)
      yield* session.request("session.ping", { nonce: "n", sent_at: null })
      yield* session.expect("session.pong")
      yield* session.request("job.cancel", { reason: null, job_id: null }, { job_id })
      yield* session.expect("job.cancelled")
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("the same parameters with it and without are the same for an idempotency key", () =>
    Effect.gen(function* () {
      const session = yield* open()
      const request = { agent: "echo", input: 1, idempotency_key: "k" }
      yield* session.request("job.submit", request)
      const { job_id } = yield* session.expect("job.accepted")
      yield* session.request("job.submit", { ...nothing, ...request })
      assert.strictEqual((yield* session.expect("job.accepted")).job_id, job_id)
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("but not for what is needed", () =>
    Effect.gen(function* () {
      const session = yield* open()
      for (const [type, payload] of [
        ["session.ack", { last_processed_seq: null }],
        ["session.ping", { nonce: null }],
        ["session.list_jobs", null]
      ] as const) {
        yield* session.request(type, payload)
        assert.strictEqual((yield* session.expect("session.error")).payload.code, "INVALID_REQUEST", type)
      }
    }).pipe(Effect.provide(runtime(agents)))
  )
})

describe("what is told of a frame", () => {
  it.scoped("is well-formed Unicode, also where a long name was cut", () =>
    Effect.gen(function* () {
      const session = yield* open()
      const name = `${"a".repeat(63)}😀`
      const texts: Array<string> = []
      const take = session.connection.take.pipe(
        Effect.tap((frames) => Effect.sync(() => texts.push(...Chunk.toReadonlyArray(frames).map(String))))
      )
      const head = `"arcp":"1.1","id":"p","type":"session.ping","session_id":"${session.sessionId}"`
      yield* session.sendText(`{${head},"payload":{"nonce":"n","${name}":"\\ud800"}}`)
      yield* take
      assert.include(texts.join(), `payload.${"a".repeat(63)}: has half a surrogate pair`)
      assert.notInclude(texts.join(), "\\ud8")
    }).pipe(Effect.provide(runtime(agents)))
  )

  it("has no half of a surrogate pair that a policy, or an identity, has said", () => {
    const text = frameOf({ arcp: "1.1", id: "i", type: "session.jobs", payload: { by: "a\ud83d" } }, 1_000)
    assert.deepStrictEqual(JSON.parse(text).payload, { by: "a\ufffd" })
  })
})

/** Cancels and subscribes that are refused before it is looked for the job, each for another reason. */
const refused = (job_id: string) =>
  [
    ["job.cancel", { reason: 5 }, { job_id }],
    ["job.cancel", { reason: "x".repeat(2_000), job_id }, {}],
    ["job.cancel", {}, { job_id, trace_id: "no trace" }],
    ["job.cancel", {}, { job_id, extensions: { no: 1 } }],
    ["job.subscribe", { job_id, history: "yes" }, {}],
    ["job.subscribe", { job_id, from_event_seq: -1 }, {}]
  ] as const

describe("a cancel or subscribe that is refused", () => {
  for (const features of [unaware, all])
    it.scoped(
      `is told ${features === all ? "by a session.error" : "on its job"}, whatever is wrong with it`,
      () =>
        Effect.gen(function* () {
          const session = yield* open({}, features)
          yield* session.request("job.submit", { agent: "forever", input: 1 })
          const { job_id = "" } = yield* session.expect("job.accepted")
          for (const [type, payload, more] of refused(job_id)) {
            const id = yield* session.request(type, payload, more)
            const error = yield* session.next(({ type }) => type === "job.error" || type === "session.error")
            assert.strictEqual(error.type, features === all ? "session.error" : "job.error")
            assert.deepStrictEqual([error.payload.code, error.event_seq], ["INVALID_REQUEST", undefined])
            assert.strictEqual(error.payload.details.request_id, id)
            if (features === all) assert.strictEqual(error.payload.details.job_id, job_id)
            else assert.strictEqual(error.job_id, job_id)
          }
        }).pipe(Effect.provide(runtime(agents)))
    )

  it.scoped("for a feature that was not negotiated is told by a session.error, with its job", () =>
    Effect.gen(function* () {
      for (const features of [[], [Vendor.requests]]) {
        const session = yield* open({}, features)
        yield* session.request("job.submit", { agent: "forever", input: 1 })
        const { job_id = "" } = yield* session.expect("job.accepted")
        const id = yield* session.request("job.subscribe", { job_id })
        const { payload } = yield* session.expect("session.error")
        assert.strictEqual(payload.code, "INVALID_REQUEST")
        assert.deepStrictEqual(payload.details, { request_id: id, job_id })
      }
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("because it names another session is told with its job", () =>
    Effect.gen(function* () {
      const session = yield* open()
      const job_id = `job_${"0".repeat(26)}`
      const id = yield* session.send("job.cancel", {}, { session_id: `sess_${"0".repeat(26)}`, job_id })
      const { payload } = yield* session.expect("session.error")
      assert.deepStrictEqual(payload.details, { request_id: id, job_id })
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("a submit that is nested too deep is refused as any other", () =>
    Effect.gen(function* () {
      const session = yield* open({}, [])
      let input: unknown = 1
      for (let i = 0; i < 100; i++) input = [input]
      const id = yield* session.request("job.submit", { agent: "echo", input })
      const error = yield* session.expect("job.error")
      assert.deepStrictEqual([error.payload.code, error.payload.details.request_id], ["INVALID_REQUEST", id])
    }).pipe(Effect.provide(runtime(agents)))
  )
})
