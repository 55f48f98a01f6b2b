/** What durable jobs ask and people answer, from outside (§12.2 of the protocol page). */
import { createHash } from "node:crypto"
import { expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { type Frame, features } from "./support/Frame.js"
import { sharedServer } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const server = sharedServer(["--memory"])

const requestKind = "x-vendor.effect-arcp.input_request"
const closedKind = "x-vendor.effect-arcp.input_closed"
const message = "x-vendor.effect-arcp.job.input"

type Body = Record<string, unknown>

const bodyOf = ({ payload }: Frame) => payload["body"] as Body

/** Submits to `ask`, and gives the question. */
const ask = async (client: WireClient, input: Body, more: Body = {}) => {
  const { job_id = "" } = await client.accept("ask", { prompt: "?", ...input }, more)
  const asked = await client.next((frame) => frame.job_id === job_id && frame.payload.kind === requestKind)
  return { jobId: job_id, asked: bodyOf(asked), inputId: String(bodyOf(asked)["input_id"]) }
}

/** Answers; gives `accepted`, or why it is refused. */
const answer = async (client: WireClient, jobId: string, payload: Body) => {
  const id = client.request(message, payload, { job_id: jobId })
  const { job_id, payload: said, type } = await client.answer(id)
  if (type === `${message}_accepted`) {
    expect(job_id).toBe(jobId)
    expect(said).toEqual({ request_id: id, input_id: payload["input_id"] })
    return "accepted"
  }
  expect(type).toBe("session.error")
  return said.details?.["reason"] ?? said.code
}

const closed = (client: WireClient, jobId: string): ReadonlyArray<Body> =>
  client
    .eventsOf(jobId)
    .filter(({ payload }) => payload.kind === closedKind)
    .map(bodyOf)

it("asks with a digest of what it is about, and takes one answer", async () => {
  verifies("input-asked", "input-answered", "input-refused")
  const client = await WireClient.open(server.url)
  const schema = { type: "object", required: ["yes"], properties: { yes: { type: "boolean" } } }
  const {
    asked,
    inputId: input_id,
    jobId
  } = await ask(client, {
    prompt: "Deploy?",
    schema,
    about: { z: 1, a: ["é", 1e21, null] },
    expiresIn: "3 days"
  })
  const about_sha256 = createHash("sha256").update('{"a":["é",1e+21,null],"z":1}').digest("hex")
  expect(asked).toMatchObject({ prompt: "Deploy?", schema })
  expect(asked["about"]).toEqual({ value: { z: 1, a: ["é", 1e21, null] }, sha256: about_sha256 })
  expect(Date.parse(String(asked["expires_at"])) - Date.now()).toBeGreaterThan(71 * 3_600_000)
  const yes = { input_id, value: { yes: true }, about_sha256 }
  for (const [payload, reason] of [
    [{ ...yes, input_id: "inp_0" }, "unknown_input"],
    [{ input_id, value: { yes: true } }, "about"],
    [{ ...yes, about_sha256: about_sha256.toUpperCase() }, "about"],
    [{ ...yes, about_sha256: "0".repeat(64) }, "about"],
    [{ ...yes, value: { yes: "true" } }, "value"],
    [{ ...yes, value: {} }, "value"],
    [{ ...yes, value: null }, "value"],
    [{ input_id, about_sha256 }, "INVALID_REQUEST"],
    [{ value: 1 }, "INVALID_REQUEST"]
  ] as const)
    expect(await answer(client, jobId, payload), JSON.stringify(payload)).toBe(reason)
  expect(await answer(client, "", yes)).toBe("INVALID_REQUEST")
  expect(await answer(client, `job_${"0".repeat(26)}`, yes)).toBe("JOB_NOT_FOUND")
  expect(await answer(client, jobId, yes)).toBe("accepted")
  expect((await client.terminal(jobId)).payload.result).toEqual({ yes: true })
  expect(await answer(client, jobId, yes)).toBe("accepted")
  expect(await answer(client, jobId, { ...yes, value: { yes: false } })).toBe("already_answered")
  expect(closed(client, jobId)).toEqual([{ input_id, reason: "answered", by: expect.any(String) }])
})

it("is closed when it expires, and when its job is cancelled", async () => {
  verifies("input-asked", "input-expires")
  const client = await WireClient.open(server.url)
  const short = await ask(client, { expiresIn: 50 })
  expect((await client.terminal(short.jobId)).payload.code).toBe("TIMEOUT")
  expect(closed(client, short.jobId)).toEqual([{ input_id: short.inputId, reason: "expired" }])
  expect(await answer(client, short.jobId, { input_id: short.inputId, value: 1 })).toBe("expired")
  const long = await ask(client, { choices: ["a", "b"], tellValue: true })
  expect(long.asked["choices"]).toEqual(["a", "b"])
  client.request("job.cancel", {}, { job_id: long.jobId })
  expect((await client.terminal(long.jobId)).payload.code).toBe("CANCELLED")
  expect(closed(client, long.jobId)).toEqual([{ input_id: long.inputId, reason: "cancelled" }])
  expect(await answer(client, long.jobId, { input_id: long.inputId, value: "a" })).toBe("unknown_input")
})

it("tells the value only when the agent says so", async () => {
  verifies("input-asked")
  const client = await WireClient.open(server.url)
  const { inputId: input_id, jobId } = await ask(client, { choices: ["a", "b"], tellValue: true })
  expect(await answer(client, jobId, { input_id, value: "c" })).toBe("value")
  expect(await answer(client, jobId, { input_id, value: "b" })).toBe("accepted")
  await client.terminal(jobId)
  expect(closed(client, jobId)).toEqual([
    { input_id, reason: "answered", by: expect.any(String), value: "b" }
  ])
})

it("survives hostile values, which leave the question open", async () => {
  verifies("input-refused")
  const client = await WireClient.open(server.url)
  const { inputId: input_id, jobId } = await ask(client, { schema: { type: "string", maxLength: 9 } })
  const deep = `${"[".repeat(70)}${"]".repeat(70)}`
  const envelope = (id: string, value: string) =>
    `{"arcp":"1.1","id":"${id}","type":"${message}","session_id":"${client.session.id}","job_id":"${jobId}",` +
    `"payload":{"input_id":${JSON.stringify(input_id)},"value":${value}}}`
  const many = `{${Array.from({ length: 20_000 }, (_, i) => `"k${i}":${i}`).join(",")}}`
  for (const [i, value] of [
    deep,
    many,
    '{"__proto__":{"x":1}}',
    `"${"b".repeat(500_000)}"`,
    "1e999"
  ].entries()) {
    client.sendText(envelope(`hostile-${i}`, value))
    const { type } = await client.answer(`hostile-${i}`)
    expect(type).toBe("session.error")
  }
  expect(await answer(client, jobId, { input_id, value: "aaa" })).toBe("accepted")
  expect((await client.terminal(jobId)).payload.result).toBe("aaa")
})

it("is seen, and not answered, by a session without the feature", async () => {
  verifies("input-feature", "input-asked")
  const old = await WireClient.open(server.url, {
    features: features.filter((feature) => feature !== "x-vendor.effect-arcp.input")
  })
  const { inputId: input_id, jobId } = await ask(old, {})
  expect(await answer(old, jobId, { input_id, value: 1 })).toBe("INVALID_REQUEST")
  old.request("job.cancel", {}, { job_id: jobId })
  await old.terminal(jobId)
  expect(old.frames.filter(({ type }) => type.startsWith("x-vendor"))).toEqual([])
})

it("is its principal's to answer, and in what is said of its job", async () => {
  verifies("input-who", "input-listed", "input-answered")
  const [owner, other, foreign] = (await Promise.all(
    ["tok-a", "tok-a", "tok-b"].map((token) => WireClient.open(server.url, { token }))
  )) as [WireClient, WireClient, WireClient]
  const { inputId: input_id, jobId } = await ask(owner, {})
  const listing = await other.answer(other.request("session.list_jobs", { filter: { agent: "ask" } }))
  const jobs = listing.payload["jobs"] as ReadonlyArray<Body>
  expect(jobs.find((job) => job["job_id"] === jobId)).toMatchObject({ waiting_for: [input_id] })
  const subscribed = await other.answer(other.request("job.subscribe", { job_id: jobId, history: true }))
  expect(subscribed.payload["waiting_for"]).toEqual([input_id])
  expect(await answer(foreign, jobId, { input_id, value: 1 })).toBe("JOB_NOT_FOUND")
  const outcomes = await Promise.all(
    [owner, other].map((client, i) => answer(client, jobId, { input_id, value: i }))
  )
  expect([...outcomes].sort()).toEqual(["accepted", "already_answered"])
  const { payload } = await owner.terminal(jobId)
  expect(outcomes[Number(payload.result)]).toBe("accepted")
  const after = await other.answer(other.request("session.list_jobs", { filter: { agent: "ask" } }))
  const ended = (after.payload["jobs"] as ReadonlyArray<Body>).find((job) => job["job_id"] === jobId)
  expect(ended?.["waiting_for"]).toBeUndefined()
})
