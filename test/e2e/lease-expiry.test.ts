import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { expectError, expiresIn, listed, scripted, toolErrors, verdict } from "./support/Authority.js"
import { ownServers, sharedServer } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

// They wait for the time of a lease: all at once, and for long enough that a slow machine submits in time.
const server = sharedServer(["--memory", ...scripted, "--cancel-grace-ms", "700"], { concurrent: true })
const own = ownServers({ concurrent: true })

describe.concurrent("expiry", () => {
  it("interrupts the job, whose finalizers run, and ends it in LEASE_EXPIRED", async () => {
    verifies("lease-expiry-interrupts")
    const client = await WireClient.open(server.url)
    const lease_constraints = expiresIn(3_000)
    const { accepted, terminal, events } = await client.run("sleep", { ms: 600_000 }, { lease_constraints })
    expect(terminal).toMatchObject({
      type: "job.error",
      payload: { code: "LEASE_EXPIRED", retryable: false, final_status: "error" }
    })
    expect(events.some(({ payload }) => payload.body?.["message"] === "cleanup")).toBe(true)
    const expiry = Date.parse(lease_constraints.expires_at)
    expect(Date.parse(String(terminal.payload["completed_at"]))).toBeGreaterThanOrEqual(expiry)
    const entry = (await listed(client)).find(({ job_id }) => job_id === accepted.job_id)
    expect(entry?.status).toBe("error")
  })

  it("a stuck agent is given up after the grace, and is heard no more", async () => {
    verifies("lease-expiry-grace")
    const client = await WireClient.open(server.url)
    const { job_id } = await client.accept("stubborn", { ms: 4_500 }, { lease_constraints: expiresIn(3_000) })
    expect((await client.terminal(job_id)).payload.code).toBe("LEASE_EXPIRED")
    await client.silence((frame) => frame.job_id === job_id, 2_000)
  })

  it("an operation after it fails with LEASE_EXPIRED, and so does the job that went on", async () => {
    verifies("lease-expiry-operation", "lease-order")
    const slow = await own.start("--memory", ...scripted, "--cancel-grace-ms", "30000")
    const client = await WireClient.open(slow.url)
    // Neither the budget nor the pattern allows it either: expiry comes first.
    const { terminal, events } = await client.run(
      "script",
      {
        stubborn: true,
        steps: [
          { do: "ask", capability: "tool.call", target: "denied", callId: "before" },
          { do: "sleep", ms: 3_200 },
          { do: "ask", capability: "tool.call", target: "denied", callId: "after" },
          { do: "ask", capability: "fs.read", target: "/etc/passwd", callId: "again" }
        ]
      },
      { lease_request: { "cost.budget": ["USD:0"] }, lease_constraints: expiresIn(3_000) }
    )
    const errors = toolErrors(events)
    expect(errors.map(({ callId, error }) => [callId, error.code])).toEqual([
      ["before", "BUDGET_EXHAUSTED"],
      ["after", "LEASE_EXPIRED"],
      ["again", "LEASE_EXPIRED"]
    ])
    for (const { error } of errors) expectError(error, error.code)
    expect(terminal).toMatchObject({
      type: "job.error",
      payload: { code: "LEASE_EXPIRED", retryable: false }
    })
  })

  it("a job that ends before it is not touched by it", async () => {
    verifies("lease-expiry-interrupts")
    const client = await WireClient.open(server.url)
    const { terminal } = await client.run("sleep", { ms: 10 }, { lease_constraints: expiresIn(3_000) })
    expect(terminal.type).toBe("job.result")
    await client.silence(({ type }) => type === "job.error", 3_200)
  })
})

describe("order", () => {
  it("the budget is asked before the pattern", async () => {
    verifies("lease-order")
    const client = await WireClient.open(server.url)
    const lease_request = { "cost.budget": ["USD:0.00"] }
    const { events, terminal } = await client.run("spend", { amount: "1", times: 2 }, { lease_request })
    expect(terminal.payload.result).toMatchObject({ denied: 2 })
    expect(toolErrors(events).map(({ error }) => error.code)).toEqual([
      "BUDGET_EXHAUSTED",
      "BUDGET_EXHAUSTED"
    ])
    for (const [agent, input] of [
      ["fetch", { url: "https://example.com/" }],
      ["model", { model: "anthropic/claude" }],
      ["read", { path: "/etc/passwd" }]
    ] as const) {
      expect(verdict(await client.run(agent, input, { lease_request }))).toBe("BUDGET_EXHAUSTED")
    }
  })
})
