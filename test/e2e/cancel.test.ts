import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { sharedServer } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const server = sharedServer(["--memory", "--cancel-grace-ms", "500"])
const unknownJob = "job_01HZZZZZZZZZZZZZZZZZZZZZZZ"

const cancel = (client: WireClient, job_id: string | undefined, payload: Record<string, unknown> = {}) =>
  client.request("job.cancel", payload, { job_id })

describe("the owner cancels", () => {
  it("job.cancelled at once, then what the finalizers emit, then CANCELLED", async () => {
    verifies("cancel-order")
    const client = await WireClient.open(server.url)
    const { job_id } = await client.accept("sleep", { ms: 60_000 })
    await client.next(({ type }) => type === "job.event")
    cancel(client, job_id, { reason: "enough" })
    const end = await client.terminal(job_id)
    expect(end.payload).toMatchObject({ code: "CANCELLED", final_status: "cancelled", retryable: false })
    const types = client.frames.filter((frame) => frame.job_id === job_id).map(({ type }) => type)
    expect(types).toEqual(["job.accepted", "job.event", "job.cancelled", "job.event", "job.error"])
    const cleanup = client.eventsOf(job_id)[1]
    expect(cleanup?.payload).toMatchObject({ kind: "log", body: { message: "cleanup" } })
  })

  it("right after the accept, the job still ends once", async () => {
    verifies("cancel-order", "job-one-terminal")
    const client = await WireClient.open(server.url)
    for (let round = 0; round < 30; round++) {
      const { job_id } = await client.accept("sleep", { ms: 60_000 })
      cancel(client, job_id)
      expect((await client.terminal(job_id)).payload.code).toBe("CANCELLED")
    }
  })

  it("payload.job_id does as well", async () => {
    verifies("cancel-payload-id")
    const client = await WireClient.open(server.url)
    const { job_id } = await client.accept("sleep", { ms: 60_000 })
    client.request("job.cancel", { job_id })
    expect((await client.terminal(job_id)).payload.code).toBe("CANCELLED")
  })

  it("a stuck agent is given up after the grace, and is heard no more", async () => {
    verifies("cancel-grace")
    const client = await WireClient.open(server.url)
    const { job_id } = await client.accept("stubborn", { ms: 1_500 })
    await client.next(({ type }) => type === "job.event")
    const started = performance.now()
    cancel(client, job_id)
    await client.nextOf("job.cancelled")
    expect(performance.now() - started).toBeLessThan(400)
    expect((await client.terminal(job_id)).payload.code).toBe("CANCELLED")
    const took = performance.now() - started
    expect(took).toBeGreaterThan(400)
    expect(took).toBeLessThan(1_400)
    await client.silence((frame) => frame.job_id === job_id, 1_500)
  })

  it("twice: two acknowledgements, one end", async () => {
    verifies("cancel-finished", "job-one-terminal")
    const client = await WireClient.open(server.url)
    const { job_id } = await client.accept("sleep", { ms: 60_000 })
    cancel(client, job_id)
    cancel(client, job_id)
    await client.nextOf("job.cancelled")
    await client.nextOf("job.cancelled")
    await client.terminal(job_id)
    await client.ping()
  })

  it("a finished job: job.cancelled, and nothing changes", async () => {
    verifies("cancel-finished")
    const client = await WireClient.open(server.url)
    const { accepted } = await client.run("echo", 1)
    cancel(client, accepted.job_id)
    expect((await client.nextOf("job.cancelled")).job_id).toBe(accepted.job_id)
    await client.silence(({ type }) => type !== "session.ping", 200)
    const listed = await client.answer(client.request("session.list_jobs", { limit: 1_000 }))
    const jobs = listed.payload["jobs"] as ReadonlyArray<{ job_id: string; status: string }>
    expect(jobs.find(({ job_id }) => job_id === accepted.job_id)?.status).toBe("success")
  })

  it("one of many; the others go on", async () => {
    verifies("cancel-order")
    const client = await WireClient.open(server.url)
    const kept = await client.accept("emit", { count: 50, delayMs: 5 })
    const { job_id } = await client.accept("emit", { count: 10_000, delayMs: 5 })
    cancel(client, job_id)
    expect((await client.terminal(job_id)).payload.code).toBe("CANCELLED")
    expect((await client.terminal(kept.job_id)).payload.result).toEqual({ count: 50 })
  })
})

describe("others do not", () => {
  it("another session of the principal: PERMISSION_DENIED, and the job goes on", async () => {
    verifies("cancel-not-owner", "refusal-shape")
    const owner = await WireClient.open(server.url)
    const other = await WireClient.open(server.url)
    const { job_id } = await owner.accept("emit", { count: 20, delayMs: 5 })
    const refused = await other.refusal(cancel(other, job_id))
    expect(refused).toMatchObject({ code: "PERMISSION_DENIED", details: { job_id } })
    await other.request("job.subscribe", {}, { job_id })
    await other.nextOf("job.subscribed")
    expect((await other.refusal(cancel(other, job_id))).code).toBe("PERMISSION_DENIED")
    expect((await owner.terminal(job_id)).payload.result).toEqual({ count: 20 })
  })

  it("another principal's job and no job at all look the same: JOB_NOT_FOUND", async () => {
    verifies("cancel-not-found", "security-indistinguishable")
    const owner = await WireClient.open(server.url)
    const bob = await WireClient.open(server.url, { token: "tok-b" })
    const { job_id } = await owner.accept("emit", { count: 20, delayMs: 5 })
    const foreign = await bob.refusal(cancel(bob, job_id))
    const unknown = await bob.refusal(cancel(bob, unknownJob))
    expect(foreign.code).toBe("JOB_NOT_FOUND")
    const bare = (payload: typeof foreign, id: string | undefined) =>
      JSON.stringify({ ...payload, details: Object.keys(payload.details ?? {}) }).replaceAll(id ?? "", "ID")
    expect(bare(foreign, job_id)).toBe(bare(unknown, unknownJob))
    expect((await owner.terminal(job_id)).payload.result).toEqual({ count: 20 })
  })
})
