// The client alone, installed with --omit=optional: all of it can be imported, and what needs more says so.
import assert from "node:assert/strict"
import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { existsSync, writeFileSync } from "node:fs"
import { createInterface } from "node:readline"
import { Effect, Layer, Logger } from "effect"
import * as root from "effect-arcp"
import { AuthJwt } from "effect-arcp/jwt"
import { DialerWebSocket, HttpClientPublic, StoreSqlite } from "effect-arcp/node"
import { Arcp } from "effect-arcp/promise"

for (const name of ["@effect/platform-node", "@effect/sql", "jose", "ignore"])
  assert(!existsSync(`node_modules/${name}`), `${name} is installed`)

// The program has what it needs inside, also what runs modules of agents.
const program = "node_modules/effect-arcp/dist/programs/arcp.js"
const serve = (agents) =>
  spawn(process.execPath, [
    program,
    ...["serve", "--memory", "--agents", agents, "--port", "0", "--token", "secret=me", "--log-level", "none"]
  ])
const server = serve("demo")
const [listening] = await once(createInterface({ input: server.stdout }), "line")
const { stdout } = spawnSync(
  process.execPath,
  [program, "agents", "--url", listening.replace("listening ", ""), "--token", "secret"],
  { encoding: "utf8" }
)
assert.match(stdout, /survey/)
server.kill()
await once(server, "close")

writeFileSync(
  "agents.mjs",
  `import { Agent } from "effect-arcp"
export const agents = [Agent.fromPromise("hello", { version: "1.0.0" }, async (name) => name)]`
)
const own = serve("./agents.mjs")
const [listens] = await once(createInterface({ input: own.stdout }), "line")
assert.match(listens, /^listening ws:/)
own.kill()
await once(own, "close")

const build = (layer) => Effect.runPromise(Effect.flip(Effect.sandbox(Effect.scoped(Layer.build(layer)))))
const said = async (layer) => String(await build(layer))
assert.match(
  await said(AuthJwt.layer({ key: { secret: "x".repeat(32) }, audience: "a" })),
  /AuthJwt needs jose, /
)
assert.match(await said(HttpClientPublic.layer()), /HttpClientPublic needs @effect\/platform-node, /)
assert.match(await said(StoreSqlite.layer({ filename: "a.db" })), /SQLite .*needs .*npm i @/)

// The client itself does without: in this process, and over a socket.
const hello = root.Agent.fromPromise("hello", { version: "1.0.0" }, async (name) => `Hello, ${name}`)
const dialer = root.Runtime.serve().pipe(
  Layer.provideMerge(root.TransportMemory.layer()),
  Layer.provide(root.Runtime.layerMemory()),
  Layer.provide(root.Registry.layer([hello])),
  Layer.provide(root.Auth.layerStatic({ secret: "me" })),
  Layer.provide(Logger.remove(Logger.defaultLogger))
)
const arcp = await Arcp.connect({ dialer, token: "secret" })
const job = await arcp.submit("hello", "client")
assert.equal(await job.result, "Hello, client")
const refused = await (await arcp.submit("hello", "file")).saveResult("result.txt").catch((error) => error)
assert.match(refused.message, /^saveResult needs @effect\/platform-node, .* npm i @/)
await arcp.close()
assert(DialerWebSocket.layer)
const nobody = await Arcp.connect({ url: "ws://127.0.0.1:1/arcp", token: "secret" }).catch((error) => error)
assert.match(nobody.message, /nothing listens at/)
console.log("client alone: all entries are there, and what needs more says what")
