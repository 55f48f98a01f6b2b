import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { sharedServer } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const server = sharedServer(["--memory"])
const trace = "4bf92f3577b34da6a3ce929d0e0e4736"

describe("versions", () => {
  it.each(["1.1", "1.0", "1"])("a session opened with %s is answered with %s", async (arcp) => {
    verifies("envelope-version")
    const client = await WireClient.open(server.url, { arcp })
    const { events, terminal } = await client.run("echo", { n: 1 })
    expect(terminal.payload.result).toEqual({ n: 1 })
    expect(new Set([...events, ...client.frames].map((frame) => frame.arcp))).toEqual(new Set([arcp]))
  })

  it.each(["2.0", "1.2", "", 1.1, null])("arcp %j is refused and the transport closed", async (arcp) => {
    verifies("envelope-version-unknown", "envelope-session-id")
    const client = await WireClient.connect(server.url)
    const payload = {
      client: { name: "wire-client", version: "1.0.0" },
      auth: { scheme: "bearer", token: "tok-a" }
    }
    client.sendText(JSON.stringify({ arcp, id: "h1", type: "session.hello", payload }))
    const error = await client.nextOf("session.error")
    expect(error.payload.code).toBe("INVALID_REQUEST")
    await client.closing()
  })

  it("an unknown version on an open session is INVALID_REQUEST", async () => {
    verifies("envelope-version-unknown")
    const client = await WireClient.open(server.url)
    client.request("session.ping", { nonce: "n", sent_at: new Date().toISOString() }, { arcp: "2.0" })
    const error = await client.nextOf("session.error")
    expect(error.payload.code).toBe("INVALID_REQUEST")
  })
})

describe("ids", () => {
  it.each(["a", " ", "ünï-✓", "x".repeat(256)])(
    "any non-empty id up to 256 characters is taken",
    async (id) => {
      verifies("envelope-id-inbound")
      const client = await WireClient.open(server.url)
      const answer = await client.answer(client.submit("echo", 1, {}, { id: `${id}`.slice(0, 256) }))
      expect(answer.type).toBe("job.accepted")
      await client.terminal(answer.job_id)
    }
  )

  it.each<unknown>(["", "x".repeat(257), 7])("id %j is refused", async (id) => {
    verifies("envelope-id-inbound")
    const client = await WireClient.open(server.url)
    const text = { arcp: "1.1", id, type: "session.ping", session_id: client.session.id }
    client.sendText(JSON.stringify({ ...text, payload: { nonce: "n", sent_at: "2026-01-01T00:00:00Z" } }))
    expect((await client.nextOf("session.error")).payload.code).toBe("INVALID_REQUEST")
    await client.ping()
  })

  it("every frame of a run has the envelope of section 2", async () => {
    verifies("envelope-id-outbound", "envelope-event-seq", "envelope-timestamps", "errors-table")
    const client = await WireClient.open(server.url)
    await client.run("emit", { count: 5 })
    await client.rejection(client.submit("no-such-agent", {}))
    await client.ping()
    // The rules themselves are checked by the client on every frame; here, that there was one of each.
    const types = new Set(client.frames.map((frame) => frame.type))
    for (const type of ["session.welcome", "job.accepted", "job.event", "job.result", "job.error"]) {
      expect(types).toContain(type)
    }
    expect(new Set(client.frames.map((frame) => frame.id)).size).toBe(client.frames.length)
    expect(client.frames.flatMap((frame) => frame.event_seq ?? [])).toEqual(
      Array.from({ length: client.session.lastSeq }, (_, index) => index + 1)
    )
  })
})

describe("session_id", () => {
  it("is required on everything but hello", async () => {
    verifies("envelope-session-id")
    const client = await WireClient.open(server.url)
    client.request("session.ping", { nonce: "n", sent_at: "2026-01-01T00:00:00Z" }, { session_id: undefined })
    expect((await client.nextOf("session.error")).payload.code).toBe("INVALID_REQUEST")
    await client.ping()
  })

  it("of another session is INVALID_REQUEST, and that session sees nothing of it", async () => {
    verifies("envelope-foreign-session")
    const client = await WireClient.open(server.url)
    const other = await WireClient.open(server.url)
    client.submit("echo", 1, {}, { session_id: other.session.id })
    const refused = await client.nextOf("session.error")
    expect(refused.payload.code).toBe("INVALID_REQUEST")
    await client.ping()
    await other.ping()
    expect(other.frames.filter((frame) => frame.type.startsWith("job."))).toEqual([])
    expect(client.frames.filter((frame) => frame.type === "job.accepted")).toEqual([])
  })
})

describe("trace_id", () => {
  it("is kept when given", async () => {
    verifies("envelope-trace-id")
    const client = await WireClient.open(server.url)
    const accepted = await client.answer(client.submit("echo", 1, {}, { trace_id: trace }))
    expect(accepted.payload.trace_id).toBe(trace)
    await client.terminal(accepted.job_id)
    for (const frame of client.eventsOf(accepted.job_id)) expect([trace, undefined]).toContain(frame.trace_id)
  })

  it("is minted when absent", async () => {
    verifies("envelope-trace-id")
    const client = await WireClient.open(server.url)
    const first = await client.accept("echo", 1)
    const second = await client.accept("echo", 1)
    expect(first.payload.trace_id).toMatch(/^[0-9a-f]{32}$/)
    expect(first.payload.trace_id).not.toBe(second.payload.trace_id)
  })

  it("is taken from a full traceparent", async () => {
    verifies("envelope-traceparent")
    const client = await WireClient.open(server.url)
    const traceparent = `00-${trace}-00f067aa0ba902b7-01`
    const accepted = await client.answer(client.submit("echo", 1, {}, { trace_id: traceparent }))
    expect(accepted.payload.trace_id).toBe(trace)
  })

  it.each(["0".repeat(32), trace.toUpperCase(), "abc", 5])("%j is refused", async (bad) => {
    verifies("envelope-trace-id")
    const client = await WireClient.open(server.url)
    client.submit("echo", 1, {}, { trace_id: bad })
    const refused = await client.next(({ type }) => type === "session.error" || type === "job.error")
    expect(refused.payload.code).toBe("INVALID_REQUEST")
    await client.ping()
  })
})

describe("the trace context", () => {
  const key = "x-vendor.opentelemetry.tracecontext"

  it.each(["00", "01"])("flag %s is answered with the job's own span in the same trace", async (flags) => {
    verifies("trace-context")
    const client = await WireClient.open(server.url)
    const given = { traceparent: `00-${trace}-00f067aa0ba902b7-${flags}`, tracestate: "vendor=1" }
    const accepted = await client.answer(client.submit("echo", 1, {}, { extensions: { [key]: given } }))
    expect(accepted.trace_id).toBe(trace)
    expect(accepted.payload.trace_id).toBe(trace)
    expect(accepted.extensions).toEqual({
      [key]: {
        traceparent: expect.stringMatching(`^00-${trace}-[0-9a-f]{16}-${flags}$`),
        tracestate: "vendor=1"
      }
    })
    expect(JSON.stringify(accepted.extensions)).not.toContain("00f067aa0ba902b7")
  })

  it.each([
    { traceparent: `00-${trace}-${"0".repeat(16)}-01` },
    { traceparent: "nonsense" },
    { traceparent: `00-${"a".repeat(32)}-00f067aa0ba902b7-01` },
    "text",
    null
  ])("%j is ignored", async (given) => {
    verifies("trace-context-ignored")
    const client = await WireClient.open(server.url)
    const accepted = await client.answer(
      client.submit("echo", 1, {}, { trace_id: trace, extensions: { [key]: given } })
    )
    expect(accepted.type).toBe("job.accepted")
    expect(accepted.trace_id).toBe(trace)
    expect(accepted.extensions).toBeUndefined()
  })
})

describe("what the runtime does not know", () => {
  it("unknown fields are ignored and never echoed", async () => {
    verifies("envelope-unknown-fields")
    const client = await WireClient.open(server.url, { payload: { marker_field: "marker-value" } })
    const more = { marker_field: { deep: "marker-value" } }
    const id = client.submit("echo", { n: 1 }, more, {
      marker_field: "marker-value",
      extensions: { optional: false }
    })
    const accepted = await client.answer(id)
    const result = await client.terminal(accepted.job_id)
    expect(result.payload.result).toEqual({ n: 1 })
    expect(JSON.stringify(client.frames)).not.toMatch(/marker/)
  })

  it("vendor extensions are accepted on any message", async () => {
    verifies("envelope-extensions")
    const client = await WireClient.open(server.url)
    const extensions = { optional: true, "x-vendor.acme.note": { a: [1] } }
    const accepted = await client.answer(client.submit("echo", 1, {}, { extensions }))
    expect(accepted.type).toBe("job.accepted")
  })

  it.each(["session.fly", "job.fly", "banana", "", "x-vendor.acme", "x-vendor..note"])(
    "type %j is INVALID_REQUEST and the session stays open",
    async (type) => {
      verifies("unknown-type")
      const client = await WireClient.open(server.url)
      const id = client.request(type)
      const refused = await client.nextOf("session.error")
      expect(refused.payload.code).toBe("INVALID_REQUEST")
      if (type !== "") expect(refused.payload.details?.["request_id"]).toBe(id)
      await client.ping()
    }
  )

  it.each(["session.welcome", "session.jobs", "job.event", "job.result", "job.error", "job.accepted"])(
    "%s from a client changes nothing",
    async (type) => {
      verifies("inbound-seq-ignored")
      const client = await WireClient.open(server.url)
      const { job_id } = await client.accept("sleep", { ms: 60_000 })
      const ts = new Date().toISOString()
      const body = { level: "info", message: "forged" }
      const event = { kind: "log", ts, body, code: "CANCELLED", message: "forged", final_status: "success" }
      client.request(type, { ...event, retryable: false, completed_at: ts }, { job_id, event_seq: 2 })
      await client.ping()
      client.request("job.cancel", {}, { job_id })
      const end = await client.terminal(job_id)
      expect(end.payload.code).toBe("CANCELLED")
      expect(JSON.stringify(client.frames)).not.toMatch(/forged/)
    }
  )

  it("a vendor type is dropped silently when optional, else INVALID_REQUEST", async () => {
    verifies("unknown-vendor-type")
    const client = await WireClient.open(server.url)
    client.request("x-vendor.acme.note", { a: 1 }, { extensions: { optional: true } })
    await client.ping()
    expect(client.frames.map((frame) => frame.type)).toEqual(["session.welcome", "session.pong"])
    const refused = await client.refusal(client.request("x-vendor.acme.note", { a: 1 }))
    expect(refused.code).toBe("INVALID_REQUEST")
    const second = client.request("x-vendor.acme.note", {}, { extensions: { optional: false } })
    expect((await client.refusal(second)).code).toBe("INVALID_REQUEST")
    await client.ping()
  })

  it("an inbound event_seq is ignored", async () => {
    verifies("inbound-seq-ignored")
    const client = await WireClient.open(server.url)
    const accepted = await client.answer(client.submit("echo", 1, {}, { event_seq: 999 }))
    await client.terminal(accepted.job_id)
    expect(client.eventsOf(accepted.job_id)[0]?.event_seq).toBe(1)
  })
})
