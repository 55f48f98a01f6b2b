import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import {
  attempt,
  bodies,
  expectError,
  expiresIn,
  listed,
  scripted,
  subscribed,
  toolErrors,
  verdict
} from "./support/Authority.js"
import { features } from "./support/Frame.js"
import { sharedServer } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const server = sharedServer(["--memory", ...scripted])

/** Refused with a `job.error` on a job of its own, and nothing else happens. */
const refusedSubmit = async (client: WireClient, more: Record<string, unknown>) => {
  const before = await client.run("echo", 1)
  const refused = await client.rejection(client.submit("echo", 1, more))
  expect(refused.code).toBe("INVALID_REQUEST")
  const frame = client.frames.at(-1)
  expect(frame?.job_id).not.toBe(before.accepted.job_id)
  expect(frame?.event_seq).toBe((before.terminal.event_seq ?? 0) + 1)
  expect(client.frames.filter(({ type }) => type === "session.error")).toEqual([])
  await client.run("echo", 1)
  return refused
}

describe("what a lease may say", () => {
  it.each([
    ["fs.delete"],
    ["FS.READ"],
    ["fs"],
    ["fs.read "],
    [""],
    ["x-vendor"],
    ["x-vendor.acme"],
    ["x-vendor..db"],
    ["x-acme.db.read"],
    ["__proto__"],
    ["constructor"],
    ["toString"]
  ])("%j is no capability", async (capability) => {
    verifies("lease-grammar", "submit-rejected")
    const client = await WireClient.open(server.url)
    // A computed key: `__proto__` becomes a member, as it does in a parsed frame.
    await refusedSubmit(client, { lease_request: { "tool.call": ["a"], [capability]: ["a"] } })
  })

  it.each([["a"], [{ 0: "a" }], [null], [[1]], [[null]], [[["a"]]], [true]])(
    "%j are no patterns",
    async (patterns) => {
      verifies("lease-grammar")
      const client = await WireClient.open(server.url)
      await refusedSubmit(client, { lease_request: { "tool.call": patterns } })
    }
  )

  it.each([
    "USD",
    "USD:",
    ":5",
    "5",
    "USD:5.",
    "USD:.5",
    "USD:-1",
    "USD:+5",
    "USD:1e3",
    "USD:5,00",
    "USD: 5",
    " USD:5",
    "USD:5 ",
    "USD:5\n",
    "USD:5.0.0",
    "USD:NaN",
    "USD:Infinity",
    "USD:0x5",
    "USD:٥",
    "USD:5:5",
    "USD=5",
    ""
  ])("%j is no budget", async (entry) => {
    verifies("lease-budget-grammar")
    const client = await WireClient.open(server.url)
    await refusedSubmit(client, { lease_request: { "cost.budget": ["EUR:1", entry] } })
  })

  it.each([
    "2001-01-01T00:00:00Z",
    "soon",
    "",
    "2099-01-01",
    "2099-01-01T00:00:00",
    "2099-01-01T00:00:00z",
    "2099-01-01T00:00:00+00:00",
    "2099-01-01T00:00:00+02:00",
    "2099-02-30T00:00:00Z",
    "2099-13-01T00:00:00Z",
    "Thu, 01 Jan 2099 00:00:00 GMT",
    4_070_908_800_000,
    null,
    ["2099-01-01T00:00:00Z"]
  ])("%j is no expiry", async (expires_at) => {
    verifies("lease-constraints")
    const client = await WireClient.open(server.url)
    await refusedSubmit(client, { lease_constraints: { expires_at } })
  })

  it("vendor capabilities and all reserved ones are echoed as they are", async () => {
    verifies("lease-grammar", "lease-echoed")
    const client = await WireClient.open(server.url)
    const lease_request = {
      "fs.read": ["/src/**"],
      "fs.write": ["/tmp/*"],
      "net.fetch": ["https://*.example.com/**"],
      "tool.call": ["search.*", "mcp:files/**"],
      "agent.delegate": ["echo"],
      "model.use": ["anthropic/*"],
      "cost.budget": ["USD:5.00", "credits:1000"],
      "x-vendor.acme.db": ["orders"],
      "x-vendor.acme.db.read": []
    }
    const lease_constraints = expiresIn(3_600_000)
    const { accepted } = await client.run("echo", 1, { lease_request, lease_constraints })
    expect(accepted.payload["lease"]).toEqual(lease_request)
    const entry = (await listed(client)).find(({ job_id }) => job_id === accepted.job_id)
    expect(entry?.lease).toEqual(lease_request)
    const answer = await subscribed(client, accepted.job_id)
    expect(answer.payload["lease"]).toEqual(lease_request)
    const expiries = [accepted.payload, entry, answer.payload].map((shown) => {
      const constraints = shown?.["lease_constraints"] as { readonly expires_at?: string } | undefined
      return Date.parse(String(constraints?.expires_at))
    })
    expect(new Set(expiries)).toEqual(new Set([Date.parse(lease_constraints.expires_at)]))
    for (const shown of [accepted.payload, entry, answer.payload])
      expect(shown).not.toHaveProperty("credentials")
  })

  it("no lease asked for is no authority", async () => {
    verifies("lease-patterns-names")
    const client = await WireClient.open(server.url)
    const run = await client.run("spend", { amount: "1", times: 1 })
    expect(run.accepted.payload["lease"]).toEqual({})
    expect(verdict(run)).toBe("PERMISSION_DENIED")
  })
})

describe("features", () => {
  it.each([
    ["cost.budget", { lease_request: { "cost.budget": ["USD:5"] } }],
    ["model.use", { lease_request: { "model.use": ["anthropic/*"] } }],
    ["lease_expires_at", { lease_constraints: { expires_at: "2099-01-01T00:00:00Z" } }]
  ])("a submit that needs %s, which was not negotiated, is refused", async (feature, more) => {
    verifies("lease-negotiated", "negotiate-enforced")
    const without = await WireClient.open(server.url, {
      features: features.filter((name) => name !== feature)
    })
    await refusedSubmit(without, more)
    const withIt = await WireClient.open(server.url)
    await withIt.run("echo", 1, more)
  })

  it("cost.budget and model.use are offered", async () => {
    verifies("lease-negotiated", "negotiate-intersection")
    const client = await WireClient.connect(server.url)
    const { payload } = await client.hello({ features: ["cost.budget", "model.use"] })
    const offered = (payload["capabilities"] as { readonly features: ReadonlyArray<string> }).features
    expect([...offered].sort()).toEqual(["cost.budget", "model.use"])
  })
})

describe("names", () => {
  it.each([
    ["demo.tool", true],
    ["demo.*", true],
    ["demo*", true],
    ["*", true],
    ["**", true],
    ["*.tool", true],
    ["d*l", true],
    ["*.*", true],
    ["demo.tool*", true],
    ["demo", false],
    ["tool", false],
    ["demo.too", false],
    ["emo.tool", false],
    ["DEMO.TOOL", false],
    ["demo.tool.*", false],
    ["demo.?ool", false],
    ["demo.[t]ool", false],
    ["demo.(tool)", false],
    ["demo.tool|x", false],
    ["demo.{tool,x}", false],
    ["demo.too.", false],
    ["demo.tool+", false],
    ["^demo.tool$", false],
    ["demo\\.tool", false],
    ["*/demo.tool", false],
    ["**/*/demo.tool", false]
  ])("tool.call %j and demo.tool: %s", async (pattern, allowed) => {
    verifies("lease-patterns-names", "lease-denial")
    const client = await WireClient.open(server.url)
    const lease_request = { "tool.call": ["other", pattern] }
    const { events, terminal } = await client.run("spend", { amount: "1", times: 2 }, { lease_request })
    // Two attempts: a denial does not end the job.
    expect(terminal.payload).toMatchObject({ result: { denied: allowed ? 0 : 2 } })
    const errors = toolErrors(events)
    expect(errors).toHaveLength(allowed ? 0 : 2)
    for (const { callId, error } of errors) {
      expectError(error, "PERMISSION_DENIED")
      expect(callId).not.toBe("")
    }
    expect(bodies(events, "metric").filter(({ name }) => name === "cost.demo")).toHaveLength(allowed ? 2 : 0)
  })

  it("an allowed operation is a call, its result and its cost", async () => {
    verifies("lease-patterns-names")
    const client = await WireClient.open(server.url)
    const { events } = await client.run(
      "spend",
      { amount: "0.25", times: 1 },
      { lease_request: { "tool.call": ["demo.tool"] } }
    )
    const told = events.filter(({ payload }) => /^(tool_|metric)/.test(payload.kind ?? ""))
    expect(told.map(({ payload }) => payload.kind)).toEqual(["tool_call", "tool_result", "metric"])
    const [call, result, metric] = told.map(({ payload }) => payload.body)
    expect(call).toMatchObject({ tool: "demo.tool", call_id: expect.any(String) })
    expect(result?.["call_id"]).toBe(call?.["call_id"])
    expect(result).not.toHaveProperty("error")
    expect(metric).toMatchObject({ name: "cost.demo", value: 0.25, unit: "USD" })
  })

  it.each(["a\0b", "a\nb", "\u007f", "a\u0085"])(
    "control characters in a name are refused: %j",
    async (target) => {
      verifies("lease-patterns-names")
      const client = await WireClient.open(server.url)
      const steps = [{ do: "ask", capability: "tool.call", target, callId: "c" }]
      const wide = await attempt(client, "script", { steps }, { lease_request: { "tool.call": ["**"] } })
      expect(wide.verdict).toBe("PERMISSION_DENIED")
      // Not even when the lease spells them out, if it may.
      const exact = await attempt(client, "script", { steps }, { lease_request: { "tool.call": [target] } })
      expect(exact.verdict).toMatch(/^(PERMISSION_DENIED|INVALID_REQUEST)$/)
    }
  )
})

describe("what is asked for", () => {
  it("is canonical in the answer; only what the lease names is allowed, of whatever capability", async () => {
    verifies("lease-paths", "lease-urls", "lease-grammar")
    const client = await WireClient.open(server.url)
    const lease_request = {
      "fs.write": ["/out/**"],
      "net.fetch": ["https://example.com/v1/**"],
      "x-vendor.acme.db": ["orders"]
    }
    const asked: ReadonlyArray<readonly [capability: string, target: string, answer: unknown]> = [
      ["fs.write", "/out/./a//b/../c", { ok: "/out/a/c" }],
      ["fs.write", "/out/../etc/c", { error: "PERMISSION_DENIED" }],
      ["fs.read", "/out/c", { error: "PERMISSION_DENIED" }],
      ["net.fetch", "HTTPS://EXAMPLE.com:443/v1/%61/../b#c", { ok: "https://example.com/v1/b" }],
      ["x-vendor.acme.db", "orders", { ok: "orders" }],
      ["x-vendor.acme.db", "users", { error: "PERMISSION_DENIED" }],
      ["x-vendor.acme.other", "orders", { error: "PERMISSION_DENIED" }],
      ["fs.delete", "/out/c", { error: "PERMISSION_DENIED" }],
      ["__proto__", "toString", { error: "PERMISSION_DENIED" }],
      ["constructor", "name", { error: "PERMISSION_DENIED" }]
    ]
    const steps = asked.map(([capability, target]) => ({ do: "ask", capability, target }))
    const { terminal } = await client.run("script", { steps }, { lease_request })
    expect(terminal.payload.result).toMatchObject(asked.map(([, , answer]) => answer))
  })
})

describe("models", () => {
  it.each([
    ["anthropic/*", "anthropic/claude", true],
    ["anthropic/*", "anthropic/claude-3.5:beta", true],
    ["anthropic/*", "anthropic/a/b", false],
    ["anthropic/**", "anthropic/a/b", true],
    ["anthropic/*", "openai/gpt", false],
    ["anthropic/*", "anthropicx/gpt", false],
    ["anthropic/*", "x/anthropic/gpt", false],
    ["gpt-4*", "gpt-4o", true],
    ["gpt-4*", "gpt-3", false],
    ["gpt-4", "GPT-4", false]
  ])("model.use %j and %j: %s", async (pattern, model, allowed) => {
    verifies("lease-models")
    const client = await WireClient.open(server.url)
    const run = await client.run("model", { model }, { lease_request: { "model.use": [pattern] } })
    expect(verdict(run)).toBe(allowed ? "allowed" : "PERMISSION_DENIED")
  })

  it("without model.use in the lease every model is refused", async () => {
    verifies("lease-models")
    const client = await WireClient.open(server.url)
    for (const lease_request of [{}, { "model.use": [] }, { "tool.call": ["**"] }]) {
      const run = await client.run("model", { model: "anthropic/claude" }, { lease_request })
      expect(verdict(run)).toBe("PERMISSION_DENIED")
    }
    const without = await WireClient.open(server.url, { features: [] })
    expect(verdict(await without.run("model", { model: "anthropic/claude" }))).toBe("PERMISSION_DENIED")
  })
})

describe("idempotency", () => {
  it("another lease is another request; the order of its members is not", async () => {
    verifies("idempotency-lease", "idempotency-conflict")
    const client = await WireClient.open(server.url)
    const idempotency_key = `lease-${process.pid}-${Math.random()}`
    const lease_request = { "tool.call": ["a", "b"], "cost.budget": ["USD:5"] }
    const lease_constraints = expiresIn(3_600_000)
    const base = { lease_request, lease_constraints, idempotency_key }
    const { accepted } = await client.run("echo", 1, base)
    const same = await client.accept("echo", 1, {
      ...base,
      lease_request: { "cost.budget": ["USD:5"], "tool.call": ["a", "b"] }
    })
    const { request_id: _, ...answered } = accepted.payload
    expect(same.payload).toMatchObject(answered)
    for (const other of [
      { lease_request: { ...lease_request, "cost.budget": ["USD:6"] } },
      { lease_request: { ...lease_request, "tool.call": ["b", "a"] } },
      { lease_request: { "tool.call": ["a", "b"] } },
      { lease_request: undefined },
      { lease_constraints: expiresIn(7_200_000) },
      { lease_constraints: undefined }
    ]) {
      const refused = await client.rejection(client.submit("echo", 1, { ...base, ...other }))
      expect(refused).toMatchObject({
        code: "DUPLICATE_KEY",
        details: { existing_job_id: accepted.job_id }
      })
    }
  })
})
