import { writeFileSync } from "node:fs"
import { join } from "node:path"
import { SignJWT } from "jose"
import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import {
  children,
  costs,
  type Lease,
  listed,
  scripted,
  subscribed,
  toolErrors,
  verdict
} from "./support/Authority.js"
import { text, total } from "./support/Decimal.js"
import { ownServers, runToExit, sharedServer } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const secret = "only for tests: at least thirty-two bytes of it"
const server = sharedServer(["--memory", ...scripted, "--jwt-secret", secret])
const own = ownServers()

const token = (claims: Record<string, unknown>) =>
  new SignJWT({ sub: "alice", ...claims })
    .setProtectedHeader({ alg: "HS256" })
    .setExpirationTime("1h")
    .sign(new TextEncoder().encode(secret))

const open = async (arcp_lease: Lease, more: Record<string, unknown> = {}) =>
  WireClient.open(server.url, { token: await token({ arcp_lease, ...more }) })

const ceiling = {
  "tool.call": ["demo.*"],
  "fs.read": ["/src/**"],
  "net.fetch": ["https://api.example.com/v1/**"],
  "cost.budget": ["USD:5.00"],
  "agent.delegate": ["echo", "spend", "delegate"]
}

describe("the ceiling of an identity", () => {
  it("leaves alone what is inside it", async () => {
    verifies("ceiling-reduces", "lease-echoed")
    const client = await open(ceiling)
    const lease_request = {
      "tool.call": ["demo.tool"],
      "fs.read": ["/src/a/**", "/src/b.txt"],
      "cost.budget": ["USD:2.50"]
    }
    const { accepted } = await client.run("echo", 1, { lease_request })
    expect(accepted.payload["lease"]).toEqual(lease_request)
    expect(accepted.payload["budget"]).toEqual({ USD: 2.5 })
  })

  it("takes away what is outside, and shows what is left everywhere", async () => {
    verifies("ceiling-reduces", "lease-echoed")
    const client = await open(ceiling)
    const lease_request = {
      "tool.call": ["demo.tool", "other.tool"],
      "fs.read": ["/src/a.txt", "/etc/passwd", "/src/../etc/passwd"],
      "fs.write": ["/src/**"],
      "net.fetch": ["https://evil.example.com/**"],
      "model.use": ["**"]
    }
    const accepted = await client.accept("sleep", { ms: 600_000 }, { lease_request })
    const lease = accepted.payload["lease"] as Lease
    expect(lease["tool.call"]).toEqual(["demo.tool"])
    expect(lease["fs.read"]).toEqual(["/src/a.txt"])
    for (const capability of ["fs.write", "net.fetch", "model.use"])
      expect(lease[capability] ?? []).toEqual([])
    const entry = (await listed(client)).find(({ job_id }) => job_id === accepted.job_id)
    expect(entry?.lease).toEqual(lease)
    expect((await subscribed(client, accepted.job_id)).payload["lease"]).toEqual(lease)
    client.request("job.cancel", {}, { job_id: accepted.job_id })
    await client.terminal(accepted.job_id)
  })

  it.each<[Lease, string, unknown]>([
    [{ "tool.call": ["demo.*"] }, "spend", { amount: "1", times: 1 }],
    [{ "fs.read": ["/src/**"] }, "read", { path: "/etc/hostname" }],
    [{ "net.fetch": ["https://api.example.com/v1/**"] }, "fetch", { url: "https://example.org/" }],
    [{ "model.use": ["anthropic/*"] }, "model", { model: "openai/gpt" }]
  ])("under %j nobody gets beyond it, whatever is asked for", async (limit, agent, input) => {
    verifies("ceiling-reduces")
    const outside = agent === "spend" ? { "tool.call": ["other.*"] } : limit
    const client = await open(outside)
    for (const asked of ["**", "*", "/**", "*/**", "https://**", "demo.tool", "openai/*", "/etc/*"]) {
      const lease_request = Object.fromEntries(Object.keys(limit).map((capability) => [capability, [asked]]))
      const run = await client.run(agent, input, { lease_request })
      expect(verdict(run), asked).toBe("PERMISSION_DENIED")
    }
  })

  it("nothing allowed is nothing got", async () => {
    verifies("ceiling-reduces")
    const client = await open({})
    const lease_request = { "tool.call": ["demo.tool"], "fs.read": ["/**"], "agent.delegate": ["**"] }
    const run = await client.run("spend", { amount: "1", times: 1 }, { lease_request })
    expect(Object.values(run.accepted.payload["lease"] as Lease).flat()).toEqual([])
    expect(verdict(run)).toBe("PERMISSION_DENIED")
  })

  it("bounds the budget, however it is asked for", async () => {
    verifies("ceiling-budget")
    const client = await open(ceiling)
    for (const entries of [["USD:10"], ["USD:4", "USD:4"], ["USD:5.000000000000000001"], ["USD:999999999"]]) {
      const lease_request = { "tool.call": ["demo.tool"], "cost.budget": entries }
      const { accepted, events } = await client.run("spend", { amount: "1", times: 12 }, { lease_request })
      expect(accepted.payload["budget"], String(entries)).toEqual({ USD: 5 })
      expect(text(total(costs(events)))).toBe("5")
    }
  })

  it("bounds it when no budget is asked for, too", async () => {
    verifies("ceiling-budget")
    const client = await open(ceiling)
    for (const more of [{}, { "cost.budget": [] }, { "cost.budget": ["EUR:1"] }]) {
      const lease_request = { "tool.call": ["demo.tool"], ...more }
      const { events } = await client.run("spend", { amount: "1", times: 12 }, { lease_request })
      expect(costs(events).length, JSON.stringify(more)).toBeLessThanOrEqual(5)
    }
  })

  it("holds for what is delegated", async () => {
    verifies("ceiling-delegation")
    const client = await open(ceiling)
    const lease_request = { "tool.call": ["**"], "agent.delegate": ["**"], "cost.budget": ["USD:100"] }
    const { accepted, events } = await client.run(
      "delegate",
      { agent: "spend", input: { amount: "1", times: 12 }, lease_request: { "tool.call": ["other.**"] } },
      { lease_request }
    )
    expect(children(client, accepted.job_id)).toEqual([])
    expect(toolErrors(events)[0]?.error.code).toMatch(/LEASE_SUBSET_VIOLATION|PERMISSION_DENIED/)
  })
})

describe("a file of identities", () => {
  const file = (identities: unknown) => {
    const path = join(own.directory(), "identities.json")
    writeFileSync(path, typeof identities === "string" ? identities : JSON.stringify(identities))
    return path
  }

  it("gives each token its principal, agents and ceiling", async () => {
    verifies("ceiling-file", "ceiling-reduces", "ceiling-agents")
    const path = file([
      { token: "tok-ci", principal: "ci", agents: ["spend"], leaseCeiling: { "tool.call": ["demo.*"] } },
      { token: "tok-past", principal: "ci", expiresAt: 1 },
      { token: "tok-free", principal: "carol" }
    ])
    const { url } = await own.start("--memory", "--identities", path)
    const ci = await WireClient.open(url, { token: "tok-ci" })
    const lease_request = { "tool.call": ["demo.tool", "other"], "fs.read": ["/**"] }
    const { accepted, terminal } = await ci.run("spend", { amount: "1", times: 1 }, { lease_request })
    const lease = accepted.payload["lease"] as Lease
    expect(lease["tool.call"]).toEqual(["demo.tool"])
    expect(lease["fs.read"] ?? []).toEqual([])
    expect(terminal.payload.result).toMatchObject({ denied: 0 })
    expect((await ci.rejection(ci.submit("echo", 1))).code).toBe("AGENT_NOT_AVAILABLE")
    const free = await WireClient.open(url, { token: "tok-free" })
    expect((await free.run("echo", 1, { lease_request })).accepted.payload["lease"]).toEqual(lease_request)
    for (const token of ["tok-past", "tok-none"]) {
      const refused = await WireClient.connect(url)
      refused.sendHello({ token })
      expect((await refused.nextOf("session.error")).payload.code).toBe("UNAUTHENTICATED")
    }
  })

  it.each([
    ["no JSON", '[{"token":"tok-secret"'],
    ["no array", { token: "tok-secret", principal: "x" }],
    ["no principal", [{ token: "tok-secret" }]],
    [
      "an unknown capability",
      [{ token: "tok-secret", principal: "x", leaseCeiling: { "fs.delete": ["/"] } }]
    ],
    [
      "a budget that is none",
      [{ token: "tok-secret", principal: "x", leaseCeiling: { "cost.budget": ["5"] } }]
    ],
    ["a misspelt field", [{ token: "tok-secret", principal: "x", leaseCieling: {} }]]
  ])("is refused when it is %s, and its tokens are not printed", async (_, content) => {
    verifies("ceiling-file", "serve-flags")
    const path = file(content)
    const { exit, stdout, stderr } = await runToExit([
      "serve",
      "--memory",
      "--port",
      "0",
      "--identities",
      path
    ])
    expect(exit?.code).toBeGreaterThan(0)
    expect(stdout + stderr).not.toContain("tok-secret")
    expect(stderr).toContain("identities")
  })
})

describe("the agents of an identity", () => {
  it("are the only ones it can delegate to", async () => {
    verifies("ceiling-agents")
    const bearer = await token({ arcp_agents: ["delegate", "ver"] })
    const client = await WireClient.open(server.url, { token: bearer })
    const lease_request = { "agent.delegate": ["**"] }
    const allowed = await client.run("delegate", { agent: "ver", input: {} }, { lease_request })
    expect(allowed.terminal.payload.result).toEqual({ child: { version: "2.0.0" } })
    const refused = await client.run("delegate", { agent: "echo", input: 1 }, { lease_request })
    const unknown = await client.run("delegate", { agent: "not-there", input: 1 }, { lease_request })
    // Not yours and not there are answered alike.
    expect(refused.terminal.payload.result).toEqual(unknown.terminal.payload.result)
    expect(verdict(refused)).toBe("AGENT_NOT_AVAILABLE")
    expect(children(client, refused.accepted.job_id)).toEqual([])
    const submitted = await client.rejection(client.submit("echo", 1))
    expect(submitted.code).toBe("AGENT_NOT_AVAILABLE")
  })
})

describe("every decision about a subscription is logged", () => {
  it("with subscriber, job, owner and verdict", async () => {
    verifies("subscribe-audit")
    const audited = await own.start("--memory")
    const owner = await WireClient.open(audited.url)
    const { accepted } = await owner.run("echo", "private-input")
    const job_id = accepted.job_id ?? ""
    const alice = await WireClient.open(audited.url)
    await subscribed(alice, job_id)
    const bob = await WireClient.open(audited.url, { token: "tok-b" })
    const refused = await bob.refusal(bob.request("job.subscribe", { job_id }, { job_id }))
    expect(refused.code).toBe("JOB_NOT_FOUND")
    const unknown = "job_01HZZZZZZZZZZZZZZZZZZZZZZZ"
    await bob.refusal(bob.request("job.subscribe", { job_id: unknown }, { job_id: unknown }))
    await audited.stop()
    const lines = audited.program.stderr.split("\n")
    const about = (id: string, ...words: ReadonlyArray<string>) =>
      lines.filter((line) => line.includes(id) && words.every((word) => line.includes(word)))
    const shown = lines.filter((line) => line.includes(job_id)).join("\n")
    expect(about(job_id, "alice").length, shown).toBeGreaterThanOrEqual(2)
    const denied = about(job_id, "bob", "alice")
    expect(denied, shown).toHaveLength(1)
    expect(denied[0]).toMatch(/denied|refused|deny|forbidden|false/i)
    const granted = about(job_id, "alice").filter((line) => !line.includes("bob"))
    expect(
      granted.some((line) => /allowed|granted|permitted|allow|true/i.test(line)),
      shown
    ).toBe(true)
    expect(about(unknown, "bob"), lines.join("\n")).toHaveLength(1)
    expect(audited.program.stderr).not.toContain("private-input")
  })
})
