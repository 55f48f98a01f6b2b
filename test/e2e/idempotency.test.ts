import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { sharedServer } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const server = sharedServer(["--memory", "--resume-window-sec", "1"])

let keys = 0
const freshKey = () => `key-${++keys}`

describe("the same key and parameters", () => {
  it("get the same accept with their own request_id, and no second run", async () => {
    verifies("idempotency-same")
    const client = await WireClient.open(server.url)
    const idempotency_key = freshKey()
    const firstId = client.submit("emit", { count: 5, startDelayMs: 50 }, { idempotency_key })
    const secondId = client.submit("emit", { startDelayMs: 50, count: 5 }, { idempotency_key })
    const first = await client.answer(firstId)
    const second = await client.answer(secondId)
    expect(second.payload).toEqual({ ...first.payload, request_id: secondId })
    await client.terminal(first.job_id)
    await client.ping()
    const logs = client.frames.filter(({ payload }) => payload.kind === "log")
    expect(logs).toHaveLength(5)
    const listed = await client.answer(client.request("session.list_jobs", { limit: 1_000 }))
    const jobs = listed.payload["jobs"] as ReadonlyArray<{ job_id: string }>
    expect(jobs.filter(({ job_id }) => job_id === first.job_id)).toHaveLength(1)
  })

  it("from another session of the principal: it observes the running job", async () => {
    verifies("idempotency-observes")
    const one = await WireClient.open(server.url)
    const two = await WireClient.open(server.url)
    const idempotency_key = freshKey()
    const input = { count: 5, startDelayMs: 300 }
    const first = await one.accept("emit", input, { idempotency_key })
    const second = await two.accept("emit", input, { idempotency_key })
    expect(second.job_id).toBe(first.job_id)
    expect((await two.terminal(first.job_id)).payload.result).toEqual({ count: 5 })
    expect(two.eventsOf(first.job_id).filter(({ payload }) => payload.kind === "log")).toHaveLength(5)
    expect((await one.terminal(first.job_id)).payload.result).toEqual({ count: 5 })
  })

  it("from another session after the end: it gets the terminal message", async () => {
    verifies("idempotency-observes")
    const one = await WireClient.open(server.url)
    const idempotency_key = freshKey()
    const first = await one.run("echo", "kept", { idempotency_key })
    const two = await WireClient.open(server.url)
    const second = await two.accept("echo", "kept", { idempotency_key })
    expect(second.job_id).toBe(first.accepted.job_id)
    expect((await two.terminal(second.job_id)).payload).toEqual(first.terminal.payload)
  })

  it("in the same frame three times: the terminal message once; in a new frame again, with a new number", async () => {
    verifies("idempotency-observes", "submit-same-id")
    const client = await WireClient.open(server.url)
    const idempotency_key = freshKey()
    const { accepted } = await client.run("echo", 1, { idempotency_key })
    const before = client.frames.length
    const id = client.submit("echo", 1, { idempotency_key })
    client.submit("echo", 1, { idempotency_key }, { id })
    client.submit("echo", 1, { idempotency_key }, { id })
    for (let i = 0; i < 3; i++)
      await client.next(({ payload, type }) => type === "job.accepted" && payload["request_id"] === id)
    const types = () =>
      client.frames
        .slice(before)
        .filter(({ job_id }) => job_id === accepted.job_id)
        .map(({ type }) => type)
    expect(types()).toEqual(["job.accepted", "job.result", "job.accepted", "job.accepted"])
    const last = client.session.lastSeq
    await client.accept("echo", 1, { idempotency_key })
    await client.next(({ event_seq }) => event_seq === last + 1)
  })

  it("racing on two sessions start exactly one run each", async () => {
    verifies("idempotency-race")
    const clients = await Promise.all([1, 2, 3].map(() => WireClient.open(server.url)))
    for (let round = 0; round < 10; round++) {
      const idempotency_key = freshKey()
      const ids = clients.map((client) => client.submit("echo", round, { idempotency_key }))
      const answers = await Promise.all(clients.map((client, index) => client.answer(ids[index] ?? "")))
      expect(answers.map(({ type }) => type)).toEqual(Array(3).fill("job.accepted"))
      expect(new Set(answers.map(({ job_id }) => job_id)).size).toBe(1)
      await Promise.all(clients.map((client) => client.terminal(answers[0]?.job_id)))
    }
  })
})

describe("scope", () => {
  it("another principal's key is another key", async () => {
    verifies("idempotency-scope")
    const alice = await WireClient.open(server.url)
    const bob = await WireClient.open(server.url, { token: "tok-b" })
    const idempotency_key = freshKey()
    const first = await alice.run("echo", 1, { idempotency_key })
    const second = await bob.run("echo", 2, { idempotency_key })
    expect(second.accepted.job_id).not.toBe(first.accepted.job_id)
    expect(second.terminal.payload.result).toBe(2)
  })

  it("different parameters: DUPLICATE_KEY with the existing job", async () => {
    verifies("idempotency-conflict")
    const client = await WireClient.open(server.url)
    const idempotency_key = freshKey()
    const { accepted } = await client.run("echo", 1, { idempotency_key })
    const variants = [
      client.submit("echo", 2, { idempotency_key }),
      client.submit("ver", 1, { idempotency_key }),
      client.submit("echo", 1, { idempotency_key, max_runtime_sec: 5 }),
      client.submit("echo", 1, { idempotency_key, lease_request: { "tool.call": ["a"] } })
    ]
    for (const id of variants) {
      const frame = await client.answer(id)
      expect(frame.type).toBe("job.error")
      expect(frame.job_id).not.toBe(accepted.job_id)
      expect(frame.payload).toMatchObject({
        code: "DUPLICATE_KEY",
        details: { existing_job_id: accepted.job_id, request_id: id }
      })
    }
  })

  it("a rejected submit does not occupy its key", async () => {
    verifies("idempotency-rejected")
    const client = await WireClient.open(server.url)
    const idempotency_key = freshKey()
    await client.rejection(client.submit("no-such-agent", 1, { idempotency_key }))
    await client.rejection(client.submit("emit", { count: "x" }, { idempotency_key }))
    const { terminal } = await client.run("echo", 1, { idempotency_key })
    expect(terminal.payload.result).toBe(1)
  })

  it("when the original session is gone, the next one with the key owns the job", async () => {
    verifies("idempotency-inherits")
    const one = await WireClient.open(server.url)
    const idempotency_key = freshKey()
    const { job_id } = await one.accept("sleep", { ms: 60_000 }, { idempotency_key })
    one.drop()
    await one.closing()
    // The window of one second passes; the sweep may take as long again.
    await new Promise((resolve) => setTimeout(resolve, 3_000))
    const two = await WireClient.open(server.url)
    expect((await two.accept("sleep", { ms: 60_000 }, { idempotency_key })).job_id).toBe(job_id)
    two.request("job.cancel", {}, { job_id })
    await two.nextOf("job.cancelled")
    expect((await two.terminal(job_id)).payload.code).toBe("CANCELLED")
  })
})
