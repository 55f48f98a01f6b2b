/** Jobs that wait before they begin, from outside: for a place, for their time, and over `kill -9`. */
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { ownServers } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const own = ownServers({ concurrent: true })

const schedule = "x-vendor.effect-arcp.schedule"

/** Submits with a schedule; gives the accept. */
const later = async (client: WireClient, agent: string, input: unknown, when: Record<string, unknown>) =>
  client.answer(client.request("job.submit", { agent, input }, { extensions: { [schedule]: when } }))

describe.concurrent("a job that waits", () => {
  it("is pending until the principal has a place, and is begun oldest first", async () => {
    verifies("pending-place")
    const server = await own.start("--memory", "--limit", "concurrencyPerPrincipal=1")
    const client = await WireClient.open(server.url)
    const first = await client.accept("sleep", { ms: 600_000 })
    const rest: Array<string | undefined> = []
    for (let i = 0; i < 3; i++) rest.push((await client.accept("echo", i)).job_id)
    const { payload } = await client.answer(client.request("session.list_jobs", {}))
    expect((payload["jobs"] as ReadonlyArray<{ status: string }>).map(({ status }) => status)).toEqual([
      "running",
      "pending",
      "pending",
      "pending"
    ])
    await client.answer(client.request("job.cancel", {}, { job_id: first.job_id }))
    for (const [i, job_id] of rest.entries()) {
      expect((await client.terminal(job_id)).payload["result"]).toBe(i)
      const events = client.eventsOf(job_id).filter(({ type }) => type === "job.event")
      expect(events.map(({ payload }) => payload["body"])).toEqual([{ phase: "running" }])
    }
  })

  it("begins at its time, not before; a cancel ends it without running", async () => {
    verifies("pending-time")
    const server = await own.start("--memory")
    const client = await WireClient.open(server.url)
    const startedAt = Date.now()
    const soon = await later(client, "echo", "soon", { delay_sec: 0.5 })
    const far = await later(client, "echo", "far", { start_at: "2999-01-01T00:00:00Z" })
    expect(far.payload["x-vendor.effect-arcp.start_at"]).toBe("2999-01-01T00:00:00.000Z")
    expect((await client.terminal(soon.job_id)).payload["result"]).toBe("soon")
    expect(Date.now() - startedAt).toBeGreaterThanOrEqual(500)
    await client.answer(client.request("job.cancel", {}, { job_id: far.job_id }))
    expect((await client.terminal(far.job_id)).payload["code"]).toBe("CANCELLED")
    expect(client.eventsOf(far.job_id)).toHaveLength(1)
    const refused = await later(client, "echo", 0, { delay_sec: "soon" })
    expect(refused.payload["code"]).toBe("INVALID_REQUEST")
  })

  it("begins in the next process, once, in the same order", async () => {
    verifies("pending-restart")
    const db = join(own.directory(), "arcp.db")
    const flags = ["--db", db, "--concurrency", "sleep=1", "--concurrency", "nap=1"]
    const before = await own.start(...flags)
    const client = await WireClient.open(before.url)
    const ran = await client.accept("sleep", { ms: 600_000 })
    const nap = await client.accept("nap", { ms: 1_500 })
    const naps = [nap, await client.accept("nap", { ms: 1 })]
    const jobs: Array<string | undefined> = []
    for (let ms = 1; ms <= 20; ms++) jobs.push((await client.accept("sleep", { ms })).job_id)
    const timed = await later(client, "echo", "timed", { delay_sec: 5 })
    for (const { job_id } of [ran, nap])
      await client.next((frame) => frame.job_id === job_id && frame.type === "job.event")
    await before.kill()
    await client.closing()
    const after = await own.start(...flags)
    const again = await WireClient.resume(after.url, client.session, { from: 0 })
    expect((await again.terminal(ran.job_id)).payload.details?.["reason"]).toBe("runtime_restart")
    for (const [i, job_id] of jobs.entries())
      expect((await again.terminal(job_id)).payload["result"]).toEqual({ ms: i + 1 })
    expect((await again.terminal(timed.job_id)).payload["result"]).toBe("timed")
    for (const { job_id } of naps) expect((await again.terminal(job_id)).payload["result"]).toBeDefined()
    const begun = again.frames.filter(
      ({ payload }) => (payload["body"] as { phase?: string } | undefined)?.phase === "running"
    )
    const order = begun.map(({ job_id }) => job_id).filter((id) => jobs.includes(id))
    expect(order).toEqual(jobs)
    expect(new Set(begun.map(({ job_id }) => job_id)).size).toBe(begun.length)
  })
})

it("submits of a principal beyond the rate are told when to come again", async () => {
  verifies("submit-rate")
  const server = await own.start(
    "--memory",
    "--limit",
    "submitsPerPrincipal=3",
    "--limit",
    "submitWindow=1 hour"
  )
  const client = await WireClient.open(server.url)
  for (let i = 0; i < 3; i++) await client.accept("echo", i)
  const refused = await client.answer(client.request("job.submit", { agent: "echo", input: 3 }))
  expect(refused.payload["code"]).toBe("INTERNAL_ERROR")
  expect(refused.payload.details?.["limit"]).toBe("submits_per_principal")
  expect(refused.payload.details?.["retry_after"]).toBeGreaterThan(0)
})
