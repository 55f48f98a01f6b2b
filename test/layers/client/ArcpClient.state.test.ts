/** A client process that ends and another one that goes on; a result in a file; what is only interesting as it is now. */
import { execFileSync } from "node:child_process"
import { createServer, type Server } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as FileSystem from "@effect/platform/FileSystem"
import * as KeyValueStore from "@effect/platform/KeyValueStore"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import * as Chunk from "effect/Chunk"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import * as ClientState from "../../../src/layers/client/ClientState.js"
import { agentsForClients, Count } from "../../support/agents.js"
import { runtime } from "../../support/Wire.js"

const collect = <A, E>(stream: Stream.Stream<A, E>) =>
  Effect.map(Stream.runCollect(stream), Chunk.toReadonlyArray)
const numbers = (events: ReadonlyArray<ArcpClient.JobEvent>) =>
  events.flatMap((event) => (event.kind === "log" ? [Number(event.body.message)] : []))
const upTo = (n: number) => Array.from({ length: n }, (_, i) => i + 1)

/** A client of its own, which ends, as a process does, without saying goodbye when `crash` is called. */
const start = (store?: KeyValueStore.KeyValueStore, options: Partial<ArcpClient.Options> = {}) =>
  Effect.gen(function* () {
    const scope = yield* Scope.make()
    const client = yield* ArcpClient.make({
      token: Redacted.make("alice"),
      reconnect: Schedule.recurs(20),
      ...(store === undefined ? {} : { state: ClientState.keyValueStore(store) }),
      ...options
    }).pipe(Effect.provideService(Scope.Scope, scope))
    return { client, scope, end: Scope.close(scope, Exit.void) }
  })
const memory = Effect.provide(KeyValueStore.KeyValueStore, KeyValueStore.layerMemory)

describe("a session whose state is kept", () => {
  it.scoped("goes on in the next process where the first one stopped reading", () =>
    Effect.gen(function* () {
      const store = yield* memory
      const first = yield* start(store)
      const read = yield* Effect.provideService(
        first.client.submit(Count, { to: 50 }),
        Scope.Scope,
        first.scope
      )
      const unread = yield* Effect.provideService(
        first.client.submit(Count, { to: 20 }, { idempotencyKey: "k" }),
        Scope.Scope,
        first.scope
      )
      const before = yield* collect(Stream.take(read.events, 31))
      // What the first process keeps of itself just before it dies.
      const kept = yield* first.client.close.pipe(Effect.zipRight(store.get("arcp")))
      yield* first.end
      yield* store.set("arcp", Option.getOrThrow(kept))

      const second = yield* start(store)
      assert.deepStrictEqual(
        (yield* second.client.restored).map(({ jobId, idempotencyKey }) => [jobId, idempotencyKey]),
        [
          [read.jobId, undefined],
          [unread.jobId, "k"]
        ]
      )
      const again = yield* second.client.attach(read.jobId, { contract: Count })
      const after = yield* collect(again.events)
      // The last event that was handed over may not have been worked on: it comes again.
      assert.deepStrictEqual(numbers(before), upTo(30))
      assert.deepStrictEqual(numbers(after), upTo(50).slice(29))
      const result: number = yield* again.result
      assert.strictEqual(result, 50)
      // The same key finds the job of the first process.
      const keyed = yield* second.client.submit(Count, { to: 20 }, { idempotencyKey: "k" })
      assert.strictEqual(keyed.jobId, unread.jobId)
      assert.deepStrictEqual(numbers(yield* collect(keyed.events)), upTo(20))
      assert.deepStrictEqual(yield* second.client.restored, [])
      assert.strictEqual((yield* Effect.flip(second.client.attach(read.jobId)))._tag, "JobNotFound")
      yield* second.end
    }).pipe(Effect.provide(runtime(agentsForClients)))
  )

  it.scoped("keeps a job once, however many handles it had, from where the slowest was", () =>
    Effect.gen(function* () {
      const store = yield* memory
      const first = yield* start(store)
      const reading = (count: number) =>
        Effect.scoped(
          Effect.flatMap(first.client.submit(Count, { to: 20 }, { idempotencyKey: "k" }), ({ events }) =>
            Stream.runDrain(Stream.take(events, count))
          )
        )
      yield* Effect.all([reading(2), reading(12)], { concurrency: 2 })
      yield* first.end
      const second = yield* start(store)
      const [job, ...others] = yield* second.client.restored
      assert.deepStrictEqual(others, [])
      const again = yield* second.client.attach(job?.jobId ?? "", { contract: Count })
      const [next] = numbers(yield* collect(again.events))
      assert.isAtMost(next ?? Infinity, 2)
      yield* second.end
    }).pipe(Effect.provide(runtime(agentsForClients)))
  )

  it.scoped("keeps what a process that ended in order has not read", () =>
    Effect.gen(function* () {
      const store = yield* memory
      const state = {
        token: Redacted.make("alice"),
        reconnect: Schedule.recurs(20),
        state: ClientState.keyValueStore(store)
      }
      const jobId = yield* Effect.scoped(
        Effect.gen(function* () {
          const client = yield* ArcpClient.make(state)
          const job = yield* client.submit(Count, { to: 9 })
          yield* collect(Stream.take(job.events, 5))
          const read = yield* client.submit(Count, { to: 1 })
          yield* read.result
          return job.jobId
        })
      )
      const client = yield* ArcpClient.make(state)
      assert.deepStrictEqual(
        (yield* client.restored).map((job) => job.jobId),
        [jobId]
      )
      const job = yield* client.attach(jobId)
      assert.deepStrictEqual(numbers(yield* collect(job.events)), [4, 5, 6, 7, 8, 9])
    }).pipe(Effect.provide(runtime(agentsForClients)))
  )

  it.scoped("reads a streamed result from its start, and forgets a session that is gone", () =>
    Effect.gen(function* () {
      const store = yield* memory
      const first = yield* start(store)
      const job = yield* Effect.provideService(
        first.client.submit("stream", { encoding: "utf8", parts: ["ab", "cd", "ef"] }),
        Scope.Scope,
        first.scope
      )
      yield* collect(Stream.take(job.chunks, 1))
      yield* first.client.close
      const kept = Option.getOrThrow(yield* store.get("arcp"))
      yield* first.end
      yield* store.set("arcp", kept)
      const second = yield* start(store)
      assert.strictEqual(yield* (yield* second.client.attach(job.jobId)).result, "abcdef")
      yield* second.end
      const state = JSON.parse(kept) as { sessionId: string }
      yield* store.set("arcp", JSON.stringify({ ...state, sessionId: "sess_unknown" }))
      const third = yield* start(store)
      assert.notStrictEqual((yield* third.client.resumeState).sessionId, "sess_unknown")
      yield* third.end
      yield* store.set("arcp", "not JSON")
      yield* (yield* start(store)).end
    }).pipe(Effect.provide(runtime(agentsForClients)))
  )
})

describe("a handle", () => {
  it.scoped("has the newest progress and budget", () =>
    Effect.gen(function* () {
      const { client } = yield* start()
      const job = yield* client.submit("spender", {}, { leaseRequest: { "cost.budget": ["USD:5"] } })
      assert.deepStrictEqual(job.lease, { "cost.budget": ["USD:5"] })
      const progress = yield* collect(job.progress.changes)
      assert.deepStrictEqual(progress[progress.length - 1], { current: 2, total: 2 })
      const budgets = yield* collect(job.budget.changes)
      assert.deepStrictEqual([...(budgets[budgets.length - 1] ?? [])], [["USD", 2]])
      assert.deepStrictEqual([...(yield* job.budget.get)], [["USD", 2]])
      assert.strictEqual(yield* job.result, "done")
    }).pipe(Effect.provide(runtime(agentsForClients)))
  )

  it.scoped("writes a result to a file, whole or not at all", () =>
    Effect.gen(function* () {
      const files = yield* FileSystem.FileSystem
      const folder = yield* files.makeTempDirectoryScoped({ directory: tmpdir() })
      const { client } = yield* start()
      const path = join(folder, "result")
      // Where one who knows the name of what is not yet whole would lead it.
      yield* files.writeFileString(join(folder, "victim"), "as it was")
      yield* files.symlink(join(folder, "victim"), `${path}.partial`)
      const job = yield* client.submit("stream", { encoding: "utf8", parts: ["ab", "çd"] })
      assert.deepStrictEqual(yield* job.resultAsFile(path), { path, size: 5, summary: undefined })
      assert.strictEqual(yield* files.readFileString(path), "abçd")
      const failing = yield* client.submit("picky", "no")
      assert.strictEqual(
        (yield* Effect.flip(failing.resultAsFile(join(folder, "none"))))._tag,
        "InternalError"
      )
      assert.strictEqual(yield* files.readFileString(join(folder, "victim")), "as it was")
      assert.deepStrictEqual((yield* files.readDirectory(folder)).sort(), [
        "result",
        "result.partial",
        "victim"
      ])
    }).pipe(Effect.provide([runtime(agentsForClients), NodeFileSystem.layer]))
  )
})

describe("the file of a result", () => {
  it.scoped.each(["n".repeat(255), "名".repeat(85), `${"n".repeat(49)}${"😀".repeat(51)}`])(
    "may have a name as long as names can be",
    (name) =>
      Effect.gen(function* () {
        const files = yield* FileSystem.FileSystem
        const folder = yield* files.makeTempDirectoryScoped({ directory: tmpdir() })
        const { client } = yield* start()
        const job = yield* client.submit("stream", { encoding: "utf8", parts: ["ab", "c"] })
        assert.strictEqual((yield* job.resultAsFile(join(folder, name))).size, 3)
        assert.deepStrictEqual(yield* files.readDirectory(folder), [name])
      }).pipe(Effect.provide([runtime(agentsForClients), NodeFileSystem.layer]))
  )

  it.scoped(
    "replaces a file or a link to one, and nothing else; what stands in the way is said before the transfer",
    () =>
      Effect.gen(function* () {
        const files = yield* FileSystem.FileSystem
        const folder = yield* files.makeTempDirectoryScoped({ directory: tmpdir() })
        const at = (name: string) => join(folder, name)
        const { client } = yield* start()
        const job = yield* client.submit("stream", { encoding: "utf8", parts: ["ab", "c"] })
        execFileSync("mkfifo", [at("pipe")])
        yield* Effect.acquireRelease(
          Effect.async<Server>((resume) => {
            const server = createServer().listen(at("socket"), () => resume(Effect.succeed(server)))
          }),
          (server) => Effect.sync(() => server.close())
        )
        yield* files.makeDirectory(at("folder"))
        for (const name of ["pipe", "folder"]) yield* files.symlink(at(name), at(`link to a ${name}`))
        const there = (yield* files.readDirectory(folder)).sort()
        for (const [name, type] of [
          ["pipe", "FIFO"],
          ["link to a pipe", "FIFO"],
          ["socket", "Socket"],
          ["folder", "Directory"],
          ["link to a folder", "Directory"]
        ] as const) {
          const error = yield* Effect.flip(job.resultAsFile(at(name)))
          assert.deepInclude(error, { _tag: "InvalidRequest", message: `${at(name)} is no file: ${type}` })
        }
        const missing = yield* Effect.flip(job.resultAsFile(at("no folder/result")))
        assert.deepInclude(missing, { _tag: "SystemError", reason: "NotFound" })
        assert.deepStrictEqual((yield* files.readDirectory(folder)).sort(), there)
        const endless = yield* Effect.flip(job.resultAsFile(at("n".repeat(256))))
        assert.strictEqual(endless._tag, "SystemError")
        assert.deepStrictEqual((yield* files.readDirectory(folder)).sort(), there)
        // Nothing was taken of the result.
        yield* files.writeFileString(at("victim"), "as it was")
        yield* files.symlink(at("victim"), at("link"))
        assert.strictEqual((yield* job.resultAsFile(at("link"))).size, 3)
        assert.strictEqual(yield* files.readFileString(at("link")), "abc")
        assert.strictEqual(yield* files.readFileString(at("victim")), "as it was")
      }).pipe(Effect.provide([runtime(agentsForClients), NodeFileSystem.layer]))
  )
})

describe("retrySchedule", () => {
  it.effect("retries what may be retried, and nothing else", () =>
    Effect.gen(function* () {
      const { client } = yield* start()
      let tries = 0
      const refused = client.submit("nobody", {}, { idempotencyKey: "k" }).pipe(
        Effect.tapError(() => Effect.sync(() => tries++)),
        Effect.retry(ArcpClient.retrySchedule)
      )
      assert.strictEqual((yield* Effect.flip(refused))._tag, "AgentNotAvailable")
      assert.strictEqual(tries, 1)
    }).pipe(Effect.scoped, Effect.provide(runtime(agentsForClients)))
  )
})
