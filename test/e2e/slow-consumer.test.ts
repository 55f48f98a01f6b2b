import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { ownServers, residentMiB } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const own = ownServers()
const count = 100_000

describe("a client that stops reading", () => {
  it("grows nothing, slows nobody, keeps its session, and drains without gap", {
    timeout: 240_000
  }, async () => {
    verifies("slow-consumer")
    const server = await own.start("--db", join(own.directory(), "arcp.db"))
    const stalled = await WireClient.open(server.url)
    const witness = await WireClient.open(server.url)
    const { job_id } = await stalled.accept("emit", { count, size: 100, batch: 64, startDelayMs: 100 })
    stalled.pause()
    const memoryBefore = await residentMiB(server.pid)

    const latencies: Array<number> = []
    const deadline = performance.now() + 180_000
    const finished = async () => {
      const request = witness.request("session.list_jobs", { filter: { status: ["success"] } })
      const { payload } = await witness.answer(request)
      return (payload["jobs"] as ReadonlyArray<{ job_id: string }>).some((job) => job.job_id === job_id)
    }
    while (!(await finished())) {
      if (performance.now() > deadline) throw new Error("the job did not end while its client was stalled")
      for (let index = 0; index < 10; index++) latencies.push(await witness.ping())
    }
    latencies.sort((a, b) => a - b)
    // A machine may be slow, and busy with other tests.
    expect(latencies[Math.floor(latencies.length / 2)]).toBeLessThan(1_000)
    await witness.run("echo", 1)
    // The 100 000 frames are some 35 MB; what Node's heap does besides is its own affair.
    expect((await residentMiB(server.pid)) - memoryBefore).toBeLessThan(300)
    expect(stalled.closure).toBeUndefined()

    stalled.unpause()
    const end = await stalled.terminal(job_id, 180_000)
    expect(end.payload.result).toEqual({ count })
    const events = stalled.eventsOf(job_id)
    expect(events.filter(({ payload }) => payload.kind === "log")).toHaveLength(count)
    const told = events.filter(({ payload }) => payload.body?.["phase"] === "back_pressure")
    expect(told).toHaveLength(1)
    expect(end.event_seq).toBe(events.length)
    await stalled.ping()
  })
})
