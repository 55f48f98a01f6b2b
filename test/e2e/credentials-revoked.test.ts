import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { expiresIn, subscribed } from "./support/Authority.js"
import {
  CredentialServer,
  credentialsOf,
  hold,
  models,
  secretValue,
  sharedCredentialServer,
  two
} from "./support/CredentialServer.js"
import { WireClient } from "./support/WireClient.js"

const shared = sharedCredentialServer()

describe("revocation", () => {
  it.each<[string, string, unknown, Record<string, unknown>]>([
    ["success", "echo", 1, {}],
    ["error", "fail", { mode: "fail", message: "no" }, {}],
    ["a defect", "fail", { mode: "throw", message: "no" }, {}],
    ["its time-out", "sleep", { ms: 600_000 }, { max_runtime_sec: 1 }],
    ["its expiry", "sleep", { ms: 600_000 }, {}]
  ])("after %s", async (how, agent, input, more) => {
    verifies("credentials-revoked")
    const server = shared()
    const client = await server.client()
    const extra = how === "its expiry" ? { lease_constraints: expiresIn(2_000) } : more
    const { accepted } = await client.run(agent, input, { ...two, ...extra })
    expect(credentialsOf(accepted)).toHaveLength(2)
    await server.revoked()
  })

  it("after a cancel, also of a stuck agent, and of a job whose client is gone", async () => {
    verifies("credentials-revoked")
    const server = shared()
    const client = await server.client()
    const held = await hold(client)
    const stuck = await client.accept("stubborn", { ms: 3_000 }, models)
    const gone = await server.client()
    await gone.accept("sleep", { ms: 500 }, models)
    gone.drop()
    expect(server.live).toHaveLength(3)
    for (const { job_id } of [held, stuck]) client.request("job.cancel", {}, { job_id })
    await client.terminal(held.job_id)
    await client.terminal(stuck.job_id)
    await server.revoked()
  })

  it("after a shutdown", async () => {
    verifies("credentials-revoked")
    const server = await CredentialServer.start()
    await hold(await server.client(), two)
    expect(server.live).toHaveLength(2)
    await server.stop()
    // What the shutdown had no time for is for the next start.
    await (await server.again()).revoked()
  })

  it("is tried again when upstream fails; the end of the job does not wait for it", async () => {
    verifies("credentials-revoke-retried")
    const server = shared()
    server.behave({ failRevokes: 4 })
    const client = await server.client()
    const { terminal } = await client.run("echo", 1, models)
    expect(terminal.type).toBe("job.result")
    await server.revoked()
    expect(server.calls.filter(({ call }) => call === "revoke").length).toBeGreaterThanOrEqual(5)
  })

  it("after kill -9, at the next start", async () => {
    verifies("credentials-restart")
    const server = await CredentialServer.start()
    const client = await server.client()
    const accepted = await hold(client, two)
    await hold(client)
    expect(server.live).toHaveLength(3)
    await server.kill()
    await client.closing()
    const after = await server.again()
    await after.revoked()
    const resumed = await WireClient.resume(after.url, client.session, { from: 0 })
    await resumed.terminal(accepted.job_id)
    const answer = await subscribed(resumed, accepted.job_id, { history: true })
    expect(credentialsOf(answer)).toEqual([])
    expect(JSON.stringify(resumed.frames)).not.toMatch(secretValue)
  })

  it.each([
    ["before upstream did it", { mintMs: 1_500 }],
    ["before its answer", { answerMs: 60_000 }]
  ])("after kill -9 in the middle of minting, %s", async (_, behaviour) => {
    verifies("credentials-restart")
    const server = await CredentialServer.start()
    server.behave(behaviour)
    const client = await server.client()
    client.submit("echo", 1, models)
    await server.until(() => ("mintMs" in behaviour ? server.calls.length > 0 : server.live.length > 0))
    await server.kill()
    await client.closing()
    server.behave({})
    const after = await server.again()
    await after.revoked()
    // What was asked for is asked to be revoked, whether or not it was seen to be made.
    const minted = after.calls.filter(({ call }) => call === "mint").map(({ id }) => id)
    const asked = () => after.calls.filter(({ call }) => call === "revoke").map(({ id }) => id)
    await after.until(() => minted.every((id) => asked().includes(id)))
    expect(client.frames.filter(({ type }) => type === "job.accepted")).toEqual([])
  })

  it("after kill -9 while upstream does not take revocations", async () => {
    verifies("credentials-restart", "credentials-revoke-retried")
    const server = await CredentialServer.start()
    server.behave({ failRevokes: 1_000_000 })
    const client = await server.client()
    await client.run("echo", 1, models)
    await server.until(() => server.calls.some(({ call }) => call === "revoke"))
    await server.kill()
    server.behave({})
    await (await server.again()).revoked()
  })
})
