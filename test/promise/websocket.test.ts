/** Over real sockets, from both entries, and what a browser gets. */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { build } from "esbuild"
import { WebSocket as Ws } from "ws"
import * as Elsewhere from "../../src/promise.js"
import * as Node from "../../src/promise.node.js"
import { Count } from "../support/agents.js"
import { Gated, listen } from "./host.js"

let server: Awaited<ReturnType<typeof listen>>
beforeAll(async () => {
  server = await listen()
})
afterAll(() => server.stop())

const WebSocket = Ws as unknown as new (url: string) => WebSocket
const clients = {
  "in Node": () => Node.Arcp.connect({ url: server.url, token: "alice", reconnectDelay: () => 0 }),
  elsewhere: () =>
    Elsewhere.Arcp.connect({ url: server.url, token: "alice", reconnectDelay: () => 0, WebSocket })
}

for (const [name, connect] of Object.entries(clients))
  describe(`Arcp over a WebSocket, ${name}`, () => {
    it("resumes after a drop, without a gap or a repetition", async () => {
      await using arcp = await connect()
      const job = await arcp.submit(Gated, { before: 300, after: 300 })
      const messages: Array<string> = []
      const statuses: Array<string> = []
      const watched = (async () => {
        for await (const { _tag } of arcp.status) {
          statuses.push(_tag)
          if (_tag === "Connected" && statuses.length > 1) return
        }
      })()
      for await (const event of job.events) {
        if (event.kind !== "log") continue
        messages.push(event.body.message)
        if (messages.length === 100) {
          await arcp.dropTransport()
          await watched
        }
        if (messages.length === 300) server.open()
      }
      assert.deepStrictEqual(
        messages,
        Array.from({ length: 600 }, (_, i) => `${i + 1}`)
      )
      assert.strictEqual(statuses.at(-1), "Connected")
      assert.strictEqual(await job.result, 600)
    })

    it("an abort cancels the job", async () => {
      await using arcp = await connect()
      const abort = new AbortController()
      const job = await arcp.submit("forever", {}, { signal: abort.signal })
      abort.abort()
      const error = await job.result.then(undefined, (error: unknown) => error)
      assert(error instanceof Node.Errors.Cancelled)
    })
  })

describe("what differs", () => {
  it("Node writes results to files", async () => {
    const directory = await mkdtemp(join(tmpdir(), "arcp-"))
    await using arcp = await clients["in Node"]()
    const job = await arcp.submit("stream", { encoding: "utf8", parts: ["ab", "c"] })
    const file = await job.saveResult(join(directory, "result.txt"))
    assert.deepStrictEqual(file, { path: join(directory, "result.txt"), size: 3, summary: undefined })
    assert.strictEqual(await readFile(file.path, "utf8"), "abc")
    assert.deepStrictEqual(await readdir(directory), ["result.txt"])
    await rm(directory, { recursive: true })
  })

  it("both say what they cannot do, and why they cannot connect", async () => {
    const failure = (promise: Promise<unknown>) => promise.then(undefined, (error: Error) => error.message)
    const at = { url: server.url, token: "alice" }
    if (globalThis.WebSocket === undefined)
      assert.match(String(await failure(Elsewhere.Arcp.connect(at))), /no WebSocket here/)
    assert.match(
      String(await failure(Elsewhere.Arcp.connect({ ...at, WebSocket, headers: { a: "b" } }))),
      /headers/
    )
    assert.match(
      String(await failure(Node.Arcp.connect({ ...at, url: "ws://127.0.0.1:1/arcp" }))),
      /nothing listens at/
    )
  })

  it("the entry that is not Node's bundles for browsers, and the same names come from both", async () => {
    const { metafile } = await build({
      entryPoints: ["src/promise.ts"],
      bundle: true,
      write: false,
      metafile: true,
      platform: "browser",
      format: "esm",
      logLevel: "silent"
    })
    const inputs = Object.keys(metafile.inputs)
    assert.deepStrictEqual(
      inputs.filter((path) => /platform-node|node_modules\/ws\/|^node:/.test(path)),
      []
    )
    assert.deepStrictEqual(Object.keys(Elsewhere).sort(), Object.keys(Node).sort())
  })
})

it("the package's own name gives Node its entry", async () => {
  // Built, as users have it; not a literal, since the types are those of the sources here.
  const name: string = "effect-arcp/promise"
  const { Arcp }: typeof Node = await import(name)
  await using arcp = await Arcp.connect({ url: server.url, token: "alice", headers: { "x-proxy": "1" } })
  assert.strictEqual(await (await arcp.submit(Count, { to: 2 })).result, 2)
})
