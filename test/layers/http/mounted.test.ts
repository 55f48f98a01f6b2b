/** The gateway where others mount it, as others declare it, and with policies and retentions that are not the default. */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import * as FetchHttpClient from "@effect/platform/FetchHttpClient"
import * as HttpApiClient from "@effect/platform/HttpApiClient"
import * as HttpClient from "@effect/platform/HttpClient"
import * as HttpClientRequest from "@effect/platform/HttpClientRequest"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServer from "@effect/platform/HttpServer"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeContext from "@effect/platform-node/NodeContext"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { describe, expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as Policy from "../../../src/layers/auth/Policy.js"
import { api } from "../../../src/layers/http/api.js"
import * as HttpGateway from "../../../src/layers/http/HttpGateway.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import { agents } from "../../../src/programs/agents/conformance.js"
import { Visitor } from "../../../src/services/transport/HttpRoutes.js"
import { sentOf, served } from "./served.js"

const body = (text: string) => JSON.parse(text)

/** An application's own server, with routes of its own. */
const mounted = Effect.gen(function* () {
  const node = createServer()
  const app = yield* HttpGateway.app()
  const visitor = { remote: "127.0.0.1:1", client: "127.0.0.1", evidence: {} }
  const router = HttpRouter.empty.pipe(
    HttpRouter.get("/", HttpServerResponse.text("the application's own")),
    HttpRouter.mountApp("/v1", Effect.provideService(app, Visitor, visitor), { includePrefix: true })
  )
  yield* Layer.build(
    HttpServer.serve(router).pipe(
      Layer.provide(NodeHttpServer.layer(() => node, { port: 0, host: "127.0.0.1" }))
    )
  )
  return `http://127.0.0.1:${(node.address() as AddressInfo).port}`
})

const runtime = Runtime.layerMemory({ options: { shutdownGrace: 0 } }).pipe(
  Layer.provide(Registry.layer(agents)),
  Layer.provide(Auth.layerStatic({ a: "alice" })),
  Layer.provide(Layer.mergeAll(NodeContext.layer, FetchHttpClient.layer))
)

describe("in an application's own router", () => {
  it.scopedLive("stands beside its routes, and answers what is declared", () =>
    Effect.gen(function* () {
      const base = yield* Effect.flatMap(Layer.build(runtime), (services) =>
        Effect.provide(mounted, services)
      )
      const get = (path: string, init: RequestInit = {}) =>
        Effect.promise(async () => {
          const response = await fetch(`${base}${path}`, {
            ...init,
            headers: { authorization: "Bearer a", ...init.headers },
            signal: AbortSignal.timeout(60_000)
          })
          return { status: response.status, text: await response.text() }
        })
      expect((yield* get("/")).text).toBe("the application's own")
      expect((yield* get("/elsewhere")).status).toBe(404)
      expect(body((yield* get("/v1/nothing")).text)).toMatchObject({ status: 404, code: "INVALID_REQUEST" })
      expect((yield* get("/v1/openapi.json")).status).toBe(200)

      // The declaration, as a client of the platform uses it.
      const client = yield* HttpApiClient.make(api, {
        baseUrl: base,
        transformClient: HttpClient.mapRequest(HttpClientRequest.bearerToken("a"))
      }).pipe(Effect.provide(FetchHttpClient.layer))
      const begun = yield* client.submit({ payload: { agent: "emit", input: { count: 30 } }, headers: {} })
      const id = "job_id" in begun ? begun.job_id : ""
      const events = sentOf((yield* get(`/v1/jobs/${id}/events`)).text)
      expect(events.at(-1)?.event).toBe("job.result")
      expect(yield* client.job({ path: { id } })).toMatchObject({ job_id: id, status: "success" })
      expect((yield* client.list({ urlParams: { status: "success" } })).jobs).toHaveLength(1)
      expect((yield* client.agents()).agents.map(({ name }) => name)).toContain("emit")
      const waited = yield* client.submit({
        payload: { agent: "echo", input: { a: 1 } },
        headers: { prefer: "wait=30", "idempotency-key": "k" }
      })
      expect(waited).toMatchObject({ final_status: "success", result: { a: 1 } })
      const missing = yield* Effect.flip(client.job({ path: { id: "job_x" } }))
      expect(missing).toMatchObject({ status: 404, code: "JOB_NOT_FOUND" })
      const refused = yield* Effect.flip(client.remove({ path: { id }, urlParams: {} }))
      expect(refused).toMatchObject({ status: 403, code: "PERMISSION_DENIED" })
      expect(yield* client.cancel({ path: { id }, payload: {} })).toMatchObject({ job_id: id })
    })
  )
})

describe("history that is no longer there", () => {
  it.scopedLive("is a gap for whoever begins before it, and for nobody else", () =>
    Effect.gen(function* () {
      const { ask } = yield* served({ options: { maxRetainedEvents: 1_600, tailBytes: 1 } })
      yield* Effect.promise(async () => {
        const submitted = await ask("/v1/jobs", {
          json: { agent: "emit", input: { count: 2_000 } },
          headers: { prefer: "wait=60" }
        })
        const { job_id: id } = body(await submitted.text())
        const events = async (after: number) =>
          sentOf(await (await ask(`/v1/jobs/${id}/events?after=${after}`)).text())
        const all = await events(0)
        const rest = all.filter(({ event }) => event !== "gap")
        // More may go while it is read.
        const gaps = all.slice(0, all.length - rest.length)
        const first = rest[0]?.id ?? 0
        expect(first).toBeGreaterThan(1)
        expect(gaps.every(({ event }) => event === "gap")).toBe(true)
        expect(gaps[0]?.data.after).toBe(0)
        // Whoever goes on after the gap's own id is told of nothing twice.
        expect(gaps.at(-1)).toMatchObject({ id: first - 1, data: { next: first } })
        expect(rest.map(({ id }) => id)).toEqual(rest.map((_, i) => first + i))
        expect(rest.at(-1)).toMatchObject({ id: 2_002, event: "job.result" })
        expect(await events(2_001)).toEqual(rest.slice(-1))
      })
    })
  )
})

describe("a policy's refusals", () => {
  const strict = Layer.effect(
    Policy.Policy,
    Effect.map(Policy.Policy, (base) => ({
      ...base,
      listable: () => Effect.succeed("everyone" as const),
      maySubscribe: () => Effect.succeed(Policy.refuse("not by this policy")),
      mayUseAgent: (_identity: unknown, agent: string) =>
        Effect.succeed(agent === "fail" ? Policy.refuse("not this agent") : agent !== "emit")
    }))
  ).pipe(Layer.provide(Policy.layer()))

  it.scopedLive("are told in its words where it may be known that there is something", () =>
    Effect.gen(function* () {
      const { ask } = yield* served({ policy: strict })
      yield* Effect.promise(async () => {
        const of = async (path: string, asking = {}) => {
          const response = await ask(path, asking)
          const { code, detail } = body(await response.text())
          return [response.status, code, detail]
        }
        const begun = body(await (await ask("/v1/jobs", { json: { agent: "echo" } })).text())
        const told = [403, "PERMISSION_DENIED", "not by this policy"]
        expect(await of(`/v1/jobs/${begun.job_id}/events`)).toEqual(told)
        expect(await of(`/v1/jobs/${begun.job_id}/result`)).toEqual(told)
        expect((await ask(`/v1/jobs/${begun.job_id}`, { token: "b" })).status).toBe(200)
        expect((await of(`/v1/jobs/${begun.job_id}/cancel`, { json: {}, token: "b" })).slice(0, 2)).toEqual([
          403,
          "PERMISSION_DENIED"
        ])
        expect(await of("/v1/jobs", { json: { agent: "fail" } })).toEqual([
          403,
          "PERMISSION_DENIED",
          "not this agent"
        ])
        expect((await of("/v1/jobs", { json: { agent: "emit" } })).slice(0, 2)).toEqual([
          422,
          "AGENT_NOT_AVAILABLE"
        ])
      })
    })
  )
})
