import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { bodies, children, listed, nextChild, subscribed, toolErrors } from "./support/Authority.js"
import {
  CredentialServer,
  credentialsOf,
  hold,
  models,
  secretValue,
  sharedCredentialServer,
  two
} from "./support/CredentialServer.js"
import { isTerminal, ulid } from "./support/Frame.js"
import { WireClient } from "./support/WireClient.js"

const shared = sharedCredentialServer()

describe("the feature", () => {
  it("is offered with a provisioner and a durable store, and not without", async () => {
    verifies("credentials-offered", "negotiate-credentials")
    const offered = async (server: CredentialServer) => {
      const client = await WireClient.connect(server.url)
      const { payload } = await client.hello({ features: ["provisioned_credentials"] })
      return (payload["capabilities"] as { readonly features: ReadonlyArray<string> }).features
    }
    const forgetful = await CredentialServer.start({ store: "memory" })
    expect(await offered(forgetful)).toEqual([])
    const client = await forgetful.client()
    expect((await client.run("echo", 1, models)).accepted.payload).not.toHaveProperty("credentials")
    expect(forgetful.calls).toEqual([])
    expect(await offered(await CredentialServer.start())).toEqual(["provisioned_credentials"])
  })

  it("a session that did not negotiate it sees none", async () => {
    verifies("credentials-offered", "credentials-shown")
    const server = shared()
    const client = await server.client({ without: true })
    const accepted = await hold(client)
    expect((await subscribed(client, accepted.job_id)).payload).not.toHaveProperty("credentials")
    client.request("job.cancel", {}, { job_id: accepted.job_id })
    await client.terminal(accepted.job_id)
    expect(JSON.stringify(client.frames)).not.toMatch(secretValue)
    await server.revoked()
  })
})

describe("a job's credentials", () => {
  it("are minted before the accept, in their wire shape, each for one job", async () => {
    verifies("credentials-minted", "credentials-shape")
    const server = shared()
    const client = await server.client()
    const accepted = await hold(client)
    const [credential, ...others] = credentialsOf(accepted)
    expect(others).toEqual([])
    expect(credential).toEqual({
      id: expect.stringMatching(new RegExp(`^cred_${ulid}$`)),
      scheme: "bearer",
      value: expect.stringMatching(secretValue),
      endpoint: "https://llm.example/v1",
      profile: "openai",
      constraints: { "model.use": ["anthropic/*"] }
    })
    expect(server.values).toEqual([credential?.value])
    const more = [await hold(client), await hold(client, two)].flatMap(credentialsOf)
    expect(more).toHaveLength(3)
    for (const field of ["id", "value"] as const) {
      expect(new Set([credential, ...more].map((each) => each?.[field])).size).toBe(4)
    }
    const none = await client.run("echo", 1)
    expect(none.accepted.payload["credentials"] ?? []).toEqual([])
  })

  it("wait for upstream, and other jobs do not wait for them", async () => {
    verifies("credentials-minted")
    const server = shared()
    server.behave({ mintMs: 1_000 })
    const client = await server.client()
    const id = client.submit("echo", 1, models)
    await server.until(() => server.calls.length > 0)
    const other = await server.client()
    await other.run("echo", 1)
    expect(client.frames.filter(({ type }) => type === "job.accepted")).toEqual([])
    expect(credentialsOf(await client.answer(id))).toHaveLength(1)
  })

  it("are shown to the submitter alone, and never listed", async () => {
    verifies("credentials-shown", "subscribe-not-found")
    const server = shared()
    const client = await server.client()
    const accepted = await hold(client)
    const mine = await server.client()
    expect(credentialsOf(await subscribed(mine, accepted.job_id))).toEqual(credentialsOf(accepted))
    const bob = await server.client({ token: "tok-b" })
    const { job_id } = accepted
    expect((await bob.refusal(bob.request("job.subscribe", { job_id }, { job_id }))).code).toBe(
      "JOB_NOT_FOUND"
    )
    expect(JSON.stringify(bob.frames)).not.toMatch(secretValue)
    expect(JSON.stringify([await listed(client), await listed(mine), await listed(bob)])).not.toMatch(
      secretValue
    )
  })

  it("are not shown to a session that did not negotiate them, though the submitter's", async () => {
    verifies("credentials-offered", "credentials-shown")
    const server = shared()
    const accepted = await hold(await server.client())
    const blind = await server.client({ without: true })
    expect((await subscribed(blind, accepted.job_id)).payload).not.toHaveProperty("credentials")
  })

  it("do not get out through a careless agent's logs and results", async () => {
    verifies("credentials-secret")
    const server = shared()
    const client = await server.client()
    const { accepted, events } = await client.run("careless", {}, models)
    expect(credentialsOf(accepted)).toHaveLength(1)
    expect(JSON.stringify(events)).not.toMatch(secretValue)
    expect(server.stderr).toContain("holding")
  })

  it("a submit sent again shows the same while the job runs, and none once it has ended", async () => {
    verifies("credentials-shown", "submit-same-id")
    const server = shared()
    const client = await server.client()
    const id = client.submit("sleep", { ms: 600_000 }, models)
    const accepted = await client.answer(id)
    const again = await client.answer(client.submit("sleep", { ms: 600_000 }, models, { id }))
    expect(again.payload).toEqual(accepted.payload)
    expect(server.calls.filter(({ call }) => call === "mint")).toHaveLength(1)
    client.request("job.cancel", {}, { job_id: accepted.job_id })
    await client.terminal(accepted.job_id)
    await server.revoked()
    const late = await client.answer(client.submit("sleep", { ms: 600_000 }, models, { id }))
    expect(late.job_id).toBe(accepted.job_id)
    expect(JSON.stringify(late)).not.toMatch(secretValue)
    expect(JSON.stringify(await subscribed(client, accepted.job_id))).not.toMatch(secretValue)
  })
})

describe("when upstream fails", () => {
  it("the submit is refused, and what was already made is revoked", async () => {
    verifies("credentials-mint-failed", "submit-rejected")
    const server = shared()
    server.behave({ failMint: "second" })
    const client = await server.client()
    const refused = await client.rejection(client.submit("echo", 1, two))
    expect(refused).toMatchObject({ code: "INTERNAL_ERROR", retryable: true })
    await server.revoked()
    expect(client.frames.filter(({ type }) => type === "job.accepted")).toEqual([])
    server.behave({})
    expect((await client.run("echo", 1, two)).terminal.type).toBe("job.result")
    await server.revoked()
  })

  it("its spend cap is BUDGET_EXHAUSTED", async () => {
    verifies("credentials-mint-failed")
    const server = shared()
    server.behave({ spendCap: true })
    const client = await server.client()
    const refused = await client.rejection(client.submit("echo", 1, models))
    expect(refused).toMatchObject({ code: "BUDGET_EXHAUSTED", retryable: false })
    expect(server.live).toEqual([])
  })

  it("a refused submit does not occupy its key", async () => {
    verifies("credentials-mint-failed", "idempotency-rejected")
    const server = shared()
    server.behave({ failMint: "openai" })
    const client = await server.client()
    const more = { ...models, idempotency_key: `once-${process.pid}-${Math.random()}` }
    await client.rejection(client.submit("echo", 1, more))
    server.behave({})
    const { accepted } = await client.run("echo", 1, more)
    expect(credentialsOf(accepted)).toHaveLength(1)
    await server.revoked()
  })
})

describe("while upstream takes its time", () => {
  it("caps hold", async () => {
    verifies("credentials-minted", "cap-jobs-session", "delegate-fan-out")
    const limits = { maxJobsPerSession: 2, maxChildrenPerJob: 2 }
    const server = await CredentialServer.start({ limits })
    server.behave({ mintMs: 300 })
    const client = await server.client()
    const ids = Array.from({ length: 5 }, () => client.submit("sleep", { ms: 600_000 }, models))
    const answers = await Promise.all(ids.map((id) => client.answer(id)))
    const count = (type: string) => answers.filter((frame) => frame.type === type).length
    expect([count("job.accepted"), count("job.error")]).toEqual([2, 3])

    const other = await server.client()
    const child = { do: "delegate", agent: "sleep", input: { ms: 600 }, lease: models.lease_request }
    const steps = [{ do: "all", steps: Array(5).fill(child) }]
    const more = { lease_request: { ...models.lease_request, "agent.delegate": ["sleep"] } }
    const { accepted, terminal } = await other.run("script", { steps }, more)
    const limited = JSON.stringify(terminal.payload.result).match(/"limit"/g) ?? []
    expect([children(other, accepted.job_id).length, limited.length]).toEqual([2, 3])
  })

  it("a parent that is cancelled takes along the child that waits for its credentials", async () => {
    verifies("credentials-delegated", "credentials-revoked", "delegate-cancel")
    const server = shared()
    const client = await server.client()
    const steps = [{ do: "delegate", agent: "sleep", input: { ms: 600_000 }, lease: models.lease_request }]
    const more = { lease_request: { ...models.lease_request, "agent.delegate": ["sleep"] } }
    const accepted = await client.accept("script", { steps: [{ do: "sleep", ms: 300 }, ...steps] }, more)
    server.behave({ answerMs: 2_000 })
    await server.until(() => server.live.length === 2)
    client.request("job.cancel", {}, { job_id: accepted.job_id })
    expect((await client.terminal(accepted.job_id)).payload.code).toBe("CANCELLED")
    await server.revoked()
    await client.ping()
    const ends = client.frames.filter(isTerminal).map(({ job_id }) => job_id)
    expect(ends.at(-1)).toBe(accepted.job_id)
    expect(new Set(ends)).toEqual(new Set([accepted, ...children(client)].map(({ job_id }) => job_id)))
  })
})

describe("rotation", () => {
  it("gives the submitter another value under the same id, and revokes the old one", async () => {
    verifies("credentials-rotation")
    const server = shared()
    const client = await server.client()
    const accepted = await client.accept("rotate", { ms: 3_000 }, models)
    const [before] = credentialsOf(accepted)
    const { payload } = await client.next((frame) => frame.payload.body?.["phase"] === "credential_rotated")
    expect(payload.body).toMatchObject({ id: before?.id, value: expect.stringMatching(secretValue) })
    const value = payload.body?.["value"]
    expect(value).not.toBe(before?.value)
    await server.until(() => server.live.length === 1)
    expect(server.values).toEqual([value])
    const other = await server.client()
    const [shown] = credentialsOf(await subscribed(other, accepted.job_id))
    expect(shown).toMatchObject({ id: before?.id, value })
    const blind = await server.client({ without: true })
    await subscribed(blind, accepted.job_id, { history: true })
    expect((await client.terminal(accepted.job_id)).payload.result).toEqual({ same: true, changed: true })
    await server.revoked()
    await blind.terminal(accepted.job_id)
    expect(JSON.stringify(blind.eventsOf(accepted.job_id))).not.toMatch(secretValue)
    // Its history, once it has ended, holds nothing that was secret.
    const late = await server.client()
    await subscribed(late, accepted.job_id, { history: true })
    await late.terminal(accepted.job_id)
    expect(JSON.stringify(late.frames)).not.toMatch(secretValue)
    expect(bodies(late.frames, "status").length).toBeGreaterThan(0)
  })
})

describe("a delegated job", () => {
  it("has credentials of its own, which end with it", async () => {
    verifies("credentials-delegated")
    const server = shared()
    const client = await server.client()
    const lease = { "model.use": ["anthropic/*"] }
    const steps = [
      { do: "delegate", agent: "sleep", input: { ms: 700 }, lease },
      { do: "sleep", ms: 2_500 }
    ]
    const more = { lease_request: { ...lease, "agent.delegate": ["sleep"] } }
    const accepted = await client.accept("script", { steps }, more)
    const child = await nextChild(client, accepted.job_id)
    const [parents, childs] = [credentialsOf(accepted), credentialsOf(child)]
    expect([parents.length, childs.length]).toEqual([1, 1])
    expect(childs[0]?.value).not.toBe(parents[0]?.value)
    expect(new Set(server.values)).toEqual(new Set([parents[0]?.value, childs[0]?.value]))
    await client.terminal(child.job_id)
    await server.until(() => server.live.length === 1)
    expect(server.values).toEqual([parents[0]?.value])
    await client.terminal(accepted.job_id)
    await server.revoked()
  })

  it("is refused when upstream fails, and its parent goes on", async () => {
    verifies("credentials-delegated", "credentials-mint-failed")
    const server = shared()
    const client = await server.client()
    const lease = two.lease_request
    const steps = [
      { do: "delegate", agent: "echo", input: 1, lease },
      { do: "delegate", agent: "echo", input: 2 }
    ]
    const parent = { "agent.delegate": ["echo"], ...lease }
    const id = client.submit(
      "script",
      { steps: [{ do: "sleep", ms: 500 }, ...steps] },
      { lease_request: parent }
    )
    const accepted = await client.answer(id)
    server.behave({ failMint: "second" })
    const end = await client.terminal(accepted.job_id)
    expect(end.payload.result).toMatchObject([{}, { error: "INTERNAL_ERROR" }, { ok: 2 }])
    expect(toolErrors(client.eventsOf(accepted.job_id)).map(({ error }) => error.code)).toEqual([
      "INTERNAL_ERROR"
    ])
    expect(children(client, accepted.job_id)).toHaveLength(1)
    await server.revoked()
  })
})
