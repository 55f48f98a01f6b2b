/**
 * A token of the same principal that may do less than the one that submitted a job: it is told over HTTP what it would be told
 * over a connection, and may do no more.
 */
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as TransportMemory from "../../../src/layers/transport/TransportMemory.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { type Credential, Credentials } from "../../../src/services/credentials/Credentials.js"
import { Job } from "../../../src/services/jobs/Job.js"
import type { Sessions } from "../../../src/services/session/Sessions.js"
import { Dialer } from "../../../src/services/transport/Transport.js"
import { open } from "../../support/Wire.js"
import { type Asking, type ServedOptions, served } from "./served.js"

const auth = Auth.layerStatic({
  wide: "alice",
  narrow: {
    principal: "alice",
    agents: ["echo", "sleep", "ask"],
    leaseCeiling: { "tool.call": ["search.*"], "cost.budget": ["USD:1"] }
  },
  few: { principal: "alice", agents: ["echo"] }
})

/** One for each job, whose value is found again wherever it is told. */
const credentials = Layer.sync(Credentials, () => {
  const jobs = new Map<string, ReadonlyArray<Credential>>()
  const make = (jobId: string): Credential => {
    const credential: Credential = {
      id: "cred_1",
      scheme: "bearer",
      value: Redacted.make(`secret of ${jobId}`),
      endpoint: "https://gateway.example",
      profile: "p"
    }
    jobs.set(jobId, [credential])
    return credential
  }
  const held = (jobId: string) => jobs.get(jobId) ?? []
  return {
    enabled: true,
    mint: ({ jobId }) => Effect.sync(() => [make(jobId)]),
    held,
    rotate: (jobId) => Effect.sync(() => make(jobId)),
    release: (jobId) => Effect.sync(() => jobs.delete(jobId)),
    outstanding: Effect.succeed([]),
    revoke: () => Effect.void
  }
})

/** Connections to the runtime that is asked over HTTP. */
const dialerTo = (sessions: Sessions["Type"]) =>
  Layer.succeed(Dialer, {
    connect: Effect.gen(function* () {
      const [client, server] = yield* TransportMemory.make
      yield* Effect.forkScoped(sessions.serve(server))
      return client
    })
  })

const as = (token: string) => ({ auth: { scheme: "bearer", token } })

/** What is shown of an answer: enough to say whether it is allowed, and whether a secret is in it. */
interface Told {
  readonly status: number
  readonly text: string
  // biome-ignore lint/suspicious/noExplicitAny: what a test reads of an answer is the test
  readonly body: any
}

/** Both doors of one runtime: HTTP, and a connection of the protocol. */
const doors = (options: ServedOptions = {}) =>
  Effect.gen(function* () {
    const { ask, sessions } = yield* served({ auth, credentials, ...options })
    const http = (token: string, path: string, asking: Asking = {}) =>
      Effect.promise(async (): Promise<Told> => {
        const response = await ask(path, { ...asking, token })
        const text = await response.text()
        return { status: response.status, text, body: /^[[{]/.test(text) ? JSON.parse(text) : undefined }
      })
    const wire = (token: string) =>
      Effect.map(Effect.provide(open(as(token)), dialerTo(sessions)), (session) => ({
        seen: () => JSON.stringify(session.seen),
        /** Returns the answer to a request. */
        ask: (type: string, payload: object, more: Record<string, unknown> = {}) =>
          Effect.flatMap(session.request(type, payload, more), (id) =>
            session.next(({ payload }) => (payload.request_id ?? payload.details?.request_id) === id)
          )
      }))
    return { http, wire }
  })

const wideJob = {
  agent: "sleep",
  input: { ms: 600_000 },
  lease_request: { "tool.call": ["*"] }
}

const fork = "x-vendor.effect-arcp.fork"
const adopt = "x-vendor.effect-arcp.adopt"
const answer = "x-vendor.effect-arcp.job.input"

describe("a token of less authority than a job has", () => {
  it.scopedLive("sees it without its credentials, by whatever it asks", () =>
    Effect.gen(function* () {
      const { http, wire } = yield* doors()
      const keyed = { json: wideJob, headers: { "idempotency-key": "k" } }
      const mine = yield* http("wide", "/v1/jobs", keyed)
      expect([mine.status, mine.text]).toEqual([201, expect.stringContaining("secret of")])
      const id = mine.body.job_id as string
      const path = `/v1/jobs/${id}`
      for (const token of ["narrow", "few"]) {
        const session = yield* wire(token)
        expect((yield* session.ask("job.submit", { ...wideJob, idempotency_key: "k" })).job_id).toBe(id)
        expect((yield* session.ask("job.subscribe", { job_id: id, history: true })).type).toBe(
          "job.subscribed"
        )
        const told = [
          yield* http(token, path),
          yield* http(token, "/v1/jobs"),
          yield* http(token, "/v1/me"),
          yield* http(token, "/v1/agents"),
          yield* http(token, "/v1/sessions"),
          yield* http(token, `${path}/result`),
          yield* http(token, "/v1/jobs", keyed),
          yield* http(token, "/v1/jobs", { json: { ...wideJob, extensions: { [adopt]: id } } })
        ]
        expect(told.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 409, 200, 200])
        expect([session.seen(), ...told.map(({ text }) => text)].join("\n")).not.toContain("secret")
      }
    })
  )

  it.scopedLive("is refused over HTTP what it is refused on a connection, for the same reason", () =>
    Effect.gen(function* () {
      const { http, wire } = yield* doors()
      const headers = { "idempotency-key": "k" }
      const id = (yield* http("wide", "/v1/jobs", { json: wideJob, headers })).body.job_id as string
      const path = `/v1/jobs/${id}`
      const extensions = { [fork]: { job_id: id } }
      const other = { ...wideJob, input: { ms: 1 } }
      const unknown = { agent: "emit", input: { count: 1 } }
      for (const token of ["narrow", "few"]) {
        const { ask } = yield* wire(token)
        const refused = [
          [yield* http(token, `${path}/cancel`, { json: {} }), yield* ask("job.cancel", {}, { job_id: id })],
          [
            yield* http(token, "/v1/jobs", { json: { agent: "sleep", extensions } }),
            yield* ask("job.submit", { agent: "sleep" }, { extensions })
          ],
          [
            yield* http(token, "/v1/jobs", { json: other, headers }),
            yield* ask("job.submit", { ...other, idempotency_key: "k" })
          ],
          [yield* http(token, "/v1/jobs", { json: unknown }), yield* ask("job.submit", unknown)],
          [
            yield* http(token, `${path}/inputs/in_1`, { json: { value: 1 } }),
            yield* ask(answer, { input_id: "in_1", value: 1 }, { job_id: id })
          ]
        ] as const
        const codes = [
          "PERMISSION_DENIED",
          "PERMISSION_DENIED",
          "DUPLICATE_KEY",
          "AGENT_NOT_AVAILABLE",
          "PERMISSION_DENIED"
        ]
        expect(refused.map(([, { payload }]) => payload.code)).toEqual(codes)
        expect(refused.map(([{ body }]) => body.code)).toEqual(codes)
        expect((yield* http(token, path, { method: "DELETE" })).status).toBe(403)
      }
    })
  )

  it.scopedLive(
    "does not become its owner, once the session that submitted it is gone, by asking for its key",
    () =>
      Effect.gen(function* () {
        const { http } = yield* doors({ gateway: { idle: 1 } })
        const keyed = { json: wideJob, headers: { "idempotency-key": "k" } }
        const path = `/v1/jobs/${(yield* http("wide", "/v1/jobs", keyed)).body.job_id}`
        const owners = Effect.map(http("wide", "/v1/sessions"), ({ body }) => body.sessions.length as number)
        yield* Effect.repeat(owners, { until: (count) => count === 0 })
        expect((yield* http("narrow", "/v1/jobs", keyed)).status).toBe(200)
        expect((yield* http("narrow", `${path}/cancel`, { json: {} })).status).toBe(403)
        // Who may have it takes it over by the same.
        const again = yield* http("wide", "/v1/jobs", keyed)
        expect([again.status, again.text]).toEqual([200, expect.stringContaining("secret of")])
        expect((yield* http("wide", `${path}/cancel`, { json: {} })).status).toBe(202)
      })
  )

  it.scopedLive(
    "has jobs of its own whole: within its ceiling, with their credentials, to cancel and to answer",
    () =>
      Effect.gen(function* () {
        const { http } = yield* doors()
        const json = {
          agent: "ask",
          input: { prompt: "?" },
          lease_request: { "tool.call": ["search.web", "mail"] }
        }
        const own = yield* http("narrow", "/v1/jobs", { json, headers: { "idempotency-key": "n" } })
        expect(own.body.lease).toEqual({ "tool.call": ["search.web"], "cost.budget": ["USD:1"] })
        expect(own.text).toContain("secret of")
        const path = `/v1/jobs/${own.body.job_id}`
        const asked = yield* Effect.repeat(http("narrow", path), {
          until: ({ body }) => body.waiting_for?.length > 0
        })
        const input = `${path}/inputs/${asked.body.waiting_for[0]}`
        // Another one that covers it as little.
        expect((yield* http("few", input, { json: { value: "no" } })).status).toBe(403)
        expect((yield* http("narrow", input, { json: { value: "yes" } })).status).toBe(204)
        const result = yield* http("narrow", `${path}/result`, { headers: { prefer: "wait=30" } })
        expect(result.text).toBe('"yes"\n')
      })
  )

  it.scopedLive(
    "is not told in events that a credential was replaced, as nobody is over HTTP: it is for the session that owns the job",
    () =>
      Effect.gen(function* () {
        const rotator = Agent.handle(Agent.make("sleep", { version: "9.0.0" }), () =>
          Effect.flatMap(Job, (job) => Effect.asVoid(job.rotateCredential("cred_1")))
        )
        const { http } = yield* doors({ agents: [rotator] })
        const json = { ...wideJob, agent: "sleep@9.0.0" }
        const done = yield* http("wide", "/v1/jobs", { json, headers: { prefer: "wait=30" } })
        expect(done.body.final_status).toBe("success")
        for (const token of ["narrow", "wide"]) {
          const { text } = yield* http(token, `/v1/jobs/${done.body.job_id}/events`)
          expect(text).toContain("job.result")
          expect(text).not.toMatch(/secret|credential_rotated/)
        }
      })
  )
})
