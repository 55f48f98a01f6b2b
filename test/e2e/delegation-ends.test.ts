import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { chain, children, nextChild, scripted, to } from "./support/Authority.js"
import { type Frame, isTerminal } from "./support/Frame.js"
import { sharedServer } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const server = sharedServer(["--memory", ...scripted, "--cancel-grace-ms", "1500"])

describe("cancel", () => {
  it("takes the children along, leaves first", async () => {
    verifies("delegate-cancel", "delegate-ends")
    const client = await WireClient.open(server.url)
    const lease = { "agent.delegate": ["delegate", "sleep"] }
    const input = chain(3, "sleep", { ms: 600_000 }, lease)
    const { job_id } = await client.accept("delegate", input, { lease_request: lease })
    const first = await nextChild(client, job_id)
    const second = await nextChild(client, first.job_id)
    const leaf = await nextChild(client, second.job_id)
    await client.next((frame) => frame.job_id === leaf.job_id && frame.type === "job.event")
    client.request("job.cancel", { reason: "enough" }, { job_id })
    expect((await client.terminal(job_id)).payload.code).toBe("CANCELLED")
    const ends = client.frames.filter(isTerminal)
    expect(ends.map((frame) => frame.job_id)).toEqual(
      [leaf, second, first, { job_id }].map((job) => job.job_id)
    )
    for (const { payload } of ends) {
      expect(payload).toMatchObject({ code: "CANCELLED", final_status: "cancelled", retryable: false })
    }
    const cleanup = client.eventsOf(leaf.job_id).at(-2)
    expect(cleanup?.payload).toMatchObject({ kind: "log", body: { message: "cleanup" } })
    const acknowledged = client.frames.findIndex(
      (frame) => frame.type === "job.cancelled" && frame.job_id === job_id
    )
    expect(acknowledged).toBeGreaterThan(-1)
    expect(acknowledged).toBeLessThan(client.frames.indexOf(ends[0] as Frame))
  })

  it("of a stuck child: none outlives the parent, and none is heard after its end", async () => {
    verifies("delegate-cancel", "cancel-grace")
    const client = await WireClient.open(server.url)
    const input = { agent: "stubborn", input: { ms: 6_000 } }
    const { job_id } = await client.accept("delegate", input, to("stubborn"))
    const child = await nextChild(client, job_id)
    await client.next((frame) => frame.job_id === child.job_id && frame.type === "job.event")
    client.request("job.cancel", {}, { job_id })
    await client.terminal(job_id)
    const ends = client.frames.filter(isTerminal).map((frame) => frame.job_id)
    expect(ends).toEqual([child.job_id, job_id])
    await client.silence(({ event_seq }) => event_seq !== undefined, 6_000)
  })

  it("at any moment leaves nothing behind: every job ends once, and before its parent", async () => {
    verifies("delegate-cancel", "delegate-ends", "job-one-terminal")
    const client = await WireClient.open(server.url)
    const sleep = { do: "delegate", agent: "sleep", input: { ms: 600_000 } }
    const script = {
      do: "delegate",
      agent: "script",
      input: { steps: [sleep] },
      lease: to("sleep").lease_request
    }
    const steps = [{ do: "all", steps: [sleep, script, sleep] }]
    for (let round = 0; round < 40; round++) {
      const seen = client.frames.length
      const { job_id } = await client.accept("script", { steps }, to("sleep", "script"))
      // From right after the accept to well after the last child's.
      await client.next(() => client.frames.length >= seen + 1 + (round % 14), 500).catch(() => undefined)
      client.request("job.cancel", {}, { job_id })
      expect((await client.terminal(job_id)).payload.code).toBe("CANCELLED")
      await client.ping()
      const frames = client.frames.slice(seen)
      const accepted = frames.filter(({ type }) => type === "job.accepted").map((frame) => frame.job_id)
      const ended = frames.filter(isTerminal).map((frame) => frame.job_id)
      expect(new Set(ended)).toEqual(new Set(accepted))
      expect(ended.at(-1)).toBe(job_id)
      for (const [i, id] of ended.entries()) {
        const parent = frames.find((frame) => frame.type === "job.accepted" && frame.job_id === id)?.payload[
          "parent_job_id"
        ]
        if (typeof parent === "string") expect(ended.indexOf(parent)).toBeGreaterThan(i)
      }
    }
  })

  it("of a child alone is an error its parent learns", async () => {
    verifies("delegate-cancel-child", "delegate-result")
    const client = await WireClient.open(server.url)
    const input = { agent: "sleep", input: { ms: 600_000 } }
    const { job_id } = await client.accept("delegate", input, to("sleep"))
    const child = await nextChild(client, job_id)
    const other = await WireClient.open(server.url)
    const foreign = other.request("job.cancel", {}, { job_id: child.job_id })
    expect((await other.refusal(foreign)).code).toBe("PERMISSION_DENIED")
    client.request("job.cancel", {}, { job_id: child.job_id })
    expect((await client.terminal(child.job_id)).payload.code).toBe("CANCELLED")
    expect((await client.terminal(job_id)).payload.result).toEqual({ error: "CANCELLED" })
  })
})

describe("a parent that ends", () => {
  it.each<[string, Record<string, unknown>, unknown]>([
    ["by itself", {}, "job.result"],
    ["by its time-out", { max_runtime_sec: 1 }, "TIMEOUT"]
  ])("%s ends its children first", async (_, more, how) => {
    verifies("delegate-ends")
    const client = await WireClient.open(server.url)
    const sleep = { do: "delegate", agent: "sleep", input: { ms: 600_000 }, abandon: true }
    const steps = [sleep, sleep, { do: "sleep", ms: how === "TIMEOUT" ? 600_000 : 50 }]
    const { accepted, terminal } = await client.run("script", { steps }, { ...to("sleep"), ...more })
    expect([terminal.type, terminal.payload.code]).toContain(how)
    const jobs = children(client, accepted.job_id).map(({ job_id }) => job_id)
    expect(jobs).toHaveLength(2)
    const ended = client.frames.filter(isTerminal).map(({ job_id }) => job_id)
    expect(new Set(ended.slice(0, 2))).toEqual(new Set(jobs))
    expect(ended[2]).toBe(accepted.job_id)
  })
})
