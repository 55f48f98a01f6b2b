import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { features } from "./support/Frame.js"
import { ownServers, sharedServer } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const server = sharedServer(["--memory", "--cancel-grace-ms", "500"])
const own = ownServers()
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
    // Of two that are cancelled together one ends by itself, long after the other was given up.
    const { job_id } = await client.accept("stubborn", { ms: 600_000 })
    const late = await client.accept("stubborn", { ms: 3_000 })
    await client.next((frame) => frame.type === "job.event" && frame.job_id === late.job_id)
    const started = performance.now()
    cancel(client, job_id)
    cancel(client, late.job_id)
    await client.nextOf("job.cancelled")
    await client.nextOf("job.cancelled")
    for (const id of [job_id, late.job_id]) {
      expect((await client.terminal(id)).payload.code).toBe("CANCELLED")
      expect(performance.now() - started).toBeGreaterThan(400)
    }
    await client.silence((frame) => frame.job_id === late.job_id, 3_500)
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

describe("across a kill -9", () => {
  it("an acknowledged cancel ends the job in CANCELLED", async () => {
    verifies("cancel-order", "restart-running")
    const db = join(own.directory(), "arcp.db")
    const before = await own.start("--db", db)
    const client = await WireClient.open(before.url)
    const { job_id } = await client.accept("stubborn", { ms: 600_000 })
    const kept = await client.accept("sleep", { ms: 600_000 })
    await client.next((frame) => frame.job_id === kept.job_id && frame.type === "job.event")
    cancel(client, job_id, { reason: "enough" })
    await client.nextOf("job.cancelled")
    await before.kill()
    await client.closing()
    const after = await own.start("--db", db)
    const again = await WireClient.resume(after.url, client.session)
    const end = await again.terminal(job_id)
    expect(end.payload).toMatchObject({ code: "CANCELLED", final_status: "cancelled" })
    expect((await again.terminal(kept.job_id)).payload.details?.["reason"]).toBe("runtime_restart")
  })
})

describe("arcp serve says who else may", () => {
  it("--operator: every job, and nobody else's is shown to it", async () => {
    verifies("cancel-not-owner", "cancel-not-found")
    const { url } = await own.start("--memory", "--operator", "ops", "--operator", "bob")
    const owner = await WireClient.open(url)
    const bob = await WireClient.open(url, { token: "tok-b" })
    const { job_id } = await owner.accept("sleep", { ms: 600_000 })
    cancel(bob, job_id)
    expect((await bob.nextOf("job.cancelled")).job_id).toBe(job_id)
    expect((await owner.terminal(job_id)).payload.code).toBe("CANCELLED")
    const listed = await bob.answer(bob.request("session.list_jobs", {}))
    expect(listed.payload["jobs"]).toEqual([])
  })

  it("--observer: every job is shown to it, and whose it is to whoever asks; it cancels none", async () => {
    verifies("cancel-not-owner")
    const { url } = await own.start("--memory", "--observer", "bob")
    const owner = await WireClient.open(url)
    const principal = "x-vendor.effect-arcp.principal"
    const bob = await WireClient.open(url, {
      token: "tok-b",
      features: ["list_jobs", "subscribe", "x-vendor.effect-arcp.requests", principal]
    })
    const { job_id } = await owner.accept("sleep", { ms: 600_000 })
    const listed = await bob.answer(bob.request("session.list_jobs", {}))
    expect(listed.payload["jobs"]).toMatchObject([{ job_id, [principal]: "alice" }])
    const owners = await owner.answer(owner.request("session.list_jobs", {}))
    expect(owners.payload["jobs"]).toMatchObject([{ job_id }])
    expect(JSON.stringify(owners.payload)).not.toContain(principal)
    bob.request("job.subscribe", { job_id })
    expect((await bob.nextOf("job.subscribed")).job_id).toBe(job_id)
    cancel(bob, job_id)
    expect((await bob.nextOf("session.error")).payload["code"]).toBe("PERMISSION_DENIED")
  })

  it("--cancel principal: every session of the principal", async () => {
    verifies("cancel-not-owner", "cancel-not-found")
    const { url } = await own.start("--memory", "--cancel", "principal")
    const owner = await WireClient.open(url)
    const { job_id } = await owner.accept("sleep", { ms: 600_000 })
    const bob = await WireClient.open(url, { token: "tok-b" })
    expect((await bob.refusal(cancel(bob, job_id))).code).toBe("JOB_NOT_FOUND")
    const sibling = await WireClient.open(url)
    cancel(sibling, job_id)
    await sibling.nextOf("job.cancelled")
    expect((await owner.terminal(job_id)).payload.code).toBe("CANCELLED")
  })

  it("a client of others is told of a refusal by an answer on that job, and keeps its own", async () => {
    verifies("refused-on-job")
    const { url } = await own.start("--memory")
    const owner = await WireClient.open(url)
    const { job_id } = await owner.accept("sleep", { ms: 600_000 })
    const other = await WireClient.open(url, {
      features: features.filter((name) => name !== "x-vendor.effect-arcp.requests")
    })
    for (const request of [
      cancel(other, job_id),
      cancel(other, unknownJob),
      other.request("job.subscribe", { job_id: unknownJob })
    ]) {
      const { event_seq, payload, type } = await other.answer(request)
      expect({ type, event_seq }).toEqual({ type: "job.error", event_seq: undefined })
      expect(payload).toMatchObject({
        final_status: "error",
        retryable: false,
        details: { request_id: request }
      })
    }
    // Other refusals are as they were, and nothing of it is in a log.
    expect((await other.refusal(other.request("session.ack", { last_processed_seq: 9 }))).code).toBe(
      "INVALID_REQUEST"
    )
    const listed = await other.answer(other.request("session.list_jobs", {}))
    expect(listed.payload["jobs"]).toMatchObject([{ job_id, status: "running" }])
  })
})
