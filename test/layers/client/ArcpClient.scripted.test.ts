/** The client against a runtime that says what no real one would, or at moments that are hard to catch. */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Mailbox from "effect/Mailbox"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as Vendor from "../../../src/protocol/Vendor.js"
import * as ScriptedRuntime from "../../../src/testing/ScriptedRuntime.js"
import { isCollected } from "../../support/collected.js"
import { collect, scripted } from "./scripted.js"

const { accepted, event, message, result, sessionError, subscribed, welcome } = ScriptedRuntime

describe("ArcpClient with a scripted runtime", () => {
  it.scoped("sends an unanswered submit again, with the same id", () =>
    Effect.gen(function* () {
      const { connecting, greeted, welcomed } = yield* scripted
      const client = yield* connecting()
      const first = yield* welcomed()
      const submitting = yield* Effect.fork(Effect.flatMap(Fiber.join(client), (c) => c.submit("x", 1)))
      const submit = yield* first.expect("job.submit")
      yield* first.drop
      const { hello, server: second } = yield* greeted
      assert.deepStrictEqual(hello.payload.resume, {
        session_id: "sess_1",
        resume_token: "rt_1",
        last_event_seq: 0
      })
      yield* second.send(welcome())
      const again = yield* second.expect("job.submit")
      assert.strictEqual(again.id, submit.id)
      // Events that overtake the accept are kept for it.
      yield* second.send(
        message("job.event", { kind: "log", ts: "", body: 1 }, { job_id: "job_1", event_seq: 1 }),
        message(
          "job.result",
          { final_status: "success", result: 7, completed_at: "2026-01-01T00:00:06Z" },
          { job_id: "job_1", event_seq: 2 }
        ),
        message(
          "job.accepted",
          { request_id: submit.id, job_id: "job_1", agent: "x@1", lease: {}, accepted_at: "" },
          { job_id: "job_1" }
        )
      )
      const job = yield* Fiber.join(submitting)
      assert.strictEqual(yield* job.result, 7)
      assert.strictEqual(yield* job.completedAt, "2026-01-01T00:00:06Z")
      assert.strictEqual((yield* collect(job.events)).length, 1)
    })
  )

  it.scoped("drops duplicates; asks once more for what is missing, then names the gap", () =>
    Effect.gen(function* () {
      const { greeted, open, submitted } = yield* scripted
      const { client, server } = yield* open()
      const job = yield* submitted(client, server)
      yield* server.send(...[1, 2, 2, 1, 3, 5].map((seq) => event(seq)))
      const second = yield* greeted
      assert.deepInclude(second.hello.payload.resume, { last_event_seq: 3 })
      yield* second.server.send(welcome(), event(4), event(6))
      const third = yield* greeted
      yield* third.server.send(welcome(), event(6))
      const seen: Array<number> = []
      const error = yield* Effect.flip(
        Stream.runForEach(job.events, (e) => Effect.sync(() => seen.push(e.eventSeq)))
      )
      assert.deepStrictEqual(seen, [1, 2, 3, 4])
      assert.strictEqual(error._tag, "ProtocolViolation")
      assert.include(error.message, "event 6 came where 5 follows")
    })
  )

  for (const [what, seqs] of [
    ["the second", [1, 3]],
    ["the first four", [5]],
    ["one that comes late", [2, 1]]
  ] as const)
    it.scoped(`what is missing and does not come when it is asked for is named: ${what}`, () =>
      Effect.gen(function* () {
        const { greeted, open, submitted } = yield* scripted
        const { client, server } = yield* open()
        const job = yield* submitted(client, server)
        const waiting = yield* Effect.fork(Effect.flip(job.result))
        yield* server.send(...seqs.map((seq) => event(seq)), result(6))
        const second = yield* greeted
        yield* second.server.send(welcome())
        yield* TestClock.adjust("31 seconds")
        // A network that fails says nothing of what there is: it is the runtime's when that answers.
        const ping = yield* second.server.expect("session.ping")
        assert.isNull(waiting.unsafePoll())
        yield* second.server.send(message("session.pong", { ping_nonce: ping.payload["nonce"] }))
        const error = yield* Fiber.join(waiting)
        assert.strictEqual(error._tag, "ProtocolViolation")
        assert.include(error.message, `event ${seqs[0] === 1 ? 2 : 1} does not come`)
      })
    )

  it.scoped("a network that is dead twice in the middle of a replay ends no session", () =>
    Effect.gen(function* () {
      const { greeted, open, submitted } = yield* scripted
      const { client, server } = yield* open()
      const job = yield* submitted(client, server)
      const waiting = yield* Effect.fork(job.result)
      yield* server.send(event(1), event(3))
      let { server: now } = yield* greeted
      for (let dead = 0; dead < 3; dead++) {
        yield* now.send(welcome())
        const next = yield* Effect.fork(greeted)
        yield* TestClock.adjust("31 seconds")
        yield* now.expect("session.ping")
        yield* TestClock.adjust("31 seconds")
        now = (yield* Fiber.join(next)).server
      }
      yield* now.send(welcome(), event(2), event(3), result(4))
      assert.strictEqual(yield* Fiber.join(waiting), 7)
    })
  )

  it.scoped("a replay is waited for as long as it goes on", () =>
    Effect.gen(function* () {
      const { dialled, greeted, open, submitted } = yield* scripted
      const { client, server } = yield* open()
      const job = yield* submitted(client, server)
      yield* server.send(event(6))
      const second = yield* greeted
      yield* second.server.send(welcome())
      for (let seq = 1; seq <= 5; seq++) {
        yield* TestClock.adjust("20 seconds")
        yield* second.server.send(event(seq))
        yield* Stream.runDrain(Stream.take(job.events, 1))
      }
      yield* second.server.send(event(6))
      yield* TestClock.adjust("5 minutes")
      yield* second.server.send(result(7))
      assert.strictEqual(yield* job.result, 7)
      assert.strictEqual(yield* dialled, 2)
    })
  )

  it.scoped("without subscriptions, a lost session loses its handles, and later requests get a new one", () =>
    Effect.gen(function* () {
      const { open, replaced, submitted } = yield* scripted
      const { client, server } = yield* open()
      const job = yield* submitted(client, server)
      const other = yield* replaced(server)
      assert.strictEqual((yield* Effect.flip(job.result))._tag, "ResumeWindowExpired")
      assert.strictEqual((yield* submitted(client, other)).jobId, "job_1")
      assert.strictEqual((yield* client.resumeState).sessionId, "sess_2")
    })
  )

  it.scoped(
    "a lost session's job is found again by subscription, from where it was, and taken over by its id",
    () =>
      Effect.gen(function* () {
        const { open, replaced, submitted } = yield* scripted
        const { client, server } = yield* open(welcome(["subscribe", Vendor.requests]))
        const job = yield* submitted(client, server, { idempotencyKey: "k" })
        yield* server.send(event(1), event(2))
        const other = yield* replaced(server, ["subscribe", Vendor.requests])
        const subscribe = yield* other.expect("job.subscribe")
        assert.deepStrictEqual(subscribe.payload, { job_id: "job_1", history: true, from_event_seq: 2 })
        yield* other.send(subscribed(subscribe.id, 0), event(1, "new"))
        const submit = yield* other.expect("job.submit")
        assert.deepStrictEqual(submit.extensions, { [Vendor.adopt]: "job_1" })
        // Its key might be free by now, and start another run.
        assert.deepStrictEqual(submit.payload, { agent: "x", input: null })
        yield* other.send(accepted(submit.id), result(2))
        const events = yield* collect(job.events)
        assert.deepStrictEqual(
          events.map(({ kind, eventSeq }) => [kind, eventSeq]),
          [
            ["log", 1],
            ["log", 2],
            ["gap", 0],
            ["other", 1]
          ]
        )
        assert.deepInclude(events[2]?.body, { reason: "session_lost", replayed: true })
        assert.strictEqual(yield* job.result, 7)
      })
  )

  it.scoped("what only subscribed to a job goes on live, and says that something is missing", () =>
    Effect.gen(function* () {
      const { open, replaced } = yield* scripted
      const { client, server } = yield* open(welcome(["subscribe"]))
      const subscribing = yield* Effect.fork(client.subscribe("job_1"))
      const first = yield* server.expect("job.subscribe")
      yield* server.send(subscribed(first.id, 0), event(1))
      const job = yield* Fiber.join(subscribing)
      const other = yield* replaced(server, ["subscribe"])
      const again = yield* other.expect("job.subscribe")
      assert.deepStrictEqual(again.payload, { job_id: "job_1", history: false })
      yield* other.send(subscribed(again.id, 0), event(1), result(2))
      const events = yield* collect(job.events)
      assert.deepStrictEqual(
        events.map(({ kind }) => kind),
        ["log", "gap", "log"]
      )
      assert.deepInclude(events[1]?.body, { replayed: false })
    })
  )

  it.scoped("a runtime that cannot resume just now is asked again; one that refuses is not", () =>
    Effect.gen(function* () {
      const { greeted, open, submitted } = yield* scripted
      const { client, server } = yield* open()
      const job = yield* submitted(client, server)
      yield* server.drop
      const second = yield* greeted
      yield* second.server.send(sessionError("INTERNAL_ERROR", true))
      const third = yield* greeted
      yield* third.server.send(welcome(), result(1))
      assert.strictEqual(yield* job.result, 7)
      const waiting = yield* submitted(client, third.server)
      yield* third.server.drop
      const fourth = yield* greeted
      yield* fourth.server.send(sessionError("UNAUTHENTICATED"))
      assert.strictEqual((yield* Effect.flip(waiting.result))._tag, "Unauthenticated")
      assert.strictEqual((yield* Effect.flip(client.ping))._tag, "Unauthenticated")
    })
  )

  it.scoped("a refusal that is repeated before the replay gets there is an answer, not a gap", () =>
    Effect.gen(function* () {
      const { greeted, open } = yield* scripted
      const { client, server } = yield* open()
      const submitting = yield* Effect.fork(Effect.flip(client.submit("x", 1)))
      const submit = yield* server.expect("job.submit")
      yield* server.drop
      const second = yield* greeted
      const refusal = message(
        "job.error",
        {
          code: "AGENT_NOT_AVAILABLE",
          message: "no",
          retryable: false,
          details: { request_id: submit.id },
          final_status: "error",
          completed_at: ""
        },
        { job_id: "job_2", event_seq: 3 }
      )
      yield* second.server.send(welcome(), event(1), refusal, event(2), refusal, event(4))
      assert.strictEqual((yield* Fiber.join(submitting))._tag, "AgentNotAvailable")
      const pinging = yield* Effect.fork(client.ping)
      yield* second.server.received
      assert.strictEqual((yield* client.resumeState).lastEventSeq, 4)
      yield* Fiber.interrupt(pinging)
    })
  )

  it.scoped("a subscribe whose answer was lost gives the history once", () =>
    Effect.gen(function* () {
      const { greeted, open } = yield* scripted
      const { client, server } = yield* open()
      const subscribing = yield* Effect.fork(client.subscribe("job_1", { history: true }))
      const subscribe = yield* server.expect("job.subscribe")
      yield* server.drop
      const second = yield* greeted
      // Events 1 to 3 are of the first time, whose answer got lost; the last of them comes after the second's.
      yield* second.server.send(
        welcome(),
        event(1, "a"),
        event(2, "b"),
        subscribed(subscribe.id, 3),
        event(3, "c")
      )
      yield* second.server.send(event(4, "a"), event(5, "b"), event(6, "c"), result(7))
      const job = yield* Fiber.join(subscribing)
      assert.deepStrictEqual(
        (yield* collect(job.events)).map(({ body }) => body),
        ["a", "b", "c"]
      )
      assert.strictEqual(yield* job.result, 7)
    })
  )

  it.scoped("acknowledges what the application has taken, not what came", () =>
    Effect.gen(function* () {
      const { open, submitted } = yield* scripted
      const { client, server } = yield* open(welcome(["ack"]), {
        ack: { events: 4, interval: "1 second" }
      })
      const job = yield* submitted(client, server)
      const seen = yield* Mailbox.make<number>()
      const gate = yield* Mailbox.make<void>()
      yield* job.events.pipe(
        Stream.runForEach(({ eventSeq }) => Effect.zipRight(seen.offer(eventSeq), gate.take)),
        Effect.fork
      )
      yield* server.send(event(1))
      assert.strictEqual(yield* seen.take, 1)
      // Nine more have come, the first is still being worked on: nothing may be acknowledged.
      yield* server.send(...[2, 3, 4, 5, 6, 7, 8, 9, 10].map((seq) => event(seq)))
      const pinging = yield* Effect.fork(client.ping)
      assert.deepStrictEqual(
        (yield* server.received).map(({ type }) => type),
        ["session.ping"]
      )
      yield* Fiber.interrupt(pinging)
      yield* gate.offer(undefined)
      yield* seen.take
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(
        (yield* server.received).map(({ payload }) => payload.last_processed_seq),
        [1]
      )
    })
  )

  it.scoped(
    "acknowledges what came for nobody, also when it was kept for a submit that has another job",
    () =>
      Effect.gen(function* () {
        const { open, submitted } = yield* scripted
        const { client, server } = yield* open(welcome(["ack", Vendor.requests]))
        // It goes on, without a handle.
        yield* Effect.scoped(submitted(client, server))
        const submitting = yield* Effect.fork(client.submit("x", 2))
        const { id } = yield* server.expect("job.submit")
        yield* server.send(event(1), event(2))
        // Nothing may say so yet: they may be the new job's.
        yield* Effect.repeatN(TestClock.adjust("1 second"), 3)
        assert.strictEqual((yield* client.resumeState).lastEventSeq, 0)
        yield* server.send(accepted(id, { jobId: "job_2" }))
        yield* Fiber.join(submitting)
        assert.strictEqual((yield* client.resumeState).lastEventSeq, 2)
        yield* Effect.repeatN(TestClock.adjust("1 second"), 3)
        assert.deepStrictEqual((yield* server.expect("session.ack")).payload, { last_processed_seq: 2 })
      })
  )

  it.scoped("only the result awaited: acknowledges what came", () =>
    Effect.gen(function* () {
      const { open, submitted } = yield* scripted
      const { client, server } = yield* open(welcome(["ack"]), { ack: { events: 4 } })
      const job = yield* submitted(client, server)
      yield* Effect.fork(job.result)
      yield* Effect.yieldNow()
      yield* server.send(...[1, 2, 3, 4].map((seq) => event(seq)))
      const ack = yield* server.expect("session.ack")
      assert.strictEqual(ack.payload.last_processed_seq, 4)
    })
  )

  it.scoped("a result that is not what it says fails, and only that", () =>
    Effect.gen(function* () {
      const { open, submitted } = yield* scripted
      const { client, server } = yield* open()
      const chunk = (seq: number, data: string, more: Record<string, unknown> = {}) =>
        event(
          seq,
          { result_id: "r", chunk_seq: 0, data, encoding: "base64", more: false, ...more },
          "result_chunk"
        )
      const refused: ReadonlyArray<[string, ReadonlyArray<string>]> = [
        ["no base64", [chunk(1, "%%"), result(2, { result_id: "r" })]],
        ["are 3 bytes, not 4", [chunk(3, "YWJj"), result(4, { result_id: "r", result_size: 4 })]],
        ["chunks are missing", [chunk(5, "YWJj", { chunk_seq: 1 }), result(6, { result_id: "r" })]],
        ["chunks are missing", [result(7, { result_id: "r" })]],
        ["chunks are missing", [chunk(8, "YWJj", { more: true }), result(9, { result_id: "r" })]],
        ["bad result_chunk", [chunk(10, "YWJj", { more: 1 }), result(11, { result_id: "r" })]]
      ]
      for (const [message, frames] of refused) {
        const job = yield* submitted(client, server)
        yield* server.send(...frames)
        const error = yield* Effect.flip(job.result)
        assert.strictEqual(error._tag, "ProtocolViolation")
        assert.include(error.message, message)
      }
      yield* Effect.fork(client.ping)
      assert.strictEqual((yield* server.received)[0]?.type, "session.ping")
    })
  )

  it.scoped("keeps nothing of a job whose handle is no longer used", () =>
    Effect.gen(function* () {
      const { open, submitted } = yield* scripted
      const { client, server } = yield* open()
      const cell = yield* Effect.scoped(
        Effect.gen(function* () {
          const job = yield* submitted(client, server)
          yield* server.send(event(1), message("session.ping", { nonce: "n", sent_at: "" }))
          yield* server.received
          return new WeakRef(job.progress)
        })
      )
      assert.isTrue(yield* isCollected(cell))
    })
  )

  it.scoped("gives a silent connection up after two intervals, and resumes", () =>
    Effect.gen(function* () {
      const { greeted, open } = yield* scripted
      const { server } = yield* open(welcome(["heartbeat"], { heartbeat_interval_sec: 10 }))
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* server.received)[0]?.type, "session.ping")
      yield* TestClock.adjust("10 seconds")
      const closed = yield* Effect.flip(server.connection.take)
      assert.strictEqual(closed.code, 4002)
      assert.isDefined((yield* greeted).hello.payload.resume)
    })
  )

  it.scoped("waits from 100 ms, doubling, at most 5 s, a fifth shorter or longer, between its attempts", () =>
    Effect.gen(function* () {
      const { dialled, greeted, openPatient } = yield* scripted
      const { client, server } = yield* openPatient
      yield* server.drop
      const reconnecting = Effect.map(client.status.get, (status) => status._tag === "Reconnecting")
      const waited: Array<number> = []
      for (let attempt = 0; attempt < 12; attempt++) {
        yield* Effect.repeat(Effect.yieldNow(), { until: () => reconnecting, times: 1_000 })
        const before = yield* dialled
        let ms = 0
        while ((yield* dialled) === before && ms < 10_000) {
          yield* TestClock.adjust("10 millis")
          ms += 10
        }
        waited.push(ms)
        yield* (yield* greeted).server.drop
      }
      for (const [attempt, ms] of waited.entries()) {
        const nominal = Math.min(5000, 100 * 2 ** attempt)
        assert.isAtLeast(ms, nominal * 0.8 - 10, `attempt ${attempt}: ${waited}`)
        assert.isAtMost(ms, nominal * 1.2 + 20, `attempt ${attempt}: ${waited}`)
      }
      // Not all at once with everybody else's.
      assert.isAbove(new Set(waited.slice(6)).size, 1, `${waited}`)
    })
  )

  it.scoped("begins with the short delay again once a connection has lasted", () =>
    Effect.gen(function* () {
      const { dialled, greeted, openPatient } = yield* scripted
      const { server } = yield* openPatient
      yield* server.drop
      for (let attempt = 0; attempt < 5; attempt++) {
        yield* TestClock.adjust("10 seconds")
        yield* (yield* greeted).server.drop
      }
      yield* TestClock.adjust("10 seconds")
      const { server: again } = yield* greeted
      yield* again.send(welcome())
      yield* TestClock.adjust("10 seconds")
      yield* again.drop
      const before = yield* dialled
      yield* TestClock.adjust("130 millis")
      assert.strictEqual(yield* dialled, before + 1)
    })
  )

  it.scoped("a runtime that welcomes and closes is dialled less and less often", () =>
    Effect.gen(function* () {
      const { dialled, greeted, openPatient } = yield* scripted
      const { server } = yield* openPatient
      yield* server.connection.close(1013, "full")
      yield* Effect.forkScoped(
        Effect.forever(
          Effect.flatMap(greeted, ({ server }) =>
            Effect.zipRight(server.send(welcome()), server.connection.close(1013, "full"))
          )
        )
      )
      for (let i = 0; i < 1000; i++) yield* TestClock.adjust("10 millis")
      assert.isAtMost(yield* dialled, 9)
    })
  )

  it.scoped.each([
    ["an event of a job that no handle has", (seq: number) => ScriptedRuntime.event(seq, {}, "log", "job_9")],
    ["an answer that nobody waits for", () => ScriptedRuntime.accepted("no request", { jobId: "job_9" })],
    ["an event of a job whose handle was let go of", (seq: number) => ScriptedRuntime.event(seq)]
  ] as const)("and so is one that sends %s and closes", ([, frame]) =>
    Effect.gen(function* () {
      const { dialled, greeted, openPatient, submitted } = yield* scripted
      const { client, server } = yield* openPatient
      yield* Effect.scoped(submitted(client, server))
      let seq = 0
      yield* server.connection.close(1013, "full")
      yield* Effect.forkScoped(
        Effect.forever(
          Effect.flatMap(greeted, ({ server }) =>
            Effect.zipRight(server.send(welcome(), frame(++seq)), server.connection.close(1013, "full"))
          )
        )
      )
      for (let i = 0; i < 1000; i++) yield* TestClock.adjust("10 millis")
      assert.isAtMost(yield* dialled, 9)
    })
  )

  it.scoped("what a handle takes is progress: the next connection is made at once", () =>
    Effect.gen(function* () {
      const { dialled, greeted, openPatient, submitted } = yield* scripted
      const { client, server } = yield* openPatient
      yield* submitted(client, server)
      let seq = 0
      yield* server.connection.close(1013, "full")
      yield* Effect.forkScoped(
        Effect.forever(
          Effect.flatMap(greeted, ({ server }) =>
            Effect.zipRight(
              server.send(welcome(), ScriptedRuntime.event(++seq)),
              server.connection.close(1013, "full")
            )
          )
        )
      )
      for (let i = 0; i < 200; i++) yield* TestClock.adjust("10 millis")
      assert.isAtLeast(yield* dialled, 10)
    })
  )

  /** A wall clock that can be set, over time that only goes forward. */
  const jumping = Effect.map(Effect.clock, (clock) => {
    let offset = 0
    const wall: Clock.Clock = {
      [Clock.ClockTypeId]: Clock.ClockTypeId,
      sleep: (duration) => clock.sleep(duration),
      unsafeCurrentTimeMillis: () => clock.unsafeCurrentTimeMillis() + offset,
      currentTimeMillis: Effect.map(clock.currentTimeMillis, (ms) => ms + offset),
      unsafeCurrentTimeNanos: () => clock.unsafeCurrentTimeNanos(),
      currentTimeNanos: clock.currentTimeNanos
    }
    return {
      wall,
      jump: (ms: number) => {
        offset += ms
      }
    }
  })

  it.scoped.each([3_600_000, -3_600_000])("keeps its session when the wall clock jumps by %i ms", (by) =>
    Effect.gen(function* () {
      const { jump, wall } = yield* jumping
      const { greeted, open } = yield* scripted
      const heartbeats = welcome(["heartbeat"], { heartbeat_interval_sec: 10, resume_window_sec: 60 })
      const { client, server } = yield* Effect.withClock(
        open(heartbeats, { reconnect: Schedule.spaced("1 second") }),
        wall
      )
      yield* TestClock.adjust("5 seconds")
      jump(by)
      // As quiet as before: a ping after an interval, and nobody has been given up.
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(
        (yield* server.received).map(({ type }) => type),
        ["session.ping"]
      )
      assert.strictEqual((yield* client.status.get)._tag, "Connected")
      yield* server.drop
      yield* Effect.repeat(Effect.yieldNow(), { times: 50 })
      jump(by)
      for (let attempt = 0; attempt < 3; attempt++) {
        yield* TestClock.adjust("1 second")
        const { hello, server } = yield* greeted
        assert.isDefined(hello.payload["resume"], `attempt ${attempt}`)
        yield* server.drop
      }
    })
  )

  it.scoped("gives the session up when the resume window has passed on the clock that goes forward", () =>
    Effect.gen(function* () {
      const { greeted, open } = yield* scripted
      const { server } = yield* open(welcome([], { resume_window_sec: 60 }), {
        reconnect: Schedule.spaced("25 seconds")
      })
      yield* server.drop
      const resumed: Array<boolean> = []
      for (let attempt = 0; attempt < 4; attempt++) {
        yield* TestClock.adjust("25 seconds")
        const { hello, server } = yield* greeted
        resumed.push(hello.payload["resume"] !== undefined)
        yield* server.drop
      }
      assert.deepStrictEqual(resumed, [true, true, true, false])
    })
  )

  it.scoped("tells the runtime in seconds how long a job may run", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { client, server } = yield* open()
      yield* Effect.fork(client.submit("x", 1, { maxRuntime: "2 minutes" }))
      assert.strictEqual((yield* server.expect("job.submit")).payload["max_runtime_sec"], 120)
      yield* Effect.fork(client.submit("x", 1))
      assert.notProperty((yield* server.expect("job.submit")).payload, "max_runtime_sec")
    })
  )

  it.scoped("lists page by page: each is asked for where the one before ended, and the last ends it", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const { client, server } = yield* open()
      const filter = { status: ["running" as const] }
      const listing = yield* Effect.fork(collect(Stream.take(client.list(filter), 4)))
      for (const [cursor, ids, next_cursor] of [
        [undefined, ["job_1", "job_2"], "after 2"],
        ["after 2", [], "after nothing"],
        ["after nothing", ["job_3"], null]
      ] as const) {
        const { id, payload } = yield* server.expect("session.list_jobs")
        assert.deepStrictEqual(payload, { filter, ...(cursor === undefined ? {} : { cursor }) })
        const jobs = ids.map((job_id) => ({
          job_id,
          agent: "x@1",
          status: "running",
          lease: {},
          parent_job_id: null,
          created_at: "",
          submitted_at: "",
          trace_id: "0af7651916cd43dd8448eb211c80319c",
          last_event_seq: 1
        }))
        yield* server.send(message("session.jobs", { request_id: id, jobs, next_cursor }))
      }
      const found = yield* Fiber.join(listing)
      assert.deepStrictEqual(
        found.map(({ job_id }) => job_id),
        ["job_1", "job_2", "job_3"]
      )
    })
  )

  it.scoped("refuses a request that JSON cannot say before it is sent, and the session goes on", () =>
    Effect.gen(function* () {
      const { open, submitted } = yield* scripted
      const { client, server } = yield* open()
      const cycle: Array<unknown> = []
      cycle.push(cycle)
      const inputs: ReadonlyArray<readonly [unknown, RegExp]> = [
        [{ a: { b: Number.POSITIVE_INFINITY } }, /^b: is not JSON/],
        [[Number.NaN], /^0: /],
        [{ a: 1n }, /^a: /],
        [{ m: new Map() }, /^m: /],
        [new Set(), /^input: /],
        ["\ud800", /^input: /],
        [{ "\udc00": 1 }, /^a name: /],
        [cycle, /is not JSON/]
      ]
      for (const [input, problem] of inputs) {
        const error = yield* Effect.flip(client.submit("x", input))
        assert.strictEqual(error._tag, "InvalidRequest")
        assert.match(error.message, problem)
      }
      // Nor may the envelope, which would otherwise be written for the first time when it is sent.
      for (const said of [1n, cycle, "\udc00"]) {
        const error = yield* Effect.flip(client.submit("x", 1, { extensions: { "x-vendor.acme.n": said } }))
        assert.strictEqual(error._tag, "InvalidRequest")
        assert.match(error.message, /^.+: is not JSON/)
      }
      assert.strictEqual((yield* Effect.flip(client.cancel(1n as unknown as string)))._tag, "InvalidRequest")
      const job = yield* submitted(client, server)
      const reason = yield* Effect.flip(job.cancel("\ud83d"))
      assert.match(reason.message, /^reason: /)
      yield* server.send(result(1))
      assert.strictEqual(yield* job.result, 7)
    })
  )

  it.scoped(
    "sends what was asked for when it was asked for, however often, and whatever its input is by then",
    () =>
      Effect.gen(function* () {
        const { open, welcomed } = yield* scripted
        const { client, server } = yield* open()
        const input = { text: "as asked" }
        const submitting = yield* Effect.fork(client.submit("x", input))
        const first = yield* server.expect("job.submit")
        input.text = "changed"
        yield* server.drop
        const second = yield* welcomed()
        assert.deepStrictEqual(yield* second.accept(), first)
        yield* Fiber.join(submitting)
      })
  )

  it.scoped(
    "gives a request up whose connections are lost, and not for absences, whose number is no matter",
    () =>
      Effect.gen(function* () {
        const { greeted, open, submitted, welcomed } = yield* scripted
        const { client, server } = yield* open(undefined, { reconnect: Schedule.recurs(200) })
        const poison = yield* Effect.fork(Effect.flip(client.submit("x", 1, { idempotencyKey: "k" })))
        yield* server.expect("job.submit")
        yield* server.drop
        for (let absences = 0; absences < 50; absences++) yield* (yield* greeted).server.drop
        let lost = 1
        for (; poison.unsafePoll() === null && lost < 30; lost++) {
          const next = yield* welcomed()
          yield* next.expect("job.submit")
          // In no time they may be as many as they like.
          if (lost === 20) yield* TestClock.adjust("29 seconds")
          if (lost === 21) yield* TestClock.adjust("1 second")
          yield* next.drop
          yield* Effect.repeatN(Effect.yieldNow(), 20)
        }
        assert.strictEqual(lost, 22)
        assert.strictEqual((yield* Fiber.join(poison)).code, "REQUEST_TIMEOUT")
        assert.strictEqual((yield* submitted(client, yield* welcomed())).jobId, "job_1")
      })
  )

  it.scoped("what is said at the end goes out, also while the last message before it is on its way", () =>
    Effect.gen(function* () {
      const { open } = yield* scripted
      const server = yield* Effect.scoped(
        Effect.gen(function* () {
          const { client, server } = yield* open()
          yield* Effect.scoped(
            Effect.gen(function* () {
              const submitting = yield* Effect.fork(client.submitScoped("x", 1))
              yield* server.accept()
              yield* Fiber.join(submitting)
              yield* Effect.fork(client.ping)
              yield* server.expect("session.ping")
            })
          )
          yield* client.close
          return server
        })
      )
      assert.deepStrictEqual(
        (yield* server.received).map(({ type }) => type),
        ["job.cancel", "session.close"]
      )
    })
  )

  it.scoped("close says so to the runtime, ends handles, and does not come back", () =>
    Effect.gen(function* () {
      const { open, dialled, submitted } = yield* scripted
      const { client, server } = yield* open()
      const job = yield* submitted(client, server)
      yield* client.close
      assert.strictEqual((yield* server.received)[0]?.type, "session.close")
      assert.strictEqual((yield* Effect.flip(server.connection.take)).code, 1000)
      assert.strictEqual((yield* Effect.flip(job.result))._tag, "TransportError")
      assert.strictEqual((yield* Effect.flip(client.ping))._tag, "TransportError")
      assert.deepStrictEqual(yield* client.status.get, { _tag: "Closed", error: undefined })
      assert.deepStrictEqual(yield* dialled, 1)
    })
  )
})
