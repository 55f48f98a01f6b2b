import { request } from "node:http"
import { connect } from "node:net"
import { setTimeout } from "node:timers/promises"
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HashMap from "effect/HashMap"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Registry from "../../../src/layers/agents/Registry.js"
import { fromToken } from "../../../src/layers/auth/Auth.js"
import * as AuthJwt from "../../../src/layers/auth/AuthJwt.js"
import * as Policy from "../../../src/layers/auth/Policy.js"
import * as Events from "../../../src/layers/http/events.js"
import { documentOf, refusal } from "../../../src/layers/http/problems.js"
import { InternalError, InvalidRequest, ResumeWindowExpired } from "../../../src/protocol/Errors.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { Registry as RegistryTag } from "../../../src/services/agents/Registry.js"
import { Auth } from "../../../src/services/auth/Auth.js"
import { type Asking, type Sent, sentOf, served } from "./served.js"

type Ask = (path: string, asking?: Asking) => Promise<Response>

interface Answer {
  readonly status: number
  readonly headers: Headers
  // biome-ignore lint/suspicious/noExplicitAny: what a test reads of an answer is the test
  readonly body: any
}

const json = async (response: Promise<Response>): Promise<Answer> => {
  const { headers, status, ...answer } = await response.then(async (got) => ({
    status: got.status,
    headers: got.headers,
    text: await got.text()
  }))
  return { status, headers, body: answer.text === "" ? undefined : JSON.parse(answer.text) }
}

const submit = (ask: Ask, agent: string, input: unknown, more: Asking = {}) =>
  json(ask("/v1/jobs", { json: { agent, input }, ...more }))

const events = async (
  ask: Ask,
  id: string,
  headers: Record<string, string> = {}
): Promise<ReadonlyArray<Sent>> => sentOf(await (await ask(`/v1/jobs/${id}/events`, { headers })).text())

const test = <A>(
  run: (server: Effect.Effect.Success<ReturnType<typeof served>>) => Promise<A>,
  options?: Parameters<typeof served>[0]
) => Effect.flatMap(served(options), (server) => Effect.promise(() => run(server)))

describe("submitting", () => {
  it.scopedLive("gives the job and where it is; waits for its end when that is preferred", () =>
    test(async ({ ask }) => {
      const begun = await submit(ask, "sleep", { ms: 60_000 })
      expect(begun.status).toBe(201)
      expect(begun.headers.get("location")).toBe(`/v1/jobs/${begun.body.job_id}`)
      expect(begun.body).toMatchObject({ agent: "sleep@1.0.0", status: "running", lease: {} })

      const waited = await submit(ask, "echo", { a: 1 }, { headers: { prefer: "wait=30" } })
      expect(waited.status).toBe(200)
      expect(waited.headers.get("preference-applied")).toBe("wait=30")
      expect(waited.body).toMatchObject({ final_status: "success", result: { a: 1 } })

      const failed = await submit(ask, "fail", {}, { headers: { prefer: "respond-async, wait=30" } })
      expect(failed.status).toBe(200)
      expect(failed.body.final_status).toBe("error")

      const late = await submit(ask, "sleep", { ms: 60_000 }, { headers: { prefer: "wait=1" } })
      expect(late.status).toBe(202)
      expect(late.body.status).toBe("running")
    })
  )

  it.scopedLive("with a key happens once, and other parameters are refused", () =>
    test(async ({ ask }) => {
      const headers = { "idempotency-key": '"k \\"1"' }
      const first = await submit(ask, "sleep", { ms: 60_000 }, { headers })
      await setTimeout(5)
      const again = await submit(ask, "sleep", { ms: 60_000 }, { headers })
      expect([first.status, again.status]).toEqual([201, 200])
      expect(again.body.job_id).toBe(first.body.job_id)
      // The same key in the body is the same key, and another one is not chosen from.
      const both = (key: string) =>
        json(
          ask("/v1/jobs", { json: { agent: "sleep", input: { ms: 60_000 }, idempotency_key: key }, headers })
        )
      const same = await both('k "1')
      expect([same.status, same.body.job_id]).toEqual([200, first.body.job_id])
      const two = await both("k2")
      expect([two.status, two.body.code, two.body.detail]).toEqual([
        400,
        "INVALID_REQUEST",
        "idempotency_key: is another than that of the header Idempotency-Key"
      ])
      const other = await submit(ask, "sleep", { ms: 1 }, { headers })
      expect(other.status).toBe(422)
      expect(other.body).toMatchObject({
        code: "DUPLICATE_KEY",
        details: { existing_job_id: first.body.job_id }
      })
    })
  )

  it.scopedLive("with a key is new to one of those who race", () =>
    test(async ({ ask }) => {
      const key = { headers: { "idempotency-key": "race" } }
      const answers = await Promise.all(
        Array.from({ length: 8 }, () => submit(ask, "sleep", { ms: 60_000 }, key))
      )
      expect(answers.map(({ status }) => status).sort()).toEqual([...Array(7).fill(200), 201])
      expect(new Set(answers.map(({ body }) => body.job_id)).size).toBe(1)
      expect(new Set(answers.map(({ body }) => Object.keys(body).sort().join(" "))).size).toBe(1)
    })
  )

  it.scopedLive("is answered with the job also where no job may be read, as is a cancel", () =>
    Effect.gen(function* () {
      const policy = Layer.effect(
        Policy.Policy,
        Effect.map(Policy.Policy, (decides) => ({
          ...decides,
          listable: () => Effect.succeed([]),
          maySubscribe: () => Effect.succeed(false)
        }))
      ).pipe(Layer.provide(Policy.layer()))
      const { ask } = yield* served({ policy })
      yield* Effect.promise(async () => {
        const lease = { "cost.budget": ["USD:5.00"] }
        for (const [prefer, status] of [
          ["respond-async", 201],
          ["wait=30", 202]
        ] as const) {
          const { body, ...begun } = await json(
            ask("/v1/jobs", {
              json: { agent: "sleep", input: { ms: 60_000 }, lease_request: lease },
              headers: { prefer }
            })
          )
          expect(begun.status).toBe(status)
          expect(begun.headers.get("location")).toBe(`/v1/jobs/${body.job_id}`)
          expect(body).toMatchObject({ agent: "sleep@1.0.0", parent_job_id: null, lease, budget: { USD: 5 } })
          expect(body.created_at).toMatch(/Z$/)
          // It is not made up.
          expect(body).not.toHaveProperty("status")
          const path = `/v1/jobs/${body.job_id}`
          expect((await json(ask(path))).status).toBe(404)
          const cancelled = await json(ask(`${path}/cancel`, { method: "POST" }))
          expect([cancelled.status, cancelled.body]).toEqual([202, { job_id: body.job_id }])
        }
      })
    })
  )

  it.scopedLive("may run as many as the principal may, however many its session may", () =>
    Effect.gen(function* () {
      const { ask } = yield* served({ options: { maxJobsPerSession: 1, maxJobsPerPrincipal: 3 } })
      yield* Effect.promise(async () => {
        for (let i = 0; i < 3; i++) expect((await submit(ask, "sleep", { ms: 60_000 })).status).toBe(201)
        const { body, status } = await submit(ask, "sleep", { ms: 60_000 })
        expect([status, body.details]).toEqual([429, { limit: "jobs_per_principal" }])
      })
    })
  )

  it.scopedLive("belongs to the trace that it is asked in, and to a budget", () =>
    test(async ({ ask }) => {
      const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
      const { body } = await json(
        ask("/v1/jobs", {
          json: { agent: "echo", lease_request: { "cost.budget": ["USD:5.00"] } },
          headers: { traceparent: `00-${trace}-00f067aa0ba902b7-01` }
        })
      )
      expect(body.trace_id).toBe(trace)
      expect(body.budget).toEqual({ USD: 5 })
    })
  )
})

describe("events", () => {
  it.scopedLive("come with their own numbers, go on after any of them, and end with the end", () =>
    test(async ({ ask }) => {
      // Another job first, so that numbers of the session would be others.
      await submit(ask, "emit", { count: 7 }, { headers: { prefer: "wait=30" } })
      const { body } = await submit(ask, "emit", { count: 20, delayMs: 5 })
      const all = await events(ask, body.job_id)
      expect(all.map(({ id }) => id)).toEqual(Array.from({ length: 22 }, (_, i) => i + 1))
      expect(all.map(({ data }) => data.seq)).toEqual(all.map(({ id }) => id))
      expect(all.at(-1)?.event).toBe("job.result")
      for (const after of [1, 13, 21]) {
        const rest = await events(ask, body.job_id, { "last-event-id": `${after}` })
        expect(rest).toEqual(all.slice(after))
      }
      // A browser that has all of them is told not to ask again.
      const over = await ask(`/v1/jobs/${body.job_id}/events`, { headers: { "last-event-id": "22" } })
      expect(over.status).toBe(204)
      const beyond = await json(ask(`/v1/jobs/${body.job_id}/events`, { headers: { "last-event-id": "23" } }))
      expect(beyond.status).toBe(400)
    })
  )

  it.scopedLive("as JSON lines are the same", () =>
    test(async ({ ask }) => {
      const { body } = await submit(ask, "emit", { count: 3 }, { headers: { prefer: "wait=30" } })
      const answer = await ask(`/v1/jobs/${body.job_id}/events?after=1`, {
        headers: { accept: "application/x-ndjson" }
      })
      expect(answer.headers.get("content-type")).toBe("application/x-ndjson")
      const lines = (await answer.text())
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line))
      expect(lines).toEqual((await events(ask, body.job_id)).slice(1).map(({ data }) => data))
    })
  )

  it.scopedLive("that wait say that they are there, and are let go of with their reader", () =>
    Effect.gen(function* () {
      const { ask } = yield* served({ gateway: { heartbeat: 20, maxStreamsPerPrincipal: 1 } })
      yield* Effect.promise(async () => {
        const { body } = await submit(ask, "sleep", { ms: 60_000 })
        const aborted = new AbortController()
        const answer = await ask(`/v1/jobs/${body.job_id}/events`, { signal: aborted.signal })
        const reader = answer.body?.getReader()
        let text = ""
        while (text.split("\n:\n").length < 3)
          text += new TextDecoder().decode((await reader?.read())?.value as Uint8Array)
        const second = await json(ask(`/v1/jobs/${body.job_id}/events`))
        expect(second.status).toBe(429)
        expect(second.body.details).toEqual({ limit: "http_streams" })
        aborted.abort()
        for (;;) {
          const next = await ask(`/v1/jobs/${body.job_id}/events`)
          await next.body?.cancel()
          if (next.status === 200) break
          await setTimeout(10)
        }
      })
    })
  )

  it.effect("that are no longer retained are a gap, and the rest follows", () =>
    Effect.gen(function* () {
      const event = (seq: number) => ({ seq, type: "job.event", kind: "log", payload: "{}" }) as const
      const chunks = yield* Stream.runCollect(
        Events.stream({
          jobId: "job_1",
          job: {
            bounds: Effect.succeed({ first: 9, last: 10, ended: true }),
            read: (after) =>
              after < 8
                ? new ResumeWindowExpired({ message: "gone", details: { after, next: 9 } })
                : Effect.succeed({ events: [event(9), event(10)], through: 10, ended: true })
          },
          after: { seq: 3, saidBy: "after" },
          format: Events.eventStream,
          until: Number.POSITIVE_INFINITY,
          heartbeat: Duration.minutes(1),
          now: () => 0
        })
      )
      const sent = sentOf([...chunks].map((chunk) => new TextDecoder().decode(chunk)).join(""))
      expect(sent.map(({ event, id }) => [event, id])).toEqual([
        ["gap", 8],
        ["job.event", 9],
        ["job.event", 10]
      ])
      expect(sent[0]?.data).toMatchObject({ after: 3, next: 9 })
    })
  )

  it.scopedLive("end with the token that they were asked for with", () =>
    Effect.gen(function* () {
      const auth = Layer.succeed(Auth, {
        authenticate: () => Effect.sync(() => ({ principal: "alice", expiresAt: Date.now() + 700 }))
      })
      const { ask } = yield* served({ auth })
      const [body, sent] = yield* Effect.promise(async () => {
        const job = await submit(ask, "sleep", { ms: 60_000 })
        return [job.body, await events(ask, job.body.job_id)] as const
      })
      expect(body.status).toBe("running")
      expect(sent.at(-1)).toMatchObject({
        event: "problem",
        id: undefined,
        data: { problem: { status: 401, code: "UNAUTHENTICATED" } }
      })
      const waits = yield* Effect.promise(() => {
        const headers = { prefer: "wait=60" }
        return Promise.all([
          json(ask(`/v1/jobs/${body.job_id}/result`, { headers })),
          submit(ask, "sleep", { ms: 60_000 }, { headers })
        ])
      })
      expect(waits.map(({ status }) => status)).toEqual([401, 202])
      expect(waits[1].body).toMatchObject({ agent: "sleep@1.0.0", status: "running" })
      expect(waits[1].headers.get("location")).toBe(`/v1/jobs/${waits[1].body.job_id}`)
    })
  )
})

describe("results", () => {
  it.scopedLive("are JSON, or as they were streamed; whole or a part", () =>
    test(async ({ ask }) => {
      const inline = await submit(ask, "echo", { a: "ä" }, { headers: { prefer: "wait=30" } })
      const whole = await ask(`/v1/jobs/${inline.body.job_id}/result`)
      expect(whole.headers.get("content-type")).toBe("application/json")
      expect(await whole.text()).toBe('{"a":"ä"}\n')

      const { body } = await submit(
        ask,
        "chunks",
        { chunks: 300, size: 1_000, encoding: "base64" },
        { headers: { prefer: "wait=60" } }
      )
      const path = `/v1/jobs/${body.job_id}/result`
      const streamed = await ask(path)
      expect(streamed.headers.get("content-type")).toBe("application/octet-stream")
      expect(streamed.headers.get("content-length")).toBe("300000")
      const bytes = Buffer.from(await streamed.arrayBuffer())
      expect(bytes.length).toBe(300_000)
      expect(bytes.subarray(1_000, 1_001).toString()).toBe("b")
      const cases: ReadonlyArray<readonly [string, number, number, number]> = [
        ["bytes=0-0", 206, 0, 1],
        ["bytes=999-1000", 206, 999, 1001],
        ["bytes=299999-", 206, 299_999, 300_000],
        ["bytes=-5", 206, 299_995, 300_000],
        ["bytes=-9999999", 206, 0, 300_000],
        ["bytes=10-99999999", 206, 10, 300_000],
        // Not understood, or of no use: the whole.
        ["bytes=5-2", 200, 0, 300_000],
        ["bytes=-", 200, 0, 300_000],
        ["bytes=a-b", 200, 0, 300_000],
        ["bytes=0-1,5-6", 200, 0, 300_000],
        ["lines=0-1", 200, 0, 300_000],
        [`bytes=299999-${"9".repeat(400)}`, 206, 299_999, 300_000],
        [`bytes=-${"9".repeat(20)}`, 206, 0, 300_000]
      ]
      for (const [range, status, from, to] of cases) {
        const part = await ask(path, { headers: { range } })
        expect(part.status, range).toBe(status)
        expect(Buffer.from(await part.arrayBuffer()).equals(bytes.subarray(from, to)), range).toBe(true)
        if (status === 206) expect(part.headers.get("content-range")).toBe(`bytes ${from}-${to - 1}/300000`)
      }
      for (const range of [
        "bytes=300000-",
        "bytes=-0",
        `bytes=${"9".repeat(20)}-`,
        `bytes=${"9".repeat(400)}-`
      ]) {
        const outside = await ask(path, { headers: { range } })
        expect(outside.status, range).toBe(416)
        expect(outside.headers.get("content-range")).toBe("bytes */300000")
        await outside.body?.cancel()
      }
      const etag = streamed.headers.get("etag") as string
      expect((await ask(path, { headers: { "if-none-match": etag } })).status).toBe(304)
      const other = await ask(path, { headers: { range: "bytes=0-0", "if-range": '"other"' } })
      expect(other.status).toBe(200)
      await other.body?.cancel()
      const head = await ask(path, { method: "HEAD" })
      expect([head.status, head.headers.get("content-length")]).toEqual([200, "300000"])
    })
  )

  it.scopedLive("are not there before the end, which may be waited for, nor without success", () =>
    test(async ({ ask }) => {
      const slow = await submit(ask, "sleep", { ms: 600 })
      const path = `/v1/jobs/${slow.body.job_id}/result`
      const early = await json(ask(path))
      expect(early.status).toBe(409)
      expect(early.body.details).toEqual({ reason: "not_ended" })
      expect((await json(ask(path, { headers: { prefer: "wait=60" } }))).body).toEqual({ ms: 600 })
      const failed = await submit(ask, "fail", { message: "no" }, { headers: { prefer: "wait=30" } })
      const none = await json(ask(`/v1/jobs/${failed.body.job_id}/result`))
      expect(none.status).toBe(409)
      expect(none.body.details).toMatchObject({
        reason: "ended_without_result",
        final_status: "error",
        error: { code: "INTERNAL_ERROR" }
      })
    })
  )
})

describe("cancelling and answering", () => {
  it.scopedLive("a cancelled job ends; a token that does not cover it may not", () =>
    test(async ({ ask }) => {
      const { body } = await submit(ask, "sleep", { ms: 60_000 })
      const path = `/v1/jobs/${body.job_id}`
      expect((await json(ask(`${path}/cancel`, { method: "POST", token: "narrow" }))).status).toBe(403)
      expect((await json(ask(`${path}/cancel`, { method: "POST", token: "b" }))).status).toBe(404)
      const cancelled = await json(ask(`${path}/cancel`, { json: { reason: "enough" } }))
      expect(cancelled.status).toBe(202)
      expect((await events(ask, body.job_id)).at(-1)).toMatchObject({
        event: "job.error",
        data: { payload: { code: "CANCELLED" } }
      })
      expect((await json(ask(path))).body.status).toBe("cancelled")
    })
  )

  it.scopedLive("a session that was let go of keeps nobody from cancelling", () =>
    Effect.gen(function* () {
      const { ask } = yield* served({ gateway: { idle: 20 } })
      yield* Effect.promise(async () => {
        const { body } = await submit(ask, "sleep", { ms: 60_000 })
        await setTimeout(200)
        expect((await json(ask(`/v1/jobs/${body.job_id}/cancel`, { method: "POST" }))).status).toBe(202)
      })
    })
  )

  it.scopedLive("what a job asks is answered once", () =>
    test(async ({ ask }) => {
      const { body } = await submit(ask, "ask", { prompt: "well?" })
      let waiting: ReadonlyArray<string> | undefined
      while (waiting === undefined) waiting = (await json(ask(`/v1/jobs/${body.job_id}`))).body.waiting_for
      const input = waiting[0] as string
      const asked = (
        await (
          await ask(`/v1/jobs/${body.job_id}/events`, {
            headers: { accept: "application/x-ndjson" }
          })
        ).body
          ?.getReader()
          .read()
      )?.value
      expect(asked?.length).toBeGreaterThan(0)
      const path = `/v1/jobs/${body.job_id}/inputs`
      expect((await json(ask(`${path}/in_nothing`, { json: { value: 1 } }))).status).toBe(404)
      expect((await json(ask(`${path}/${input}`, { json: {} }))).status).toBe(400)
      expect((await json(ask(`${path}/${input}`, { json: { value: "yes" }, token: "b" }))).status).toBe(404)
    })
  )
})

describe("listing", () => {
  it.scopedLive("filters, pages, and shows nobody else's jobs", () =>
    test(async ({ ask }) => {
      for (let i = 0; i < 5; i++) await submit(ask, "echo", i, { headers: { prefer: "wait=30" } })
      await submit(ask, "fail", {}, { headers: { prefer: "wait=30" } })
      const listed: Array<string> = []
      let next: string | null = "/v1/jobs?status=success&limit=2"
      while (next !== null) {
        const { body, headers } = await json(ask(next))
        listed.push(...body.jobs.map(({ agent }: { agent: string }) => agent))
        next = /<([^>]*)>; rel="next"/.exec(headers.get("link") ?? "")?.[1] ?? null
      }
      expect(listed).toEqual(Array.from({ length: 5 }, () => "echo@1.0.0"))
      expect((await json(ask("/v1/jobs?agent=fail&status=error,success"))).body.jobs).toHaveLength(1)
      expect((await json(ask("/v1/jobs", { token: "b" }))).body).toEqual({ jobs: [], next_cursor: null })
      expect((await json(ask("/v1/jobs?status=odd"))).body.detail).toMatch(/^status\[0\]: expected "pending"/)
      for (const bad of ["limit=0", "limit=x", "cursor=x", "status=odd", "created_after=now"])
        expect((await json(ask(`/v1/jobs?${bad}`))).status, bad).toBe(400)
    })
  )

  it.scopedLive("agents are those that a token may use, with their schemas", () =>
    test(async ({ ask }) => {
      const all = (await json(ask("/v1/agents"))).body.agents
      const emit = all.find(({ name }: { name: string }) => name === "emit")
      expect(emit.versions[0]).toMatchObject({ version: "1.0.0", input_schema: { type: "object" } })
      const few = (await json(ask("/v1/agents", { token: "narrow" }))).body.agents
      expect(few.map(({ name }: { name: string }) => name)).toEqual(["echo"])
      expect((await submit(ask, "emit", { count: 1 }, { token: "narrow" })).body.code).toBe(
        "AGENT_NOT_AVAILABLE"
      )
    })
  )
})

it.scopedLive("agents are those that may be run now, as they are now, also to whoever has asked before", () =>
  Effect.gen(function* () {
    const registryOf = (name: string, input: Schema.Schema<string> | Schema.Schema<number>) => {
      const contract = { version: "1.0.0", input: input as Schema.Schema<unknown> }
      const agent = Agent.handle(Agent.make(name, contract), () => Effect.void)
      return Effect.map(Layer.build(Registry.layer([agent])), Context.get(RegistryTag))
    }
    let current = yield* registryOf("before", Schema.String)
    const registry = Layer.succeed(RegistryTag, {
      get inventory() {
        return current.inventory
      },
      get described() {
        return current.described
      },
      resolve: (ref) => current.resolve(ref)
    })
    const { ask } = yield* served({ registry })
    const told = Effect.map(
      Effect.promise(() => json(ask("/v1/agents"))),
      ({ body }) => body.agents
    )
    const entry = (name: string, type: string) => ({
      name,
      default: "1.0.0",
      versions: [{ version: "1.0.0", input_schema: expect.objectContaining({ type }) }]
    })
    // Whoever has a session with the gateway, too.
    yield* Effect.promise(() => submit(ask, "before", "x"))
    expect(yield* told).toEqual([entry("before", "string")])
    current = yield* registryOf("before", Schema.Number)
    expect(yield* told).toEqual([entry("before", "number")])
    current = yield* registryOf("after", Schema.String)
    expect(yield* told).toEqual([entry("after", "string")])
  })
)

describe("who asks", () => {
  it.scopedLive("members of a body that nobody would read", () =>
    test(async ({ ask }) => {
      const posted = (path: string, given: unknown) =>
        json(
          ask(path, {
            method: "POST",
            headers: { "content-type": "application/json" },
            body: JSON.stringify(given)
          })
        )
      for (const [path, given, says] of [
        ["/v1/jobs", { agent: "echo", inptu: 1 }, "inptu: is no member of this; did you mean input?"],
        [
          "/v1/jobs",
          { agent: "echo", lease_requests: {} },
          "lease_requests: is no member of this; did you mean lease_request?"
        ],
        ["/v1/jobs/job_x/cancel", { because: "" }, "because: is no member of this; there are reason"],
        ["/v1/jobs/job_x/inputs/in_x", { vlaue: 1 }, "vlaue: is no member of this; did you mean value?"]
      ] as const) {
        const { body, status } = await posted(path, given)
        expect([status, body.code, body.detail]).toEqual([400, "INVALID_REQUEST", says])
      }
    })
  )

  it.scopedLive("bodies in another encoding than JSON's", () =>
    test(async ({ ask }) => {
      for (const [type, status] of [
        ["application/json; charset=latin1", 415],
        ["application/json;v=1;charset=utf-16", 415],
        ['application/json; charset="UTF-8"', 201],
        ["application/json;charset=utf-8", 201]
      ] as const) {
        const answer = await submit(ask, "echo", 1, { headers: { "content-type": type } })
        expect(answer.status, type).toBe(status)
      }
    })
  )

  it.scopedLive("parameters that nobody would read, or that say two things", () =>
    test(async ({ ask }) => {
      const { body: job } = await submit(ask, "echo", 1, { headers: { prefer: "wait=60" } })
      const at = `/v1/jobs/${job.job_id}`
      const status = "there are status, agent, created_after, created_before, parent_job_id, limit, cursor"
      for (const [method, path, says] of [
        ["GET", "/v1/jobs?stat=1", "stat: is no parameter of this; did you mean status?"],
        ["GET", "/v1/jobs?q=1", `q: is no parameter of this; ${status}`],
        ["GET", "/v1/jobs?limit=1&limit=2", "limit: is there more than once"],
        ["GET", "/v1/jobs?status=error&status=success", "status: is there more than once"],
        ["POST", "/v1/jobs?agent=echo", "agent: is no parameter of this; there are none"],
        ["GET", `${at}?after=1`, "after: is no parameter of this; there are none"],
        ["GET", `${at}/events?afte=1`, "afte: is no parameter of this; did you mean after?"],
        ["GET", `${at}/events?after=0&after=1`, "after: is there more than once"],
        ["GET", `${at}/events?after=-1`, "after: the id of an event of this job is a number"],
        ["GET", `${at}/events?after=99`, /^after: greater than the number of any event of this job/],
        ["DELETE", "/v1/jobs?principal=bob&principal=alice", "principal: is there more than once"],
        ["DELETE", `${at}?cancel=false&cancel=true`, "cancel: is there more than once"],
        ["DELETE", `${at}?force=true`, "force: is no parameter of this; there are cancel"],
        ["GET", "/v1/jobs?agent=%E0%A4", "the query is not percent-encoded as UTF-8"],
        ["GET", "/v1/jobs?agent=100%", "the query is not percent-encoded as UTF-8"],
        ["GET", "/v1/me?%F0%9F%A6%8A=1", "🦊: is no parameter of this; there are none"]
      ] as const) {
        const { body, status } = await json(ask(path, { method }))
        expect([status, body.code], path).toEqual([400, "INVALID_REQUEST"])
        expect(body.detail, path).toMatch(says)
      }
      const { body } = await json(ask(`${at}/events?after=1`, { headers: { "last-event-id": "x" } }))
      expect(body.detail).toBe("Last-Event-ID: the id of an event of this job is a number")
      // Who asks comes first.
      expect((await json(ask("/v1/jobs?stat=1", { token: "" }))).status).toBe(401)
    })
  )

  it.scopedLive("whoever reads a job is in the log, as whoever subscribes to it", () => {
    const logged: Array<string> = []
    const logger = Logger.make(({ annotations, message }) => {
      if (String(message) !== "subscribe") return
      logged.push(
        ["subscriber", "owner", "verdict"]
          .map((key) => Option.getOrThrow(HashMap.get(annotations, key)))
          .join(" ")
      )
    })
    return test(async ({ ask }) => {
      const { body } = await submit(ask, "echo", 1, { headers: { prefer: "wait=60" } })
      logged.length = 0
      for (const token of ["a", "b"])
        for (const what of ["events", "result"])
          await (await ask(`/v1/jobs/${body.job_id}/${what}`, { token })).text()
      await ask("/v1/jobs/job_none/events", { token: "b" })
      const [read, denied] = ["alice alice allowed", "bob alice denied"]
      expect(logged).toEqual([read, read, denied, denied, "bob unknown denied"])
    }).pipe(Effect.provide(Logger.replace(Logger.defaultLogger, logger)))
  })

  it.scopedLive("nobody, somebody unknown, and another principal, whose jobs are not there", () =>
    test(async ({ ask }) => {
      const nobody = await json(ask("/v1/jobs", { token: "" }))
      expect(nobody.status).toBe(401)
      expect(nobody.headers.get("www-authenticate")).toBe('Bearer realm="arcp"')
      const unknown = await json(ask("/v1/jobs", { token: "unknown" }))
      expect(unknown.status).toBe(401)
      expect(unknown.headers.get("www-authenticate")).toContain('error="invalid_token"')
      const basic = { authorization: `Basic ${Buffer.from("a:a").toString("base64")}` }
      expect((await json(ask("/v1/jobs", { token: "", headers: basic }))).status).toBe(401)
      // In a URL a token is nothing.
      expect((await json(ask("/v1/jobs?token=a&access_token=a", { token: "" }))).status).toBe(401)

      const { body } = await submit(ask, "emit", { count: 1 }, { headers: { prefer: "wait=30" } })
      const nothing = await json(ask("/v1/jobs/job_01M8E1D36SMH4FWAHHKTK4NAZW", { token: "b" }))
      expect(nothing.status).toBe(404)
      for (const path of ["", "/events", "/result"]) {
        const theirs = await json(ask(`/v1/jobs/${body.job_id}${path}`, { token: "b" }))
        expect({ ...theirs.body }).toEqual(nothing.body)
      }
    })
  )

  it.scopedLive("that cannot be told now is no bad token; failed logins are slowed down", () =>
    Effect.gen(function* () {
      const undecided = Layer.succeed(Auth, {
        authenticate: () => new InternalError({ message: "no keys", details: { reason: "authentication" } })
      })
      // Nobody listens where its keys should be.
      const withoutKeys = Layer.orDie(
        AuthJwt.layer({ key: { jwksUri: "http://127.0.0.1:9/" }, audience: "arcp" })
      )
      for (const auth of [undecided, withoutKeys]) {
        const { ask } = yield* served({ auth })
        const token = `${Buffer.from('{"alg":"ES256"}').toString("base64url")}.e30.AA`
        const answer = yield* Effect.promise(() => json(ask("/v1/jobs", { token })))
        expect(answer.status).toBe(503)
        expect(answer.headers.get("retry-after")).toBe("1")
      }
      const slow = yield* served({ options: { failedLoginsAtOnce: 2, failedLoginInterval: 400 } })
      const started = performance.now()
      yield* Effect.promise(async () => {
        for (let i = 0; i < 4; i++)
          expect((await json(slow.ask("/v1/jobs", { token: "no" }))).status).toBe(401)
      })
      expect(performance.now() - started).toBeGreaterThan(300)
    })
  )

  it.scopedLive("sessions are told of those whose jobs one may list", () =>
    test(async ({ ask }) => {
      await json(ask("/v1/jobs"))
      expect((await json(ask("/v1/sessions"))).body).toMatchObject({
        total: 1,
        sessions: [{ principal: "alice", state: "connected", lag: expect.any(Number) }]
      })
      expect((await json(ask("/v1/sessions", { token: "b" }))).body).toEqual({ total: 0, sessions: [] })
    })
  )

  it.scopedLive("a token is told when it ends, unless no date says so", () => {
    const ends: Record<string, number> = { soon: 4e12, late: 1e16, later: 1e300, never: Infinity }
    const auth = Layer.succeed(
      Auth,
      fromToken((token) => Effect.succeed({ principal: "alice", expiresAt: ends[Redacted.value(token)] }))
    )
    return test(
      async ({ ask }) => {
        for (const name of ["late", "later", "never"])
          expect((await json(ask("/v1/me", { token: name }))).body).toEqual({ principal: "alice" })
        expect((await json(ask("/v1/me", { token: "soon" }))).body).toEqual({
          principal: "alice",
          expires_at: "2096-10-02T07:06:40.000Z"
        })
      },
      { auth }
    )
  })

  it.scopedLive("a token is told whose it is, and what it may", () =>
    test(async ({ ask }) => {
      expect((await json(ask("/v1/me"))).body).toEqual({ principal: "alice" })
      expect((await json(ask("/v1/me", { token: "narrow" }))).body).toEqual({
        principal: "alice",
        agents: ["echo"]
      })
      expect((await json(ask("/v1/me", { token: "nobody's" }))).status).toBe(401)
    })
  )

  it.scopedLive("sessions are shared by those who may do the same, few, and let go", () =>
    Effect.gen(function* () {
      const { ask } = yield* served({ gateway: { maxSessions: 1, idle: "1 minute" } })
      yield* Effect.promise(async () => {
        const answers = await Promise.all(Array.from({ length: 20 }, () => json(ask("/v1/jobs"))))
        expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]))
        // The one that nobody uses makes room.
        expect((await json(ask("/v1/jobs", { token: "b" }))).status).toBe(200)
        expect((await json(ask("/v1/jobs"))).status).toBe(200)
      })
    })
  )
})

/** Sends a request that offers HTTP/2, as some clients do with all of theirs. */
const offering = (
  base: URL,
  path: string,
  { host = base.host, body = "" } = {}
): Promise<number | undefined> =>
  new Promise((resolve, reject) => {
    const headers = {
      host,
      authorization: "Bearer a",
      connection: "Upgrade, HTTP2-Settings",
      upgrade: "h2c",
      "http2-settings": "AAMAAABkAAQAAP__",
      ...(body === "" ? {} : { "content-type": "application/json", "content-length": body.length })
    }
    const asked = request(
      new URL(path, base),
      { method: body === "" ? "GET" : "POST", headers },
      (answer) => {
        answer.resume().once("end", () => resolve(answer.statusCode))
      }
    )
    asked.once("error", reject)
    asked.end(body)
  })

/** Sends bytes as they are; gives what comes until the connection is closed. */
const exchanged = (base: URL, sent: string): Promise<string> =>
  new Promise((resolve, reject) => {
    let got = ""
    const socket = connect(Number(base.port), base.hostname, () => socket.write(sent))
    socket.setEncoding("latin1").on("data", (text: string) => {
      got += text
    })
    socket.once("close", () => resolve(got)).once("error", reject)
  })

describe("one principal leaves room for the others", () => {
  it.scopedLive("also with waits and bodies that take their time", () =>
    Effect.gen(function* () {
      const gateway = { maxRequests: 4, maxRequestsPerPrincipal: 3, maxStreamsPerPrincipal: 1 }
      const { ask, base } = yield* served({ gateway })
      yield* Effect.promise(async () => {
        const controller = new AbortController()
        const waiting = ask("/v1/jobs", {
          json: { agent: "sleep", input: { ms: 60_000 } },
          headers: { prefer: "wait=60" },
          signal: controller.signal
        }).catch(() => undefined)
        const begun = async (): Promise<void> => {
          const { body } = await json(ask("/v1/jobs?status=running"))
          if (body.jobs.length === 0) await begun()
        }
        await begun()
        const second = await submit(ask, "sleep", { ms: 60_000 }, { headers: { prefer: "wait=1" } })
        expect(second.status).toBe(429)
        expect(second.body.details).toEqual({ limit: "http_streams" })

        const head = `POST /v1/jobs HTTP/1.1\r\nHost: ${base.host}\r\nAuthorization: Bearer a\r\n`
        const body = "Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
        const sockets = await Promise.all(
          [1, 2].map(
            () =>
              new Promise<ReturnType<typeof connect>>((resolve) => {
                const socket = connect(Number(base.port), "127.0.0.1", () => socket.write(head + body))
                socket.once("data", () => resolve(socket))
              })
          )
        )
        const full = async (): Promise<Answer> => {
          const answer = await json(ask("/v1/jobs"))
          return answer.status === 200 ? full() : answer
        }
        expect((await full()).body.details).toEqual({ limit: "http_requests" })
        expect((await json(ask("/v1/jobs", { token: "b" }))).status).toBe(200)
        for (const socket of sockets) socket.destroy()
        controller.abort()
        await waiting
        const free = async (): Promise<void> => {
          if ((await json(ask("/v1/jobs"))).status !== 200) await free()
        }
        await free()
      })
    })
  )

  it.scopedLive("and keeps few sessions that nobody uses, however many tokens it has", () =>
    Effect.gen(function* () {
      const auth = Layer.succeed(Auth, {
        authenticate: ({ token }) =>
          Effect.succeed({ principal: "alice", agents: token === undefined ? [] : [Redacted.value(token)] })
      })
      const { ask } = yield* served({ auth, options: { maxSessionsPerPrincipal: 12 } })
      yield* Effect.promise(async () => {
        for (let i = 0; i < 30; i++)
          expect((await json(ask("/v1/agents", { token: `agent-${i}` }))).status).toBe(200)
      })
    })
  )
})

describe("hostile requests", () => {
  it.scopedLive("what offers another protocol is answered without it", () =>
    test(async ({ base }) => {
      const body = JSON.stringify({ agent: "echo", input: 1 })
      expect(await offering(base, "/v1/jobs", { body })).toBe(201)
      expect(await offering(base, "/v1/jobs", { body: JSON.stringify({ input: "x".repeat(200_000) }) })).toBe(
        400
      )
      expect(await offering(base, "/v1/jobs")).toBe(200)
      expect(await offering(base, "/v1/jobs", { host: "evil.example" })).toBe(403)
    })
  )

  it.scopedLive("so are many that come at once, in their order, also among others", () =>
    test(async ({ ask, base }) => {
      const head = (path: string, ...more: ReadonlyArray<string>) =>
        [`GET ${path} HTTP/1.1`, `Host: ${base.host}`, "Authorization: Bearer a", ...more, "", ""].join(
          "\r\n"
        )
      const offer = ["Connection: Upgrade", "Upgrade: h2c"]
      const some = `${head("/v1/agents")}${head("/v1/nothing", ...offer)}${head("/v1/agents", ...offer)}`
      const got = await exchanged(base, `${some}${head("/v1/nothing", "Connection: close")}`)
      expect([...got.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)).toEqual([
        "200",
        "404",
        "200",
        "404"
      ])
      const many = `${head("/v1/nothing", ...offer).repeat(200)}${head("/v1/agents", "Connection: close")}`
      const answers = await exchanged(base, many)
      expect(answers.match(/HTTP\/1\.1 \d+/g)).toHaveLength(201)
      expect((await ask("/v1/agents")).status).toBe(200)
    })
  )

  it.each(["evil.example@", "evil.example#", "evil.example/", "127.0.0.1:1@", "evil.example\\"])(
    "a Host that only looks like the server's is refused: %s",
    (prefix) =>
      Effect.runPromise(
        Effect.scoped(
          test(async ({ base }) => {
            for (const host of [`${prefix}${base.host}`, `${base.host}/${prefix}`, `${base.host}@${prefix}`])
              expect(await offering(base, "/v1/jobs", { host })).toBe(403)
          })
        )
      )
  )

  it("name no part of the protocol's frames in any of their mistakes", () => {
    const detailOf = (message: string) => documentOf(new InvalidRequest({ message })).detail
    expect(detailOf("payload.input.a: is missing; payload.input.b: is missing; and 2 more")).toBe(
      "input.a: is missing; input.b: is missing; and 2 more"
    )
    expect(detailOf("payload.filter.status: is missing; payload.limit: expected a number")).toBe(
      "status: is missing; limit: expected a number"
    )
    expect(detailOf("the payload.x; a filter.")).toBe("the payload.x; a filter.")
  })

  it.scopedLive("are refused by what is wrong with them, and nothing else suffers", () =>
    test(async ({ ask }) => {
      const raw = (body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) =>
        json(
          ask("/v1/jobs", {
            method: "POST",
            body,
            headers: { "content-type": "application/json", ...headers }
          })
        )
      const statuses = async (...all: ReadonlyArray<Promise<Answer>>) =>
        (await Promise.all(all)).map(({ body, status }) => {
          expect(body).toMatchObject({ status, code: expect.any(String), retryable: expect.any(Boolean) })
          return status
        })
      expect(
        await statuses(
          raw("{"),
          raw("[]"),
          raw("null"),
          raw('{"agent":1}'),
          raw('{"agent":"ECHO"}'),
          raw('{"agent":"echo","input":"\\ud800"}'),
          raw(new Uint8Array([0x7b, 0xff, 0x7d])),
          raw(`{"agent":"echo","input":${"[".repeat(100_000)}${"]".repeat(100_000)}}`),
          raw(`{"agent":"echo","max_runtime_sec":-1}`),
          raw(`{"agent":"echo","extensions":7}`)
        )
      ).toEqual(Array.from({ length: 10 }, () => 400))
      expect(
        await statuses(
          raw("a=b", { "content-type": "application/x-www-form-urlencoded" }),
          raw("{}", { "content-type": "text/plain" }),
          raw("{}", { "content-encoding": "gzip" })
        )
      ).toEqual([415, 415, 415])
      const endless = await raw('{"agent":"echo","input":{"a":[-1e400]}}')
      expect([endless.status, endless.body.detail]).toEqual([
        400,
        "input.a[0]: a number that is not finite is not JSON"
      ])
      const digits = "9".repeat(250)
      for (const endless of [`${digits}e99`, `-${digits}.5E+99`, "1e0400", "9e+0309", "9".repeat(310)])
        expect((await raw(`{"agent":"echo","input":${endless}}`)).status, endless).toBe(400)
      for (const fine of ["1e300", `0.${"1".repeat(400)}`, "1e-400", digits, "1e0001"])
        expect((await raw(`{"agent":"echo","input":${fine}}`)).status, fine).toBe(201)
      const large = await raw(`{"agent":"echo","input":"${"x".repeat(2_000_000)}"}`)
      expect([large.status, large.body.detail]).toEqual([413, expect.stringContaining("at most")])
      expect(await statuses(json(ask("/v1/jobs", { headers: { accept: "text/html" } })))).toEqual([406])
      expect((await raw('{"agent":"echo","input":{"__proto__":{"a":1},"constructor":1}}')).status).toBe(201)
      expect((await raw('{"agent":"echo","constructor":1}')).body.detail).toMatch(
        /^constructor: is no member/
      )
      const ids = [
        "..%2f..%2fetc",
        "%00",
        "a%20b",
        "%F0%9F%98%80",
        "job_",
        "'; drop table jobs; --",
        "x".repeat(4_000)
      ]
      for (const id of ids) {
        for (const path of ["", "/events", "/result"])
          expect(await statuses(json(ask(`/v1/jobs/${id}${path}`))), id).toEqual([404])
        const about = [
          json(ask(`/v1/jobs/${id}/cancel`, { json: {} })),
          json(ask(`/v1/jobs/${id}/inputs/${id}`, { json: { value: 1 } }))
        ]
        expect(await statuses(...about), id).toEqual([404, 404])
      }
      expect(await statuses(json(ask("/v1/jobs/%E0%A4%A")))).toEqual([404])
      expect(await statuses(json(ask("/v1/nothing")), json(ask("/v1/jobs/a/b/c/d")))).toEqual([404, 404])
      expect((await ask("/v1/jobs", { method: "PATCH" })).status).toBe(405)
      expect((await ask("/v1/jobs", { method: "PUT" })).headers.get("allow")).toBe(
        "POST, GET, HEAD, DELETE, OPTIONS"
      )
      for (const id of ["-1", "1e3", "x", "9".repeat(30)])
        expect(
          await statuses(json(ask("/v1/jobs/job_x/events", { headers: { "last-event-id": id } })))
        ).toEqual([400])
      const applied = await submit(ask, "echo", 1, { headers: { prefer: "wait=99999999999" } })
      expect([applied.status, applied.headers.get("preference-applied")]).toEqual([200, "wait=300"])
      expect((await submit(ask, "echo", 1, { headers: { prefer: "wait=30" } })).body.result).toBe(1)
    })
  )

  it.scopedLive(
    "are told each of their own, however many, and end nothing of others with the same token",
    () =>
      test(async ({ ask }) => {
        const { body } = await submit(ask, "sleep", { ms: 60_000 })
        const waited = submit(ask, "echo", 1, { headers: { prefer: "wait=60" } })
        const reason = "x".repeat(1_025)
        const answers = await Promise.all(
          Array.from({ length: 8 }, () => [
            json(ask("/v1/jobs", { json: { agent: 5 } })),
            json(ask("/v1/jobs?limit=0")),
            json(ask("/v1/jobs?status=done")),
            json(ask(`/v1/jobs/${body.job_id}/cancel`, { json: { reason } })),
            json(ask("/v1/jobs?status=running"))
          ]).flat()
        )
        const counts = new Map<number, number>()
        for (const { status } of answers) counts.set(status, (counts.get(status) ?? 0) + 1)
        expect(counts).toEqual(
          new Map([
            [400, 32],
            [200, 8]
          ])
        )
        expect((await waited).body.result).toBe(1)
      })
  )

  it.scopedLive("are refused as problems also by the server, before they are the gateway's", () =>
    Effect.gen(function* () {
      const { base } = yield* served({ transport: { allowedOrigins: ["https://app.example"] } })
      const told = (headers: Record<string, string>) =>
        new Promise<{
          readonly status: number | undefined
          readonly type: string | undefined
          body: unknown
        }>((resolve, reject) => {
          const asking = request(new URL("/v1/me", base), { headers }, async (answer) => {
            let text = ""
            for await (const part of answer.setEncoding("utf8")) text += part
            const type = answer.headers["content-type"]
            resolve({ status: answer.statusCode, type, body: JSON.parse(text) })
          })
          asking.once("error", reject).end()
        })
      const refused = (status: number, code: string, retryable: boolean) => ({
        status,
        type: "application/problem+json",
        body: expect.objectContaining({ status, code, retryable, detail: expect.any(String) })
      })
      yield* Effect.promise(async () => {
        expect(await told({ host: "evil.example" })).toEqual(refused(403, "PERMISSION_DENIED", false))
        expect(await told({ origin: "https://evil.example" })).toEqual(
          refused(403, "PERMISSION_DENIED", false)
        )
      })
      expect(JSON.parse(refusal({ status: 503, message: "not now" }).body)).toMatchObject({
        status: 503,
        code: "INTERNAL_ERROR",
        retryable: true,
        detail: "not now"
      })
    })
  )

  it.scopedLive("who sends a body that is too large to its end is told so", () =>
    test(async ({ base }) => {
      const body = Buffer.alloc(8_000_000, " ")
      const answer = await new Promise<string>((resolve) => {
        const socket = connect(Number(base.port), "127.0.0.1", () => {
          socket.write(
            `POST /v1/jobs HTTP/1.1\r\nHost: ${base.host}\r\nAuthorization: Bearer a\r\n` +
              `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`
          )
          socket.write(body)
        })
        let said = ""
        socket.on("data", (data) => {
          said += data.toString()
        })
        socket.on("error", (error) => {
          said = `${error}`
        })
        socket.on("close", () => resolve(said))
      })
      expect(answer).toMatch(/^HTTP\/1\.1 413 /)
      expect(answer).toMatch(/at most/)
    })
  )

  it.scopedLive("a body without an end is not held, nor more of it than is taken", () =>
    test(
      ({ base }) =>
        new Promise<void>((resolve, reject) => {
          const socket = connect(Number(base.port), "127.0.0.1", () => {
            socket.write(
              `POST /v1/jobs HTTP/1.1\r\nHost: ${base.host}\r\nAuthorization: Bearer a\r\n` +
                "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            const piece = `10000\r\n${" ".repeat(65_536)}\r\n`
            const more = () => {
              if (!socket.destroyed)
                socket.write(piece, (error) => (error ? socket.destroy() : setImmediate(more)))
            }
            more()
          })
          let answer = ""
          socket.on("data", (data) => {
            answer += data.toString()
          })
          // The rest that it was sent may reset the connection.
          socket.on("error", () => {})
          socket.on("close", () =>
            answer === "" || answer.startsWith("HTTP/1.1 413") ? resolve() : reject(new Error(answer))
          )
        })
    )
  )
})

describe("documents", () => {
  it.scopedLive("say what there is, to anybody, without anything from elsewhere", () =>
    test(async ({ ask }) => {
      const spec = await json(ask("/v1/openapi.json", { token: "" }))
      expect(Object.keys(spec.body.paths).sort()).toEqual([
        "/v1/agents",
        "/v1/jobs",
        "/v1/jobs/{id}",
        "/v1/jobs/{id}/cancel",
        "/v1/jobs/{id}/events",
        "/v1/jobs/{id}/inputs/{inputId}",
        "/v1/jobs/{id}/result",
        "/v1/me",
        "/v1/nodes",
        "/v1/sessions"
      ])
      // An operation that says nothing of its own needs what the document says: a token.
      expect(spec.body.security).toEqual([{ bearer: [] }])
      expect(JSON.stringify(spec.body.paths)).not.toContain('"security"')
      // Validators refuse a name of a schema that is there twice.
      expect(JSON.stringify(spec.body)).not.toContain('"$id"')
      expect(Object.keys(spec.body.paths["/v1/jobs/{id}/result"].get.responses)).toEqual(
        expect.arrayContaining(["200", "206", "304", "406", "410", "416", "500"])
      )
      // Failures are problems, all of them; and some answers come in several media types.
      for (const operations of Object.values<
        Record<string, { responses: Record<string, { content?: object }> }>
      >(spec.body.paths))
        for (const { responses } of Object.values(operations))
          for (const [status, { content }] of Object.entries(responses))
            if (Number(status) >= 400)
              expect(Object.keys(content ?? {})).toEqual(["application/problem+json"])
      expect(Object.keys(spec.body.paths["/v1/jobs/{id}/events"].get.responses["200"].content)).toEqual([
        "text/event-stream",
        "application/x-ndjson"
      ])
      expect(JSON.stringify(spec.body)).not.toContain("HttpApiDecodeError")
      expect(spec.body.components.schemas.Submit.additionalProperties).toBe(false)
      const page = await ask("/v1/", { token: "" })
      expect(page.headers.get("content-security-policy")).toMatch(/^default-src 'none'; style-src 'sha256-/)
      const html = await page.text()
      expect(html).not.toMatch(/https?:|<script/)
      expect(html).toContain("/v1/jobs/{id}/events")
      expect(html).toContain(
        "<td><code>agent</code></td><td>string</td><td>needed; name, or name@version</td>"
      )
      expect(html).toContain("<td><code>about_sha256</code></td>")
    })
  )
})
