// A job counts to 1000 while everything goes wrong: the connection is cut again and again, and half way the client's
// process is killed and started anew. Every number arrives once.
//
//   npm run example reconnect

import { fork } from "node:child_process"
import { once } from "node:events"
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { KeyValueStore } from "@effect/platform"
import { NodeKeyValueStore } from "@effect/platform-node"
import { Context, Effect, Layer, Redacted, Schema, Stream } from "effect"
import { Agent, ArcpClient, Auth, ClientState, Job, Registry, Runtime, Transport } from "effect-arcp"
import { DialerWebSocket, TransportWebSocket } from "effect-arcp/node"

const Count = Agent.make("count", { version: "1.0.0", input: Schema.Int, output: Schema.Int })

/** What the client has done so far, a line for each number: `event_seq number`. Its own durable state. */
const linesOf = (directory: string) => {
  const path = join(directory, "numbers.txt")
  return existsSync(path) ? readFileSync(path, "utf8").trim().split("\n") : []
}

// The client, in a process of its own. It can be killed at any moment.
const client = (url: string, directory: string) =>
  Effect.gen(function* () {
    const client = yield* ArcpClient.make({
      token: Redacted.make("secret"),
      // Where the session is kept: the next process goes on with it.
      state: ClientState.keyValueStore(yield* KeyValueStore.KeyValueStore)
    })
    const [known] = yield* client.restored
    const job =
      known === undefined
        ? yield* client.submit(Count, 1000)
        : yield* client.attach(known.jobId, { contract: Count })
    console.log(
      known === undefined ? "a new process submits the job" : `another process attaches to ${known.jobId}`
    )

    // A process that is killed may have written a number without telling the session; `eventSeq` says which.
    const written = Number(linesOf(directory).at(-1)?.split(" ")[0] ?? 0)
    yield* job.events.pipe(
      Stream.filter((event) => event.eventSeq > written),
      Stream.runForEach((event) =>
        Effect.gen(function* () {
          if (event.kind !== "progress") return
          const { current } = event.body
          appendFileSync(join(directory, "numbers.txt"), `${event.eventSeq} ${current}\n`)
          process.send?.(current)
          if (current % 100 === 0) {
            console.log(`at ${current}: the connection is cut`)
            yield* client.dropTransport
          }
        })
      )
    )
    console.log(`result: ${yield* job.result}`)
  }).pipe(
    Effect.scoped,
    Effect.provide([
      DialerWebSocket.layer({ url }),
      NodeKeyValueStore.layerFileSystem(join(directory, "session"))
    ])
  )

// The server, which stays; and what happens to its client.
const count = Agent.handle(Count, (to) =>
  Effect.gen(function* () {
    const job = yield* Job.Job
    for (let current = 1; current <= to; current++) {
      yield* job.progress({ current, total: to })
      if (current % 10 === 0) yield* Effect.sleep("10 millis")
    }
    return to
  })
)

const server = Runtime.serve().pipe(
  Layer.provideMerge(TransportWebSocket.layer({ port: 0 })),
  Layer.provide(Runtime.layerMemory()),
  Layer.provide(Registry.layer([count])),
  Layer.provide(Auth.layerStatic({ secret: "me" }))
)

/** Runs the client's process; with `killAt` only until it has got to that number. */
const run = (url: string, directory: string, killAt?: number) =>
  Effect.promise(async () => {
    const child = fork(fileURLToPath(import.meta.url), [url, directory])
    child.on("message", (number) => number === killAt && child.kill("SIGKILL"))
    const [code, signal] = await once(child, "exit")
    console.log(
      signal === null ? `the client exits with ${code}` : `past ${killAt}: the client is killed (${signal})`
    )
  })

const main = Effect.gen(function* () {
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "arcp-reconnect-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true }))
  )
  const { address } = Context.get(yield* Layer.build(server), Transport.TransportServer)
  yield* run(address, directory, 550)
  yield* run(address, directory)

  const numbers = linesOf(directory).map((line) => Number(line.split(" ")[1]))
  const missing = 1000 - new Set(numbers).size
  console.log(
    `numbers: ${numbers.length}, missing: ${missing}, twice: ${numbers.length - new Set(numbers).size}`
  )
  if (!numbers.every((number, i) => number === i + 1) || numbers.length !== 1000) process.exitCode = 1
})

const [url, directory] = process.argv.slice(2)
if (url === undefined || directory === undefined) await Effect.runPromise(Effect.scoped(main))
else await Effect.runPromise(client(url, directory))
