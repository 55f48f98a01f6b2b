import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Schema from "effect/Schema"
import * as TestClock from "effect/TestClock"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Job } from "../../../src/services/jobs/Job.js"
import { connect, hello, open, runtime } from "../../support/Wire.js"

const echo = Agent.handle(Agent.make("echo", { version: "1.0.0" }), (input) => Effect.succeed(input))
const count = Agent.handle(
  Agent.make("count", { version: "1.0.0", input: Schema.Struct({ to: Schema.Number }) }),
  ({ to }) =>
    Effect.gen(function* () {
      const job = yield* Job
      for (let i = 1; i <= to; i++) yield* job.log("info", `${i}`)
      return to
    })
)
const forever = Agent.handle(Agent.make("forever", { version: "1.0.0" }), () =>
  Effect.gen(function* () {
    const job = yield* Job
    return yield* Effect.never.pipe(Effect.onInterrupt(() => Effect.ignore(job.log("info", "cleanup"))))
  })
)
const stubborn = Agent.handle(Agent.make("stubborn", { version: "1.0.0" }), () =>
  Effect.uninterruptible(Effect.never)
)
const tick = Agent.handle(Agent.make("tick", { version: "1.0.0" }), () =>
  Effect.flatMap(Job, (job) =>
    Effect.forever(Effect.zipRight(Effect.sleep("10 seconds"), job.log("info", "tick")))
  )
)
const agents = [echo, count, forever, stubborn, tick]

const submit = (
  session: Effect.Effect.Success<ReturnType<typeof open>>,
  agent: string,
  input: unknown = {},
  more: Record<string, unknown> = {}
) =>
  Effect.gen(function* () {
    const id = yield* session.request("job.submit", { agent, input, ...more })
    return yield* session.expect("job.accepted", (frame) => frame.payload.request_id === id)
  })

describe("Sessions", () => {
  it.scoped("runs a job: accepted, running, result", () =>
    Effect.gen(function* () {
      const session = yield* open()
      const accepted = yield* submit(session, "echo", { a: 1 })
      const result = yield* session.expect("job.result")
      assert.deepStrictEqual(result.payload.result, { a: 1 })
      assert.strictEqual(result.job_id, accepted.job_id)
      const events = session.seen.filter((frame) => frame.event_seq !== undefined)
      assert.deepStrictEqual(
        events.map((frame) => [frame.event_seq, frame.type]),
        [
          [1, "job.event"],
          [2, "job.result"]
        ]
      )
      assert.strictEqual(events[0]?.payload.body.phase, "running")
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("resumes without loss, wherever the transport was dropped", () =>
    Effect.gen(function* () {
      const first = yield* open()
      yield* submit(first, "count", { to: 500 })
      yield* first.expect("job.event", (frame) => frame.event_seq === 57)
      const token = first.welcome.resume_token
      yield* first.connection.close(1000, "")
      const second = yield* open({
        resume: { session_id: first.sessionId, resume_token: token, last_event_seq: 57 }
      })
      assert.strictEqual(second.sessionId, first.sessionId)
      assert.notStrictEqual(second.welcome.resume_token, token)
      yield* second.expect("job.result")
      const events = second.seen.filter((frame) => frame.event_seq !== undefined)
      assert.deepStrictEqual(
        events.map((frame) => frame.event_seq),
        Array.from({ length: 502 - 57 }, (_, i) => 58 + i)
      )
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("keeps the old token until the client has used the new one", () =>
    Effect.gen(function* () {
      const first = yield* open()
      const resume = (token: string) =>
        open({ resume: { session_id: first.sessionId, resume_token: token, last_event_seq: 0 } })
      const second = yield* resume(first.welcome.resume_token)
      // The welcome of `second` was lost: the old token still works, however often that happens.
      const another = yield* resume(first.welcome.resume_token)
      assert.strictEqual((yield* second.closed).code, 4001)
      const third = yield* resume(first.welcome.resume_token)
      assert.strictEqual((yield* another.closed).code, 4001)
      yield* third.request("session.ping", { nonce: "n" })
      yield* third.expect("session.pong")
      const stale = yield* connect
      yield* stale.send(
        "session.hello",
        hello({
          resume: { session_id: first.sessionId, resume_token: first.welcome.resume_token, last_event_seq: 0 }
        })
      )
      assert.strictEqual((yield* stale.expect("session.error")).payload.code, "RESUME_WINDOW_EXPIRED")
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("ends a session when its window has passed", () =>
    Effect.gen(function* () {
      const first = yield* open()
      yield* first.connection.close(1000, "")
      yield* TestClock.adjust("9 seconds")
      const second = yield* open({
        resume: { session_id: first.sessionId, resume_token: first.welcome.resume_token, last_event_seq: 0 }
      })
      yield* second.connection.close(1000, "")
      yield* TestClock.adjust("11 seconds")
      const late = yield* connect
      yield* late.send(
        "session.hello",
        hello({
          resume: {
            session_id: first.sessionId,
            resume_token: second.welcome.resume_token,
            last_event_seq: 0
          }
        })
      )
      assert.strictEqual((yield* late.expect("session.error")).payload.code, "RESUME_WINDOW_EXPIRED")
    }).pipe(Effect.provide(runtime(agents, { resumeWindow: "10 seconds" })))
  )

  it.scoped("cancels: acknowledged, finalizers emit, one terminal message", () =>
    Effect.gen(function* () {
      const session = yield* open()
      const { job_id } = yield* submit(session, "forever")
      yield* session.expect("job.event")
      yield* session.request("job.cancel", { reason: "enough" }, { job_id })
      yield* session.expect("job.cancelled")
      const cleanup = yield* session.expect("job.event")
      assert.strictEqual(cleanup.payload.body.message, "cleanup")
      const end = yield* session.expect("job.error")
      assert.strictEqual(end.payload.code, "CANCELLED")
      assert.strictEqual(end.payload.final_status, "cancelled")
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("disowns a job that cannot be interrupted when the grace is over", () =>
    Effect.gen(function* () {
      const session = yield* open()
      const { job_id } = yield* submit(session, "stubborn")
      yield* session.expect("job.event")
      yield* session.request("job.cancel", {}, { job_id })
      yield* session.expect("job.cancelled")
      const end = yield* Effect.fork(session.expect("job.error"))
      yield* TestClock.adjust("29 seconds")
      assert.isTrue((yield* Fiber.poll(end))._tag === "None")
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual((yield* Fiber.join(end)).payload.code, "CANCELLED")
    }).pipe(Effect.provide(runtime(agents, { heartbeatInterval: "3600 seconds" })))
  )

  it.scoped("times out, and ends when the lease expires", () =>
    Effect.gen(function* () {
      const session = yield* open()
      yield* submit(session, "forever", {}, { max_runtime_sec: 60 })
      yield* session.expect("job.event")
      yield* TestClock.adjust("61 seconds")
      assert.strictEqual((yield* session.expect("job.error")).payload.final_status, "timed_out")
      yield* submit(session, "forever", {}, { lease_constraints: { expires_at: "1970-01-01T00:03:00Z" } })
      yield* session.expect("job.event")
      yield* TestClock.adjust("3 minutes")
      assert.strictEqual((yield* session.expect("job.error")).payload.code, "LEASE_EXPIRED")
    }).pipe(Effect.provide(runtime(agents, { heartbeatInterval: "3600 seconds" })))
  )

  it.scoped("refuses a submit with a terminal message on a fresh job, and repeats it", () =>
    Effect.gen(function* () {
      const session = yield* open()
      const id = yield* session.request("job.submit", { agent: "nobody", input: {} })
      const first = yield* session.expect("job.error")
      assert.strictEqual(first.payload.code, "AGENT_NOT_AVAILABLE")
      assert.strictEqual(first.payload.details.request_id, id)
      assert.strictEqual(first.event_seq, 1)
      yield* session.request("job.submit", { agent: 7 })
      const second = yield* session.expect("job.error")
      assert.strictEqual(second.payload.code, "INVALID_REQUEST")
      assert.include(second.payload.message, "payload.agent")
      yield* session.request("job.submit", { agent: "count", input: { to: "x" } })
      assert.include((yield* session.expect("job.error")).payload.message, "payload.input.to")
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("two racing submits with one key start one run", () =>
    Effect.gen(function* () {
      const [a, b] = yield* Effect.all([open(), open()])
      const body = { agent: "forever", input: {}, idempotency_key: "k" }
      yield* Effect.all([a.request("job.submit", body), b.request("job.submit", body)], {
        concurrency: "unbounded"
      })
      const [x, y] = yield* Effect.all([a.expect("job.accepted"), b.expect("job.accepted")])
      assert.strictEqual(x.job_id, y.job_id)
      yield* b.request("job.submit", { ...body, input: { other: true } })
      const refused = yield* b.expect("job.error")
      assert.strictEqual(refused.payload.code, "DUPLICATE_KEY")
      assert.strictEqual(refused.payload.details.existing_job_id, x.job_id)
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("pings when idle and gives up on a silent peer", () =>
    Effect.gen(function* () {
      const session = yield* open()
      yield* TestClock.adjust("31 seconds")
      yield* session.expect("session.ping")
      yield* TestClock.adjust("30 seconds")
      assert.strictEqual((yield* session.expect("session.error")).payload.code, "HEARTBEAT_LOST")
      assert.strictEqual((yield* session.closed).code, 4002)
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("pings a client that only listens to a busy stream, and keeps it", () =>
    Effect.gen(function* () {
      const session = yield* open()
      yield* submit(session, "tick")
      let answered = 0
      for (let i = 0; i < 20; i++) {
        yield* TestClock.adjust("10 seconds")
        yield* session.expect("job.event", (frame) => frame.payload.kind === "log")
        const pings = session.seen.filter((frame) => frame.type === "session.ping")
        for (; answered < pings.length; answered++)
          yield* session.request("session.pong", { ping_nonce: pings[answered]?.payload.nonce })
      }
      assert.isAbove(answered, 2)
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("closes a connection that does not say hello in time", () =>
    Effect.gen(function* () {
      const wire = yield* connect
      yield* TestClock.adjust("11 seconds")
      assert.strictEqual((yield* wire.expect("session.error")).payload.code, "INVALID_REQUEST")
      yield* wire.closed
    }).pipe(Effect.provide(runtime(agents)))
  )

  it.scoped("gives running jobs the shutdown grace, then says bye", () =>
    Effect.gen(function* () {
      const wire = yield* Effect.gen(function* () {
        const session = yield* open()
        yield* submit(session, "forever")
        yield* session.expect("job.event")
        return session
      }).pipe(Effect.provide(runtime(agents)))
      const end = yield* wire.expect("job.error")
      assert.strictEqual(end.payload.code, "INTERNAL_ERROR")
      assert.isTrue(end.payload.retryable)
      assert.strictEqual(end.payload.details.reason, "runtime_restart")
      yield* wire.expect("session.bye")
      assert.strictEqual((yield* wire.closed).code, 1001)
    })
  )
})
