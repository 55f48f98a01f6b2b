// The client against a running server, on whatever runs this file: Node, Bun or Deno.
//
//   node client.mjs URL TOKEN FOLDER
//
// FOLDER is the server's workspace: `inside` is a file there, and `link` leads to one outside. Prints a line for each try. Resolves `effect-arcp` from where this file is.
import assert from "node:assert/strict"
import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { Effect, Layer, Redacted, Stream } from "effect"
import { ArcpClient, DialerWebSocketGlobal } from "effect-arcp"
import { DialerWebSocket } from "effect-arcp/node"
import { Arcp } from "effect-arcp/promise"

const [url, token, folder] = process.argv.slice(2)
const count = 200
let failures = 0

const attempt = async (name, run) => {
  const watchdog = AbortSignal.timeout(120_000)
  const late = new Promise((_, reject) =>
    watchdog.addEventListener("abort", () => reject(new Error("no end after 120 s")))
  )
  try {
    await Promise.race([run(), late])
    console.log(`ok      ${name}`)
  } catch (error) {
    failures++
    console.log(`FAILED  ${name}: ${error?.stack ?? error}`)
  }
}

/** Every event once and in order, although the connection is cut half way. */
const resumed = async (arcp) => {
  const job = await arcp.submit("emit", { count, delayMs: 2 })
  let events = 0
  for await (const { kind } of job.events)
    if (kind === "log" && ++events === count / 2) await arcp.dropTransport()
  assert.equal(events, count)
}

const chunked = { chunks: 50, size: 20_000 }

const promiseClient = async (options) => {
  const arcp = await Arcp.connect({ url, token, ...options })
  try {
    const job = await arcp.submit("echo", { hello: "world" })
    assert.deepEqual(await job.result, { hello: "world" })
    await resumed(arcp)
  } finally {
    await arcp.close()
  }
}

const effectClient = (dialer) =>
  Effect.gen(function* () {
    const client = yield* ArcpClient.ArcpClient
    const job = yield* client.submit("emit", { count, delayMs: 2 })
    let events = 0
    yield* Stream.runForEach(job.events, ({ kind }) => {
      if (kind === "log") events++
      return kind === "log" && events === count / 2 ? client.dropTransport : Effect.void
    })
    assert.equal(events, count)
  }).pipe(
    Effect.scoped,
    Effect.provide(ArcpClient.layer({ token: Redacted.make(token) }).pipe(Layer.provide(dialer))),
    Effect.runPromise
  )

await attempt("promise client", () => promiseClient({}))
if (globalThis.WebSocket === undefined)
  console.log("skipped the platform's own WebSocket: there is none here")
else {
  await attempt("promise client, the platform's own WebSocket", () => promiseClient({ WebSocket }))
  await attempt("Effect client, DialerWebSocketGlobal", () =>
    effectClient(DialerWebSocketGlobal.layer({ url }))
  )
}
await attempt("Effect client, DialerWebSocket", () => effectClient(DialerWebSocket.layer({ url })))
await attempt("saveResult", async () => {
  const arcp = await Arcp.connect({ url, token })
  try {
    const path = join(folder, `result-${process.pid}`)
    const { size } = await (await arcp.submit("chunks", chunked)).saveResult(path)
    assert.equal(size, chunked.chunks * chunked.size)
    assert.equal((await readFile(path)).length, size)
  } finally {
    await arcp.close()
  }
})
await attempt("files, as far as the lease lets", async () => {
  const arcp = await Arcp.connect({ url, token })
  const read = async (name) =>
    (
      await arcp.submit(
        "read",
        { path: join(folder, name) },
        { leaseRequest: { "fs.read": [`${folder}/**`] } }
      )
    ).result
  try {
    assert.deepEqual(await read("inside"), { content: "inside" })
    for (const name of ["link", "../outside"])
      await assert.rejects(read(name), ({ code }) => code === "PERMISSION_DENIED")
  } finally {
    await arcp.close()
  }
})
process.exit(failures === 0 ? 0 : 1)
