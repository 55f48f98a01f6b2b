// A result of 64 MiB, streamed by the agent, over a WebSocket, into a file: neither side ever holds more than a
// few pieces of it.
//
//   npm run example result-to-file

import { createHash } from "node:crypto"
import { createReadStream } from "node:fs"
import { pipeline } from "node:stream/promises"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { FileSystem } from "@effect/platform"
import { NodeFileSystem } from "@effect/platform-node"
import { Context, Effect, Fiber, Layer, Redacted, Schedule, Stream } from "effect"
import { Agent, ArcpClient, Auth, Job, Registry, Runtime, Transport } from "effect-arcp"
import { DialerWebSocket, RuntimeSqlite, TransportWebSocket } from "effect-arcp/node"

const MiB = 1024 * 1024
const size = 64 * MiB

// Streams bytes as it makes them. Each piece is in the log before the next is asked for.
const dump = Agent.handle(Agent.make("dump", { version: "1.0.0" }), () =>
  Effect.gen(function* () {
    const job = yield* Job.Job
    const hash = createHash("sha256")
    const pieces = Stream.range(1, size / 32_768).pipe(
      Stream.rechunk(1),
      Stream.map((n) => Buffer.alloc(32_768, `${n} `)),
      Stream.tap((piece) => Effect.sync(() => hash.update(piece)))
    )
    yield* job.streamResult(pieces, "base64")
    const sha256 = hash.digest("hex")
    yield* job.artifact({ uri: "result:", content_type: "text/plain", byte_size: size, sha256 })
  })
)

setFlagsFromString("--expose-gc")
const gc = runInNewContext("gc")
/** What is in use, in MiB; without what only waits to be collected. */
const inUse = () => {
  gc()
  const { external, heapUsed } = process.memoryUsage()
  return (heapUsed + external) / MiB
}

const program = Effect.gen(function* () {
  const files = yield* FileSystem.FileSystem
  const directory = yield* files.makeTempDirectoryScoped()

  // The server, on a free port, with its log in a file.
  const server = Runtime.serve().pipe(
    Layer.provideMerge(TransportWebSocket.layer({ port: 0 })),
    Layer.provide(RuntimeSqlite.layer({ filename: `${directory}/arcp.db` })),
    Layer.provide(Registry.layer([dump])),
    Layer.provide(Auth.layerStatic({ secret: "me" }))
  )
  const { address } = yield* Effect.map(Layer.build(server), (context) =>
    Context.get(context, Transport.TransportServer)
  )

  const client = yield* ArcpClient.make({ token: Redacted.make("secret") }).pipe(
    Effect.provide(DialerWebSocket.layer({ url: address }))
  )
  const before = inUse()
  let most = before
  yield* Effect.sync(() => {
    most = Math.max(most, inUse())
  }).pipe(Effect.repeat(Schedule.spaced("250 millis")), Effect.forkScoped)

  const job = yield* client.submit("dump", {})
  // The agent says at the end what it has sent.
  const digest = yield* job.events.pipe(
    Stream.filter((event) => event.kind === "artifact_ref"),
    Stream.runHead,
    Effect.fork
  )
  const file = yield* job.resultAsFile(`${directory}/dump.txt`)

  const hash = createHash("sha256")
  yield* Effect.promise(() => pipeline(createReadStream(file.path), hash))
  const sent = yield* Effect.flatten(Fiber.join(digest))
  const sha256 = hash.digest("hex")
  console.log(`${file.size / MiB} MiB in ${file.path}`)
  console.log(`sha256 of the file   ${sha256}`)
  console.log(`sha256 by the agent  ${sent.body.sha256}`)
  console.log(
    `memory: ${before.toFixed()} MiB before, never more than ${most.toFixed()} MiB (server included)`
  )
  if (sha256 !== sent.body.sha256) process.exitCode = 1
})

await Effect.runPromise(Effect.scoped(program).pipe(Effect.provide(NodeFileSystem.layer)))
