/** One odd frame of a runtime: what is read all the same, and what else it ends. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import type * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import { askedToWait, backoff } from "../../../src/layers/client/backoff.js"
import { TransportError } from "../../../src/services/transport/Transport.js"
import * as ScriptedRuntime from "../../../src/testing/ScriptedRuntime.js"
import { collect, scripted } from "./scripted.js"

const { event, message, result, welcome } = ScriptedRuntime

const code = <A, R>(effect: Effect.Effect<A, ArcpClient.ClientError, R>) =>
  Effect.map(Effect.flip(Effect.asVoid(effect)), (error): string => error.code)

/** A client with two jobs, of which the second is the bystander. */
const two = Effect.gen(function* () {
  const { dialled, open } = yield* scripted
  const { client, server } = yield* open()
  const jobs = []
  for (const jobId of ["job_1", "job_2"]) {
    const submitting = yield* Effect.fork(client.submit("x", 1))
    yield* server.accept(jobId)
    jobs.push(yield* Fiber.join(submitting))
  }
  return { client, dialled, jobs: jobs as [ArcpClient.JobHandle, ArcpClient.JobHandle], server }
})

const raw = (type: string, payload: unknown, more: Readonly<Record<string, unknown>> = {}) =>
  message(type, payload, { job_id: "job_1", ...more })

describe("an odd frame of one job", () => {
  for (const [what, frame] of [
    ["whose payload is no object", raw("job.event", "x", { event_seq: 1 })],
    ["whose result has no text for its id", raw("job.result", { result_id: 5 }, { event_seq: 1 })],
    ["whose number is text", raw("job.event", { kind: "x" }, { event_seq: "x" })],
    ["whose number is no integer", raw("job.event", { kind: "x" }, { event_seq: 1.5 })],
    ["whose number is negative", raw("job.result", { result: 7 }, { event_seq: -1 })],
    ["whose number is a boolean", raw("job.error", { code: "CANCELLED" }, { event_seq: true })],
    ["that is no JSON", '{"type":"job.event","job_id":"job_1","event_seq":1,"payload":{"value":NaN}}']
  ] as const)
    it.scoped(`${what}: fails that job, and no other`, () =>
      Effect.gen(function* () {
        const { dialled, jobs, server } = yield* two
        const { event_seq: seq } = JSON.parse(frame.replace("NaN", "0"))
        yield* server.send(frame, result(seq === 1 ? 2 : 1, { result: 7 }, "job_2"))
        assert.strictEqual(yield* code(jobs[0].result), "PROTOCOL_VIOLATION")
        assert.strictEqual(yield* jobs[1].result, 7)
        assert.strictEqual(yield* dialled, 1)
      })
    )

  for (const [what, frame] of [
    ["no JSON", "ping"],
    ["empty", ""],
    ["an array", "[1]"],
    ["null", "null"],
    ["a text", '"job.event"'],
    ["another welcome", welcome()],
    ["a type that is nobody's", message("session.dance", {})],
    ["an answer to nothing", message("job.accepted", { request_id: "no", job_id: "job_9" })]
  ] as const)
    it.scoped(`of nobody is ignored: ${what}`, () =>
      Effect.gen(function* () {
        const { dialled, jobs, server } = yield* two
        yield* server.send(frame, result(1), result(2, { result: 7 }, "job_2"))
        assert.deepStrictEqual([yield* jobs[0].result, yield* jobs[1].result], [7, 7])
        assert.strictEqual(yield* dialled, 1)
      })
    )

  it.scoped("numbers may be text", () =>
    Effect.gen(function* () {
      const { jobs, server } = yield* two
      yield* server.send(
        raw("job.event", { kind: "metric", ts: "", body: { name: "n", value: "1.5" } }, { event_seq: "1" }),
        raw("job.result", { result: 7, result_size: "1" }, { event_seq: "2" })
      )
      const [seen] = yield* collect(jobs[0].events)
      assert.deepNestedInclude(seen, { kind: "metric", "body.value": 1.5, eventSeq: 1 })
      assert.strictEqual(yield* jobs[0].result, 7)
    })
  )

  for (const event_seq of [0, undefined, null])
    it.scoped(`one with the number ${event_seq} is where it came, and the next one is in its place`, () =>
      Effect.gen(function* () {
        const { dialled, jobs, server } = yield* two
        const text = (text: string) => ({ kind: "thought", ts: "", body: { text } })
        yield* server.send(
          raw("job.event", text("a"), { event_seq }),
          raw("job.event", text("b"), { event_seq: 1 }),
          raw("job.result", { result: 7 }, { event_seq }),
          result(2, { result: 8 }, "job_2")
        )
        const seen = yield* collect(jobs[0].events)
        assert.deepStrictEqual(
          seen.map(({ body, eventSeq }) => [(body as { text: string }).text, eventSeq]),
          [
            ["a", 0],
            ["b", 1]
          ]
        )
        assert.deepStrictEqual([yield* jobs[0].result, yield* jobs[1].result], [7, 8])
        assert.strictEqual(yield* dialled, 1)
      })
    )

  it.scoped("its job, its number and its trace may be named in the payload only", () =>
    Effect.gen(function* () {
      const { jobs, server } = yield* two
      yield* server.send(
        message("job.event", { job_id: "job_1", event_seq: 1, kind: "thought", ts: "", body: { text: "a" } }),
        message("job.result", { job_id: "job_1", event_seq: 2, result: 7 })
      )
      assert.strictEqual((yield* collect(jobs[0].events)).length, 1)
      assert.strictEqual(yield* jobs[0].result, 7)
    })
  )

  it.scoped("a malformed answer fails the request that it names", () =>
    Effect.gen(function* () {
      const { client, jobs, server } = yield* two
      const submitting = yield* Effect.fork(code(client.submit("x", 1)))
      const { id } = yield* server.expect("job.submit")
      yield* server.send(message("job.accepted", { request_id: id, job_id: 5 }), result(1))
      assert.strictEqual(yield* Fiber.join(submitting), "PROTOCOL_VIOLATION")
      assert.strictEqual(yield* jobs[0].result, 7)
    })
  )
})

describe("an answer of another kind than was asked for", () => {
  /** Answers with the id of a request, whatever it asked for. */
  const answers = (id: string): ReadonlyArray<string> => [
    ScriptedRuntime.accepted(id),
    raw("job.cancelled", { request_id: id }),
    ScriptedRuntime.subscribed(id, 0),
    message("session.jobs", { request_id: id, jobs: [], next_cursor: null }),
    message("session.pong", { ping_nonce: id }),
    message("x-vendor.effect-arcp.job.input_accepted", { request_id: id, input_id: "a" }),
    welcome([], { request_id: id })
  ]
  const asks: ReadonlyArray<
    readonly [
      type: string,
      ask: (
        client: ArcpClient.ArcpClientService
      ) => Effect.Effect<unknown, ArcpClient.ClientError, Scope.Scope>
    ]
  > = [
    ["job.submit", (client) => client.submit("x", 1)],
    ["job.cancel", (client) => client.cancel("job_1")],
    ["job.subscribe", (client) => client.subscribe("job_1")],
    ["session.list_jobs", (client) => Stream.runDrain(client.list())],
    ["session.ping", (client) => client.ping],
    ["x-vendor.effect-arcp.job.input", (client) => client.answer("job_1", "a", 1)]
  ]
  for (const [i, [type, ask]] of asks.entries())
    it.scoped(`answers no ${type}, which still has its limit`, () =>
      Effect.gen(function* () {
        const { open } = yield* scripted
        const { client, server } = yield* open(welcome(["subscribe", "x-vendor.effect-arcp.requests"]))
        const asking = yield* Effect.fork(code(ask(client)))
        const { id, payload } = yield* server.expect(type)
        const key = type === "session.ping" ? String(payload["nonce"]) : id
        yield* server.send(...answers(key).filter((_, j) => j !== i))
        yield* TestClock.adjust("29 seconds")
        assert.isNull(asking.unsafePoll())
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* Fiber.join(asking), "REQUEST_TIMEOUT")
      })
    )
})

describe("a keyed submit where nothing can be subscribed to", () => {
  it.scoped("gives a job that is silent up, after what an answer may take", () =>
    Effect.gen(function* () {
      const { client, server } = yield* two
      const submitting = yield* Effect.fork(client.submit("x", 1, { idempotencyKey: "k" }))
      yield* server.accept("job_3")
      const job = yield* Fiber.join(submitting)
      const waiting = yield* Effect.fork(code(job.result))
      yield* TestClock.adjust("29 seconds")
      assert.isNull(waiting.unsafePoll())
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Fiber.join(waiting), "REQUEST_TIMEOUT")
    })
  )

  it.scoped("and waits for one that has said something", () =>
    Effect.gen(function* () {
      const { client, server } = yield* two
      const submitting = yield* Effect.fork(client.submit("x", 1, { idempotencyKey: "k" }))
      yield* server.accept("job_3")
      const job = yield* Fiber.join(submitting)
      yield* server.send(event(1, undefined, "log", "job_3"))
      yield* TestClock.adjust("60 seconds")
      yield* server.send(result(2, { result: 7 }, "job_3"))
      assert.strictEqual(yield* job.result, 7)
    })
  )
})

describe("a runtime that floods", () => {
  it.scoped(
    "with jobs that nobody knows, repeated frames, and what comes after an end: nothing is kept or repeated",
    () =>
      Effect.gen(function* () {
        const { client, dialled, jobs, server } = yield* two
        let seq = 0
        for (let i = 0; i < 5_000; i++) yield* server.send(event(++seq, undefined, "log", `job_x${i}`))
        yield* server.send(
          result(++seq),
          result(seq, { result: 8 }),
          event(++seq),
          result(++seq, { result: 9 }),
          event(1)
        )
        yield* server.send(message("job.accepted", { request_id: "no", job_id: "job_2" }), welcome())
        yield* server.send(message("session.bye", {}), result(++seq, { result: 10 }, "job_2"))
        assert.deepStrictEqual([yield* jobs[0].result, yield* jobs[1].result], [7, 10])
        const pinging = yield* Effect.fork(client.ping)
        const ping = yield* server.expect("session.ping")
        yield* server.send(message("session.pong", { ping_nonce: ping.payload["nonce"] }))
        yield* Fiber.join(pinging)
        assert.strictEqual(yield* dialled, 1)
      })
  )
})

describe("a job that makes up currencies and questions", () => {
  it.scoped("has the newest of the one kept, and every one of the other given to who reads", () =>
    Effect.gen(function* () {
      const { client, jobs, server } = yield* two
      const questions = yield* Effect.fork(collect(jobs[0].inputs))
      let seq = 0
      for (let i = 0; i < 500; i++)
        yield* server.send(
          event(++seq, { name: "cost.budget.remaining", value: i, unit: `U${i}` }, "metric"),
          event(++seq, { input_id: `i${i}`, prompt: "?" }, "x-vendor.effect-arcp.input_request"),
          // Nobody has to answer every second one any more; who reads may have seen it or not.
          ...(i % 2 === 0
            ? []
            : [event(++seq, { input_id: `i${i}`, reason: "expired" }, "x-vendor.effect-arcp.input_closed")])
        )
      yield* server.send(result(++seq))
      assert.strictEqual(yield* jobs[0].result, 7)
      const budget = yield* jobs[0].budget.get
      assert.strictEqual(budget.size, 100)
      assert.deepStrictEqual([budget.get("U499"), budget.get("U400"), budget.has("U399")], [499, 400, false])
      const asked = new Set((yield* Fiber.join(questions)).map(({ input_id }) => input_id))
      for (let i = 0; i < 500; i += 2) assert.isTrue(asked.has(`i${i}`))
      // Who begins now sees what is open, once.
      const open = yield* collect(jobs[0].inputs)
      assert.deepStrictEqual(
        open.map(({ input_id }) => input_id),
        Array.from({ length: 250 }, (_, i) => `i${2 * i}`)
      )
      yield* client.close
    })
  )

  it.scoped("has a thousand open questions kept, the newest, and room again for each that is closed", () =>
    Effect.gen(function* () {
      const { client, jobs, server } = yield* two
      let seq = 0
      const said = (kind: string, i: number) =>
        event(++seq, { input_id: `i${i}`, prompt: "?" }, `x-vendor.effect-arcp.input_${kind}`)
      const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)
      const open = Effect.map(collect(Stream.take(jobs[0].inputs, 1_000)), (all) =>
        all.map(({ input_id }) => input_id)
      )
      for (const i of range(0, 1_200)) yield* server.send(said("request", i))
      for (const i of range(300, 1_000)) yield* server.send(said("closed", i), said("request", i))
      for (const i of range(1_200, 1_900)) yield* server.send(said("request", i))
      yield* server.send(result(++seq))
      assert.strictEqual(yield* jobs[0].result, 7)
      assert.deepStrictEqual(
        yield* open,
        [...range(200, 300), ...range(1_000, 1_900)].map((i) => `i${i}`)
      )
      yield* client.close
    })
  )
})

describe("a job that tells again of what it has asked", () => {
  it.scoped("of the last thousand that are closed, none is open again", () =>
    Effect.gen(function* () {
      const { client, jobs, server } = yield* two
      let seq = 0
      const said = (kind: string, i: number) =>
        event(++seq, { input_id: `i${i}`, prompt: "?" }, `x-vendor.effect-arcp.input_${kind}`)
      for (let i = 0; i < 1_500; i++) yield* server.send(said("request", i), said("closed", i))
      for (let i = 1_499; i >= 500; i--) yield* server.send(said("request", i))
      yield* server.send(said("request", 2_000), result(++seq))
      assert.strictEqual(yield* jobs[0].result, 7)
      assert.deepStrictEqual(
        (yield* collect(jobs[0].inputs)).map(({ input_id }) => input_id),
        ["i2000"]
      )
      yield* client.close
    })
  )
})

describe("pings that come faster than their answers go out", () => {
  it.scoped("are answered up to a bound", () =>
    Effect.gen(function* () {
      const { client, server } = yield* two
      const pings = Array.from({ length: 5_000 }, (_, i) => message("session.ping", { nonce: `${i}` }))
      yield* server.connection.send(pings)
      yield* Effect.fork(client.cancel("job_2"))
      let pongs = 0
      for (let done = false; !done; )
        for (const { type } of yield* server.received) {
          if (type === "session.pong") pongs++
          done ||= type === "job.cancel"
        }
      assert.isAtLeast(pongs, 1)
      assert.isAtMost(pongs, 2_000)
    })
  )
})

describe("the delay before another attempt", () => {
  it.effect("comes from the Random service", () =>
    Effect.gen(function* () {
      const seeded = Effect.withRandom(backoff(0), Random.make("seed"))
      assert.strictEqual(yield* seeded, yield* Effect.withRandom(backoff(0), Random.make("seed")))
      assert.notStrictEqual(yield* seeded, yield* Effect.withRandom(backoff(0), Random.make("other")))
    })
  )

  it("is at least what was asked for, and that is bounded", () => {
    const error = (retryAfter?: number) => new TransportError({ message: "", retryAfter })
    assert.deepStrictEqual(
      [error(), error(7_000), error(1e9)].map((e) => askedToWait(e)),
      [0, 7_000, 300_000]
    )
  })
})
