import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import {
  account,
  bodies,
  children,
  costs,
  expectError,
  expectRemaining,
  expectReports,
  type Lease,
  nextChild,
  scripted,
  subscribed,
  toolErrors
} from "./support/Authority.js"
import { exact, text, total } from "./support/Decimal.js"
import type { Frame } from "./support/Frame.js"
import { isTerminal } from "./support/Frame.js"
import { ownServers, sharedServer } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const server = sharedServer(["--memory", ...scripted])
const own = ownServers()

const everything = ["delegate", "script", "spend", "echo", "sleep"]
const lease = (...budget: ReadonlyArray<string>): Lease => ({
  "agent.delegate": everything,
  "tool.call": ["demo.tool"],
  ...(budget.length > 0 ? { "cost.budget": budget } : {})
})
const pay = (amount: string, currency = "USD") => ({ do: "spend", cost: { amount, currency } })
const child = (agent: string, input: unknown, terms: Lease, more: Record<string, unknown> = {}) => ({
  do: "delegate",
  agent,
  input,
  lease: terms,
  ...more
})

const allCosts = (client: WireClient, currency = "USD") => costs(client.frames, currency)
const codes = (terminal: Frame) =>
  (terminal.payload.result as ReadonlyArray<{ readonly error?: string }>).map(({ error }) => error ?? "ok")

describe("the budget of a child", () => {
  it("has its own counter, and what it spends is its parent's too", async () => {
    verifies("delegate-ancestors", "delegate-budget", "budget-shown")
    const client = await WireClient.open(server.url)
    const input = { agent: "spend", input: { amount: "0.5", times: 10 }, lease_request: lease("USD:2") }
    const more = { lease_request: lease("USD:5", "EUR:1") }
    const { accepted, terminal } = await client.run("delegate", input, more)
    const [job] = children(client, accepted.job_id)
    expect(job?.payload["budget"]).toEqual({ USD: 2 })
    expect(terminal.payload.result).toMatchObject({ child: { denied: 6 } })
    const events = client.eventsOf(job?.job_id)
    expect(costs(events)).toHaveLength(4)
    expectReports(events, "USD", "2")
    expect(toolErrors(events).map(({ error }) => error.code)).toEqual(Array(6).fill("BUDGET_EXHAUSTED"))
    expect((await account(server.url, job?.job_id)).budget).toEqual({ USD: 0 })
    expect((await account(server.url, accepted.job_id)).budget).toEqual({ USD: 3, EUR: 1 })
  })

  it("is counted against every ancestor, exactly", async () => {
    verifies("delegate-ancestors", "budget-exact")
    const client = await WireClient.open(server.url)
    const input = {
      agent: "delegate",
      lease_request: lease("USD:0.8"),
      input: {
        agent: "delegate",
        lease_request: lease("USD:0.7"),
        input: { agent: "spend", lease_request: lease("USD:0.7"), input: { amount: "0.1", times: 6 } }
      }
    }
    const { accepted } = await client.run("delegate", input, { lease_request: lease("USD:0.9") })
    const jobs = [accepted, ...children(client)]
    const budgets = await Promise.all(
      jobs.map(async ({ job_id }) => (await account(server.url, job_id)).budget)
    )
    expect(budgets).toEqual([{ USD: 0.3 }, { USD: 0.2 }, { USD: 0.1 }, { USD: 0.1 }])
  })

  it("is at most what remains of its parent's", async () => {
    verifies("delegate-budget")
    const client = await WireClient.open(server.url)
    const echo = (budget: string) => child("echo", 1, { "cost.budget": [budget] })
    const steps = [
      echo("USD:5"),
      pay("1.5"),
      echo("USD:3.500000000000000001"),
      echo("USD:4"),
      echo("USD:3.5")
    ]
    const { terminal, events } = await client.run("script", { steps }, { lease_request: lease("USD:5") })
    const violation = "LEASE_SUBSET_VIOLATION"
    expect(codes(terminal)).toEqual(["ok", "ok", violation, violation, "ok"])
    expect(toolErrors(events).map(({ error }) => error.code)).toEqual([violation, violation])
  })

  it("that was granted does not protect it: the parent's counter counts too", async () => {
    verifies("delegate-ancestors", "budget-crossing")
    const client = await WireClient.open(server.url)
    const spending = child("spend", { amount: "1", times: 4 }, lease("USD:4"))
    // The first child leaves 1 to the parent; the second was granted 4 before that.
    const waiting = child(
      "script",
      { steps: [{ do: "sleep", ms: 1_500 }, ...Array(4).fill({ do: "buy", cost: pay("1").cost })] },
      lease("USD:4")
    )
    const steps = [{ do: "all", steps: [waiting, spending] }]
    const { accepted, terminal } = await client.run("script", { steps }, { lease_request: lease("USD:5") })
    expect(JSON.stringify(terminal.payload.result)).toContain("BUDGET_EXHAUSTED")
    expect(text(total(allCosts(client)))).toBe("5")
    expect((await account(server.url, accepted.job_id)).budget).toEqual({ USD: 0 })
  })

  it("when it has none, its spending still counts above it", async () => {
    verifies("delegate-ancestors", "delegate-tree")
    const client = await WireClient.open(server.url)
    const input = { agent: "spend", input: { amount: "1", times: 12 }, lease_request: lease() }
    const { accepted } = await client.run("delegate", input, { lease_request: lease("USD:5") })
    expect(total(allCosts(client))).toBeLessThanOrEqual(exact("5"))
    const { budget } = await account(server.url, accepted.job_id)
    expectRemaining(budget, "USD", "5", allCosts(client))
  })

  it("ends when the parent's does, though its own is not spent", async () => {
    verifies("delegate-ancestors", "budget-crossing")
    const client = await WireClient.open(server.url)
    const waiting = child(
      "script",
      {
        steps: [
          { do: "sleep", ms: 1_000 },
          { do: "ask", capability: "tool.call", target: "demo.tool", callId: "c" }
        ]
      },
      lease("EUR:1")
    )
    // Another child spends it: both are delegated together, so nothing is spent before the first has begun.
    const spending = child("script", { steps: [pay("5")] }, lease("USD:5"))
    const steps = [{ do: "all", steps: [waiting, spending] }]
    const { accepted } = await client.run("script", { steps }, { lease_request: lease("USD:5", "EUR:1") })
    const [job] = children(client, accepted.job_id)
    const [denial] = toolErrors(client.eventsOf(job?.job_id))
    expect(denial?.callId).toBe("c")
    expectError(denial?.error, "BUDGET_EXHAUSTED")
  })

  it("another delegation is refused when nothing is left", async () => {
    verifies("delegate-budget", "lease-order")
    const client = await WireClient.open(server.url)
    const steps = [pay("5"), child("echo", 1, {})]
    const { accepted, terminal } = await client.run("script", { steps }, { lease_request: lease("USD:5") })
    expect(codes(terminal)).toEqual(["ok", "BUDGET_EXHAUSTED"])
    expect(children(client, accepted.job_id)).toEqual([])
  })
})

describe("a tree of jobs that spend at once", () => {
  it.each(["memory", "a file"])(
    "never more than its root was given and what was in flight, in %s",
    async (where) => {
      verifies("delegate-tree", "budget-concurrent")
      const stored = ["--db", join(own.directory(), "arcp.db"), ...scripted]
      const { url } = where === "memory" ? server : await own.start(...stored)
      const client = await WireClient.open(url)
      const buy = { do: "buy", cost: { amount: "0.03", currency: "USD" } }
      const spenders = (count: number) =>
        Array.from({ length: count }, () => ({ do: "times", times: 40, steps: [buy] }))
      const leaf = (budget: string) =>
        child("script", { steps: [{ do: "all", steps: spenders(3) }] }, lease(budget))
      const branch = child(
        "script",
        { steps: [{ do: "all", steps: [leaf("USD:1"), leaf("USD:2"), ...spenders(2)] }] },
        lease("USD:3")
      )
      const input = { steps: [{ do: "all", steps: [branch, branch, branch, leaf("USD:2"), ...spenders(2)] }] }
      const { accepted } = await client.run("script", input, { lease_request: lease("USD:5") })
      const jobs = [accepted, ...children(client)]
      expect(jobs.length).toBeGreaterThan(4)
      // 3 branches of 2 + 6 fibers, a leaf of 3, and 2 of the root's own.
      const inFlight = BigInt(3 * 8 + 3 + 2)
      const spent = total(allCosts(client))
      expect(spent).toBeGreaterThanOrEqual(exact("5"))
      expect(spent).toBeLessThan(exact("5") + inFlight * exact("0.03"))

      const childrenOf = (id: string | undefined): ReadonlyArray<string | undefined> =>
        jobs
          .filter(({ payload }) => payload["parent_job_id"] === id)
          .flatMap(({ job_id }) => [job_id, ...childrenOf(job_id)])
      for (const job of jobs) {
        const { budget } = await account(url, job.job_id)
        const tree = [job.job_id, ...childrenOf(job.job_id)].flatMap((id) => costs(client.eventsOf(id)))
        const initial = job.payload["budget"] as { readonly USD: number }
        expectRemaining(budget, "USD", String(initial.USD), tree)
      }
    }
  )
})

describe("caps", () => {
  it("sixteen levels, and not one more", async () => {
    verifies("delegate-depth")
    const client = await WireClient.open(server.url)
    const terms = lease()
    const nested = (depth: number): Record<string, unknown> =>
      depth === 1
        ? { agent: "echo", input: "deep", lease_request: terms }
        : { agent: "delegate", input: nested(depth - 1), lease_request: terms }
    const unwrap = (result: unknown): unknown =>
      typeof result === "object" && result !== null && "child" in result ? unwrap(result.child) : result

    const deep = await client.run("delegate", nested(15), { lease_request: terms })
    expect(unwrap(deep.terminal.payload.result)).toBe("deep")
    expect(children(client)).toHaveLength(15)

    const other = await WireClient.open(server.url)
    const tooDeep = await other.run("delegate", nested(20), { lease_request: terms })
    expect(tooDeep.terminal.type).toBe("job.result")
    expect(unwrap(tooDeep.terminal.payload.result)).toEqual({ error: "INTERNAL_ERROR" })
    expect(children(other)).toHaveLength(16)
    const [denial, ...more] = toolErrors(other.frames)
    expect(more).toEqual([])
    expectError(denial?.error, "INTERNAL_ERROR")
    expect(denial?.error.details?.["limit"]).toEqual(expect.any(String))
    expect(denial?.error.message).toMatch(/16/)
  })

  it("a hundred children at once, and not one more", async () => {
    verifies("delegate-fan-out")
    const wide = await own.start("--memory", ...scripted, "--limit", "maxJobsPerSession=500")
    const client = await WireClient.open(wide.url)
    const sleep = child("sleep", { ms: 600_000 }, {}, { abandon: true })
    const steps = [
      { do: "all", steps: Array(105).fill(sleep) },
      { do: "sleep", ms: 100 }
    ]
    const { accepted, terminal, events } = await client.run("script", { steps }, { lease_request: lease() })
    const [outcomes] = terminal.payload.result as [
      { readonly ok: ReadonlyArray<{ readonly error?: string; readonly details?: Record<string, unknown> }> }
    ]
    const refused = outcomes.ok.filter(({ error }) => error !== undefined)
    expect(refused).toHaveLength(5)
    for (const { error, details } of refused) {
      expect(error).toBe("INTERNAL_ERROR")
      expect(details?.["limit"]).toEqual(expect.any(String))
    }
    expect(children(client, accepted.job_id)).toHaveLength(100)
    expect(toolErrors(events)).toHaveLength(5)
    expect(client.frames.filter(isTerminal).at(-1)?.job_id).toBe(accepted.job_id)
  })

  it("children that ended make room", async () => {
    verifies("delegate-fan-out")
    const client = await WireClient.open(server.url)
    const steps = [{ do: "times", times: 120, steps: [child("echo", 1, {})] }]
    const { accepted, terminal } = await client.run("script", { steps }, { lease_request: lease() })
    expect(JSON.stringify(terminal.payload.result)).not.toContain("error")
    expect(children(client, accepted.job_id)).toHaveLength(120)
  })

  it("a child counts as a job of its principal: a tree does not grow without bound", async () => {
    verifies("delegate-fan-out", "cap-jobs-principal")
    const small = await own.start("--memory", ...scripted, "--limit", "maxJobsPerPrincipal=3")
    const client = await WireClient.open(small.url)
    const sleep = child("sleep", { ms: 300 }, {})
    const steps = [{ do: "all", steps: [sleep, sleep, sleep] }, sleep]
    const { terminal, events } = await client.run("script", { steps }, { lease_request: lease() })
    const [all, after] = terminal.payload.result as [
      { readonly ok: ReadonlyArray<{ readonly error?: string; readonly details?: Record<string, unknown> }> },
      { readonly error?: string }
    ]
    const refused = all.ok.filter(({ error }) => error !== undefined)
    expect(refused).toMatchObject([{ error: "INTERNAL_ERROR", details: { limit: expect.any(String) } }])
    expect(toolErrors(events)).toHaveLength(1)
    expect(after.error).toBeUndefined()
  })
})

describe("a tree and its log", () => {
  it("a resume replays parent and child in their order", async () => {
    verifies("delegate-replayed", "resume-replay")
    const client = await WireClient.open(server.url)
    const input = { agent: "emit", input: { count: 60, delayMs: 5 } }
    const { job_id } = await client.accept("delegate", input, {
      lease_request: { "agent.delegate": ["emit"] }
    })
    const job = await nextChild(client, job_id)
    await client.next(({ event_seq }) => event_seq === 20)
    client.drop()
    const resumed = await WireClient.resume(server.url, client.session, { from: 0 })
    expect((await resumed.terminal(job_id)).payload.result).toEqual({ child: { count: 60 } })
    const events = resumed.frames.filter(({ event_seq }) => event_seq !== undefined)
    expect(events.map(({ event_seq }) => event_seq)).toEqual(events.map((_, i) => i + 1))
    expect(bodies(events, "delegate")).toHaveLength(1)
    expect(resumed.eventsOf(job.job_id)).toHaveLength(62)
  })

  it("a session that was away when the child was accepted learns of it", async () => {
    verifies("delegate-replayed", "delegate-accepted")
    const client = await WireClient.open(server.url)
    const steps = [{ do: "sleep", ms: 700 }, child("echo", "while away", {})]
    const { job_id } = await client.accept("script", { steps }, { lease_request: lease() })
    client.drop()
    await client.closing()
    const watcher = await WireClient.open(server.url)
    await subscribed(watcher, job_id, { history: true })
    await watcher.terminal(job_id)
    const resumed = await WireClient.resume(server.url, client.session)
    await resumed.terminal(job_id)
    const announced = bodies(resumed.frames, "delegate")[0]
    const [job] = children(resumed, job_id)
    expect(job?.payload).toMatchObject({ parent_job_id: job_id, delegate_id: announced?.["delegate_id"] })
    expect(resumed.eventsOf(job?.job_id).at(-1)?.payload.result).toBe("while away")
  })

  it("kill -9: every job of the tree ends once, children first, and the counters are what the logs say", async () => {
    verifies("delegate-restart", "budget-restart", "delegate-ancestors")
    const db = join(own.directory(), "arcp.db")
    let running = await own.start("--db", db)
    for (const at of [60, 300]) {
      const client = await WireClient.open(running.url)
      const input = {
        agent: "delegate",
        lease_request: lease("USD:90"),
        input: {
          agent: "spend",
          lease_request: lease("USD:80"),
          input: { amount: "0.0007", times: 1_000_000 }
        }
      }
      const accepted = await client.accept("delegate", input, { lease_request: lease("USD:100") })
      await client.next(({ event_seq }) => event_seq === at)
      const ids = [accepted, ...children(client)].map(({ job_id }) => job_id)
      expect(ids).toHaveLength(3)
      await running.kill()
      await client.closing()
      running = await own.start("--db", db)
      const accounts = []
      for (const id of ids) accounts.push(await account(running.url, id))
      const spent = costs(accounts[2]?.events ?? [])
      expect(spent.length).toBeGreaterThanOrEqual(costs(client.eventsOf(ids[2])).length)
      for (const [i, initial] of ["100", "90", "80"].entries()) {
        expectRemaining(accounts[i]?.budget, "USD", initial, spent)
        expect(accounts[i]?.terminal.payload).toMatchObject({
          code: "INTERNAL_ERROR",
          details: { reason: "runtime_restart" }
        })
      }
      const resumed = await WireClient.resume(running.url, client.session)
      await resumed.terminal(accepted.job_id)
      const ends = resumed.frames.filter(isTerminal).map(({ job_id }) => job_id)
      expect(ends).toEqual([...ids].reverse())
    }
  })
})
