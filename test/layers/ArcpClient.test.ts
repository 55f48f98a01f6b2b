import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Mailbox from "effect/Mailbox"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as ArcpClient from "../../src/layers/ArcpClient.js"
import * as TransportMemory from "../../src/layers/TransportMemory.js"
import { encode } from "../../src/protocol/Codec.js"
import { type Connection, Dialer } from "../../src/services/Transport.js"
import { agentsForClients, Count, Picky } from "../support/agents.js"
import { runtime } from "../support/Wire.js"

const connect = (options: Partial<ArcpClient.Options> = {}) =>
  ArcpClient.make({
    token: Redacted.make("alice"),
    // At once: these tests have no clock that moves.
    reconnect: Schedule.recurs(20),
    ...options
  })
const collect = <A, E>(stream: Stream.Stream<A, E>) =>
  Effect.map(Stream.runCollect(stream), Chunk.toReadonlyArray)

describe("ArcpClient", () => {
  it.scoped("submits by contract and decodes the result", () =>
    Effect.gen(function* () {
      const client = yield* connect()
      const job = yield* client.submit(Count, { to: 3 })
      const events = yield* collect(job.events)
      assert.deepStrictEqual(
        events.map((event) => event.kind),
        ["status", "log", "log", "log"]
      )
      const result: number = yield* job.result
      assert.strictEqual(result, 3)
    }).pipe(Effect.provide(runtime(agentsForClients)))
  )

  it.scoped("gives the contract's own failures and the protocol's", () =>
    Effect.gen(function* () {
      const client = yield* connect()
      const picky = yield* client.submit(Picky, "bad")
      const failure = yield* Effect.flip(picky.result)
      assert.deepStrictEqual(failure, { _tag: "NotThat", what: "bad" })
      const unknown = yield* Effect.flip(client.submit("nobody", {}))
      assert.strictEqual(unknown._tag, "AgentNotAvailable")
      const wrong = yield* Effect.flip(client.submit("count", { to: "x" }))
      assert.strictEqual(wrong._tag, "InvalidRequest")
    }).pipe(Effect.provide(runtime(agentsForClients)))
  )

  it.scoped("hands every event over once and in order, however often the transport drops", () =>
    Effect.gen(function* () {
      const client = yield* connect()
      const jobs = yield* Effect.all(
        [1, 2, 3].map(() => client.submit(Count, { to: 2000 })),
        { concurrency: "unbounded" }
      )
      let seen = 0
      for (const job of jobs) {
        const messages: Array<string> = []
        yield* Stream.runForEach(job.events, (event) =>
          Effect.suspend(() => {
            if (event.kind === "log") messages.push((event.body as { message: string }).message)
            return ++seen % 97 === 0 ? client.dropTransport : Effect.void
          })
        )
        assert.deepStrictEqual(
          messages,
          Array.from({ length: 2000 }, (_, i) => `${i + 1}`)
        )
        assert.strictEqual(yield* job.result, 2000)
      }
    }).pipe(Effect.provide(runtime(agentsForClients)))
  )

  it.scoped("puts streamed results together", () =>
    Effect.gen(function* () {
      const client = yield* connect()
      const text = yield* client.submit("stream", { encoding: "utf8", parts: ["ab", "çd", "€"] })
      assert.strictEqual(yield* text.result, "abçd€")
      const bytes = yield* client.submit("stream", { encoding: "base64", parts: ["ab", "c"] })
      assert.deepStrictEqual(yield* bytes.result, new Uint8Array([97, 98, 99]))
      const plain = yield* connect({ features: [] })
      const inline = yield* plain.submit("stream", { encoding: "utf8", parts: ["x", "y"] })
      assert.strictEqual(yield* inline.result, "xy")
    }).pipe(Effect.provide(runtime(agentsForClients)))
  )

  it.scoped("cancels, lists, subscribes, pings", () =>
    Effect.gen(function* () {
      const client = yield* connect()
      const other = yield* connect()
      const job = yield* client.submit("forever", {})
      const seen = yield* other.subscribe(job.jobId, { history: true })
      assert.strictEqual(seen.subscribed.current_status, "running")
      assert.deepStrictEqual(
        (yield* collect(client.list({ status: ["running"] }))).map((entry) => entry.job_id),
        [job.jobId]
      )
      assert.isAtLeast(yield* client.ping, 0)
      const refused = yield* Effect.flip(other.cancel(job.jobId))
      assert.strictEqual(refused._tag, "PermissionDenied")
      yield* job.cancel("enough")
      assert.strictEqual((yield* Effect.flip(job.result))._tag, "Cancelled")
      assert.strictEqual((yield* Effect.flip(seen.result))._tag, "Cancelled")
      assert.strictEqual((yield* collect(seen.events))[0]?.kind, "status")
    }).pipe(Effect.provide(runtime(agentsForClients)))
  )

  it.scoped("continues the session of another process", () =>
    Effect.gen(function* () {
      const first = yield* connect()
      const job = yield* first.submit("forever", {})
      const state = yield* first.resumeState
      const second = yield* connect({ resume: state })
      yield* second.cancel(job.jobId)
      const denied = yield* Effect.either(connect({ token: Redacted.make("nobody") }))
      assert.isTrue(Either.isLeft(denied) && denied.left._tag === "Unauthenticated")
    }).pipe(Effect.provide(runtime(agentsForClients)))
  )
})

/** A runtime by script: gives each connection to the test. */
const scripted = Effect.gen(function* () {
  const servers = yield* Mailbox.make<Connection>()
  const dialer = Layer.succeed(Dialer, {
    connect: Effect.map(TransportMemory.make, ([client, server]) => {
      servers.unsafeOffer(server)
      return client
    })
  })
  let n = 0
  const frame = (type: string, payload: unknown, more: Record<string, unknown> = {}) =>
    encode({ id: `${(++n).toString().padStart(26, "0")}`, type, session_id: "sess_1", payload, ...more })
  const welcome = frame("session.welcome", {
    session_id: "sess_1",
    runtime: { name: "script", version: "1" },
    resume_token: "rt_1",
    resume_window_sec: 600,
    capabilities: { encodings: ["json"], features: [], agents: [] }
  })
  const take = (server: Connection) =>
    Effect.map(server.take, (frames) =>
      Chunk.toReadonlyArray(frames).map(
        (text) => JSON.parse(text as string) as { id: string; type: string; payload: { resume?: unknown } }
      )
    )
  return { servers, dialer, frame, welcome, take }
})

describe("ArcpClient with a scripted runtime", () => {
  it.scoped("sends an unanswered submit again, with the same id", () =>
    Effect.gen(function* () {
      const { servers, dialer, frame, welcome, take } = yield* scripted
      const client = yield* Effect.fork(Effect.provide(connect(), dialer))
      const first = yield* servers.take
      yield* take(first)
      yield* first.send([welcome])
      const submitting = yield* Effect.fork(Effect.flatMap(Fiber.join(client), (c) => c.submit("x", 1)))
      const [submit] = yield* take(first)
      yield* first.close(1000, "lost")
      const second = yield* servers.take
      const [hello] = yield* take(second)
      assert.deepStrictEqual(hello?.payload.resume, {
        session_id: "sess_1",
        resume_token: "rt_1",
        last_event_seq: 0
      })
      yield* second.send([welcome])
      const [again] = yield* take(second)
      assert.strictEqual(again?.id, submit?.id)
      // Events that overtake the accept are kept for it.
      yield* second.send([
        frame("job.event", { kind: "log", ts: "", body: 1 }, { job_id: "job_1", event_seq: 1 }),
        frame(
          "job.result",
          { final_status: "success", result: 7, completed_at: "" },
          { job_id: "job_1", event_seq: 2 }
        ),
        frame(
          "job.accepted",
          { request_id: submit?.id, job_id: "job_1", agent: "x@1", lease: {}, accepted_at: "" },
          { job_id: "job_1" }
        )
      ])
      const job = yield* Fiber.join(submitting)
      assert.strictEqual(yield* job.result, 7)
      assert.strictEqual((yield* collect(job.events)).length, 1)
    })
  )

  it.scoped("drops duplicates and names a gap", () =>
    Effect.gen(function* () {
      const { servers, dialer, frame, welcome, take } = yield* scripted
      const connecting = yield* Effect.fork(Effect.provide(connect(), dialer))
      const server = yield* servers.take
      yield* take(server)
      yield* server.send([welcome])
      const client = yield* Fiber.join(connecting)
      const submitting = yield* Effect.fork(client.submit("x", 1))
      const [submit] = yield* take(server)
      const event = (seq: number) =>
        frame("job.event", { kind: "log", ts: "", body: seq }, { job_id: "job_1", event_seq: seq })
      yield* server.send([
        frame(
          "job.accepted",
          { request_id: submit?.id, job_id: "job_1", agent: "x@1", lease: {}, accepted_at: "" },
          { job_id: "job_1" }
        ),
        ...[1, 2, 2, 1, 3, 5].map(event)
      ])
      const job = yield* Fiber.join(submitting)
      const seen: Array<number> = []
      const error = yield* Effect.flip(
        Stream.runForEach(job.events, (e) => Effect.sync(() => seen.push(e.eventSeq)))
      )
      assert.deepStrictEqual(seen, [1, 2, 3])
      assert.strictEqual(error._tag, "ProtocolViolation")
      assert.include(error.message, "event 5 came where 4 follows")
    })
  )
})
