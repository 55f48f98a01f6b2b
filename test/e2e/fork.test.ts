/** Jobs that go on from others, from outside and over `kill -9` (§12.1 of the protocol page). */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { ownServers } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const own = ownServers({ concurrent: true })

const forking = (job_id: string | undefined, at?: string) => ({
  extensions: { "x-vendor.effect-arcp.fork": { job_id, at } }
})

describe.concurrent("a job that goes on from another", () => {
  it("takes over what was committed before the step, also of a job of an earlier process, and survives its own", async () => {
    verifies("durable-fork", "durable-recovers", "durable-steps-once")
    const db = join(own.directory(), "arcp.db")
    const file = join(own.directory(), "lines")
    const lease_request = { "fs.write": [file] }
    const first = await own.start("--db", db)
    const client = await WireClient.open(first.url)
    const { job_id } = await client.accept("steps", { count: 6, failAt: 4, file }, { lease_request })
    await client.terminal(job_id)
    expect(readFileSync(file, "utf8")).toBe("1 1\n2 1\n3 1\n")
    await first.kill()
    await client.closing()

    const second = await own.start("--db", db)
    const then = await WireClient.resume(second.url, client.session)
    const input = { count: 6, crashAt: 5, file }
    const forked = await then.answer(
      then.request("job.submit", { agent: "steps", input }, forking(job_id, "4"))
    )
    expect(forked.payload["lease"]).toEqual(lease_request)
    await then.closing()

    const third = await own.start("--db", db)
    const last = await WireClient.resume(third.url, client.session, { from: 0 })
    const end = await last.terminal(forked.job_id)
    expect(end.payload["result"]).toEqual({ count: 6 })
    expect(readFileSync(file, "utf8")).toBe("1 1\n2 1\n3 1\n4 1\n5 2\n6 1\n")
    const keys = last
      .eventsOf(forked.job_id)
      .flatMap(({ payload }) =>
        payload["kind"] === "x-vendor.effect-arcp.step" ? [(payload["body"] as { key: string }).key] : []
      )
    expect([...new Set(keys)]).toEqual(["4", "5", "6"])

    // Once more, with all that it had, and nothing taken over.
    const again = await last.answer(
      last.request("job.submit", { agent: "steps", input: { count: 1, file } }, forking(job_id))
    )
    expect((await last.terminal(again.job_id)).payload["result"]).toEqual({ count: 1 })
    expect(readFileSync(file, "utf8").endsWith("6 1\n1 1\n")).toBe(true)
  })

  it("is refused to others, for more, of an unknown step, and of an agent that has no steps", async () => {
    verifies("durable-fork-refused")
    const server = await own.start("--db", join(own.directory(), "arcp.db"))
    const client = await WireClient.open(server.url)
    const steps = await client.run("steps", { count: 2 })
    const plain = await client.run("echo", 1)
    const refusal = async (
      by: WireClient,
      payload: Record<string, unknown>,
      job: string | undefined,
      at: string
    ) => by.rejection(by.request("job.submit", payload, forking(job, at)))
    const { job_id } = steps.accepted
    const unknown = await refusal(client, { agent: "steps" }, job_id, "3")
    expect(unknown).toMatchObject({
      code: "INVALID_REQUEST",
      details: { reason: "unknown_step", keys: ["1", "2"] }
    })
    expect(await refusal(client, { agent: "echo" }, plain.accepted.job_id, "1")).toMatchObject({
      code: "INVALID_REQUEST",
      details: { reason: "not_durable" }
    })
    const wider = { agent: "steps", lease_request: { "fs.read": ["/**"] } }
    expect(await refusal(client, wider, job_id, "2")).toMatchObject({ code: "LEASE_SUBSET_VIOLATION" })
    const bob = await WireClient.open(server.url, { token: "tok-b" })
    expect(await refusal(bob, { agent: "steps" }, job_id, "2")).toMatchObject({ code: "JOB_NOT_FOUND" })
  })
})
