import { request } from "node:http"
import { connect } from "node:net"
import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { features } from "./support/Frame.js"
import { sharedServer } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const server = sharedServer(["--memory", "--resume-window-sec", "77", "--heartbeat-sec", "9"])

const refusedHello = async (client: WireClient) => {
  const error = await client.nextOf("session.error")
  await client.closing()
  expect(client.frames.filter(({ type }) => type === "session.welcome")).toEqual([])
  return error.payload
}

describe("welcome", () => {
  it("carries what section 3 lists", async () => {
    verifies("welcome-shape", "ids-tokens")
    const client = await WireClient.connect(server.url)
    const { payload } = await client.hello()
    expect(payload["session_id"]).toMatch(/^sess_[0-9A-HJKMNP-TV-Z]{26}$/)
    expect(payload["resume_token"]).toMatch(/^rt_[0-9a-f]{64}$/)
    expect(payload["resume_window_sec"]).toBe(77)
    expect(payload["heartbeat_interval_sec"]).toBe(9)
    expect(payload["runtime"]).toEqual({ name: expect.any(String), version: expect.any(String) })
    expect(payload["capabilities"]).toMatchObject({ encodings: ["json"] })
  })

  it("the feature set is the intersection", async () => {
    verifies("negotiate-intersection")
    const client = await WireClient.connect(server.url)
    const wanted = ["ack", "list_jobs", "x-vendor.acme.thing", "telepathy"]
    const { payload } = await client.hello({ features: wanted })
    const { features: agreed } = payload["capabilities"] as { features: ReadonlyArray<string> }
    expect([...agreed].sort()).toEqual(["ack", "list_jobs"])
  })

  it("the welcome tells what frames may have", async () => {
    verifies("welcome-limits")
    const client = await WireClient.connect(server.url)
    const { payload } = await client.hello()
    const { "x-vendor.effect-arcp.limits": limits } = payload["capabilities"] as Record<string, unknown>
    expect(limits).toEqual({ frame_bytes: 1 << 20, outbound_frame_bytes: 2 << 20 })
  })

  it("the runtime speaks its features, and no credentials without a provisioner", async () => {
    verifies("negotiate-intersection", "negotiate-credentials")
    const client = await WireClient.connect(server.url)
    const { payload } = await client.hello({ features: [...features, "provisioned_credentials"] })
    const { features: agreed } = payload["capabilities"] as { features: ReadonlyArray<string> }
    const own = ["heartbeat", "ack", "list_jobs", "subscribe", "progress", "result_chunk", "agent_versions"]
    expect(agreed).toEqual(expect.arrayContaining(own))
    expect(agreed).not.toContain("provisioned_credentials")
  })

  it("agents are names for a 1.0 client, inventories with agent_versions", async () => {
    verifies("negotiate-none", "negotiate-agents")
    const old = await WireClient.connect(server.url)
    const plain = (await old.hello({ features: [] })).payload["capabilities"] as Record<string, unknown>
    expect(plain["features"] ?? []).toEqual([])
    expect(plain["agents"]).toEqual(expect.arrayContaining(["echo", "emit", "sleep", "ver"]))
    const client = await WireClient.connect(server.url)
    const rich = (await client.hello()).payload["capabilities"] as { agents: ReadonlyArray<{ name: string }> }
    const ver = rich.agents.find(({ name }) => name === "ver") as
      | { versions: ReadonlyArray<string>; default?: string }
      | undefined
    expect([...(ver?.versions ?? [])].sort()).toEqual(["1.0.0", "2.0.0"])
    expect(ver?.default).toBe("2.0.0")
    expect(rich.agents.every(({ name }) => typeof name === "string")).toBe(true)
  })
})

describe("authentication", () => {
  it.each([
    ["an unknown token", { auth: { scheme: "bearer", token: "nobody" } }],
    ["no token", { auth: { scheme: "bearer" } }],
    ["another's principal by name", { auth: { scheme: "bearer", token: "alice" } }],
    ["a prefix of a token", { auth: { scheme: "bearer", token: "tok-" } }]
  ])("%s: UNAUTHENTICATED, then close", async (_, payload) => {
    verifies("auth-unauthenticated")
    const client = await WireClient.connect(server.url)
    client.sendHello({ payload })
    expect((await refusedHello(client)).code).toBe("UNAUTHENTICATED")
  })

  it("no auth at all is refused and closed", async () => {
    verifies("auth-unauthenticated")
    const client = await WireClient.connect(server.url)
    client.sendHello({ payload: { auth: undefined } })
    expect((await refusedHello(client)).code).toMatch(/UNAUTHENTICATED|INVALID_REQUEST/)
  })

  it("another scheme: INVALID_REQUEST", async () => {
    verifies("auth-scheme")
    const client = await WireClient.connect(server.url)
    client.sendHello({ payload: { auth: { scheme: "basic", token: "tok-a" } } })
    expect((await refusedHello(client)).code).toBe("INVALID_REQUEST")
  })

  it.each(["session.ping", "job.submit", "session.close", "x-vendor.a.b"])(
    "%s before hello: INVALID_REQUEST and close",
    async (type) => {
      verifies("auth-before-hello")
      const client = await WireClient.connect(server.url)
      client.request(type, { nonce: "n", sent_at: "2026-01-01T00:00:00Z", agent: "echo", input: 1 })
      expect((await refusedHello(client)).code).toBe("INVALID_REQUEST")
    }
  )

  it.each([
    ["garbage", "{{{{"],
    ["an array", "[1]"],
    ["binary", new Uint8Array([123, 125])],
    ["hello without payload", '{"arcp":"1.1","id":"h","type":"session.hello"}'],
    [
      "hello without client",
      '{"arcp":"1.1","id":"h","type":"session.hello","payload":{"auth":{"scheme":"bearer","token":"tok-a"}}}'
    ]
  ])("%s as the first frame is answered, never silence", async (_, text) => {
    verifies("auth-malformed-hello")
    const client = await WireClient.connect(server.url)
    client.sendText(text)
    expect((await refusedHello(client)).code).toBe("INVALID_REQUEST")
  })

  it("a second hello: INVALID_REQUEST, the session stays open", async () => {
    verifies("auth-second-hello")
    const client = await WireClient.open(server.url)
    client.sendHello()
    expect((await client.nextOf("session.error")).payload.code).toBe("INVALID_REQUEST")
    await client.run("echo", 1)
  })
})

describe("features outside the negotiated set", () => {
  it.each([
    ["session.list_jobs", {}],
    ["job.subscribe", { job_id: "job_01HZZZZZZZZZZZZZZZZZZZZZZZ" }],
    ["session.ack", { last_processed_seq: 0 }]
  ])("%s is INVALID_REQUEST", async (type, payload) => {
    verifies("negotiate-enforced", "refusal-shape")
    const client = await WireClient.open(server.url, { features: [] })
    const refused = await client.refusal(client.request(type, payload))
    expect(refused.code).toBe("INVALID_REQUEST")
    await client.ping()
  })
})

/** What runs, a session that is resumed can still cancel. */
const stillRuns = async (client: WireClient, job_id: string | undefined) => {
  const again = await WireClient.resume(server.url, client.session)
  again.request("job.cancel", {}, { job_id })
  expect((await again.terminal(job_id)).payload.code).toBe("CANCELLED")
}

describe("close", () => {
  it("session.close is answered with session.closed; jobs run on and the session is resumable", async () => {
    verifies("close-answered", "close-resumable")
    const client = await WireClient.open(server.url)
    const { job_id } = await client.accept("sleep", { ms: 60_000 })
    client.request("session.close", { reason: "done" })
    await client.nextOf("session.closed")
    await client.closing()
    await stillRuns(client, job_id)
  })

  it("session.bye is not answered; jobs run on and the session is resumable", async () => {
    verifies("close-bye", "close-resumable")
    const client = await WireClient.open(server.url)
    const { job_id } = await client.accept("sleep", { ms: 60_000 })
    client.request("session.bye", {})
    await client.closing()
    expect(client.frames.filter(({ type }) => /closed|bye/.test(type))).toEqual([])
    await stillRuns(client, job_id)
  })
})

describe("the socket underneath", () => {
  const upgrade = (headers: Record<string, string>, path = "/arcp") =>
    new Promise<number>((resolve, reject) => {
      const { hostname, port } = new URL(server.url)
      const call = request({
        hostname,
        port,
        path,
        headers: {
          connection: "upgrade",
          upgrade: "websocket",
          "sec-websocket-version": "13",
          "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
          ...headers
        }
      })
      call.on("upgrade", (_, socket) => {
        socket.destroy()
        resolve(101)
      })
      call.on("response", (response) => {
        response.resume()
        resolve(response.statusCode ?? 0)
      })
      call.on("error", reject)
      call.end()
    })

  it("a browser of another origin, a rebound host and another path are refused", async () => {
    verifies("security-origin", "security-host")
    const { host, port } = new URL(server.url)
    expect(await upgrade({})).toBe(101)
    expect(await upgrade({ origin: `http://${host}` })).toBe(101)
    expect(await upgrade({ origin: "http://evil.example" })).toBeGreaterThanOrEqual(400)
    expect(await upgrade({ origin: "null" })).toBeGreaterThanOrEqual(400)
    expect(await upgrade({ host: `evil.example:${port}` })).toBeGreaterThanOrEqual(400)
    expect(await upgrade({}, "/other")).toBeGreaterThanOrEqual(400)
  })

  it("a peer that resets during or right after the upgrade harms nobody", async () => {
    verifies("security-reset")
    const { hostname, port } = new URL(server.url)
    const head = `GET /arcp HTTP/1.1\r\nHost: ${hostname}:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n`
    const key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    for (let index = 0; index < 30; index++) {
      await new Promise<void>((resolve) => {
        const socket = connect(Number(port), hostname, () => {
          socket.write(index % 3 === 0 ? head : head + key, () => socket.resetAndDestroy())
        })
        socket.on("error", () => {})
        socket.on("close", () => resolve())
      })
    }
    const client = await WireClient.open(server.url)
    await client.run("echo", 1)
  })
})
