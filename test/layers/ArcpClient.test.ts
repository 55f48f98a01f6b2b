import * as FileSystem from "@effect/platform/FileSystem"
import * as KeyValueStore from "@effect/platform/KeyValueStore"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Mailbox from "effect/Mailbox"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as ArcpClient from "../../src/layers/ArcpClient.js"
import * as ClientState from "../../src/layers/ClientState.js"
import * as TransportMemory from "../../src/layers/TransportMemory.js"
import { encode } from "../../src/protocol/Codec.js"
import { type Connection, Dialer } from "../../src/services/Transport.js"
import { agentsForClients, Count, Picky } from "../support/agents.js"
import { isCollected } from "../support/collected.js"
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

  it.scoped("writes a streamed result to a file, also when its last chunk is empty", () =>
    Effect.gen(function* () {
      const files = yield* FileSystem.FileSystem
      const client = yield* connect()
      const path = `${yield* files.makeTempDirectoryScoped()}/result`
      const job = yield* client.submit("stream", { encoding: "base64", parts: ["ab", "c"] })
      assert.strictEqual((yield* job.resultAsFile(path)).size, 3)
      assert.strictEqual(yield* files.readFileString(path), "abc")
      const nothing = yield* client.submit("stream", { encoding: "utf8", parts: [] })
      assert.strictEqual((yield* nothing.resultAsFile(path)).size, 0)
      assert.strictEqual(yield* files.readFileString(path), "")
    }).pipe(Effect.provide([runtime(agentsForClients), NodeFileSystem.layer]))
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

describe("ArcpClient with state", () => {
  it.scoped("a process that ends while it saves leaves what it saved before", () =>
    Effect.gen(function* () {
      const kept = new Map<string, string>()
      const dies = yield* Deferred.make<void>()
      let writing = false
      const store = KeyValueStore.makeStringOnly({
        get: (key) => Effect.sync(() => Option.fromNullable(kept.get(key))),
        set: (key, value) =>
          Effect.suspend(() => {
            kept.set(key, writing ? value.slice(0, 20) : value)
            return writing ? Deferred.await(dies) : Effect.void
          }),
        remove: () => Effect.void,
        clear: Effect.void,
        size: Effect.succeed(0)
      })
      const first = yield* connect({ state: ClientState.keyValueStore(store) })
      const job = yield* first.submit("forever", {})
      writing = true
      yield* first.dropTransport
      while (![...kept.values()].some((text) => text.length === 20)) yield* Effect.yieldNow()
      writing = false
      const second = yield* connect({ state: ClientState.keyValueStore(store) })
      assert.deepStrictEqual(
        (yield* second.restored).map(({ jobId }) => jobId),
        [job.jobId]
      )
      const again = yield* second.attach(job.jobId)
      yield* again.cancel()
      assert.strictEqual((yield* Effect.flip(again.result))._tag, "Cancelled")
      yield* Deferred.succeed(dies, undefined)
    }).pipe(Effect.provide(runtime(agentsForClients)))
  )
})

describe("ArcpClient with several handles on a job", () => {
  it.scoped("both handles of one idempotency key see the job to its end", () =>
    Effect.gen(function* () {
      const client = yield* connect()
      const first = yield* client.submit("forever", {}, { idempotencyKey: "k" })
      const second = yield* client.submit("forever", {}, { idempotencyKey: "k" })
      assert.strictEqual(second.jobId, first.jobId)
      yield* second.cancel()
      assert.strictEqual((yield* Effect.flip(first.result))._tag, "Cancelled")
      assert.strictEqual((yield* Effect.flip(second.result))._tag, "Cancelled")
    }).pipe(Effect.provide(runtime(agentsForClients)))
  )

  it.scoped("a history beside a live handle is refused, and leaving its scope ends a subscription", () =>
    Effect.gen(function* () {
      const client = yield* connect()
      const other = yield* connect()
      const job = yield* client.submit("forever", {})
      const again = yield* Effect.flip(client.subscribe(job.jobId, { history: true }))
      assert.strictEqual(again._tag, "InvalidRequest")
      const seen = yield* Effect.scoped(other.subscribe(job.jobId, { history: true }))
      assert.strictEqual(seen.subscribed.current_status, "running")
      const back = yield* other.subscribe(job.jobId, { history: true })
      yield* job.cancel()
      assert.deepStrictEqual(
        (yield* collect(back.events)).map((event) => event.kind),
        ["status"]
      )
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
  const welcomeOf = (sessionId: string, features: ReadonlyArray<string> = [], more = {}) =>
    frame("session.welcome", {
      session_id: sessionId,
      runtime: { name: "script", version: "1" },
      resume_token: "rt_1",
      resume_window_sec: 600,
      capabilities: { encodings: ["json"], features, agents: [] },
      ...more
    })
  const welcome = welcomeOf("sess_1")
  const take = (server: Connection) =>
    Effect.map(server.take, (frames) =>
      Chunk.toReadonlyArray(frames).map(
        (text) =>
          JSON.parse(text as string) as {
            id: string
            type: string
            payload: { resume?: unknown; last_processed_seq?: number; nonce?: string } & Record<
              string,
              unknown
            >
          }
      )
    )
  /** A client, and the runtime's end of its first connection. */
  const open = (first = welcome, options?: Partial<ArcpClient.Options>) =>
    Effect.gen(function* () {
      const connecting = yield* Effect.fork(Effect.provide(connect(options), dialer))
      const server = yield* servers.take
      yield* take(server)
      yield* server.send([first])
      return { client: yield* Fiber.join(connecting), server }
    })
  /** The runtime's end of the next connection, and the hello that came over it. */
  const reopened = Effect.gen(function* () {
    const server = yield* servers.take
    const [hello] = yield* take(server)
    return { server, hello }
  })
  const error = (code: string, retryable: boolean) =>
    frame("session.error", { code, message: "scripted", retryable })
  const accepted = (requestId: string | undefined, jobId = "job_1") =>
    frame(
      "job.accepted",
      { request_id: requestId, job_id: jobId, agent: "x@1", lease: {}, accepted_at: "" },
      { job_id: jobId }
    )
  const event = (seq: number, body: unknown = seq, kind = "log") =>
    frame("job.event", { kind, ts: "", body }, { job_id: "job_1", event_seq: seq })
  const result = (seq: number, more: Record<string, unknown> = { result: 7 }) =>
    frame(
      "job.result",
      { final_status: "success", completed_at: "", ...more },
      { job_id: "job_1", event_seq: seq }
    )
  const subscribed = (requestId: string | undefined, from: number) =>
    frame(
      "job.subscribed",
      {
        request_id: requestId,
        job_id: "job_1",
        current_status: "running",
        agent: "x@1",
        lease: {},
        parent_job_id: null,
        trace_id: `${"0".repeat(31)}1`,
        subscribed_from: from,
        replayed: true
      },
      { job_id: "job_1" }
    )
  /** Submits, and answers it. */
  const submitted = (
    client: ArcpClient.ArcpClientService,
    server: Connection,
    options?: ArcpClient.SubmitOptions
  ) =>
    Effect.gen(function* () {
      const submitting = yield* Effect.fork(client.submit("x", 1, options))
      const [submit] = yield* take(server)
      yield* server.send([accepted(submit?.id)])
      return yield* Fiber.join(submitting)
    })
  return {
    servers,
    dialer,
    frame,
    welcome,
    welcomeOf,
    take,
    open,
    reopened,
    error,
    accepted,
    subscribed,
    event,
    result,
    submitted
  }
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

  it.scoped("drops duplicates; asks once more for what is missing, then names the gap", () =>
    Effect.gen(function* () {
      const { open, reopened, welcome, submitted, event } = yield* scripted
      const { client, server } = yield* open()
      const job = yield* submitted(client, server)
      yield* server.send([1, 2, 2, 1, 3, 5].map((seq) => event(seq)))
      const second = yield* reopened
      assert.deepInclude(second.hello?.payload.resume, { last_event_seq: 3 })
      yield* second.server.send([welcome, event(4), event(6)])
      const third = yield* reopened
      yield* third.server.send([welcome, event(6)])
      const seen: Array<number> = []
      const error = yield* Effect.flip(
        Stream.runForEach(job.events, (e) => Effect.sync(() => seen.push(e.eventSeq)))
      )
      assert.deepStrictEqual(seen, [1, 2, 3, 4])
      assert.strictEqual(error._tag, "ProtocolViolation")
      assert.include(error.message, "event 6 came where 5 follows")
    })
  )

  it.scoped("without subscriptions, a lost session loses its handles, and later requests get a new one", () =>
    Effect.gen(function* () {
      const { open, reopened, error, welcomeOf, submitted } = yield* scripted
      const { client, server } = yield* open()
      const job = yield* submitted(client, server)
      yield* server.close(1000, "lost")
      const second = yield* reopened
      assert.isDefined(second.hello?.payload.resume)
      yield* second.server.send([error("RESUME_WINDOW_EXPIRED", false)])
      const third = yield* reopened
      assert.isUndefined(third.hello?.payload.resume)
      yield* third.server.send([welcomeOf("sess_2")])
      assert.strictEqual((yield* Effect.flip(job.result))._tag, "ResumeWindowExpired")
      assert.strictEqual((yield* submitted(client, third.server)).jobId, "job_1")
      assert.strictEqual((yield* client.resumeState).sessionId, "sess_2")
    })
  )

  it.scoped(
    "a lost session's job is found again by subscription, from where it was, and its key takes it over",
    () =>
      Effect.gen(function* () {
        const { open, reopened, error, welcomeOf, submitted, event, take, subscribed, accepted, result } =
          yield* scripted
        const { client, server } = yield* open(welcomeOf("sess_1", ["subscribe"]))
        const job = yield* submitted(client, server, { idempotencyKey: "k" })
        yield* server.send([event(1), event(2)])
        yield* server.close(1000, "lost")
        const second = yield* reopened
        yield* second.server.send([error("RESUME_WINDOW_EXPIRED", false)])
        const third = yield* reopened
        yield* third.server.send([welcomeOf("sess_2", ["subscribe"])])
        const [subscribe] = yield* take(third.server)
        assert.deepInclude(subscribe, { type: "job.subscribe" })
        assert.deepStrictEqual(subscribe?.payload, { job_id: "job_1", history: true, from_event_seq: 2 })
        yield* third.server.send([subscribed(subscribe?.id, 0), event(1, "new")])
        const [submit] = yield* take(third.server)
        assert.strictEqual(submit?.payload["idempotency_key"], "k")
        yield* third.server.send([accepted(submit?.id), result(2)])
        const events = yield* collect(job.events)
        assert.deepStrictEqual(
          events.map(({ kind, eventSeq }) => [kind, eventSeq]),
          [
            ["other", 1],
            ["other", 2],
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
      const { open, reopened, error, welcomeOf, event, take, subscribed, result } = yield* scripted
      const { client, server } = yield* open(welcomeOf("sess_1", ["subscribe"]))
      const subscribing = yield* Effect.fork(client.subscribe("job_1"))
      const [first] = yield* take(server)
      yield* server.send([subscribed(first?.id, 0), event(1)])
      const job = yield* Fiber.join(subscribing)
      yield* server.close(1000, "lost")
      const second = yield* reopened
      yield* second.server.send([error("RESUME_WINDOW_EXPIRED", false)])
      const third = yield* reopened
      yield* third.server.send([welcomeOf("sess_2", ["subscribe"])])
      const [again] = yield* take(third.server)
      assert.deepStrictEqual(again?.payload, { job_id: "job_1", history: false })
      yield* third.server.send([subscribed(again?.id, 0), event(1), result(2)])
      const events = yield* collect(job.events)
      assert.deepStrictEqual(
        events.map(({ kind }) => kind),
        ["other", "gap", "other"]
      )
      assert.deepInclude(events[1]?.body, { replayed: false })
    })
  )

  it.scoped("a runtime that cannot resume just now is asked again; one that refuses is not", () =>
    Effect.gen(function* () {
      const { open, reopened, error, welcome, submitted, result } = yield* scripted
      const { client, server } = yield* open()
      const job = yield* submitted(client, server)
      yield* server.close(1000, "lost")
      const second = yield* reopened
      yield* second.server.send([error("INTERNAL_ERROR", true)])
      const third = yield* reopened
      yield* third.server.send([welcome, result(1)])
      assert.strictEqual(yield* job.result, 7)
      const waiting = yield* submitted(client, third.server)
      yield* third.server.close(1000, "lost")
      const fourth = yield* reopened
      yield* fourth.server.send([error("UNAUTHENTICATED", false)])
      assert.strictEqual((yield* Effect.flip(waiting.result))._tag, "Unauthenticated")
      assert.strictEqual((yield* Effect.flip(client.ping))._tag, "Unauthenticated")
    })
  )

  it.scoped("a refusal that is repeated before the replay gets there is an answer, not a gap", () =>
    Effect.gen(function* () {
      const { open, reopened, welcome, take, event, frame } = yield* scripted
      const { client, server } = yield* open()
      const submitting = yield* Effect.fork(Effect.flip(client.submit("x", 1)))
      const [submit] = yield* take(server)
      yield* server.close(1000, "lost")
      const second = yield* reopened
      const refusal = frame(
        "job.error",
        {
          code: "AGENT_NOT_AVAILABLE",
          message: "no",
          retryable: false,
          details: { request_id: submit?.id },
          final_status: "error",
          completed_at: ""
        },
        { job_id: "job_2", event_seq: 3 }
      )
      yield* second.server.send([welcome, event(1), refusal, event(2), refusal, event(4)])
      assert.strictEqual((yield* Fiber.join(submitting))._tag, "AgentNotAvailable")
      const pinging = yield* Effect.fork(client.ping)
      yield* take(second.server)
      assert.strictEqual((yield* client.resumeState).lastEventSeq, 4)
      yield* Fiber.interrupt(pinging)
    })
  )

  it.scoped("a subscribe whose answer was lost gives the history once", () =>
    Effect.gen(function* () {
      const { open, reopened, welcome, take, event, subscribed, result } = yield* scripted
      const { client, server } = yield* open()
      const subscribing = yield* Effect.fork(client.subscribe("job_1", { history: true }))
      const [subscribe] = yield* take(server)
      yield* server.close(1000, "lost")
      const second = yield* reopened
      // Events 1 to 3 are of the first time, whose answer got lost; the last of them comes after the second's.
      yield* second.server.send([
        welcome,
        event(1, "a"),
        event(2, "b"),
        subscribed(subscribe?.id, 3),
        event(3, "c")
      ])
      yield* second.server.send([event(4, "a"), event(5, "b"), event(6, "c"), result(7)])
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
      const { open, welcomeOf, take, submitted, event } = yield* scripted
      const { client, server } = yield* open(welcomeOf("sess_1", ["ack"]), {
        ack: { events: 4, interval: "1 second" }
      })
      const job = yield* submitted(client, server)
      const seen = yield* Mailbox.make<number>()
      const gate = yield* Mailbox.make<void>()
      yield* job.events.pipe(
        Stream.runForEach(({ eventSeq }) => Effect.zipRight(seen.offer(eventSeq), gate.take)),
        Effect.fork
      )
      yield* server.send([event(1)])
      assert.strictEqual(yield* seen.take, 1)
      // Nine more have come, the first is still being worked on: nothing may be acknowledged.
      yield* server.send([2, 3, 4, 5, 6, 7, 8, 9, 10].map((seq) => event(seq)))
      const pinging = yield* Effect.fork(client.ping)
      assert.deepStrictEqual(
        (yield* take(server)).map(({ type }) => type),
        ["session.ping"]
      )
      yield* Fiber.interrupt(pinging)
      yield* gate.offer(undefined)
      yield* seen.take
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(
        (yield* take(server)).map(({ payload }) => payload.last_processed_seq),
        [1]
      )
    })
  )

  it.scoped("only the result awaited: acknowledges what came", () =>
    Effect.gen(function* () {
      const { open, welcomeOf, take, submitted, event } = yield* scripted
      const { client, server } = yield* open(welcomeOf("sess_1", ["ack"]), { ack: { events: 4 } })
      const job = yield* submitted(client, server)
      yield* Effect.fork(job.result)
      yield* Effect.yieldNow()
      yield* server.send([1, 2, 3, 4].map((seq) => event(seq)))
      const [ack] = yield* take(server)
      assert.strictEqual(ack?.payload.last_processed_seq, 4)
    })
  )

  it.scoped("a result that is not what it says fails, and only that", () =>
    Effect.gen(function* () {
      const { open, take, submitted, event, result } = yield* scripted
      const { client, server } = yield* open()
      const chunk = (seq: number, data: string, more: Record<string, unknown> = {}) =>
        event(
          seq,
          { result_id: "r", chunk_seq: 0, data, encoding: "base64", more: false, ...more },
          "result_chunk"
        )
      const refused: ReadonlyArray<[string, ReadonlyArray<string>]> = [
        ["not base64", [chunk(1, "%%"), result(2, { result_id: "r" })]],
        ["has 3 bytes, not 4", [chunk(3, "YWJj"), result(4, { result_id: "r", result_size: 4 })]],
        ["out of order", [chunk(5, "YWJj", { chunk_seq: 1 }), result(6, { result_id: "r" })]],
        ["bad result_chunk", [chunk(7, "YWJj", { more: 1 }), result(8, { result_id: "r" })]]
      ]
      for (const [message, frames] of refused) {
        const job = yield* submitted(client, server)
        yield* server.send(frames)
        const error = yield* Effect.flip(job.result)
        assert.strictEqual(error._tag, "ProtocolViolation")
        assert.include(error.message, message)
      }
      yield* Effect.fork(client.ping)
      assert.strictEqual((yield* take(server))[0]?.type, "session.ping")
    })
  )

  it.scoped("keeps nothing of a job whose handle is no longer used", () =>
    Effect.gen(function* () {
      const { open, submitted, event, take, frame } = yield* scripted
      const { client, server } = yield* open()
      const cell = yield* Effect.scoped(
        Effect.gen(function* () {
          const job = yield* submitted(client, server)
          yield* server.send([event(1), frame("session.ping", { nonce: "n", sent_at: "" })])
          yield* take(server)
          return new WeakRef(job.progress)
        })
      )
      assert.isTrue(yield* isCollected(cell))
    })
  )

  it.scoped("gives a silent connection up after two intervals, and resumes", () =>
    Effect.gen(function* () {
      const { open, reopened, welcomeOf, take } = yield* scripted
      const { server } = yield* open(welcomeOf("sess_1", ["heartbeat"], { heartbeat_interval_sec: 10 }))
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* take(server))[0]?.type, "session.ping")
      yield* TestClock.adjust("10 seconds")
      const closed = yield* Effect.flip(server.take)
      assert.strictEqual(closed.code, 4002)
      assert.isDefined((yield* reopened).hello?.payload.resume)
    })
  )

  it.scoped("close says so to the runtime, ends handles, and does not come back", () =>
    Effect.gen(function* () {
      const { open, servers, submitted, take } = yield* scripted
      const { client, server } = yield* open()
      const job = yield* submitted(client, server)
      yield* client.close
      assert.strictEqual((yield* take(server))[0]?.type, "session.close")
      assert.strictEqual((yield* Effect.flip(server.take)).code, 1000)
      assert.strictEqual((yield* Effect.flip(job.result))._tag, "TransportError")
      assert.strictEqual((yield* Effect.flip(client.ping))._tag, "TransportError")
      assert.deepStrictEqual(yield* client.status.get, { _tag: "Closed", error: undefined })
      assert.deepStrictEqual(yield* servers.size, Option.some(0))
    })
  )
})
