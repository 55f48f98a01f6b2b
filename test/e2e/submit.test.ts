import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { sharedServer } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const server = sharedServer(["--memory"])

describe("an accepted job", () => {
  it("is accepted, runs, and ends in exactly one result", async () => {
    verifies("submit-accepted", "submit-first-event", "job-one-terminal")
    const client = await WireClient.open(server.url)
    const { accepted, events, terminal } = await client.run("echo", { a: [1, "zwei", null] })
    expect(accepted.payload).toMatchObject({
      job_id: accepted.job_id,
      agent: expect.stringMatching(/^echo@.+/),
      lease: expect.any(Object),
      trace_id: expect.any(String),
      accepted_at: expect.any(String)
    })
    expect(events[0]).toMatchObject({
      type: "job.event",
      event_seq: 1,
      payload: { kind: "status", body: { phase: "running" } }
    })
    expect(terminal.payload).toMatchObject({ final_status: "success", result: { a: [1, "zwei", null] } })
    await client.ping()
    expect(events.at(-1)).toBe(terminal)
  })

  it.each([null, 0, "", false, [], { deep: { er: [{}] } }, 1e21, "ÿ✓😀"])(
    "echo gives %j back",
    async (input) => {
      verifies("submit-accepted")
      const client = await WireClient.open(server.url)
      expect((await client.run("echo", input)).terminal.payload.result).toEqual(input)
    }
  )

  it("emits its events in order, whatever the batching", async () => {
    verifies("events-order")
    const client = await WireClient.open(server.url)
    for (const more of [{}, { batch: 16 }, { delayMs: 1, count: 20 }, { size: 0 }]) {
      const input = { count: 100, size: 10, ...more }
      const { events, terminal } = await client.run("emit", input)
      const logs = events.filter(({ payload }) => payload.kind === "log")
      expect(logs).toHaveLength(input.count)
      for (const { payload } of logs) expect(String(payload.body?.["message"]).length).toBe(input.size)
      expect(terminal.payload.result).toEqual({ count: input.count })
    }
  })

  it("concurrent submits are accepted in the order they arrived", async () => {
    verifies("submit-accept-order")
    const client = await WireClient.open(server.url)
    const agents = ["echo", "emit", "ver"]
    const ids = Array.from({ length: 60 }, (_, n) => client.submit(agents[n % 3] ?? "", { count: n }))
    for (const id of ids) await client.answer(id)
    const accepts = client.frames.filter(({ type }) => type === "job.accepted")
    expect(accepts.map(({ payload }) => payload.request_id)).toEqual(ids)
    expect(new Set(accepts.map(({ job_id }) => job_id)).size).toBe(60)
    for (const { job_id } of accepts) await client.terminal(job_id)
  })

  it("the same frame again starts nothing and gets the same job.accepted", async () => {
    verifies("submit-same-id")
    const client = await WireClient.open(server.url)
    const id = client.submit("emit", { count: 2, startDelayMs: 50 })
    const first = await client.answer(id)
    const running = await client.answer(client.submit("emit", { count: 2, startDelayMs: 50 }, {}, { id }))
    expect(running.payload).toEqual(first.payload)
    await client.terminal(first.job_id)
    const ended = await client.answer(client.submit("emit", { count: 2, startDelayMs: 50 }, {}, { id }))
    expect(ended.payload).toEqual(first.payload)
    await client.ping()
    expect(client.session.lastSeq).toBe(4)
  })

  it("the lease asked for is carried to the accept", async () => {
    verifies("submit-lease")
    const client = await WireClient.open(server.url)
    const lease_request = { "tool.call": ["search.*"], "net.fetch": ["https://example.com/**"] }
    const expires_at = new Date(Date.now() + 3_600_000).toISOString()
    const accepted = await client.accept("echo", 1, { lease_request, lease_constraints: { expires_at } })
    expect(accepted.payload["lease"]).toEqual(lease_request)
    const constraints = accepted.payload["lease_constraints"] as { expires_at: string }
    expect(Date.parse(constraints.expires_at)).toBe(Date.parse(expires_at))
  })
})

describe("a rejected submit", () => {
  it("is a job.error on a fresh job id, never a session.error", async () => {
    verifies("submit-rejected")
    const client = await WireClient.open(server.url)
    const ids = [client.submit("no-such-agent", {}), client.submit("no-such-agent", {})]
    const frames = await Promise.all(ids.map((id) => client.answer(id)))
    expect(frames.map(({ type }) => type)).toEqual(["job.error", "job.error"])
    expect(frames[0]?.job_id).not.toBe(frames[1]?.job_id)
    expect(frames.map(({ event_seq }) => event_seq)).toEqual([1, 2])
    expect(frames[0]?.payload).toMatchObject({ code: "AGENT_NOT_AVAILABLE", final_status: "error" })
    expect(client.frames.filter(({ type }) => type === "session.error")).toEqual([])
  })

  it("an unknown version names the available ones", async () => {
    verifies("agent-version-unknown")
    const client = await WireClient.open(server.url)
    const refused = await client.rejection(client.submit("ver@9.9.9", {}))
    expect(refused.code).toBe("AGENT_VERSION_NOT_AVAILABLE")
    expect(JSON.stringify(refused.details?.["available"])).toMatch(/1\.0\.0.*2\.0\.0|2\.0\.0.*1\.0\.0/)
  })

  it.each(["Echo", "echo@", "@1", "", "echo@1@2", "ec ho", "-echo", "echo@1/2"])(
    "%j is no agent reference",
    async (agent) => {
      verifies("agent-reference")
      const client = await WireClient.open(server.url)
      const frame = await client.answer(client.submit(agent, {}))
      expect(frame.type).toMatch(/error$/)
      expect(frame.payload.code).toBe("INVALID_REQUEST")
      await client.ping()
    }
  )

  it("input that is not the agent's names the path", async () => {
    verifies("agent-input")
    const client = await WireClient.open(server.url)
    const refused = await client.rejection(client.submit("emit", { count: "many" }))
    expect(refused.code).toBe("INVALID_REQUEST")
    expect(JSON.stringify([refused.message, refused.details])).toContain("count")
    expect((await client.rejection(client.submit("fail", { mode: "maybe", message: "x" }))).code).toBe(
      "INVALID_REQUEST"
    )
  })

  it.each([
    [{ max_runtime_sec: 0 }],
    [{ max_runtime_sec: 86_401 }],
    [{ max_runtime_sec: "1" }],
    [{ idempotency_key: "" }],
    [{ idempotency_key: "k".repeat(257) }],
    [{ lease_request: [] }],
    [{ lease_request: { telepathy: ["*"] } }],
    [{ lease_constraints: { expires_at: "2001-01-01T00:00:00Z" } }],
    [{ lease_constraints: { expires_at: "soon" } }],
    [{ lease_constraints: { expires_at: "2099-01-01T00:00:00+02:00" } }]
  ])("%j is INVALID_REQUEST", async (more) => {
    verifies("submit-invalid")
    const client = await WireClient.open(server.url)
    const frame = await client.answer(client.submit("echo", 1, more))
    expect(frame.type).toMatch(/error$/)
    expect(frame.payload.code).toBe("INVALID_REQUEST")
    await client.run("echo", 1)
  })

  it("sent again it is rejected again and runs nothing", async () => {
    verifies("submit-same-id")
    const client = await WireClient.open(server.url)
    const id = client.submit("no-such-agent", {})
    const first = await client.rejection(id)
    const second = await client.rejection(client.submit("no-such-agent", {}, {}, { id }))
    expect(second.code).toBe(first.code)
    await client.run("echo", 1)
  })
})

describe("agent versions", () => {
  it("a bare name is the default version, a full one is kept", async () => {
    verifies("agent-versions")
    const client = await WireClient.open(server.url)
    const bare = await client.run("ver", {})
    expect(bare.accepted.payload["agent"]).toBe("ver@2.0.0")
    expect(bare.terminal.payload.result).toEqual({ version: "2.0.0" })
    const old = await client.run("ver@1.0.0", {})
    expect(old.accepted.payload["agent"]).toBe("ver@1.0.0")
    expect(old.terminal.payload.result).toEqual({ version: "1.0.0" })
  })
})

describe("how a job ends", () => {
  it.each(["fail", "defect", "throw"])("%s: one job.error without a stack trace", async (mode) => {
    verifies("job-failure")
    const client = await WireClient.open(server.url)
    const { terminal } = await client.run("fail", { mode, message: "the reason" })
    expect(terminal).toMatchObject({ type: "job.error", payload: { final_status: "error" } })
    if (mode !== "fail") expect(terminal.payload.code).toBe("INTERNAL_ERROR")
    expect(JSON.stringify(terminal.payload)).not.toMatch(/\n\s*at |\.js:\d+/)
  })

  it("max_runtime_sec exceeded: TIMEOUT", async () => {
    verifies("job-timeout")
    const client = await WireClient.open(server.url)
    const { terminal, events } = await client.run("sleep", { ms: 60_000 }, { max_runtime_sec: 1 })
    expect(terminal.payload).toMatchObject({ code: "TIMEOUT", final_status: "timed_out", retryable: true })
    expect(events.some(({ payload }) => payload.body?.["message"] === "cleanup")).toBe(true)
  })

  it("long durations do not overflow a timer", async () => {
    verifies("durations")
    const client = await WireClient.open(server.url)
    const day = await client.accept("sleep", { ms: 86_400_000 * 30 }, { max_runtime_sec: 86_400 })
    const expires_at = new Date(Date.now() + 5 * 365 * 86_400_000).toISOString()
    const years = await client.accept("sleep", { ms: 60_000 }, { lease_constraints: { expires_at } })
    await client.silence(({ type }) => type === "job.result" || type === "job.error")
    for (const { job_id } of [day, years]) {
      client.request("job.cancel", {}, { job_id })
      expect((await client.terminal(job_id)).payload.code).toBe("CANCELLED")
    }
  })
})
