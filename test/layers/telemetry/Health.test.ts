/** Health, readiness and metrics, as HTTP answers. */
import { request as httpRequest, type IncomingMessage } from "node:http"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import { assert, describe, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import * as SecretsLayer from "../../../src/layers/runtime/Secrets.js"
import * as Health from "../../../src/layers/telemetry/Health.js"
import * as HealthRoutes from "../../../src/layers/telemetry/HealthRoutes.js"
import * as Metrics from "../../../src/layers/telemetry/Metrics.js"
import * as Readiness from "../../../src/layers/telemetry/Readiness.js"
import * as TransportWebSocket from "../../../src/layers/transport/TransportWebSocket.js"
import { Sessions } from "../../../src/services/session/Sessions.js"
import { Store } from "../../../src/services/store/Store.js"
import { TransportServer } from "../../../src/services/transport/Transport.js"
import { readExposition } from "../../support/exposition.js"
import { makeStore, type TestStore } from "../jobs/support.js"

/** A runtime over a store, without a transport. */
const runtime = ({ store }: TestStore) =>
  Runtime.layer({ options: { shutdownGrace: "0 millis" } }).pipe(
    Layer.provide(Layer.succeed(Store, store)),
    Layer.provide(Registry.layer([])),
    Layer.provide(Auth.layerDev)
  )

const alive = ({ batches }: TestStore): number => batches.filter(([first]) => first?._tag === "Alive").length

describe("readiness", () => {
  it.scopedLive("is told by a write, one for all who ask within a second", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      yield* Effect.gen(function* () {
        const unreadiness = yield* Readiness.make
        const before = alive(store)
        const all = yield* Effect.all(
          Array.from({ length: 50 }, () => unreadiness),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(new Set(all), new Set([undefined]))
        assert.strictEqual(alive(store) - before, 1)
      }).pipe(Effect.provide(runtime(store)))
    })
  )

  it.scopedLive(
    "is not there while the store fails, nor while a write is not answered, of which there is one",
    () =>
      Effect.gen(function* () {
        const store = yield* makeStore
        yield* Effect.gen(function* () {
          const unreadiness = yield* Readiness.make
          store.failing = true
          assert.strictEqual(yield* unreadiness, "the store does not take writes")
          store.failing = false
          // What is known holds for a second.
          assert.strictEqual(yield* unreadiness, "the store does not take writes")
        }).pipe(Effect.provide(runtime(store)))
        const hanging = yield* makeStore
        yield* Effect.gen(function* () {
          const unreadiness = yield* Readiness.make
          yield* hanging.gate.close
          const began = performance.now()
          const both = yield* Effect.all([unreadiness, unreadiness], { concurrency: "unbounded" })
          assert.deepStrictEqual(both, Array(2).fill("the store has not answered in time"))
          assert.isBelow(performance.now() - began, 10_000)
          const third = yield* Effect.fork(unreadiness)
          const before = alive(hanging)
          yield* hanging.gate.open
          assert.isUndefined(yield* Fiber.join(third))
          assert.strictEqual(alive(hanging) - before, 1)
        }).pipe(Effect.provide(runtime(hanging)))
      })
  )

  it.scopedLive("is over when a shutdown begins", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      yield* Effect.gen(function* () {
        const unreadiness = yield* Readiness.make
        assert.isUndefined(yield* unreadiness)
        yield* (yield* Sessions).shutdown
        assert.strictEqual(yield* unreadiness, "shutting down")
      }).pipe(Effect.provide(runtime(store)))
    })
  )
})

interface Answered {
  readonly status: number | undefined
  readonly headers: IncomingMessage["headers"]
  readonly body: string
}

const ask = (url: URL, init: { readonly method?: string; readonly headers?: Record<string, string> } = {}) =>
  Effect.async<Answered, Error>((resume) => {
    const request = httpRequest(url, { agent: false, ...init }, (response) => {
      let body = ""
      response.setEncoding("utf8")
      response.on("data", (text: string) => {
        body += text
      })
      response.on("end", () =>
        resume(Effect.succeed({ status: response.statusCode, headers: response.headers, body }))
      )
    })
    request.on("error", (error) => resume(Effect.fail(error)))
    request.end()
    return Effect.sync(() => request.destroy())
  })

/** A server with these routes beside its endpoint. */
const serving = (store: TestStore, readers?: Health.Readers) =>
  TransportWebSocket.layer({
    port: 0,
    routes: Layer.merge(HealthRoutes.layerHealth(), HealthRoutes.layerMetrics(readers))
  }).pipe(Layer.provideMerge(runtime(store)), Layer.provide(Metrics.layer()), Layer.build)

const urlOf = (context: Context.Context<TransportServer>) =>
  new URL(Context.get(context, TransportServer).address.replace(/^ws/, "http"))

describe("health over HTTP", () => {
  it.scopedLive("is answered beside the endpoint, to whoever asks; it is only read", () =>
    Effect.gen(function* () {
      const store = yield* makeStore
      const context = yield* serving(store)
      const url = urlOf(context)
      const at = (path: string, init?: Parameters<typeof ask>[1]) => ask(new URL(path, url), init)
      const healthy = yield* at("/healthz")
      assert.deepStrictEqual([healthy.status, healthy.body], [200, "ok\n"])
      assert.strictEqual(healthy.headers["cache-control"], "no-store")
      assert.deepStrictEqual((yield* at("/readyz?verbose")).body, "ready\n")
      assert.strictEqual((yield* at("/healthz", { method: "POST" })).status, 405)
      assert.strictEqual((yield* at("/healthz", { method: "HEAD" })).status, 200)
      assert.strictEqual((yield* at("/healthz/more")).status, 404)
      const told = yield* at("/metrics")
      assert.strictEqual(told.status, 200)
      assert.strictEqual(told.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
      assert.isDefined(readExposition(told.body).get("arcp_sessions"))
      // Through a proxy, and from a page, they are not.
      for (const name of [
        ...[
          "Forwarded",
          "Via",
          "X-Forwarded-For",
          "X-Forwarded-Port",
          "X-Forwarded-Server",
          "X-Forwarded-Prefix"
        ],
        ...["X-Real-IP", "X-Client-IP", "X-Original-Forwarded-For", "True-Client-IP", "CF-Connecting-IP"]
      ])
        assert.strictEqual((yield* at("/metrics", { headers: { [name]: "" } })).status, 403, name)
      assert.strictEqual((yield* at("/metrics", { headers: { origin: "https://evil.example" } })).status, 403)
      assert.strictEqual((yield* at("/metrics", { headers: { host: "evil.example" } })).status, 403)
      yield* Context.get(context, Sessions).shutdown
      const over = yield* at("/readyz")
      assert.deepStrictEqual([over.status, over.body], [503, "not ready: shutting down\n"])
      assert.strictEqual((yield* at("/healthz")).status, 200)
    })
  )

  it.scopedLive("tells metrics to who shows the token, from anywhere, and to nobody else", () =>
    Effect.gen(function* () {
      const url = new URL("/metrics", urlOf(yield* serving(yield* makeStore, Redacted.make("let me in"))))
      const shown = (authorization: string) =>
        Effect.map(
          ask(url, { headers: { authorization, "x-forwarded-for": "192.0.2.1" } }),
          ({ status }) => status
        )
      const refused = yield* ask(url)
      assert.strictEqual(refused.status, 401)
      assert.match(refused.headers["www-authenticate"] ?? "", /^Bearer/)
      assert.strictEqual(yield* shown("Bearer let me out"), 401)
      assert.strictEqual(yield* shown("Basic let me in"), 401)
      assert.strictEqual(yield* shown("Bearer let me in"), 200)
      assert.strictEqual(yield* shown("bearer let me in"), 200)
    })
  )

  it.scopedLive("are apps for any server of the platform", () =>
    Effect.gen(function* () {
      const from = (remoteAddress: string | undefined) =>
        HttpServerRequest.fromWeb(new Request("http://localhost/metrics")).modify(
          remoteAddress === undefined ? {} : { remoteAddress }
        )
      const status = (readers: Health.Readers, remoteAddress?: string) =>
        Effect.gen(function* () {
          const app = yield* Health.metrics(readers)
          return (yield* Effect.provideService(app, HttpServerRequest.HttpServerRequest, from(remoteAddress)))
            .status
        })
      assert.strictEqual(yield* status("local", "192.0.2.1"), 403)
      assert.strictEqual(yield* status("local", "::ffff:127.0.0.1"), 200)
      // Whose address is not known is not of this machine.
      assert.strictEqual(yield* status("local"), 403)
      assert.strictEqual(yield* status("all"), 200)
    }).pipe(Effect.provide(Layer.merge(Metrics.layer(), SecretsLayer.layer)))
  )
})
