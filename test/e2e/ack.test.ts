import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import type { Frame } from "./support/Frame.js"
import { sharedServer } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const server = sharedServer(["--memory", "--limit", "backPressureLag=50"])

const isBackPressure = ({ payload }: Frame) =>
  payload.kind === "status" && payload.body?.["phase"] === "back_pressure"

describe("session.ack", () => {
  it("is silent, goes up only, and does not disturb delivery", async () => {
    verifies("ack-silent")
    const client = await WireClient.open(server.url)
    await client.run("emit", { count: 20 })
    for (const seq of [0, 5, 22, 3]) client.request("session.ack", { last_processed_seq: seq })
    await client.ping()
    expect(client.frames.filter(({ type }) => type === "session.error")).toEqual([])
    const { terminal } = await client.run("emit", { count: 5 })
    expect(terminal.event_seq).toBe(29)
    client.request("session.ack", { last_processed_seq: 29 })
    await client.ping()
    client.drop()
    const again = await WireClient.resume(server.url, client.session)
    await again.run("echo", 1)
  })

  it("beyond the highest assigned is INVALID_REQUEST, and has no effect", async () => {
    verifies("ack-beyond", "refusal-shape")
    const client = await WireClient.open(server.url)
    await client.run("emit", { count: 3 })
    const refused = await client.refusal(client.request("session.ack", { last_processed_seq: 6 }))
    expect(refused.code).toBe("INVALID_REQUEST")
    const again = await WireClient.resume(server.url, client.session, { from: 0 })
    await again.next(({ event_seq }) => event_seq === 5)
  })

  it.each([-1, 1.5, "1", null])("of %j is INVALID_REQUEST", async (seq) => {
    verifies("ack-beyond")
    const client = await WireClient.open(server.url)
    await client.run("emit", { count: 3 })
    client.request("session.ack", { last_processed_seq: seq })
    expect((await client.nextOf("session.error")).payload.code).toBe("INVALID_REQUEST")
  })
})

describe("back-pressure", () => {
  it("is told once per crossing of the threshold, and again only after the lag has halved", async () => {
    verifies("back-pressure-once")
    const client = await WireClient.open(server.url)
    const first = await client.run("emit", { count: 200, delayMs: 2 })
    await client.ping()
    expect(client.frames.filter(isBackPressure)).toHaveLength(1)
    expect(first.events.filter(isBackPressure)).toHaveLength(1)
    client.request("session.ack", { last_processed_seq: client.session.lastSeq })
    await client.ping()
    await client.run("emit", { count: 200, delayMs: 2 })
    expect(client.frames.filter(isBackPressure)).toHaveLength(2)
  })

  it("a client that keeps up is never told", async () => {
    verifies("back-pressure-once")
    const client = await WireClient.open(server.url)
    const accepted = await client.accept("emit", { count: 200, delayMs: 2 })
    for (let seq = 10; seq <= 200; seq += 10) {
      await client.next(({ event_seq }) => event_seq === seq)
      client.request("session.ack", { last_processed_seq: seq })
    }
    await client.terminal(accepted.job_id)
    expect(client.frames.filter(isBackPressure)).toEqual([])
  })
})
