import * as FileSystem from "@effect/platform/FileSystem"
import * as KeyValueStore from "@effect/platform/KeyValueStore"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import * as ClientState from "../../../src/layers/client/ClientState.js"
import { agentsForClients, Count, Picky } from "../../support/agents.js"
import { runtime } from "../../support/Wire.js"

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

describe("ArcpClient without types", () => {
  it.scoped.each([null, undefined, 3, {}, []])("refuses %j as an agent, by name", (agent) =>
    Effect.gen(function* () {
      const client = yield* connect()
      const error = yield* Effect.flip(client.submit(agent as unknown as string, {}))
      assert.deepStrictEqual([error._tag, error.message], ["InvalidRequest", "agent: name or contract"])
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
      const life = yield* Scope.make()
      const first = yield* Scope.extend(connect({ state: ClientState.keyValueStore(store) }), life)
      const job = yield* first.submit("forever", {})
      writing = true
      yield* first.dropTransport
      while (![...kept.values()].some((text) => text.length === 20)) yield* Effect.yieldNow()
      // What there is when it dies, and its owner dead.
      const left = [...kept].filter(([key]) => !key.endsWith(".owner"))
      writing = false
      yield* Deferred.succeed(dies, undefined)
      yield* Scope.close(life, Exit.void)
      kept.clear()
      for (const [key, value] of left) kept.set(key, value)
      const second = yield* connect({ state: ClientState.keyValueStore(store) })
      assert.deepStrictEqual(
        (yield* second.restored).map(({ jobId }) => jobId),
        [job.jobId]
      )
      const again = yield* second.attach(job.jobId)
      yield* again.cancel()
      assert.strictEqual((yield* Effect.flip(again.result))._tag, "Cancelled")
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
