import { createHash } from "node:crypto"
import { createReadStream, mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { pipeline } from "node:stream/promises"
import type { FileSystem } from "@effect/platform/FileSystem"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Registry from "../../src/layers/agents/Registry.js"
import * as Auth from "../../src/layers/auth/Auth.js"
import * as ArcpClient from "../../src/layers/client/ArcpClient.js"
import * as Runtime from "../../src/layers/runtime/Runtime.js"
import * as RuntimeSqlite from "../../src/layers/runtime/RuntimeSqlite.js"
import * as DialerWebSocket from "../../src/layers/transport/DialerWebSocket.js"
import * as TransportWebSocket from "../../src/layers/transport/TransportWebSocket.js"
import { TransportServer } from "../../src/services/transport/Transport.js"
import { gc } from "../support/collected.js"
import { verifies } from "./requirements.js"
import { CuttingProxy } from "./support/CuttingProxy.js"
import { Blob, floodAgents, Numbers } from "./support/flood-agents.js"
import { seeded } from "./support/random.js"

const MiB = 1024 * 1024
const seed = Number(process.env["ARCP_SEED"] ?? 20_260_131)

/** What the runtime may keep of recent events, and what each stream of the client may hold. */
const tailBytes = 4 * MiB
const held = { events: 400, bytes: MiB / 4 }
/** Eleven of them for each store: 66 MiB. */
const resultBytes = 3 * MiB
/** For each store. */
const cuts = 120
/**
 * How much more than at the start may be in use at any moment. Four results are put together in memory, each in
 * pieces and, for a moment, as one; the rest is what is on its way. The in-memory store keeps every event besides, and
 * its text is base64.
 */
const boundMiB = { sqlite: 80, memory: 80 + 60 }
/** And how much when all jobs are read: nothing of the results but the tail. */
const leftMiB = { sqlite: 24, memory: 24 + 60 }

const inUse = () => {
  // Buffers go with the second one.
  gc()
  gc()
  const { external, heapUsed } = process.memoryUsage()
  return (heapUsed + external) / MiB
}

const stores = {
  memory: () =>
    Runtime.layerMemory({
      options: {
        // The in-memory log keeps a sixteenth of it.
        maxRetainedBytes: 4096 * MiB,
        maxRetainedEvents: 16_000_000,
        tailBytes,
        backPressureLag: 1_000_000
      }
    }),
  sqlite: (directory: string) =>
    RuntimeSqlite.layer(
      { filename: join(directory, "arcp.db"), synchronous: "NORMAL" },
      { options: { tailBytes, backPressureLag: 1_000_000 } }
    )
}

describe("a client whose connection is cut again and again", () => {
  it.scopedLive.each(["memory", "sqlite"] as const)(
    `loses nothing, repeats nothing, and holds little: %s, ARCP_SEED=${seed}`,
    (store) =>
      Effect.gen(function* () {
        verifies("drop-exactly-once", "resume-replay", "resume-rotation")
        const directory = yield* Effect.acquireRelease(
          Effect.sync(() => mkdtempSync(join(tmpdir(), "arcp-drops-"))),
          (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
        )
        const books = floodAgents()
        const server = yield* Layer.build(
          Runtime.serve().pipe(
            Layer.provideMerge(TransportWebSocket.layer({ port: 0 })),
            Layer.provide(stores[store](directory)),
            Layer.provide(Registry.layer(books.agents)),
            Layer.provide(Auth.layerStatic({ secret: "me" }))
          )
        )
        const { address } = Context.get(server, TransportServer)
        const random = seeded(seed)
        const proxy = yield* Effect.acquireRelease(
          Effect.promise(() =>
            CuttingProxy.start({
              port: Number(new URL(address).port),
              random,
              cuts,
              maxBytes: MiB,
              maxMs: 30
            })
          ),
          (proxy) => Effect.promise(() => proxy.stop())
        )
        const connect = ArcpClient.make({
          token: Redacted.make("secret"),
          held,
          reconnect: Schedule.spaced("2 millis"),
          ack: { events: 100, interval: "20 millis" }
        }).pipe(
          Effect.provide(DialerWebSocket.layer({ url: proxy.url })),
          // The first connection of a session has nothing to come back to yet.
          Effect.retry(Schedule.spaced("2 millis"))
        )

        const before = inUse()
        let most = before
        yield* Effect.sync(() => {
          most = Math.max(most, inUse())
        }).pipe(Effect.repeat(Schedule.spaced("1 second")), Effect.forkScoped)

        const client = yield* connect
        const watcher = yield* connect
        const numbers = (name: string, to: number, burst: number) =>
          client.submit(Numbers, { name, to, burst })
        const blob = (name: string, encoding: "utf8" | "base64" = "base64") =>
          client.submit(Blob, { name, seed: random.below(1e9), bytes: resultBytes, encoding })

        /** Reads to the end: the numbers must come as they are counted. `pause` is run now and then. */
        const inOrder = (
          name: string,
          events: Stream.Stream<ArcpClient.JobEvent, ArcpClient.ClientError>,
          to: number,
          pause: Effect.Effect<void> = Effect.void
        ) =>
          Effect.gen(function* () {
            let next = 1
            yield* Stream.runForEach(events, (event) => {
              if (event.kind === "gap") assert.fail(`${name}: ${event.body.message}`)
              if (event.kind !== "log") return Effect.void
              assert.strictEqual(event.body.message, `${next}`, name)
              return next++ % 20 === 0 ? pause : Effect.void
            })
            assert.strictEqual(next - 1, to, name)
          })
        const isWhole = (name: string, digest: string) =>
          assert.strictEqual(digest, books.digests.get(name), name)
        const sha256 = () => createHash("sha256")

        const fast = (name: string) =>
          Effect.gen(function* () {
            const job = yield* numbers(name, 2_000, 50)
            yield* inOrder(name, job.events, 2_000)
            assert.strictEqual(yield* job.result, 2_000)
          })
        const slow = (name: string) =>
          Effect.gen(function* () {
            const job = yield* numbers(name, 1_000, 100)
            yield* inOrder(name, job.events, 1_000, Effect.sleep("20 millis"))
            assert.strictEqual(yield* job.result, 1_000)
          })
        const late = (name: string) =>
          Effect.gen(function* () {
            const job = yield* numbers(name, 3_000, 200)
            assert.strictEqual(yield* job.result, 3_000)
            yield* inOrder(name, job.events, 3_000)
          })
        const watched = (name: string) =>
          Effect.gen(function* () {
            const job = yield* numbers(name, 2_000, 25)
            const seen = yield* watcher.subscribe(job.jobId, { contract: Numbers, history: true })
            yield* Effect.all([inOrder(name, job.events, 2_000), inOrder(name, seen.events, 2_000)], {
              concurrency: 2
            })
            assert.strictEqual(yield* seen.result, 2_000)
          })
        const toFile = (name: string) =>
          Effect.gen(function* () {
            const job = yield* blob(name)
            const path = join(directory, name)
            const { size } = yield* job.resultAsFile(path)
            assert.strictEqual(size, books.sizes.get(name))
            const hash = sha256()
            yield* Effect.promise(() => pipeline(createReadStream(path), hash))
            isWhole(name, hash.digest("hex"))
          })
        const byChunks = (name: string, pause: Effect.Effect<void> = Effect.void) =>
          Effect.gen(function* () {
            const job = yield* blob(name, "utf8")
            const hash = sha256()
            yield* Stream.runForEach(job.chunks, (bytes) => {
              hash.update(bytes)
              return pause
            })
            isWhole(name, hash.digest("hex"))
          })
        const atOnce = (name: string, encoding: "utf8" | "base64") =>
          Effect.gen(function* () {
            const job = yield* blob(name, encoding)
            const hash = sha256()
            hash.update((yield* job.result) as string | Uint8Array)
            isWhole(name, hash.digest("hex"))
          })

        const several = (
          count: number,
          name: string,
          run: (name: string) => Effect.Effect<void, unknown, Scope.Scope | FileSystem>
        ) => Array.from({ length: count }, (_, i) => Effect.scoped(run(`${name}-${i}`)))
        const work = [
          ...several(3, "fast", fast),
          ...several(2, "slow", slow),
          ...several(2, "late", late),
          ...several(2, "watched", watched),
          ...several(4, "file", toFile),
          ...several(2, "chunks", byChunks),
          ...several(1, "slow-chunks", (name) => byChunks(name, Effect.sleep("5 millis"))),
          ...several(3, "bytes", (name) => atOnce(name, "base64")),
          ...several(1, "text", (name) => atOnce(name, "utf8"))
        ]
        yield* Effect.all(work, { concurrency: "unbounded", discard: true })

        // No job was lost, and none was started twice.
        const started = [...books.runs.values()]
        assert.deepStrictEqual(
          started,
          work.map(() => 1)
        )
        const after = inUse()
        const report =
          `${store}: ${JSON.stringify(proxy.cut)}; in use: ${before.toFixed()} MiB before, ` +
          `${most.toFixed()} at most, ${after.toFixed()} after`
        yield* Effect.log(report)
        assert.isAtLeast(proxy.cut.total, cuts)
        assert.isAbove(proxy.cut.inHandshake, 0)
        assert.isAtMost(most - before, boundMiB[store], report)
        assert.isAtMost(after - before, leftMiB[store], report)
      }).pipe(Effect.provide(NodeFileSystem.layer)),
    240_000
  )
})
