/** Durable jobs over `kill -9`, from outside (§12.1 of the protocol page). */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout } from "node:timers/promises"
import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import type { Frame } from "./support/Frame.js"
import { ownServers } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const own = ownServers({ concurrent: true })

/** How often the process is killed; more by hand, for an hour of it. */
const cycles = Number(process.env["ARCP_TEST_DURABLE_CYCLES"] ?? 4)

const stepKind = "x-vendor.effect-arcp.step"

/** What the events of a job say of its steps: by key, the states in order. */
const statesOf = (events: ReadonlyArray<Frame>): ReadonlyMap<string, ReadonlyArray<string>> => {
  const states = new Map<string, Array<string>>()
  for (const { payload } of events) {
    if (payload["kind"] !== stepKind) continue
    const { attempt, key, state } = payload["body"] as { key: string; state: string; attempt: number }
    const list = states.get(key) ?? []
    states.set(key, list)
    list.push(`${state} ${attempt}`)
  }
  return states
}

/** Expects each step to have begun once, then only been tried again, and to have ended once, last. */
const expectOnce = (events: ReadonlyArray<Frame>, keys: ReadonlyArray<string>) => {
  const all = statesOf(events)
  expect([...all.keys()].sort()).toEqual([...keys].sort())
  for (const states of all.values()) {
    expect(states.filter((state) => state.startsWith("ended"))).toHaveLength(1)
    expect(states.at(-1)).toMatch(/^ended/)
    states.slice(0, -1).forEach((state, i) => expect(state).toBe(`${i === 0 ? "started" : "retry"} ${i + 1}`))
    expect(states.at(-1)).toBe(`ended ${states.length - 1}`)
  }
}

const messages = (events: ReadonlyArray<Frame>): ReadonlyArray<string> =>
  events.flatMap(({ payload }) =>
    payload["kind"] === "log" ? [(payload["body"] as { message: string }).message] : []
  )

describe.concurrent("a durable job over kill -9", () => {
  it("goes on in the same session: crash in a step, the others once, one end", async () => {
    verifies("durable-recovers", "durable-steps-once", "restart-resume")
    const db = join(own.directory(), "arcp.db")
    const file = join(own.directory(), "lines")
    const before = await own.start("--db", db)
    const client = await WireClient.open(before.url)
    const lease_request = { "fs.write": [file] }
    const { job_id } = await client.accept("steps", { count: 6, crashAt: 4, file }, { lease_request })
    await client.closing()
    const after = await own.start("--db", db)
    const again = await WireClient.resume(after.url, client.session, { from: 0 })
    const end = await again.terminal(job_id)
    expect(end.payload["result"]).toEqual({ count: 6 })
    const events = again.eventsOf(job_id)
    expectOnce(events, ["1", "2", "3", "4", "5", "6"])
    expect(statesOf(events).get("4")).toEqual(["started 1", "retry 2", "ended 2"])
    expect(messages(events)).toEqual([..."123456"].map((i) => `step ${i}`).concat("all steps"))
    expect(readFileSync(file, "utf8")).toBe("1 1\n2 1\n3 1\n4 2\n5 1\n6 1\n")
    const phases = events.flatMap(({ payload }) => (payload["kind"] === "status" ? [payload["body"]] : []))
    expect(phases).toEqual([{ phase: "running" }, { phase: "recovered", attempt: 2 }])
  })

  it("waits for the same answer, and has it when it was acknowledged", async () => {
    verifies("input-restart", "durable-recovers")
    const db = join(own.directory(), "arcp.db")
    const before = await own.start("--db", db)
    const asking = await WireClient.open(before.url)
    const { job_id = "" } = await asking.accept("ask", { prompt: "?", choices: ["a", "b"] })
    const isRequest = ({ payload }: Frame) => payload["kind"] === "x-vendor.effect-arcp.input_request"
    const { input_id } = (await asking.next(isRequest)).payload["body"] as { input_id: string }
    await before.kill()
    await asking.closing()
    const between = await own.start("--db", db)
    const answering = await WireClient.resume(between.url, asking.session, { from: 0 })
    const answer = (client: WireClient, value: unknown) =>
      client.answer(client.request("x-vendor.effect-arcp.job.input", { input_id, value }, { job_id }))
    expect((await answer(answering, "c")).payload.details?.["reason"]).toBe("value")
    expect((await answer(answering, "b")).type).toBe("x-vendor.effect-arcp.job.input_accepted")
    await between.kill()
    await answering.closing()
    const after = await own.start("--db", db)
    const again = await WireClient.resume(after.url, asking.session, { from: 0 })
    expect((await again.terminal(job_id)).payload.result).toBe("b")
    const kinds = again.eventsOf(job_id).map(({ payload }) => String(payload["kind"]))
    expect(kinds.filter((kind) => /input_/.test(kind))).toEqual([
      "x-vendor.effect-arcp.input_request",
      "x-vendor.effect-arcp.input_closed"
    ])
    expect((await answer(again, "b")).type).toBe("x-vendor.effect-arcp.job.input_accepted")
    expect((await answer(again, "a")).payload.details?.["reason"]).toBe("already_answered")
  })

  it("has each outcome once, whenever it is killed: nested, at once, paid for, delegated", async () => {
    verifies("durable-recovers", "durable-steps-once", "durable-spend")
    const db = join(own.directory(), "arcp.db")
    const file = join(own.directory(), "lines")
    let server = await own.start("--db", db, "--limit", "maxAttempts=1000", "--limit", "attemptPauseMs=1")
    let client = await WireClient.open(server.url)
    const count = 40 + 8 * cycles
    const lease_request = { "cost.budget": ["USD:100"], "fs.write": [file], "agent.delegate": ["*"] }
    const inputs = [
      { count, ms: 15, cost: "0.01", file },
      { count, ms: 60, cost: "0.01", concurrency: 4 },
      { count, ms: 60, cost: "0.01", concurrency: 4, nested: true }
    ]
    const jobs: Array<string | undefined> = []
    for (const input of inputs) jobs.push((await client.accept("steps", input, { lease_request })).job_id)
    for (let cycle = 0; cycle < cycles; cycle++) {
      // At any moment: what has ended by then is not run again, which is looked at too.
      await setTimeout(Math.random() * 600)
      await server.kill()
      await client.closing()
      server = await own.start("--db", db, "--limit", "maxAttempts=1000", "--limit", "attemptPauseMs=1")
      client = await WireClient.resume(server.url, client.session)
    }
    // Everything from the first event, in one piece.
    const whole = await WireClient.resume(server.url, client.session, { from: 0 })
    for (const job_id of jobs) expect((await whole.terminal(job_id)).payload["result"]).toEqual({ count })
    for (const [i, job_id] of jobs.entries()) {
      const events = whole.eventsOf(job_id)
      const numbers = Array.from({ length: count }, (_, n) => `${n + 1}`)
      expectOnce(events, inputs[i]?.nested === true ? numbers.flatMap((n) => [n, `${n} inner`]) : numbers)
      // What was paid is what the log says, to the cent, over all attempts.
      const paid = events.filter(
        ({ payload }) =>
          payload["kind"] === "metric" && (payload["body"] as { name: string }).name === "cost.step"
      ).length
      expect(paid).toBeGreaterThanOrEqual(count)
      await whole.answer(whole.request("job.subscribe", { job_id }, { job_id })).then(({ payload }) => {
        expect((payload["budget"] as { USD: number }).USD).toBeCloseTo(100 - paid * 0.01, 6)
      })
    }
    const lines = readFileSync(file, "utf8").trim().split("\n")
    expect(new Set(lines.map((line) => line.split(" ")[0])).size).toBe(count)
    expect(lines.length).toBeLessThanOrEqual(count + cycles)
  })

  it("sleeps until its time, cancels, and ends where its contract has no steps", async () => {
    verifies("durable-recovers", "durable-ends", "restart-running")
    const db = join(own.directory(), "arcp.db")
    const before = await own.start("--db", db)
    const client = await WireClient.open(before.url)
    const startedAt = Date.now()
    const nap = await client.accept("nap", { ms: 3_000 })
    const long = await client.accept("nap", { ms: 600_000 })
    const timed = await client.accept("nap", { ms: 600_000 }, { max_runtime_sec: 2 })
    const child = await client.accept(
      "delegate",
      { agent: "nap", input: { ms: 600_000 } },
      { lease_request: { "agent.delegate": ["nap"] } }
    )
    await client.next(({ job_id, payload }) => job_id === timed.job_id && payload["kind"] === stepKind)
    await client.next(({ payload }) => payload["kind"] === "delegate")
    await before.kill()
    await client.closing()
    const after = await own.start("--db", db)
    const again = await WireClient.resume(after.url, client.session)
    expect((await again.terminal(child.job_id)).payload.details?.["reason"]).toBe("runtime_restart")
    await again.answer(again.request("job.cancel", {}, { job_id: long.job_id }))
    expect((await again.terminal(long.job_id)).payload["code"]).toBe("CANCELLED")
    expect((await again.terminal(timed.job_id)).payload["code"]).toBe("TIMEOUT")
    expect((await again.terminal(nap.job_id)).payload["result"]).toEqual({ ms: 3_000 })
    expect(Date.now() - startedAt).toBeGreaterThanOrEqual(3_000)
  })

  it("is left by a runtime that is stopped, and goes on in the next", async () => {
    verifies("durable-recovers", "durable-steps-once")
    const db = join(own.directory(), "arcp.db")
    const before = await own.start("--db", db, "--limit", "shutdownGraceMs=50")
    const client = await WireClient.open(before.url)
    const { job_id } = await client.accept("steps", { count: 10, ms: 200 })
    await client.next(({ payload }) => payload["kind"] === "log")
    await before.stop()
    const after = await own.start("--db", db)
    const again = await WireClient.resume(after.url, client.session, { from: 0 })
    expect((await again.terminal(job_id)).payload["result"]).toEqual({ count: 10 })
    expectOnce(
      again.eventsOf(job_id),
      Array.from({ length: 10 }, (_, i) => `${i + 1}`)
    )
  })
})
