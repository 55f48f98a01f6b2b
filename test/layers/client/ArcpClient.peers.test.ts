/** The client with runtimes of others: one that answers as the drafts' first TypeScript runtime does, and one of 1.0. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schedule from "effect/Schedule"
import * as TestClock from "effect/TestClock"
import type * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import * as ScriptedRuntime from "../../../src/testing/ScriptedRuntime.js"
import { collect, scripted } from "./scripted.js"

const { message } = ScriptedRuntime

/** Its welcome: the session is named on the envelope only. */
const reference = (features: ReadonlyArray<string> = ["subscribe", "list_jobs", "ack"]) =>
  message("session.welcome", {
    runtime: { name: "reference", version: "1" },
    resume_token: "rt_1",
    resume_window_sec: 600,
    capabilities: { encodings: ["json"], features }
  })
const accepted = (jobId: string, traceId: unknown) =>
  message(
    "job.accepted",
    { job_id: jobId, agent: "x@1", lease: {}, accepted_at: "2026-01-01T00:00:00Z", trace_id: traceId },
    { job_id: jobId, trace_id: traceId }
  )
const running = (seq: number, jobId: string) =>
  message(
    "job.event",
    { kind: "status", ts: "", body: { phase: "running" } },
    { job_id: jobId, event_seq: seq }
  )
const result = (seq: number, jobId: string, value: unknown) =>
  message("job.result", { final_status: "success", result: value }, { job_id: jobId, event_seq: seq })
const jobError = (seq: number, jobId: string, code: string) =>
  message(
    "job.error",
    { final_status: code === "CANCELLED" ? "cancelled" : "error", code, message: "no", retryable: false },
    { job_id: jobId, event_seq: seq }
  )
const sessionError = (code: string) => message("session.error", { code, message: "no", retryable: false })

const failure = <A, R>(effect: Effect.Effect<A, ArcpClient.ClientError, R>) =>
  Effect.map(Effect.flip(Effect.asVoid(effect)), (error): string => error.code)

describe("with a runtime that does not say what it answers", () => {
  it.scoped("answers belong to the request of their trace, else to the oldest of their kind", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { client, server } = yield* open(reference())
      const first = yield* Effect.fork(client.submit("a", 1))
      const second = yield* Effect.fork(client.submit("b", 2))
      const { trace_id: one } = yield* server.expect("job.submit")
      const { trace_id: two } = yield* server.expect("job.submit")
      assert.match(String(one), /^[0-9a-f]{32}$/)
      yield* server.send(accepted("job_b", two), running(1, "job_b"), accepted("job_a", one))
      yield* server.send(running(2, "job_a"), result(3, "job_a", "A"), result(4, "job_b", "B"))
      const [a, b] = [yield* Fiber.join(first), yield* Fiber.join(second)]
      assert.deepStrictEqual([a.jobId, b.jobId], ["job_a", "job_b"])
      assert.deepStrictEqual([yield* a.result, yield* b.result], ["A", "B"])
      // A key's accept is of the trace of the first submit.
      const third = yield* Effect.fork(client.submit("a", 1, { idempotencyKey: "k" }))
      yield* server.expect("job.submit")
      yield* server.send(accepted("job_c", "c".repeat(32)))
      assert.strictEqual((yield* Fiber.join(third)).jobId, "job_c")
    })
  )

  it.scoped(
    "refusals of a submit: on a job that nobody knows, on the one that has the key, of the session",
    () =>
      Effect.gen(function* () {
        const { open } = yield* scripted
        const { client, server } = yield* open(reference())
        const submitting = yield* Effect.fork(client.submit("a", 1))
        const { trace_id: trace } = yield* server.expect("job.submit")
        yield* server.send(accepted("job_1", trace), running(1, "job_1"))
        const live = yield* Fiber.join(submitting)
        // A delegated job of it, whose failure is nobody's refusal.
        yield* server.send(
          message("job.accepted", { job_id: "job_child", agent: "y", lease: {}, parent_job_id: "job_1" }),
          running(2, "job_child")
        )
        const refused = yield* Effect.fork(failure(client.submit("none", 1)))
        yield* server.expect("job.submit")
        yield* server.send(
          jobError(3, "job_child", "INTERNAL_ERROR"),
          jobError(4, "job_x", "AGENT_NOT_AVAILABLE")
        )
        assert.strictEqual(yield* Fiber.join(refused), "AGENT_NOT_AVAILABLE")
        const duplicate = yield* Effect.fork(failure(client.submit("a", 2, { idempotencyKey: "k" })))
        yield* server.expect("job.submit")
        yield* server.send(jobError(5, "job_1", "DUPLICATE_KEY"))
        assert.strictEqual(yield* Fiber.join(duplicate), "DUPLICATE_KEY")
        const capped = yield* Effect.fork(failure(client.submit("a", 2)))
        yield* server.expect("job.submit")
        yield* server.send(sessionError("INTERNAL_ERROR"))
        assert.strictEqual(yield* Fiber.join(capped), "INTERNAL_ERROR")
        yield* server.send(result(6, "job_1", 7))
        assert.strictEqual(yield* live.result, 7)
      })
  )

  it.scoped("a cancel is answered by the job's end, or by a refusal that ends nothing", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { client, server } = yield* open(reference())
      const submitting = yield* Effect.fork(client.submit("a", 1))
      yield* server.expect("job.submit")
      yield* server.send(accepted("job_1", undefined), running(1, "job_1"))
      const job = yield* Fiber.join(submitting)
      const refused = yield* Effect.fork(failure(job.cancel()))
      yield* server.expect("job.cancel")
      yield* server.send(jobError(2, "job_1", "PERMISSION_DENIED"))
      assert.strictEqual(yield* Fiber.join(refused), "PERMISSION_DENIED")
      const cancelling = yield* Effect.fork(job.cancel())
      yield* server.expect("job.cancel")
      yield* server.send(jobError(3, "job_1", "CANCELLED"))
      yield* Fiber.join(cancelling)
      assert.strictEqual(yield* failure(job.result), "CANCELLED")
      const unknown = yield* Effect.fork(failure(client.cancel("job_gone")))
      yield* server.expect("job.cancel")
      yield* server.send(jobError(4, "job_gone", "JOB_NOT_FOUND"))
      assert.strictEqual(yield* Fiber.join(unknown), "JOB_NOT_FOUND")
    })
  )

  it.scoped("history that comes before the answer to a subscribe is part of it", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { client, server } = yield* open(reference())
      const subscribing = yield* Effect.fork(client.subscribe("job_1", { history: true }))
      yield* server.expect("job.subscribe")
      yield* server.send(
        running(1, "job_1"),
        message(
          "job.subscribed",
          {
            job_id: "job_1",
            current_status: "running",
            agent: "x",
            lease: {},
            subscribed_from: 1,
            replayed: true
          },
          { job_id: "job_1" }
        ),
        result(2, "job_1", 7)
      )
      const job = yield* Fiber.join(subscribing)
      assert.strictEqual((yield* collect(job.events)).length, 1)
      assert.strictEqual(yield* job.result, 7)
    })
  )

  it.scoped("a job that was accepted for its key and is silent is asked for", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { client, server } = yield* open(reference())
      const submit = (jobId: string) =>
        Effect.gen(function* () {
          const submitting = yield* Effect.fork(client.submit("a", 1, { idempotencyKey: jobId }))
          yield* server.expect("job.submit")
          yield* server.send(accepted(jobId, undefined))
          const job = yield* Fiber.join(submitting)
          yield* TestClock.adjust("1 second")
          assert.deepInclude((yield* server.expect("job.subscribe")).payload, {
            job_id: jobId,
            history: true
          })
          return job
        })
      const kept = yield* submit("job_1")
      yield* server.send(result(1, "job_1", 7))
      assert.strictEqual(yield* kept.result, 7)
      const dropped = yield* submit("job_2")
      yield* server.send(jobError(2, "job_2", "JOB_NOT_FOUND"))
      assert.strictEqual(yield* failure(dropped.result), "JOB_NOT_FOUND")
    })
  )

  it.scoped(
    "a request that is not answered fails after its limit, and not while there is no connection",
    () =>
      Effect.gen(function* () {
        const { greeted, open } = yield* scripted
        const { client, server } = yield* open(reference())
        const requests = [
          failure(client.submit("a", 1)),
          failure(client.cancel("job_1")),
          failure(client.ping),
          failure(collect(client.list()))
        ]
        for (const request of requests) {
          const asked = yield* Effect.fork(request)
          yield* TestClock.adjust("29 seconds")
          assert.isNull(asked.unsafePoll())
          yield* TestClock.adjust("1 second")
          assert.strictEqual(yield* Fiber.join(asked), "REQUEST_TIMEOUT")
        }
        yield* server.drop
        const pending = yield* Effect.fork(failure(client.cancel("job_1")))
        const { server: second } = yield* greeted
        yield* TestClock.adjust("9 seconds")
        yield* second.send(reference())
        yield* second.expect("job.cancel")
        yield* TestClock.adjust("29 seconds")
        assert.isNull(pending.unsafePoll())
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* Fiber.join(pending), "REQUEST_TIMEOUT")
        const short = yield* open(reference(), { requestTimeout: "2 seconds" })
        const asked = yield* Effect.fork(failure(short.client.cancel("job_1")))
        yield* TestClock.adjust("2 seconds")
        assert.strictEqual(yield* Fiber.join(asked), "REQUEST_TIMEOUT")
      })
  )
})

describe("with a runtime of 1.0", () => {
  it.scoped("which has no features, no agents, and nothing to resume with", () =>
    Effect.gen(function* () {
      const { greeted, open } = yield* scripted
      const { client, server } = yield* open(
        message("session.welcome", { session_id: "sess_1", runtime: { name: "old", version: "1.0" } })
      )
      assert.deepStrictEqual(yield* client.agents, [])
      const submitting = yield* Effect.fork(client.submit("echo", 1))
      yield* server.expect("job.submit")
      yield* server.send(
        message("job.accepted", { job_id: "job_1", lease: {} }, { job_id: "job_1" }),
        result(1, "job_1", 7)
      )
      const job = yield* Fiber.join(submitting)
      assert.strictEqual(job.agent, "echo")
      assert.strictEqual(yield* job.result, 7)
      yield* server.drop
      assert.isUndefined((yield* greeted).hello.payload["resume"])
    })
  )
})

describe("with a runtime that numbers the events of each job by themselves", () => {
  const two = (features?: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      const { open, submitted, ...runtime } = yield* scripted
      const { client, server } = yield* open(reference(features), { reconnect: Schedule.recurs(20) })
      const a = yield* Effect.fork(client.submit("x", 1))
      yield* server.accept("job_a")
      const b = yield* Effect.fork(client.submit("x", 2))
      yield* server.accept("job_b")
      return { ...runtime, client, server, jobs: [yield* Fiber.join(a), yield* Fiber.join(b)] as const }
    })
  const numbers = (job: ArcpClient.JobHandle) =>
    Effect.map(collect(job.events), (events) => events.map(({ eventSeq }) => eventSeq))

  it.scoped("later jobs lose nothing, whatever comes twice", () =>
    Effect.gen(function* () {
      const { client, jobs, server } = yield* two()
      yield* server.send(running(1, "job_a"), running(2, "job_a"), running(3, "job_a"))
      yield* server.send(running(1, "job_b"), running(2, "job_b"), running(2, "job_b"), running(4, "job_a"))
      yield* server.send(result(3, "job_b", "B"), result(5, "job_a", "A"))
      assert.deepStrictEqual([yield* jobs[0].result, yield* jobs[1].result], ["A", "B"])
      assert.deepStrictEqual(
        [yield* numbers(jobs[0]), yield* numbers(jobs[1])],
        [
          [1, 2, 3, 4],
          [1, 2]
        ]
      )
      const third = yield* Effect.fork(client.submit("x", 3))
      yield* server.accept("job_c")
      yield* server.send(result(1, "job_c", "C"))
      assert.strictEqual(yield* (yield* Fiber.join(third)).result, "C")
    })
  )

  it.scoped("after a drop the jobs are followed from another session, which their streams say", () =>
    Effect.gen(function* () {
      const { greeted, jobs, server } = yield* two()
      yield* server.send(running(1, "job_a"), running(1, "job_b"), running(2, "job_b"))
      yield* server.drop
      const { hello, server: other } = yield* greeted
      assert.isUndefined(hello.payload["resume"])
      yield* other.send(reference())
      for (const _ of jobs) {
        const { id, job_id: jobId, payload } = yield* other.expect("job.subscribe")
        yield* other.send(ScriptedRuntime.subscribed(id, 0, String(payload["job_id"] ?? jobId)))
      }
      yield* other.send(result(1, "job_a", "A"), result(2, "job_b", "B"))
      assert.deepStrictEqual([yield* jobs[0].result, yield* jobs[1].result], ["A", "B"])
      const kinds = Effect.map(collect(jobs[1].events), (events) => events.map(({ kind }) => kind))
      assert.include(yield* kinds, "gap")
    })
  )

  it.scoped("and where they cannot be followed, they fail by name", () =>
    Effect.gen(function* () {
      const { jobs, server, welcomed } = yield* two([])
      yield* server.send(running(1, "job_a"), running(1, "job_b"))
      yield* server.drop
      yield* welcomed(reference([]))
      for (const job of jobs) assert.strictEqual(yield* failure(job.result), "RESUME_WINDOW_EXPIRED")
    })
  )

  it.scoped("what a reader has left unread is not asked for by a number that means something else", () =>
    Effect.gen(function* () {
      const { open, dialled } = yield* scripted
      const { client, server } = yield* open(reference(), {
        reconnect: Schedule.recurs(20),
        held: { events: 2 }
      })
      const a = yield* Effect.fork(client.submit("x", 1))
      yield* server.accept("job_a")
      const b = yield* Effect.fork(client.submit("x", 2))
      yield* server.accept("job_b")
      const [, job] = [yield* Fiber.join(a), yield* Fiber.join(b)]
      yield* server.send(running(1, "job_a"))
      for (let seq = 1; seq <= 5; seq++) yield* server.send(running(seq, "job_b"))
      yield* server.send(result(6, "job_b", "B"))
      assert.strictEqual(yield* job.result, "B")
      const events = yield* collect(job.events)
      assert.deepStrictEqual(
        events.map(({ kind }) => kind),
        ["status", "status", "gap"]
      )
      assert.strictEqual(yield* dialled, 1)
    })
  )
})

describe("frames have a bound", () => {
  const limits = (frame_bytes: unknown) =>
    ScriptedRuntime.welcome([], {
      capabilities: {
        encodings: ["json"],
        features: [],
        agents: [],
        "x-vendor.effect-arcp.limits": { frame_bytes, outbound_frame_bytes: 1 }
      }
    })

  it.scoped.each<unknown>([0, -1, 1.5, "none", null, {}])("a limit of %j is none", (limit) =>
    Effect.gen(function* () {
      const { open, submitted } = yield* scripted
      const { client, server } = yield* open(limits(limit))
      yield* submitted(client, server)
    })
  )

  it.scoped("a request that is larger than the runtime takes fails at once, and the session goes on", () =>
    Effect.gen(function* () {
      const { dialled, open, submitted } = yield* scripted
      const told = yield* open(limits(10_000))
      const error = yield* Effect.flip(told.client.submit("x", "y".repeat(10_000)))
      assert.deepInclude(error, { code: "INVALID_REQUEST", details: { limit: "frame_bytes" } })
      // In bytes, not characters.
      assert.strictEqual(yield* failure(told.client.submit("x", "€".repeat(3_400))), "INVALID_REQUEST")
      yield* submitted(told.client, told.server)
      const untold = yield* open()
      assert.strictEqual(yield* failure(untold.client.submit("x", "y".repeat(1 << 20))), "INVALID_REQUEST")
      yield* submitted(untold.client, untold.server)
      assert.strictEqual(yield* dialled, 2)
    })
  )

  it.scoped("a hello that is too large is not sent", () =>
    Effect.gen(function* () {
      const { connecting, dialled } = yield* scripted
      const refused = yield* Effect.flatMap(connecting({ token: "t".repeat(70_000) }), (client) =>
        Effect.flip(Fiber.join(client))
      )
      assert.deepInclude(refused, {
        code: "INVALID_REQUEST",
        retryable: false,
        message: "the token is too big: more than 65536 bytes",
        details: { limit: "frame_bytes" }
      })
      assert.strictEqual(yield* dialled, 1)
    })
  )

  it.scoped(
    "a hello that the runtime closes for its size is not sent again, also not with another token",
    () =>
      Effect.gen(function* () {
        const { connecting, dialled, greeted, open } = yield* scripted
        const opening = yield* connecting({ token: () => "t".repeat(5_000) })
        const { server } = yield* greeted
        yield* server.connection.close(1009, "frame larger than 4096 bytes")
        const error = yield* Effect.flip(Fiber.join(opening))
        assert.deepInclude(error, { code: "INVALID_REQUEST", retryable: false })
        assert.include(error.message, "the token is too big: frame larger than 4096 bytes")
        // The same for a token that has grown since.
        let token = "small"
        const grown = yield* open(undefined, { token: () => token })
        token = "t".repeat(70_000)
        yield* grown.server.drop
        const status = yield* collect(grown.client.status.changes)
        assert.deepNestedInclude(status.at(-1), { _tag: "Closed", "error.code": "INVALID_REQUEST" })
        assert.strictEqual(yield* dialled, 3)
      })
  )

  it.scoped("a connection closed for its size ends the largest request, once", () =>
    Effect.gen(function* () {
      const { open, welcomed } = yield* scripted
      const { client, server } = yield* open(undefined, { reconnect: Schedule.recurs(20) })
      const large = yield* Effect.fork(failure(client.submit("x", "y".repeat(10_000))))
      const small = yield* Effect.fork(client.submit("x", 1))
      yield* server.expect("job.submit")
      const { id } = yield* server.expect("job.submit")
      yield* server.connection.close(1009, "frame larger than 5000 bytes")
      const second = yield* welcomed()
      assert.strictEqual(yield* Fiber.join(large), "INVALID_REQUEST")
      assert.strictEqual((yield* second.accept()).id, id)
      yield* Fiber.join(small)
    })
  )

  it.scoped("an error in place of that close, as over stdio, ends the largest request and nothing else", () =>
    Effect.gen(function* () {
      const { dialled, open, submitted } = yield* scripted
      const { client, server } = yield* open(undefined, { reconnect: Schedule.recurs(20) })
      const job = yield* submitted(client, server)
      const small = yield* Effect.fork(client.submit("x", 1))
      const { id } = yield* server.expect("job.submit")
      const large = yield* Effect.fork(failure(client.submit("x", "y".repeat(10_000))))
      yield* server.expect("job.submit")
      yield* server.send(
        ScriptedRuntime.message("session.error", {
          code: "INVALID_REQUEST",
          message: "frame larger than 5000 bytes",
          retryable: false,
          details: { limit: "frame_bytes" }
        })
      )
      assert.strictEqual(yield* Fiber.join(large), "INVALID_REQUEST")
      yield* server.send(ScriptedRuntime.accepted(id, { jobId: "job_2" }), ScriptedRuntime.result(1))
      yield* Fiber.join(small)
      // What runs comes to its end.
      assert.strictEqual(yield* job.result, 7)
      assert.strictEqual(yield* dialled, 1)
    })
  )

  it.scoped("the same for what comes without having been asked for, which would only come again", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { client, server } = yield* open()
      yield* server.connection.close(1009, "frame larger than 5000 bytes")
      const status = yield* collect(client.status.changes)
      assert.deepNestedInclude(status.at(-1), { _tag: "Closed", "error.code": "PROTOCOL_VIOLATION" })
    })
  )
})
