/** Each command that talks to a runtime, against peers that are none, or not ours: it ends, with the right code and a sentence. */
import { once } from "node:events"
import { createServer, type Server, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { afterEach, describe, expect, it } from "@effect/vitest"
import { type WebSocket, WebSocketServer } from "ws"
import { run } from "./inProcess.js"

type Asked = { readonly id: string; readonly type: string }
type Peer = (socket: WebSocket, asked: Asked) => void

const message = (type: string, payload: object, more = {}) =>
  JSON.stringify({ arcp: "1.1", id: "m_1", type, session_id: "sess_1", payload, ...more })
const error = (code: string, more = {}) => message("session.error", { code, message: "not here" }, more)
const welcome = (features: ReadonlyArray<string>) =>
  message("session.welcome", {
    session_id: "sess_1",
    resume_token: "t",
    resume_window_sec: 60,
    capabilities: { features, agents: [{ name: "echo", versions: ["1.0.0"], default: "1.0.0" }] }
  })
const greeting =
  (hello: string, then: Peer): Peer =>
  (socket, asked) =>
    asked.type === "session.hello" ? socket.send(hello) : then(socket, asked)

/** What a peer does, and with which codes a command may end. */
const peers: Readonly<Record<string, readonly [Peer, ReadonlyArray<number>]>> = {
  "closes at once": [(socket) => socket.close(1011), [5]],
  "is cut off": [(socket) => socket.terminate(), [5]],
  "says nothing": [() => {}, [5]],
  "sends what is no JSON": [(socket) => socket.send("}{"), [1]],
  "sends bytes": [(socket) => socket.send(Buffer.from([1, 2, 3])), [1]],
  "refuses the session, with nothing around it": [(socket) => socket.send(error("INVALID_REQUEST")), [1]],
  "refuses the token": [(socket) => socket.send(error("UNAUTHENTICATED")), [1, 3, 4]],
  "is a 1.0 runtime that refuses": [(socket) => socket.send(error("UNSUPPORTED", { arcp: "1.0" })), [1]],
  "welcomes, and refuses everything else": [
    greeting(welcome(["list_jobs", "subscribe"]), (socket) => socket.send(error("PERMISSION_DENIED"))),
    [0, 1]
  ],
  "welcomes, and closes": [
    greeting(welcome(["list_jobs", "subscribe"]), (socket) => socket.close(1013)),
    [0, 5]
  ],
  "is a 1.0 runtime without features": [
    greeting(
      JSON.stringify({
        arcp: "1.0",
        id: "w",
        type: "session.welcome",
        session_id: "s",
        payload: { runtime: { name: "old", version: "1" }, capabilities: {} }
      }),
      (socket, { id }) =>
        socket.send(
          error("INVALID_REQUEST", { payload: { code: "INVALID_REQUEST", message: "no", request_id: id } })
        )
    ),
    [0, 1]
  ]
}

const commands: ReadonlyArray<ReadonlyArray<string>> = [
  ["agents"],
  ["agents", "echo"],
  ["jobs"],
  ["submit", "echo"],
  ["submit", "echo", "--key", "k", "--json"],
  ["submit", "echo", "--detach"],
  ["watch", "job_1"],
  ["cancel", "job_1"],
  ["fork", "job_1", "--at", "k"],
  ["retry", "job_1"]
]

const servers: Array<WebSocketServer> = []
afterEach(() => {
  for (const server of servers.splice(0)) {
    for (const client of server.clients) client.terminate()
    server.close()
  }
})

describe.each(Object.entries(peers))("a peer that %s", (_, [peer, codes]) => {
  it.each(commands.map((words) => [words]))("ends %j, with a sentence", async (words) => {
    const server = new WebSocketServer({ port: 0, host: "127.0.0.1" })
    servers.push(server)
    server.on("connection", (socket) => {
      socket.on("message", (data) => peer(socket, JSON.parse(String(data)) as Asked))
      socket.on("error", () => {})
    })
    await once(server, "listening")
    const url = `ws://127.0.0.1:${(server.address() as AddressInfo).port}/arcp`
    const { code, stderr, stdout } = await run([
      ...words,
      "--url",
      url,
      "--token",
      "t",
      "--give-up-after",
      "1s"
    ])
    expect(codes, stderr).toContain(code)
    // With --json it is a line of that.
    const said = words.includes("--json") ? /^\{"type":"error",.*"message":"[^"]/m : /^error: \S+.* \S+/m
    if (code !== 0) expect(stderr).toMatch(said)
    expect(`${stdout}${stderr}`).not.toMatch(/TypeError|undefined|\[object|\n\s+at /)
  })
})

/** What is no runtime, and does with a request over HTTP what it likes. */
const webs: Readonly<Record<string, readonly [(response: ServerResponse) => void, RegExp]>> = {
  "has a page for everything": [
    (response) => response.writeHead(200, { "content-type": "text/html" }).end("<h1>hello</h1>"),
    /answered 200, as no runtime/
  ],
  "does not have it": [(response) => response.writeHead(404).end("no"), /answered 404, as no runtime/],
  "sends elsewhere": [
    (response) => response.writeHead(307, { location: "http://127.0.0.1:1/" }).end(),
    /does not answer as a runtime does: .*redirect/
  ],
  "closes in the middle": [
    (response) => response.writeHead(200, { "content-length": 100 }).write("{", () => response.destroy()),
    /does not answer as a runtime does/
  ],
  "sends without an end": [
    (response) => {
      const more = () => {
        while (!response.destroyed && response.write(Buffer.alloc(1024 * 1024, " ")));
      }
      response.on("drain", more).on("error", () => {})
      more()
    },
    /has more than 16777216 bytes/
  ],
  "names jobs that steer a terminal": [
    (response) => response.end(JSON.stringify({ jobs: ["job_\u001b[2Jx"], sessions: 0 })),
    /^1 job and 0 sessions deleted$/m
  ]
}

const sites: Array<Server> = []
afterEach(() => {
  for (const site of sites.splice(0)) {
    site.closeAllConnections()
    site.close()
  }
})

it.each(Object.entries(webs))(
  "jobs delete --running ends at a web server that %s",
  async (_, [does, said]) => {
    const site = createServer((_request, response) => does(response)).listen(0, "127.0.0.1")
    sites.push(site)
    await once(site, "listening")
    const url = `ws://127.0.0.1:${(site.address() as AddressInfo).port}/arcp`
    const { stderr, stdout } = await run([
      "jobs",
      "delete",
      "job_1",
      "--running",
      "--url",
      url,
      "--token",
      "t"
    ])
    expect(stderr).toMatch(said)
    expect(`${stdout}${stderr}`).not.toMatch(/TypeError|undefined|\[object|\n\s+at |\u001b/)
  }
)
