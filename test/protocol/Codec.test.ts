import { describe, expect, it } from "@effect/vitest"
import * as Arbitrary from "effect/Arbitrary"
import * as Either from "effect/Either"
import * as fc from "effect/FastCheck"
import * as Schema from "effect/Schema"
import * as Codec from "../../src/protocol/Codec.js"
import * as Message from "../../src/protocol/Message.js"
import * as Vendor from "../../src/protocol/Vendor.js"

const envelope = (more: Record<string, unknown> = {}) => ({
  arcp: "1.1",
  id: "msg-1",
  type: "session.ping",
  payload: { nonce: "n" },
  ...more
})
const client = (more?: Record<string, unknown>) => Codec.decodeClient(JSON.stringify(envelope(more)))
const rejectedBy = <A, E>(result: Either.Either<A, E>): E => {
  if (Either.isRight(result)) throw new Error("must be rejected")
  return result.left
}
const accepted = <A>(result: Either.Either<A, unknown>): A => {
  if (Either.isLeft(result)) throw new Error(JSON.stringify(result.left))
  return result.right
}
const read = (frame: ReturnType<typeof Codec.decodeRuntime>) => {
  if (frame.problem !== undefined) throw new Error(frame.problem)
  return frame
}
const json = (value: unknown) => JSON.parse(JSON.stringify(value)) as unknown

// Arbitraries of whole messages. Leases and free JSON have no derived ones.
const token = fc.string({ minLength: 1, maxLength: 30 })
const traceId = fc.stringMatching(/^[0-9a-f]{31}[1-9a-f]$/)
const lease = fc.dictionary(
  fc.constantFrom("fs.read", "net.fetch", "tool.call", "x-vendor.acme.print"),
  fc.array(token, { maxLength: 3 })
)
const time = fc.constantFrom("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.678Z")
const status = fc.constantFrom(...Message.JobStatus.literals)
const of = (schema: Schema.Schema.AnyNoContext) => Arbitrary.make(schema)

const clientPayloads: { readonly [K in keyof typeof Message.clientMessages]: fc.Arbitrary<unknown> } = {
  "session.hello": of(Message.Hello),
  "session.ping": of(Message.Ping),
  "session.pong": of(Message.Pong),
  "session.ack": of(Message.Ack),
  "session.list_jobs": fc.record(
    {
      filter: fc.record(
        { status: fc.array(status), agent: token, created_after: time, created_before: time },
        { requiredKeys: [] }
      ),
      limit: fc.integer({ min: 1, max: 1000 }),
      cursor: fc.option(token)
    },
    { requiredKeys: [] }
  ),
  [Vendor.jobInput]: of(Message.JobInput),
  "session.close": of(Message.Reason),
  "session.bye": of(Message.Reason),
  "job.submit": fc.record(
    {
      agent: token,
      input: fc.jsonValue(),
      lease_request: lease,
      lease_constraints: fc.record({ expires_at: time }),
      idempotency_key: fc.string({ minLength: 1, maxLength: 256 }),
      max_runtime_sec: fc.integer({ min: 1, max: 86_400 })
    },
    { requiredKeys: ["agent", "input"] }
  ),
  "job.cancel": of(Message.Cancel),
  "job.subscribe": of(Message.Subscribe),
  "job.unsubscribe": of(Message.Unsubscribe)
}

const message = (payloads: Record<string, fc.Arbitrary<unknown>>, seq: boolean) =>
  fc
    .constantFrom(...Object.keys(payloads))
    .chain((type) =>
      fc.record(
        {
          arcp: fc.constantFrom(...Codec.versions),
          id: token,
          type: fc.constant(type),
          session_id: token,
          job_id: token,
          trace_id: traceId,
          ...(seq ? { event_seq: fc.integer({ min: 1 }) } : {}),
          extensions: fc.dictionary(fc.constantFrom("x-vendor.a.b", "x-vendor.c.d.e"), fc.jsonValue()),
          payload: payloads[type] as fc.Arbitrary<unknown>
        },
        { requiredKeys: ["arcp", "id", "type", "payload"] }
      )
    )
    .map((value) => json(value) as Parameters<typeof Codec.encode>[0])

describe("round trips", () => {
  // Found by the property below: these are numbers, but `JSON.stringify` makes them null.
  it.each([Number.NaN, Number.POSITIVE_INFINITY, -1])("a welcome has no interval of %s", (seconds) => {
    const welcome = {
      session_id: "s",
      runtime: { name: "r", version: "1" },
      resume_token: "t",
      resume_window_sec: 600,
      capabilities: { encodings: ["json"], features: [], agents: [] }
    }
    const is = Schema.is(Message.Welcome)
    expect(is({ ...welcome, heartbeat_interval_sec: 30 })).toBe(true)
    expect(is({ ...welcome, heartbeat_interval_sec: seconds })).toBe(false)
    expect(is({ ...welcome, resume_window_sec: seconds })).toBe(false)
  })

  it.prop("every client message", [message(clientPayloads, false)], ([value]) => {
    expect(json(accepted(Codec.decodeClient(Codec.encode(value))))).toEqual(value)
  })

  const result = fc.record(
    {
      final_status: fc.constant("success"),
      result: fc.jsonValue(),
      result_id: token,
      result_size: fc.integer({ min: 0 }),
      summary: fc.string(),
      completed_at: time
    },
    { requiredKeys: ["final_status", "completed_at"] }
  )
  const error = { code: token, message: fc.string(), retryable: fc.boolean() }
  const details = fc.dictionary(fc.string(), fc.jsonValue())
  const job = {
    job_id: token,
    agent: token,
    lease,
    lease_constraints: fc.record({ expires_at: time }),
    trace_id: traceId
  }
  const runtimePayloads: {
    readonly [K in Exclude<
      keyof typeof Message.runtimeMessages,
      "session.closed" | "session.bye"
    >]: fc.Arbitrary<unknown>
  } = {
    "session.welcome": of(Message.Welcome),
    "session.error": fc.record({ ...error, details }),
    [Vendor.jobInputAccepted]: of(Message.JobInputAccepted),
    "session.ping": of(Message.Ping),
    "session.pong": of(Message.Pong),
    "session.jobs": fc.record({
      request_id: token,
      jobs: fc.array(
        fc.record({
          ...job,
          status,
          parent_job_id: fc.option(token),
          created_at: time,
          last_event_seq: fc.nat()
        }),
        { maxLength: 3 }
      ),
      next_cursor: fc.option(token)
    }),
    "job.accepted": fc.record({ ...job, request_id: token, accepted_at: time, budget: fc.jsonValue() }),
    "job.cancelled": of(Message.JobCancelled),
    "job.subscribed": fc.record({
      ...job,
      request_id: token,
      current_status: status,
      parent_job_id: fc.option(token),
      subscribed_from: fc.nat(),
      replayed: fc.boolean()
    }),
    "job.event": fc.record({ kind: token, ts: time, body: fc.jsonValue() }),
    "job.result": result,
    "job.error": fc.record({
      ...error,
      final_status: fc.constantFrom("error", "cancelled", "timed_out"),
      completed_at: time
    })
  }
  it.prop("every runtime message", [message(runtimePayloads, true)], ([value]) => {
    // Events have a number, and others none.
    const { event_seq, ...rest } = value
    const expected = /^job\.(event|result|error)$/.test(value.type) ? { ...rest, event_seq } : rest
    // What is said in the payload of where it belongs is there on the envelope too.
    expect(json(read(Codec.decodeRuntime(Codec.encode(value))))).toMatchObject(json(expected) as object)
  })

  it.prop(
    "an event frame is the message with its payload spliced in",
    {
      type: fc.constantFrom("job.event" as const, "job.result" as const, "job.error" as const),
      version: fc.constantFrom(...Codec.versions),
      sessionId: token,
      jobId: token,
      traceId,
      eventSeq: fc.integer({ min: 1 }),
      payload: fc.dictionary(fc.string(), fc.jsonValue())
    },
    ({ type, version, sessionId, jobId, traceId, eventSeq, payload }) => {
      const frame = Codec.eventFrames({ version, sessionId, jobId, traceId })(
        type,
        "01J",
        eventSeq,
        JSON.stringify(payload)
      )
      expect(frame.endsWith(`"payload":${JSON.stringify(payload)}}`)).toBe(true)
      expect(JSON.parse(frame)).toEqual(
        JSON.parse(
          Codec.encode({
            arcp: version,
            id: "01J",
            type,
            session_id: sessionId,
            job_id: jobId,
            trace_id: traceId,
            event_seq: eventSeq,
            payload
          })
        )
      )
    }
  )
})

describe("malformed input", () => {
  it.prop("never throws on any text", [fc.string()], ([text]) => {
    Codec.decodeClient(text)
    Codec.decodeRuntime(text)
  })

  it.prop("never throws on any JSON in any place", [fc.jsonValue(), fc.jsonValue()], ([a, b]) => {
    Codec.decodeClient(JSON.stringify(a))
    for (const type of Object.keys(Message.clientMessages)) client({ type, payload: a, extensions: b })
    for (const field of ["arcp", "id", "type", "session_id", "job_id", "trace_id", "extensions", "payload"])
      client({ [field]: a })
  })

  it("names what is wrong", () => {
    for (const [text, problem] of [
      ["", "not valid JSON"],
      ["{", "not valid JSON"],
      ["[]", "not a JSON object"],
      ["null", "not a JSON object"],
      ['"x"', "not a JSON object"],
      ["{}", "arcp:"]
    ] as const)
      expect(rejectedBy(Codec.decodeClient(text))).toMatchObject({
        _tag: "Malformed",
        message: expect.stringContaining(problem)
      })
    for (const [more, problem] of [
      [{ arcp: 1 }, "arcp:"],
      [{ id: "" }, "id:"],
      [{ id: "x".repeat(257) }, "id:"],
      [{ id: 7 }, "id:"],
      [{ type: "" }, "type:"],
      [{ session_id: 1 }, "session_id:"],
      [{ job_id: "" }, "job_id:"],
      [{ trace_id: "0".repeat(32) }, "trace_id:"],
      [{ trace_id: 5 }, "trace_id:"],
      [{ extensions: [] }, "extensions:"],
      [{ extensions: { optional: 1 } }, "extensions.optional:"],
      [{ extensions: { other: 1 } }, "extensions:"],
      [{ payload: [] }, "payload:"],
      [{ payload: undefined }, "payload:"],
      [{ payload: {} }, "payload.nonce: is missing"],
      [{ type: "session.ack", payload: { last_processed_seq: 1.5 } }, "payload.last_processed_seq:"],
      [
        { type: "session.list_jobs", payload: { limit: 0 } },
        "payload.limit: expected an integer from 1 to 1000"
      ],
      [{ type: "session.list_jobs", payload: { filter: { status: ["done"] } } }, "payload.filter.status[0]:"],
      [
        { type: "job.submit", payload: { agent: "a", input: 1, lease_request: { root: [] } } },
        "payload.lease_request:"
      ],
      [
        {
          type: "job.submit",
          payload: { agent: "a", input: 1, lease_constraints: { expires_at: "2026-02-30T00:00:00Z" } }
        },
        "payload.lease_constraints.expires_at:"
      ]
    ] as const)
      expect(rejectedBy(client(more))).toMatchObject({
        _tag: "Malformed",
        message: expect.stringContaining(problem)
      })
  })

  it("keeps what can be read of what is nested too deep, wherever it stands, and does so in no time", () => {
    const deep = (levels: number) => `${"[".repeat(levels)}"]}\\""${"]".repeat(levels)}`
    const text = (payload: string) =>
      `{"arcp":"1.1","payload":${payload},"x":"{\\"[","type":"job.submit","session_id":"s","id":"i","job_id":"j"}`
    for (const payload of [deep(70), `{"agent":"a","input":{"a":[${deep(400_000)}]}}`])
      expect(rejectedBy(Codec.decodeClient(text(payload)))).toMatchObject({
        _tag: "Malformed",
        message: expect.stringContaining("nested deeper"),
        id: "i",
        type: "job.submit",
        sessionId: "s",
        jobId: "j"
      })
    for (const text of ["[".repeat(500_000), `{"id":"i","payload":${"[".repeat(80)}`, `{"id":${deep(70)}}`])
      expect(rejectedBy(Codec.decodeClient(text)).id).toBeUndefined()
  })

  it("keeps what can be read, to answer with", () => {
    expect(
      rejectedBy(client({ type: "session.ack", session_id: "s", job_id: "j", payload: {} }))
    ).toMatchObject({ id: "msg-1", type: "session.ack", sessionId: "s", jobId: "j" })
    expect(rejectedBy(client({ id: 5, session_id: {}, type: "x".repeat(1000) }))).toMatchObject({
      id: undefined,
      sessionId: undefined,
      type: "x".repeat(64)
    })
  })

  const sentinel = "S3NTINEL"
  /** Any JSON with the sentinel in it. */
  const poisoned = fc.letrec<{ value: unknown }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      fc.constant(sentinel),
      fc.array(tie("value"), { minLength: 1, maxLength: 2 }),
      fc.dictionary(fc.constantFrom("agent", "filter", "auth", "token", "status"), tie("value"), {
        minKeys: 1
      })
    )
  })).value
  const fields = ["client", "auth", "capabilities", "resume", "nonce", "last_processed_seq", "filter"].concat(
    ["limit", "cursor", "reason", "agent", "lease_request", "lease_constraints", "idempotency_key"],
    ["max_runtime_sec", "job_id", "history", "from_event_seq"]
  )

  it.prop(
    "no message repeats a payload value",
    {
      type: fc.constantFrom(...Object.keys(Message.clientMessages)),
      payload: fc.dictionary(fc.constantFrom(...fields), poisoned)
    },
    ({ type, payload }) => {
      const result = client({ type, payload })
      if (Either.isLeft(result)) expect(result.left.message).not.toContain(sentinel)
    }
  )

  it("no message repeats an envelope value", () => {
    for (const field of ["arcp", "type", "trace_id"])
      expect(rejectedBy(client({ [field]: sentinel })).message).not.toContain(sentinel)
    expect(rejectedBy(client({ extensions: { [sentinel]: sentinel } })).message).not.toContain(sentinel)
    expect(rejectedBy(Codec.decodeClient(`{"${sentinel}`)).message).not.toContain(sentinel)
  })
})

describe("nesting", () => {
  const nested = (levels: number) => `${"[".repeat(levels)}${"]".repeat(levels)}`
  /** The envelope and the payload are two levels. */
  const submit = (input: string) =>
    Codec.decodeClient(`{"arcp":"1.1","id":"1","type":"job.submit","payload":{"agent":"a","input":${input}}}`)

  it("is accepted to 64 levels and refused beyond, however deep", () => {
    accepted(submit(nested(62)))
    expect(rejectedBy(submit(nested(63)))).toMatchObject({
      _tag: "Malformed",
      message: expect.stringMatching(/64/)
    })
    expect(rejectedBy(submit("[".repeat(500_000)))._tag).toBe("Malformed")
    expect(rejectedBy(submit('{"a":'.repeat(100_000)))._tag).toBe("Malformed")
  })

  it("brackets inside strings do not count", () => {
    accepted(submit(JSON.stringify('["'.repeat(200) + "\\".repeat(3))))
    accepted(submit(JSON.stringify({ ['{"\\'.repeat(100)]: 1 })))
  })
})

describe("__proto__ and constructor", () => {
  const key = '"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}'

  it("are data in inputs, details and bodies", () => {
    const submit = accepted(
      Codec.decodeClient(
        `{"arcp":"1.1","id":"1","type":"job.submit",${key},"payload":{${key},"agent":"a","input":{${key}}}}`
      )
    )
    if (submit.type !== "job.submit") throw new Error("job.submit")
    expect(Object.keys(submit.payload.input as object)).toEqual(["__proto__", "constructor"])
    expect(Object.keys(submit.payload)).toEqual(["agent", "input"])
    const error = read(
      Codec.decodeRuntime(
        `{"arcp":"1.1","id":"1","type":"session.error","payload":{"code":"C","message":"","retryable":true,"details":{${key}}}}`
      )
    )
    if (error.type !== "session.error") throw new Error("session.error")
    const details = error.payload.details as object
    expect(Object.keys(details)).toEqual(["__proto__", "constructor"])
    for (const object of [submit, submit.payload, submit.payload.input as object, error.payload, details]) {
      expect(Object.getPrototypeOf(object)).toBe(Object.prototype)
      expect((object as { polluted?: unknown }).polluted).toBeUndefined()
    }
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined()
  })

  it("are no message types, capabilities or extensions", () => {
    for (const type of ["__proto__", "constructor", "toString"])
      expect(rejectedBy(client({ type }))._tag).toBe("UnknownType")
    const lease =
      '{"arcp":"1.1","id":"1","type":"job.submit","payload":{"agent":"a","input":1,"lease_request":{"__proto__":["x"]}}}'
    expect(rejectedBy(Codec.decodeClient(lease)).message).toContain("payload.lease_request")
    const extension =
      '{"arcp":"1.1","id":"1","type":"session.ping","extensions":{"__proto__":{"optional":true}},"payload":{"nonce":"n"}}'
    expect(rejectedBy(Codec.decodeClient(extension)).message).toContain("extensions")
  })
})

describe("leniency", () => {
  it("unknown fields are dropped", () => {
    const message = accepted(client({ mood: "good", payload: { nonce: "n", extra: [1] } }))
    expect(json(message)).toEqual(envelope())
  })

  it("versions 1, 1.0 and 1.1 are spoken, no others", () => {
    for (const arcp of ["1", "1.0", "1.1"]) expect(accepted(client({ arcp })).arcp).toBe(arcp)
    for (const arcp of ["", "2", "1.2", "1.1.0", " 1.1"])
      expect(rejectedBy(client({ arcp }))).toMatchObject({ _tag: "BadVersion", id: "msg-1" })
  })

  it("unknown types are told apart from optional extensions", () => {
    const tag = (more: Record<string, unknown>) => rejectedBy(client(more))._tag
    expect(tag({ type: "session.dance" })).toBe("UnknownType")
    expect(tag({ type: "session.welcome" })).toBe("UnknownType")
    expect(tag({ type: "x-vendor.acme.hi" })).toBe("UnknownType")
    expect(tag({ type: "x-vendor.acme.hi", extensions: { optional: false } })).toBe("UnknownType")
    expect(tag({ type: "x-vendor.acme.hi", extensions: { optional: true } })).toBe("Ignored")
    expect(tag({ type: "session.dance", extensions: { optional: true } })).toBe("UnknownType")
    expect(tag({ type: "x-vendor.acme", extensions: { optional: true } })).toBe("UnknownType")
  })

  it("a client's event_seq is ignored, a runtime's is read where it is one", () => {
    for (const event_seq of [5, -1, "x", null])
      expect(accepted(client({ event_seq })).event_seq).toBeUndefined()
    const event = (event_seq: unknown) =>
      Codec.decodeRuntime(
        JSON.stringify(
          envelope({ type: "job.event", event_seq, payload: { kind: "log", ts: "t", body: {} } })
        )
      )
    expect(read(event(7)).event_seq).toBe(7)
    expect(read(event(null)).event_seq).toBeUndefined()
    expect(read(event("7")).event_seq).toBe(7)
    // Some write 0 where there is none.
    expect(read(event(0)).event_seq).toBeUndefined()
    for (const seq of [-1, 1.5, "x", {}]) expect(event(seq).problem).toMatch(/event_seq/)
  })

  it("a traceparent is reduced to its trace-id", () => {
    const id = "4bf92f3577b34da6a3ce929d0e0e4736"
    expect(accepted(client({ trace_id: `00-${id}-00f067aa0ba902b7-01` })).trace_id).toBe(id)
    expect(accepted(client({ trace_id: id })).trace_id).toBe(id)
  })

  it("a client leaves unknown event kinds as they are", () => {
    const payload = { kind: "hologram", ts: "t", body: { any: ["thing"] } }
    const message = read(
      Codec.decodeRuntime(JSON.stringify(envelope({ type: "job.event", event_seq: 1, payload })))
    )
    expect(message.payload).toEqual(payload)
  })
})
