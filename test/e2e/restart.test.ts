import { join } from "node:path"
import { beforeAll, describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { ownServers, type Server } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const own = ownServers({ concurrent: true })

describe.concurrent("kill -9 and start again on the same file", () => {
  let before: Server
  let after: Server
  const firsts: Array<() => Promise<void>> = []
  /** What a test does before the process dies: one death is enough for all of them. */
  const first = <A>(act: () => Promise<A>): (() => A) => {
    let done: { readonly value: A } | undefined
    firsts.push(async () => {
      done = { value: await act() }
    })
    return () => {
      if (done === undefined) throw new Error("the process has not died yet")
      return done.value
    }
  }
  beforeAll(async () => {
    const db = join(own.directory(), "arcp.db")
    before = await own.start("--db", db)
    await Promise.all(firsts.map((act) => act()))
    await before.kill()
    after = await own.start("--db", db)
  })

  const jobs = first(async () => {
    const client = await WireClient.open(before.url)
    const kept = await client.run("echo", "kept", { idempotency_key: "kept" })
    const refusedId = client.submit("no-such-agent", {})
    await client.rejection(refusedId)
    const slow = await client.accept("sleep", { ms: 600_000 }, { idempotency_key: "slow" })
    await client.next(({ job_id, type }) => job_id === slow.job_id && type === "job.event")
    return { client, kept, slow, received: client.session.lastSeq }
  })
  it("sessions resume, results and keys still answer, running jobs end in runtime_restart", async () => {
    verifies("restart-resume", "restart-running", "restart-idempotency", "restart-list", "event-id-stable")
    const { client, kept, received, slow } = jobs()
    await client.closing()
    const again = await WireClient.resume(after.url, client.session, { from: 0 })
    const end = await again.terminal(slow.job_id)
    expect(end.payload).toMatchObject({
      code: "INTERNAL_ERROR",
      retryable: true,
      final_status: "error",
      details: { reason: "runtime_restart" }
    })
    // The finished job's result came with the replay, under its old id (which the client checked).
    expect((await again.terminal(kept.accepted.job_id)).payload).toEqual(kept.terminal.payload)
    expect(end.event_seq).toBeGreaterThan(received)

    const sameKey = await again.accept("echo", "kept", { idempotency_key: "kept" })
    expect(sameKey.job_id).toBe(kept.accepted.job_id)
    const conflict = await again.rejection(again.submit("echo", "other", { idempotency_key: "kept" }))
    expect(conflict.code).toBe("DUPLICATE_KEY")
    const listed = await again.answer(again.request("session.list_jobs", {}))
    const stored = listed.payload["jobs"] as ReadonlyArray<{ job_id: string; status: string }>
    const status = (id: string | undefined) => stored.find(({ job_id }) => job_id === id)?.status
    expect(status(kept.accepted.job_id)).toBe("success")
    expect(status(slow.job_id)).toBe("error")
    await again.run("echo", "new")
  })

  const answered = first(async () => {
    const client = await WireClient.open(before.url)
    const id = client.submit("echo", "once")
    const accepted = await client.answer(id)
    await client.terminal(accepted.job_id)
    return { client, id, accepted }
  })
  it("a submit whose answer was lost with the process gets its answer, and one run", async () => {
    verifies("submit-same-id", "restart-resume")
    const { accepted, client, id } = answered()
    const again = await WireClient.resume(after.url, client.session)
    const repeated = await again.answer(again.submit("echo", "once", {}, { id }))
    expect(repeated.payload).toEqual(accepted.payload)
    await again.ping()
    expect(again.session.lastSeq).toBe(2)
  })

  it("nothing that was received is missing or different, at whatever moment it dies", async () => {
    verifies("persist-before-send", "event-id-stable")
    const db = join(own.directory(), "arcp.db")
    let server = await own.start("--db", db)
    let client = await WireClient.open(server.url)
    for (const at of [400, 1_500, 2_700]) {
      const start = client.session.lastSeq
      const flatOut = await client.accept("emit", { count: 20_000, batch: 32 })
      const steady = await client.accept("emit", { count: 20_000, delayMs: 1 })
      await client.next(({ event_seq }) => event_seq === start + at)
      await server.kill()
      await client.closing()
      server = await own.start("--db", db)
      // Every replayed event is compared with what was received of it before.
      const received = client.session.lastSeq
      client = await WireClient.resume(server.url, client.session, { from: start })
      expect((await client.terminal(steady.job_id)).payload.details?.["reason"]).toBe("runtime_restart")
      await client.terminal(flatOut.job_id)
      expect(client.session.lastSeq).toBeGreaterThan(received)
    }
  })

  const watched = first(async () => {
    const owner = await WireClient.open(before.url)
    const { job_id } = await owner.accept("sleep", { ms: 600_000 })
    const watcher = await WireClient.open(before.url)
    await watcher.answer(watcher.request("job.subscribe", { job_id, history: true }, { job_id }))
    await watcher.next(({ type }) => type === "job.event")
    return { job_id, watcher }
  })
  it("subscriptions continue too", async () => {
    verifies("restart-resume", "resume-keeps-all")
    const { job_id, watcher } = watched()
    const again = await WireClient.resume(after.url, watcher.session)
    expect((await again.terminal(job_id)).payload.details?.["reason"]).toBe("runtime_restart")
    const stranger = await WireClient.open(after.url, { token: "tok-b" })
    const refused = await stranger.refusal(stranger.request("job.subscribe", { job_id }, { job_id }))
    expect(refused.code).toBe("JOB_NOT_FOUND")
  })

  const rotated = first(async () => {
    const client = await WireClient.open(before.url)
    const token = client.session.resumeToken
    client.drop()
    const resumed = await WireClient.resume(before.url, client.session)
    await resumed.run("echo", 1)
    return { client, token }
  })
  it("a resume token rotates across the restart as it does without", async () => {
    verifies("resume-rotation", "restart-resume")
    const { client, token } = rotated()
    const late = await WireClient.resuming(after.url, client.session, { resumeToken: token })
    expect((await late.nextOf("session.error")).payload.code).toBe("RESUME_WINDOW_EXPIRED")
    await (await WireClient.resume(after.url, client.session)).ping()
  })
})
