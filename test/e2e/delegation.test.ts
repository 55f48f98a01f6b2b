import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import {
  attempt,
  bodies,
  chain,
  children,
  expectError,
  expiresIn,
  type Lease,
  listed,
  nextChild,
  scripted,
  subscribed,
  to,
  toolErrors
} from "./support/Authority.js"
import { type Frame, ulid } from "./support/Frame.js"
import { sharedServer } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const server = sharedServer(["--memory", ...scripted], { concurrent: true })

/** A delegation that was refused: an error under its id, no child, and a parent that goes on. */
const refusedDelegation = async (
  client: WireClient,
  input: Record<string, unknown>,
  more: Record<string, unknown>,
  code: string
) => {
  const { accepted, events, terminal } = await client.run("delegate", input, more)
  const [denial, ...others] = toolErrors(events)
  expect(others).toEqual([])
  expectError(denial?.error, code)
  expect(denial?.callId).toMatch(new RegExp(`^del_${ulid}$`))
  expect(terminal).toMatchObject({ type: "job.result", payload: { result: { error: code } } })
  expect(children(client, accepted.job_id)).toEqual([])
  const announced = bodies(events, "delegate")
  for (const { delegate_id } of announced) expect(delegate_id).toBe(denial?.callId)
  return { denial, announced, accepted }
}

const order = (client: WireClient, match: (frame: Frame) => boolean) => client.frames.findIndex(match)

describe("a delegated job", () => {
  it("is announced on its parent, accepted, runs, and gives its result", async () => {
    verifies("delegate-accepted", "delegate-event", "delegate-result", "delegate-shown")
    const client = await WireClient.open(server.url)
    const lease_request = { "agent.delegate": ["ech*"], "tool.call": ["demo.*"] }
    const input = { agent: "echo", input: { a: [1, "x"] }, lease_request: { "tool.call": ["demo.tool"] } }
    const { accepted, events, terminal } = await client.run("delegate", input, { lease_request })
    expect(terminal.payload.result).toEqual({ child: { a: [1, "x"] } })
    expect(accepted.payload["parent_job_id"] ?? null).toBeNull()
    expect(accepted.payload).not.toHaveProperty("delegate_id")

    const [announced, ...others] = bodies(events, "delegate")
    expect(others).toEqual([])
    expect(announced).toMatchObject({ agent: expect.stringMatching(/^echo/), input: { a: [1, "x"] } })
    expect(announced?.["delegate_id"]).toMatch(new RegExp(`^del_${ulid}$`))
    expect(announced?.["lease_request"]).toEqual({ "tool.call": ["demo.tool"] })

    const [child, ...more] = children(client, accepted.job_id)
    expect(more).toEqual([])
    expect(child?.payload).toMatchObject({
      job_id: child?.job_id,
      parent_job_id: accepted.job_id,
      delegate_id: announced?.["delegate_id"],
      agent: "echo@1.0.0",
      lease: { "tool.call": ["demo.tool"] },
      trace_id: accepted.payload.trace_id,
      accepted_at: expect.any(String)
    })
    expect(child?.session_id).toBe(accepted.session_id)
    expect(child?.payload).not.toHaveProperty("credentials")

    const of = client.eventsOf(child?.job_id)
    expect(of[0]?.payload).toMatchObject({ kind: "status", body: { phase: "running" } })
    expect(of.at(-1)?.payload.result).toEqual({ a: [1, "x"] })
    const places = [
      order(client, ({ payload }) => payload.kind === "delegate"),
      client.frames.indexOf(child as Frame),
      client.frames.indexOf(of[0] as Frame),
      client.frames.indexOf(of.at(-1) as Frame),
      client.frames.indexOf(terminal)
    ]
    expect(places).toEqual([...places].sort((a, b) => a - b))
    for (const frame of [...events, ...of]) {
      if (frame.trace_id !== undefined) expect(frame.trace_id).toBe(accepted.payload.trace_id)
    }

    const entry = (await listed(client)).find(({ job_id }) => job_id === child?.job_id)
    expect(entry).toMatchObject({
      agent: "echo@1.0.0",
      parent_job_id: accepted.job_id,
      status: "success",
      lease: { "tool.call": ["demo.tool"] },
      trace_id: accepted.payload.trace_id
    })
    const watcher = await WireClient.open(server.url)
    expect((await subscribed(watcher, child?.job_id)).payload["parent_job_id"]).toBe(accepted.job_id)
    expect((await subscribed(watcher, accepted.job_id)).payload["parent_job_id"]).toBeNull()
  })

  it("keeps the trace of the submit, down to the last child", async () => {
    verifies("delegate-accepted")
    const client = await WireClient.open(server.url)
    const trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    const input = chain(3, "echo", 1, { "agent.delegate": ["delegate", "echo"] })
    const accepted = await client.answer(
      client.submit("delegate", input, to("delegate", "echo"), { trace_id })
    )
    const end = await client.terminal(accepted.job_id)
    expect(end.payload.result).toEqual({ child: { child: { child: 1 } } })
    const jobs = children(client)
    expect(jobs.map(({ payload }) => payload.trace_id)).toEqual([trace_id, trace_id, trace_id])
    expect(jobs.map(({ payload }) => payload["parent_job_id"])).toEqual([
      accepted.job_id,
      jobs[0]?.job_id,
      jobs[1]?.job_id
    ])
  })

  it("may be asked for by version; the permission is for its name", async () => {
    verifies("delegate-permission")
    const client = await WireClient.open(server.url)
    const { terminal } = await client.run("delegate", { agent: "ver@1.0.0", input: {} }, to("ver"))
    expect(terminal.payload.result).toEqual({ child: { version: "1.0.0" } })
  })

  it.each([
    ["fail", { mode: "fail", message: "the reason" }],
    ["fail", { mode: "defect", message: "the reason" }],
    ["fail", { mode: "throw", message: "the reason" }]
  ])("that fails is an error its parent learns: %s %j", async (agent, input) => {
    verifies("delegate-result")
    const client = await WireClient.open(server.url)
    const { accepted, terminal } = await client.run("delegate", { agent, input }, to("fail"))
    const child = children(client, accepted.job_id)[0]
    const end = client.eventsOf(child?.job_id).at(-1)
    expect(end?.type).toBe("job.error")
    expect(terminal.payload.result).toEqual({ error: end?.payload.code })
  })

  it("needs no authority beyond its own: what it does not ask for it does not get", async () => {
    verifies("delegate-subset")
    const client = await WireClient.open(server.url)
    const lease_request = { "agent.delegate": ["*"], "tool.call": ["demo.tool"] }
    const input = { agent: "spend", input: { amount: "1", times: 1 } }
    const { accepted, terminal } = await client.run("delegate", input, { lease_request })
    expect(terminal.payload.result).toMatchObject({ child: { denied: 1 } })
    const lease = children(client, accepted.job_id)[0]?.payload["lease"] as Lease
    expect(Object.values(lease).flat()).toEqual([])
  })
})

describe("a delegation that is refused", () => {
  it.each<[ReadonlyArray<string> | undefined, string]>([
    [undefined, "echo"],
    [[], "echo"],
    [["ech"], "echo"],
    [["echo2"], "echo"],
    [["ver"], "echo"],
    [["ech?"], "echo"],
    [["ECHO"], "echo"],
    [["spend", "delegate"], "echo@1.0.0"]
  ])("agent.delegate %j does not allow %s", async (names, agent) => {
    verifies("delegate-permission", "lease-denial")
    const client = await WireClient.open(server.url)
    const lease_request = names === undefined ? {} : { "agent.delegate": names }
    await refusedDelegation(client, { agent, input: 1 }, { lease_request }, "PERMISSION_DENIED")
  })

  it("says nothing about agents that it does not allow", async () => {
    verifies("delegate-permission")
    const client = await WireClient.open(server.url)
    const more = to("ver")
    await refusedDelegation(client, { agent: "not-there", input: 1 }, more, "PERMISSION_DENIED")
    await refusedDelegation(client, { agent: "echo@9.9.9", input: 1 }, more, "PERMISSION_DENIED")
  })

  it.each([
    ["not-there", 1, "AGENT_NOT_AVAILABLE"],
    ["ver@9.9.9", {}, "AGENT_VERSION_NOT_AVAILABLE"],
    ["emit", { count: "many" }, "INVALID_REQUEST"]
  ])("%s with %j is %s", async (agent, input, code) => {
    verifies("delegate-unavailable")
    const client = await WireClient.open(server.url)
    const { accepted, terminal } = await client.run("delegate", { agent, input }, to("**"))
    expect(terminal.payload.result).toEqual({ error: code })
    expect(children(client, accepted.job_id)).toEqual([])
    await client.run("echo", 1)
  })

  it.each<[parent: Lease, child: Lease]>([
    [{ "tool.call": ["demo.tool"] }, { "tool.call": ["demo.*"] }],
    [{ "tool.call": ["demo.tool"] }, { "tool.call": ["demo.tool", "other"] }],
    [{ "tool.call": ["demo.*"] }, { "tool.call": ["**"] }],
    [{ "tool.call": ["*"] }, { "tool.call": ["**"] }],
    [{}, { "tool.call": ["demo.tool"] }],
    [{ "fs.read": ["/a/**"] }, { "fs.read": ["/**"] }],
    [{ "fs.read": ["/a/**"] }, { "fs.read": ["/a/../b/**"] }],
    [{ "fs.read": ["/a/**"] }, { "fs.read": ["/ab/**"] }],
    [{ "fs.read": ["/a/**"] }, { "fs.write": ["/a/**"] }],
    [{ "fs.read": ["/a/*"] }, { "fs.read": ["/a/**"] }],
    [{ "fs.read": ["/a/*/c"] }, { "fs.read": ["/a/**/c"] }],
    [{ "net.fetch": ["https://a.example/**"] }, { "net.fetch": ["https://*.example/**"] }],
    [{ "net.fetch": ["https://a.example/v1/**"] }, { "net.fetch": ["https://a.example/v1/../**"] }],
    [{ "net.fetch": ["https://a.example/v1/**"] }, { "net.fetch": ["https://a.example/v1/%2e%2e/**"] }],
    [{ "net.fetch": ["https://a.example/**"] }, { "net.fetch": ["http://a.example/**"] }],
    [{ "model.use": ["anthropic/*"] }, { "model.use": ["*/*"] }],
    [{ "agent.delegate": ["echo"] }, { "agent.delegate": ["**"] }],
    [{ "x-vendor.acme.db": ["orders"] }, { "x-vendor.acme.db": ["orders", "users"] }],
    [{ "cost.budget": ["USD:5"] }, { "cost.budget": ["USD:5.000000000000000001"] }],
    [{ "cost.budget": ["USD:5"] }, { "cost.budget": ["USD:3", "USD:3"] }],
    [{ "cost.budget": ["USD:5"] }, { "cost.budget": ["USD:5", "EUR:1"] }]
  ])("%j does not cover %j", async (parent, child) => {
    verifies("delegate-subset", "delegate-budget")
    const client = await WireClient.open(server.url)
    const lease_request = { "agent.delegate": ["echo"], ...parent }
    const { announced, denial } = await refusedDelegation(
      client,
      { agent: "echo", input: 1, lease_request: child },
      { lease_request },
      "LEASE_SUBSET_VIOLATION"
    )
    expect(announced).toHaveLength(1)
    expect(announced[0]?.["delegate_id"]).toBe(denial?.callId)
  })

  it.each<[parent: Lease, child: Lease]>([
    [{ "tool.call": ["demo.*"] }, { "tool.call": ["demo.*"] }],
    [{ "tool.call": ["demo.*"] }, { "tool.call": ["demo.a", "demo.b"] }],
    [{ "tool.call": ["demo.*", "x"] }, { "tool.call": [] }],
    [{ "fs.read": ["/a/**"] }, { "fs.read": ["/a/b/**"] }],
    [{ "fs.read": ["/a/**"] }, { "fs.read": ["/a/b.txt"] }],
    [{ "fs.read": ["**"] }, { "fs.read": ["/a"] }],
    [{ "cost.budget": ["USD:5"] }, { "cost.budget": ["USD:5.00"] }],
    [{ "cost.budget": ["USD:5", "EUR:1"] }, { "cost.budget": ["USD:2", "USD:3"] }]
  ])("%j covers %j", async (parent, child) => {
    verifies("delegate-subset", "delegate-budget")
    const client = await WireClient.open(server.url)
    const lease_request = { "agent.delegate": ["echo"], ...parent }
    const input = { agent: "echo", input: 1, lease_request: child }
    const { accepted, terminal } = await client.run("delegate", input, { lease_request })
    expect(terminal.payload.result).toEqual({ child: 1 })
    expect(children(client, accepted.job_id)[0]?.payload["lease"]).toEqual(child)
  })

  it.each([
    [{ "fs.delete": ["/a"] }, undefined],
    [{ "cost.budget": ["USD"] }, undefined],
    [{ "cost.budget": ["USD:-1"] }, undefined],
    [undefined, { expires_at: "soon" }]
  ])("a lease that is none is refused: %j %j", async (lease_request, lease_constraints) => {
    verifies("delegate-subset", "lease-grammar")
    const client = await WireClient.open(server.url)
    const input = { agent: "echo", input: 1, lease_request, lease_constraints }
    const run = await attempt(client, "delegate", input, to("**"))
    expect(run.verdict).toMatch(/^(INVALID_REQUEST|LEASE_SUBSET_VIOLATION)$/)
    expect(children(client)).toEqual([])
  })
})

describe.concurrent("expiry", () => {
  it("is inherited, and ends the child with its parent", async () => {
    verifies("delegate-expiry", "delegate-ends")
    const client = await WireClient.open(server.url)
    const lease_constraints = expiresIn(3_000)
    const input = { agent: "sleep", input: { ms: 600_000 } }
    const { job_id } = await client.accept("delegate", input, { ...to("sleep"), lease_constraints })
    const child = await nextChild(client, job_id)
    const inherited = child.payload["lease_constraints"] as { readonly expires_at: string }
    expect(Date.parse(inherited.expires_at)).toBe(Date.parse(lease_constraints.expires_at))
    expect((await client.terminal(job_id)).payload).toMatchObject({ code: "LEASE_EXPIRED", retryable: false })
    const end = client.eventsOf(child.job_id).at(-1)
    expect(end?.type).toBe("job.error")
    expect(end?.payload.code).toMatch(/LEASE_EXPIRED|CANCELLED/)
  })

  it("may be earlier; the parent learns of it and goes on", async () => {
    verifies("delegate-expiry", "delegate-result")
    const client = await WireClient.open(server.url)
    const earlier = expiresIn(3_000)
    const input = { agent: "sleep", input: { ms: 600_000 }, lease_constraints: earlier }
    const more = { ...to("sleep"), lease_constraints: expiresIn(600_000) }
    const { accepted, terminal } = await client.run("delegate", input, more)
    const child = children(client, accepted.job_id)[0]
    const granted = child?.payload["lease_constraints"] as { readonly expires_at: string }
    expect(Date.parse(granted.expires_at)).toBe(Date.parse(earlier.expires_at))
    expect(client.eventsOf(child?.job_id).at(-1)?.payload).toMatchObject({
      code: "LEASE_EXPIRED",
      retryable: false
    })
    expect(terminal.payload.result).toEqual({ error: "LEASE_EXPIRED" })
  })

  it("is not later than the parent's", async () => {
    verifies("delegate-expiry", "delegate-subset")
    const client = await WireClient.open(server.url)
    const base = Date.now() + 3_600_000
    const at = (ms: number) => ({ expires_at: new Date(base + ms).toISOString() })
    const delegate = (ms: number) => ({ agent: "echo", input: 1, lease_constraints: at(ms) })
    const more = { ...to("echo"), lease_constraints: at(0) }
    await refusedDelegation(client, delegate(1), more, "LEASE_SUBSET_VIOLATION")
    await refusedDelegation(client, delegate(86_400_000), more, "LEASE_SUBSET_VIOLATION")
    const { terminal } = await client.run("delegate", delegate(0), more)
    expect(terminal.payload.result).toEqual({ child: 1 })
  })
})
