import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import {
  account,
  bodies,
  costs,
  expectError,
  expectRemaining,
  expectReports,
  reports,
  scripted,
  subscribed,
  toolErrors
} from "./support/Authority.js"
import { exact, text, total } from "./support/Decimal.js"
import { ownServers, sharedServer } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const server = sharedServer(["--memory", ...scripted])
const own = ownServers()

const lease = (...entries: ReadonlyArray<string>) => ({
  lease_request: { "tool.call": ["demo.*"], "cost.budget": entries }
})

const spend = async (input: Record<string, unknown>, ...entries: ReadonlyArray<string>) => {
  const client = await WireClient.open(server.url)
  return client.run("spend", input, lease(...entries))
}

describe("a budget", () => {
  it("is in the accept, a number per currency", async () => {
    verifies("budget-shown")
    const client = await WireClient.open(server.url)
    const budget = async (...entries: ReadonlyArray<string>) =>
      (await client.accept("echo", 1, lease(...entries))).payload["budget"]
    expect(await budget("USD:5.00")).toEqual({ USD: 5 })
    expect(await budget("USD:5", "credits:1000", "EUR:0.50")).toEqual({ USD: 5, credits: 1000, EUR: 0.5 })
    expect(await budget("USD:0.1", "USD:0.2", "USD:5")).toEqual({ USD: 5.3 })
    expect(await budget("USD:0")).toEqual({ USD: 0 })
    expect((await client.accept("echo", 1)).payload["budget"] ?? {}).toEqual({})
  })

  it("is shown as it is now to those who subscribe, during the job and after it", async () => {
    verifies("budget-shown", "subscribe-answer")
    const client = await WireClient.open(server.url)
    const steps = [
      { do: "spend", cost: { amount: "1.25", currency: "USD" } },
      { do: "spend", cost: { amount: "3", currency: "credits" } },
      { do: "sleep", ms: 600_000 }
    ]
    const { job_id } = await client.accept("script", { steps }, lease("USD:5", "credits:10", "EUR:1"))
    await client.next(({ payload }) => payload.body?.["unit"] === "credits")
    const watcher = await WireClient.open(server.url)
    expect((await subscribed(watcher, job_id)).payload["budget"]).toEqual({ USD: 3.75, credits: 7, EUR: 1 })
    client.request("job.cancel", {}, { job_id })
    await client.terminal(job_id)
    expect((await account(server.url, job_id)).budget).toEqual({ USD: 3.75, credits: 7, EUR: 1 })
  })

  it("lets the cost through that crosses the line, and nothing after it", async () => {
    verifies("budget-crossing", "lease-denial")
    const { accepted, events, terminal } = await spend({ amount: "0.3", times: 6 }, "USD:1")
    expect(terminal.payload.result).toMatchObject({ denied: 2 })
    expect(costs(events)).toEqual([0.3, 0.3, 0.3, 0.3])
    const errors = toolErrors(events)
    expect(errors).toHaveLength(2)
    for (const { error } of errors) expectError(error, "BUDGET_EXHAUSTED")
    expect(new Set(errors.map(({ callId }) => callId)).size).toBe(2)
    expectReports(events, "USD", "1")
    expect(text(exact(reports(events).at(-1)))).toBe("-0.2")
    expectRemaining((await account(server.url, accepted.job_id)).budget, "USD", "1", costs(events))
  })

  it("at zero is exhausted", async () => {
    verifies("budget-crossing")
    const { accepted, events, terminal } = await spend({ amount: "1", times: 3 }, "USD:1")
    expect(terminal.payload.result).toMatchObject({ denied: 2 })
    expect(reports(events)).toEqual([0])
    expect((await account(server.url, accepted.job_id)).budget).toEqual({ USD: 0 })
  })

  it("is not touched by what costs nothing", async () => {
    verifies("budget-exact")
    const { accepted, events, terminal } = await spend({ amount: "0", times: 5 }, "USD:1")
    expect(terminal.payload.result).toMatchObject({ denied: 0 })
    expect(reports(events)).toEqual([])
    expect((await account(server.url, accepted.job_id)).budget).toEqual({ USD: 1 })
  })
})

describe("arithmetic", () => {
  it.each<[entries: ReadonlyArray<string>, amount: string, allowed: number]>([
    // In doubles 0.1 ten times is less than 1, and 0.1 + 0.2 is more than 0.3.
    [["USD:1"], "0.1", 10],
    [["USD:0.1", "USD:0.2"], "0.1", 3],
    [["USD:0.30"], "0.1", 3],
    [["USD:0.7", "USD:0.1"], "0.2", 4],
    [["USD:1.1", "USD:2.2"], "1.1", 3],
    [["USD:0.000000000000000003"], "0.000000000000000001", 3],
    [["USD:1.000000000000000001"], "1", 2],
    [["USD:1", "USD:0.000000000000000001"], "1", 2],
    [["USD:9007199254740993"], "9007199254740992", 2],
    [["USD:100000000000000000.05"], "100000000000000000", 2],
    [["USD:0000005.0000"], "5.000", 1],
    [["USD:0.29"], "0.01", 29],
    [["USD:4.35"], "0.05", 87],
    [["USD:1"], "0.33", 4]
  ])("%j and %s: %i times", async (entries, amount, allowed) => {
    verifies("budget-exact", "budget-entries-add")
    const { accepted, events, terminal } = await spend({ amount, times: allowed + 2 }, ...entries)
    expect(terminal.payload.result).toMatchObject({ denied: 2 })
    expect(costs(events).map((value) => text(exact(value)))).toEqual(
      Array.from({ length: allowed }, () => text(exact(amount)))
    )
    const after = await account(server.url, accepted.job_id)
    const left = entries.reduce((sum, entry) => sum + exact(entry.split(":")[1]), 0n)
    const expected = left - exact(amount) * BigInt(allowed)
    // The wire has a JSON number, which may not hold every digit of it.
    expect(after.budget["USD"]).toBe(Number(text(expected)))
  })

  it("a thousand small costs add up to what they are", async () => {
    verifies("budget-exact", "budget-remaining")
    const { accepted, events, terminal } = await spend({ amount: "0.001", times: 1_002 }, "USD:1")
    expect(terminal.payload.result).toMatchObject({ denied: 2 })
    expect(costs(events)).toHaveLength(1_000)
    expectReports(events, "USD", "1")
    expect((await account(server.url, accepted.job_id)).budget).toEqual({ USD: 0 })
  })
})

describe("cost.budget.remaining", () => {
  it.each([
    ["0.5", "10", 24],
    ["0.1", "10", 40],
    ["0.3", "10", 35],
    ["0.49", "10", 22],
    ["0.051", "1", 21],
    ["7", "10", 4],
    ["0.07", "3.5", 60]
  ])("%s of %s is reported at each 5 %% and at zero", async (amount, initial, times) => {
    verifies("budget-remaining")
    const { events } = await spend({ amount, times }, `USD:${initial}`)
    expect(reports(events).length).toBeGreaterThan(0)
    expectReports(events, "USD", initial)
    for (const body of bodies(events, "metric")) {
      if (body["name"] === "cost.budget.remaining") expect(body["unit"]).toBe("USD")
    }
  })

  it("is not sent for what is smaller", async () => {
    verifies("budget-remaining")
    const { events } = await spend({ amount: "0.04", times: 1 }, "USD:1")
    expect(reports(events)).toEqual([])
  })
})

describe("currencies", () => {
  it("another one is not counted, and does not stop", async () => {
    verifies("budget-currencies")
    const { accepted, events, terminal } = await spend({ amount: "4", times: 5, unit: "EUR" }, "USD:5")
    expect(terminal.payload.result).toMatchObject({ denied: 0 })
    expect(costs(events, "EUR")).toHaveLength(5)
    expect(reports(events, "EUR")).toEqual([])
    expect((await account(server.url, accepted.job_id)).budget).toEqual({ USD: 5 })
  })

  it("each has its counter; one at zero stops everything", async () => {
    verifies("budget-currencies", "budget-crossing")
    const client = await WireClient.open(server.url)
    const ask = { do: "ask", capability: "tool.call", target: "demo.tool", callId: "c" }
    const pay = (amount: string, currency: string) => ({ do: "spend", cost: { amount, currency } })
    const steps = [pay("1", "USD"), ask, pay("2", "credits"), ask, pay("1", "USD"), ask]
    const { accepted, terminal } = await client.run("script", { steps }, lease("USD:5", "credits:2"))
    const outcomes = terminal.payload.result as ReadonlyArray<{ readonly error?: string }>
    expect(outcomes.map(({ error }) => error ?? "ok")).toEqual([
      "ok",
      "ok",
      "ok",
      "BUDGET_EXHAUSTED",
      "ok",
      "BUDGET_EXHAUSTED"
    ])
    expect((await account(server.url, accepted.job_id)).budget).toEqual({ USD: 3, credits: 0 })
  })

  it("without a budget nothing is counted or stopped", async () => {
    verifies("budget-currencies")
    const client = await WireClient.open(server.url)
    const { events, terminal } = await client.run(
      "spend",
      { amount: "1000000", times: 20 },
      { lease_request: { "tool.call": ["demo.tool"] } }
    )
    expect(terminal.payload.result).toMatchObject({ denied: 0 })
    expect(costs(events)).toHaveLength(20)
    expect(reports(events)).toEqual([])
  })
})

describe("what is no cost", () => {
  const metric = (name: string, value: unknown, unit = "USD") => ({
    do: "metric",
    body: { name, value, unit }
  })

  it("negative and non-finite values fail the emit and change nothing", async () => {
    verifies("budget-negative")
    const client = await WireClient.open(server.url)
    const values = [-1, -0.0001, "NaN", "Infinity", "-Infinity", -1e308, 1e70, 1e308, 1e-100]
    const steps = [...values.map((value) => metric("cost.api", value)), metric("cost.api", 0.5)]
    const { accepted, events, terminal } = await client.run("script", { steps }, lease("USD:1"))
    const outcomes = terminal.payload.result as ReadonlyArray<{ readonly error?: string }>
    expect(outcomes.map(({ error }) => error ?? "ok")).toEqual([...values.map(() => "INVALID_REQUEST"), "ok"])
    expect(costs(events)).toEqual([0.5])
    expect((await account(server.url, accepted.job_id)).budget).toEqual({ USD: 0.5 })
  })

  it("an agent that spends a negative amount gets nothing for it", async () => {
    verifies("budget-negative")
    const client = await WireClient.open(server.url)
    const answer = await client.answer(client.submit("spend", { amount: "-1", times: 1 }, lease("USD:1")))
    if (answer.type === "job.error") return expect(answer.payload.code).toBe("INVALID_REQUEST")
    await client.terminal(answer.job_id)
    expect(costs(client.eventsOf(answer.job_id))).toEqual([])
    expect((await account(server.url, answer.job_id)).budget).toEqual({ USD: 1 })
  })

  it("metrics of other names, and reports that an agent makes up, are not counted", async () => {
    verifies("budget-currencies")
    const client = await WireClient.open(server.url)
    const steps = [
      metric("tokens", 1_000),
      metric("costs", 1_000),
      metric("cost", 1_000),
      metric("Cost.api", 1_000),
      metric("cost.budget.remaining", 1_000),
      metric("cost.budget.remaining", 0),
      metric("cost.api", 1_000, "usd"),
      metric("cost.api", 0.25)
    ]
    const { accepted, terminal } = await client.run("script", { steps }, lease("USD:1"))
    expect(terminal.type).toBe("job.result")
    expect((await account(server.url, accepted.job_id)).budget).toEqual({ USD: 0.75 })
  })

  it("a metric whose name starts with cost. is counted like any spending", async () => {
    verifies("budget-exact")
    const client = await WireClient.open(server.url)
    const steps = [
      metric("cost.a.b", 0.1),
      metric("cost.budget", 0.2),
      metric("cost.budget.remaining.x", 0.3)
    ]
    const { accepted } = await client.run("script", { steps }, lease("USD:1"))
    expect((await account(server.url, accepted.job_id)).budget).toEqual({ USD: 0.4 })
  })
})

describe("many spend at once", () => {
  it("never more than the budget and what was in flight", async () => {
    verifies("budget-concurrent")
    const client = await WireClient.open(server.url)
    const fibers = 16
    const buy = { do: "buy", cost: { amount: "0.07", currency: "USD" } }
    const steps = [
      { do: "all", steps: Array.from({ length: fibers }, () => ({ do: "times", times: 20, steps: [buy] })) }
    ]
    const { accepted, events, terminal } = await client.run("script", { steps }, lease("USD:1"))
    expect(JSON.stringify(terminal.payload.result)).toContain("BUDGET_EXHAUSTED")
    const spent = total(costs(events))
    expect(spent).toBeGreaterThanOrEqual(exact("1"))
    expect(spent).toBeLessThan(exact("1") + BigInt(fibers) * exact("0.07"))
    expectRemaining((await account(server.url, accepted.job_id)).budget, "USD", "1", costs(events))
  })

  it("jobs beside each other do not share a budget", async () => {
    verifies("budget-concurrent")
    const client = await WireClient.open(server.url)
    const jobs = await Promise.all(
      Array.from({ length: 4 }, () => client.run("spend", { amount: "0.03", times: 60 }, lease("USD:1")))
    )
    for (const { accepted, events } of jobs) {
      expect(costs(events)).toHaveLength(34)
      expectRemaining((await account(server.url, accepted.job_id)).budget, "USD", "1", costs(events))
    }
  })

  it("one after the other in each of many fibers: the counter is what the log says", async () => {
    verifies("budget-concurrent")
    const client = await WireClient.open(server.url)
    const pay = { do: "spend", cost: { amount: "0.07", currency: "USD" } }
    const steps = [
      { do: "all", steps: Array.from({ length: 50 }, () => ({ do: "times", times: 4, steps: [pay] })) }
    ]
    const { accepted, events } = await client.run("script", { steps }, lease("USD:20"))
    expect(costs(events)).toHaveLength(200)
    expect(total(costs(events))).toBe(exact("14"))
    const after = await account(server.url, accepted.job_id)
    expect(after.budget).toEqual({ USD: 6 })
    const told = reports(events).map(exact)
    expect(told.every((value, i) => i === 0 || value <= (told[i - 1] ?? value))).toBe(true)
  })
})

describe("kill -9 while it spends", () => {
  it("the counters are what the log says, each time", async () => {
    verifies("budget-restart")
    const db = join(own.directory(), "arcp.db")
    let running = await own.start("--db", db)
    const spent: Array<{ readonly job_id: string | undefined; readonly initial: string }> = []
    for (const [amount, at] of [
      ["0.01", 30],
      ["0.07", 200],
      ["0.000000000001", 500]
    ] as const) {
      const client = await WireClient.open(running.url)
      const initial = "1000.10"
      const input = { amount, times: 1_000_000 }
      const { job_id } = await client.accept("spend", input, lease("USD:1000", "USD:0.10"))
      spent.push({ job_id, initial })
      await client.next(({ event_seq }) => event_seq === at)
      await running.kill()
      await client.closing()
      const received = costs(client.eventsOf(job_id)).length
      running = await own.start("--db", db)
      for (const job of spent) {
        const after = await account(running.url, job.job_id)
        expect(after.terminal.payload.details?.["reason"]).toBe("runtime_restart")
        if (job.job_id === job_id) expect(costs(after.events).length).toBeGreaterThanOrEqual(received)
        expectRemaining(after.budget, "USD", job.initial, costs(after.events))
      }
    }
  })

  it("what ended before is as it was", async () => {
    verifies("budget-restart")
    const db = join(own.directory(), "arcp.db")
    const before = await own.start("--db", db)
    const client = await WireClient.open(before.url)
    const { accepted, events } = await client.run(
      "spend",
      { amount: "0.3", times: 6 },
      lease("USD:1", "EUR:2")
    )
    await before.kill()
    await client.closing()
    const after = await own.start("--db", db)
    const { answer, budget } = await account(after.url, accepted.job_id)
    expect(budget).toEqual({ USD: -0.2, EUR: 2 })
    expect(answer.payload["lease"]).toEqual(accepted.payload["lease"])
    const again = await WireClient.resume(after.url, client.session, { from: 0 })
    await again.terminal(accepted.job_id)
    expect(costs(again.eventsOf(accepted.job_id))).toEqual(costs(events))
  })
})
