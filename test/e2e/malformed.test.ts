import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { sharedServer } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const server = sharedServer(["--memory"])

const nested = (depth: number) => `${"[".repeat(depth)}${"]".repeat(depth)}`

const envelope = (client: WireClient, type: string, payload: string, id = "m-1") =>
  `{"arcp":"1.1","id":"${id}","type":"${type}","session_id":"${client.session.id}","payload":${payload}}`

describe("one malformed frame", () => {
  const frames: ReadonlyArray<readonly [string, (client: WireClient) => string | Uint8Array]> = [
    ["invalid JSON", () => "{nope"],
    ["empty text", () => ""],
    ["an array", () => "[]"],
    ["a number", () => "12"],
    ["null", () => "null"],
    ["a string", () => '"hello"'],
    ["a binary frame", () => new TextEncoder().encode('{"arcp":"1.1"}')],
    ["an empty object", () => "{}"],
    ["no payload", (client) => envelope(client, "session.ping", "null").replace(',"payload":null', "")],
    ["payload null", (client) => envelope(client, "session.ping", "null")],
    ["payload an array", (client) => envelope(client, "session.ping", "[]")],
    ["payload a string", (client) => envelope(client, "session.ping", '"x"')],
    ["a ping without nonce", (client) => envelope(client, "session.ping", "{}")],
    ["an ack with text", (client) => envelope(client, "session.ack", '{"last_processed_seq":"1"}')],
    ["a cancel without job", (client) => envelope(client, "job.cancel", "{}")],
    ["a subscribe without job", (client) => envelope(client, "job.subscribe", "{}")],
    ["a type that is no string", (client) => envelope(client, "x", "{}").replace('"x"', "42")],
    ["nesting of 70", (client) => envelope(client, "job.submit", `{"agent":"echo","input":${nested(70)}}`)],
    [
      "nesting of 50 000",
      (client) => envelope(client, "job.submit", `{"agent":"echo","input":${nested(50_000)}}`)
    ]
  ]

  it.each(frames)("%s: one INVALID_REQUEST; the session and its jobs live on", async (_, make) => {
    verifies("malformed-answer", "malformed-keeps-session", "malformed-depth")
    const client = await WireClient.open(server.url)
    const { job_id } = await client.accept("emit", { count: 20, delayMs: 5 })
    client.sendText(make(client))
    const refused = await client.next(
      ({ type, payload }) => /error$/.test(type) && payload.code !== undefined
    )
    expect(refused.payload.code).toBe("INVALID_REQUEST")
    await client.ping()
    expect((await client.terminal(job_id)).payload.result).toEqual({ count: 20 })
    expect(client.frames.filter(({ type }) => /error$/.test(type))).toHaveLength(1)
  })

  it("names the path that failed", async () => {
    verifies("malformed-names-path")
    const client = await WireClient.open(server.url)
    client.sendText(envelope(client, "session.ack", '{"last_processed_seq":"seven-apples"}'))
    const { payload } = await client.nextOf("session.error")
    expect(JSON.stringify([payload.message, payload.details])).toContain("last_processed_seq")
    expect(JSON.stringify(payload)).not.toContain("seven-apples")
  })

  it("an error never echoes a token", async () => {
    verifies("malformed-no-echo")
    const client = await WireClient.connect(server.url)
    client.sendHello({ token: "tok-a", payload: { client: 5, auth: { scheme: "bearer", token: ["tok-a"] } } })
    const { payload } = await client.nextOf("session.error")
    expect(payload.code).toMatch(/INVALID_REQUEST|UNAUTHENTICATED/)
    expect(JSON.stringify(payload)).not.toContain("tok-a")
    await client.closing()
  })

  it("error messages are at most 512 characters", async () => {
    verifies("malformed-message-length")
    const client = await WireClient.open(server.url)
    const long = "z".repeat(20_000)
    const requests = [
      client.request(`session.${long}`),
      client.request("job.cancel", {}, { job_id: long }),
      client.request("job.cancel", { job_id: long }),
      client.request("job.subscribe", { job_id: long }),
      client.request("session.list_jobs", { cursor: long, filter: { status: [long] } })
    ]
    const count = requests.length + 1
    client.submit(`agent-${long}`, {})
    for (let index = 0; index < count; index++) {
      const refusal = await client.next(({ type }) => /error$/.test(type))
      expect(refusal.payload.message?.length).toBeLessThanOrEqual(512)
      expect(JSON.stringify(refusal).length).toBeLessThan(2_000)
    }
    await client.ping()
  })
})

describe("data that looks like code", () => {
  it("__proto__ and constructor are data", async () => {
    verifies("malformed-prototype")
    const client = await WireClient.open(server.url)
    const input = '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},"n":1}'
    client.sendText(envelope(client, "job.submit", `{"agent":"echo","input":${input}}`, "p-1"))
    const accepted = await client.answer("p-1")
    const result = await client.terminal(accepted.job_id)
    expect(JSON.stringify(result.payload.result)).toBe(input)
    client.sendText(envelope(client, "session.ping", '{"__proto__":{"nonce":"x"},"constructor":{}}'))
    expect((await client.nextOf("session.error")).payload.code).toBe("INVALID_REQUEST")
    const after = await client.run("echo", {})
    expect(JSON.stringify(after)).not.toContain("polluted")
  })

  it.each([
    ['{"s":"a\\ud800b"}', "half a surrogate pair"],
    ['{"a\\udc00":1}', "half a surrogate pair in a name"],
    ['{"n":[1,1e400]}', "a number beyond all others"],
    ["-1e400", "a number below all others"]
  ])("%s is refused: %s", async (input) => {
    verifies("malformed-values")
    const client = await WireClient.open(server.url)
    client.sendText(envelope(client, "job.submit", `{"agent":"echo","input":${input}}`, "v-1"))
    const { code, message } = await client.rejection("v-1")
    expect(code).toBe("INVALID_REQUEST")
    expect(message).toContain("payload.input")
    await client.run("echo", 1)
  })

  it.each(["\\u0000", "\\u2028", "\\ud83d\\ude00"])("a string with %s comes through", async (text) => {
    verifies("malformed-unicode")
    const client = await WireClient.open(server.url)
    client.sendText(envelope(client, "job.submit", `{"agent":"echo","input":{"s":"a${text}b"}}`, "u-1"))
    const accepted = await client.answer("u-1")
    const result = await client.terminal(accepted.job_id)
    expect(result.payload.result).toEqual({ s: JSON.parse(`"a${text}b"`) })
  })

  it("depth 60 is not too deep", async () => {
    verifies("malformed-depth")
    const client = await WireClient.open(server.url)
    client.sendText(envelope(client, "job.submit", `{"agent":"echo","input":${nested(60)}}`, "d-1"))
    const accepted = await client.answer("d-1")
    const result = await client.terminal(accepted.job_id)
    expect(JSON.stringify(result.payload.result)).toBe(nested(60))
  })
})

describe("many malformed frames", () => {
  it("20 in 10 s are answered one by one; the 21st closes with 1008 and the session is resumable", async () => {
    verifies("malformed-flood")
    const client = await WireClient.open(server.url)
    const { job_id } = await client.accept("emit", { count: 1, startDelayMs: 1_000 })
    for (let index = 0; index < 20; index++) client.sendText("{nope")
    await client.ping()
    expect(client.frames.filter(({ type }) => type === "session.error")).toHaveLength(20)
    client.sendText("{nope")
    expect((await client.closing()).code).toBe(1008)
    const again = await WireClient.resume(server.url, client.session)
    expect((await again.terminal(job_id)).payload.result).toEqual({ count: 1 })
  })

  it("a refused but well-formed request is not a malformed frame", async () => {
    verifies("malformed-flood")
    const client = await WireClient.open(server.url)
    for (let index = 0; index < 40; index++) {
      const id = client.request("job.cancel", {}, { job_id: "job_01HZZZZZZZZZZZZZZZZZZZZZZZ" })
      expect((await client.refusal(id)).code).toBe("JOB_NOT_FOUND")
    }
    await client.ping()
  })
})

describe("frame size", () => {
  it("a frame just under 1 MiB is taken, one above closes with 1009, and the session is resumable", async () => {
    verifies("frame-size")
    const client = await WireClient.open(server.url)
    const { terminal } = await client.run("echo", "x".repeat(1024 * 1024 - 1024))
    expect((terminal.payload.result as string).length).toBe(1024 * 1024 - 1024)
    client.submit("echo", "x".repeat(1024 * 1024 + 1))
    expect((await client.closing()).code).toBe(1009)
    const again = await WireClient.resume(server.url, client.session)
    await again.run("echo", 1)
  })

  it("before welcome the limit is 64 KiB", async () => {
    verifies("frame-size-hello")
    const client = await WireClient.connect(server.url)
    client.sendHello({ payload: { filler: "x".repeat(64 * 1024) } })
    expect((await client.closing()).code).toBe(1009)
    const close = await WireClient.open(server.url, { payload: { filler: "x".repeat(63 * 1024) } })
    await close.ping()
  })
})
