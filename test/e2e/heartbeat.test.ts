import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { sharedServer } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const server = sharedServer(["--memory", "--heartbeat-sec", "1"], { concurrent: true })

describe.concurrent("heartbeat", () => {
  it("the runtime pings a quiet peer, again and again", async () => {
    verifies("heartbeat-pings")
    const client = await WireClient.open(server.url)
    const started = performance.now()
    const pings = [await client.nextOf("session.ping"), await client.nextOf("session.ping")]
    expect(performance.now() - started).toBeGreaterThan(1_500)
    for (const { payload } of pings) {
      expect(payload["nonce"]).toEqual(expect.any(String))
      expect(payload["sent_at"]).toEqual(expect.any(String))
    }
    expect(pings[0]?.payload["nonce"]).not.toBe(pings[1]?.payload["nonce"])
  })

  it("a peer that answers stays, well past two intervals", async () => {
    verifies("heartbeat-pings")
    const client = await WireClient.open(server.url)
    for (let index = 0; index < 4; index++) await client.nextOf("session.ping")
    await client.ping()
  })

  it("a peer silent for two intervals is let go; its job and session are not", async () => {
    verifies("heartbeat-lost")
    const client = await WireClient.open(server.url)
    client.answersPings = false
    const { job_id } = await client.accept("emit", { count: 100, delayMs: 50 })
    const started = performance.now()
    await client.closing()
    expect(performance.now() - started).toBeGreaterThan(1_500)
    const errors = client.frames.filter(({ type }) => type === "session.error")
    expect(errors.map(({ payload }) => payload.code).filter((code) => code !== "HEARTBEAT_LOST")).toEqual([])
    const again = await WireClient.resume(server.url, client.session, { features: ["ack"] })
    expect((await again.terminal(job_id)).payload.result).toEqual({ count: 100 })
  })

  it("any inbound frame is a sign of life", async () => {
    verifies("heartbeat-any-frame")
    const client = await WireClient.open(server.url)
    client.answersPings = false
    for (let index = 0; index < 8; index++) {
      client.request("session.ack", { last_processed_seq: 0 })
      await new Promise((resolve) => setTimeout(resolve, 400))
    }
    await client.ping()
  })

  it("pings are answered at once, also when heartbeat was not negotiated", async () => {
    verifies("heartbeat-pong")
    const client = await WireClient.open(server.url, { features: [] })
    client.request("session.ping", { nonce: "n-1", sent_at: new Date().toISOString() })
    const pong = await client.nextOf("session.pong")
    expect(pong.payload).toMatchObject({ ping_nonce: "n-1", received_at: expect.any(String) })
  })

  it("without the feature nobody is pinged or let go for silence", async () => {
    verifies("heartbeat-negotiated")
    const client = await WireClient.open(server.url, { features: ["ack"] })
    await client.silence(() => true, 3_500)
    await client.ping()
  })
})
