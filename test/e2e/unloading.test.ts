/** Durable jobs that only wait, in a process that is killed while they are not in it (§12.1 of the protocol page). */
import { join } from "node:path"
import { setTimeout } from "node:timers/promises"
import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import type { Frame } from "./support/Frame.js"
import { ownServers } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const own = ownServers({ concurrent: true })

/** How many jobs sleep. */
const sleepers = Number(process.env["ARCP_TEST_SLEEPERS"] ?? 200)

const flags = [
  "--limit",
  "unloadAfterMs=50",
  "--limit",
  "maxJobsPerSession=100000",
  "--limit",
  "maxJobsPerPrincipal=100000"
]

const phases = (events: ReadonlyArray<Frame>) =>
  events.flatMap(({ payload }) =>
    payload["kind"] === "status" ? [(payload["body"] as { readonly phase: string }).phase] : []
  )

/** The jobs of a session as they are listed. */
const listed = async (client: WireClient) => {
  const { payload } = await client.answer(client.request("session.list_jobs", { limit: 1000 }))
  return payload["jobs"] as ReadonlyArray<Record<string, unknown>>
}

/** Looks until so many jobs of a session wait as rows, or have done so; returns the newest of those that wait. */
const waiting = async (client: WireClient, count: number) => {
  for (;;) {
    const jobs = await listed(client)
    const rows = jobs.filter((job) => job["sleeping_until"] !== undefined)
    const over = jobs.filter(({ status }) => status !== "running")
    if (rows.length + over.length >= count) return rows[0]
    await setTimeout(50)
  }
}

describe.concurrent("a durable job that only waits, over kill -9", () => {
  it("sleeps on as a row, and ends when it is due: no recovery, each event once", async () => {
    verifies("durable-unloads", "durable-recovers")
    const db = join(own.directory(), "arcp.db")
    const before = await own.start("--db", db, ...flags)
    const client = await WireClient.open(before.url)
    const startedAt = Date.now()
    const nap = await client.accept("nap", { ms: 5_000 })
    const long = await client.accept("nap", { ms: 600_000 })
    const timed = await client.accept("nap", { ms: 600_000 }, { max_runtime_sec: 4 })
    await client.next(
      ({ job_id, payload }) => job_id === timed.job_id && payload["kind"] === "x-vendor.effect-arcp.step"
    )
    const entry = await waiting(client, 3)
    // Nothing says from outside that a job that sleeps is not in the process any more: long after `unloadAfterMs`.
    await setTimeout(1_500)
    expect(Date.parse(entry?.["sleeping_until"] as string)).toBeGreaterThan(startedAt)
    await before.kill()
    await client.closing()
    const after = await own.start("--db", db, ...flags)
    const again = await WireClient.resume(after.url, client.session, { from: 0 })
    await again.answer(again.request("job.cancel", {}, { job_id: long.job_id }))
    expect((await again.terminal(long.job_id)).payload["code"]).toBe("CANCELLED")
    expect((await again.terminal(timed.job_id)).payload["code"]).toBe("TIMEOUT")
    expect((await again.terminal(nap.job_id)).payload["result"]).toEqual({ ms: 5_000 })
    expect(Date.now() - startedAt).toBeGreaterThanOrEqual(5_000)
    for (const { job_id } of [nap, long, timed]) expect(phases(again.eventsOf(job_id))).toEqual(["running"])
  })

  it("is one of many that are due at once after a restart: all of them end", async () => {
    verifies("durable-unloads")
    const db = join(own.directory(), "arcp.db")
    const before = await own.start("--db", db, ...flags)
    const client = await WireClient.open(before.url)
    const jobs: Array<string | undefined> = []
    for (let i = 0; i < sleepers; i++) jobs.push((await client.accept("nap", { ms: 4_000 })).job_id)
    await waiting(client, sleepers / 2)
    await before.kill()
    await client.closing()
    await setTimeout(4_000)
    const after = await own.start("--db", db, "--limit", "maxWokenJobs=16", ...flags)
    const again = await WireClient.resume(after.url, client.session, { from: 0 })
    for (const job of jobs) expect((await again.terminal(job)).payload["result"]).toEqual({ ms: 4_000 })
    // One or the other may not have been unloaded yet.
    const recovered = jobs.filter((job) => phases(again.eventsOf(job)).includes("recovered"))
    expect(recovered.length).toBeLessThan(sleepers / 2)
  })
})
