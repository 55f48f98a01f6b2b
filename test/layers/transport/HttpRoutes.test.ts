import { request as httpRequest, type IncomingMessage, type Server } from "node:http"
import { connect, type Socket } from "node:net"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Mailbox from "effect/Mailbox"
import * as Redacted from "effect/Redacted"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as TestClock from "effect/TestClock"
import * as Tracer from "effect/Tracer"
import * as HttpRoutes from "../../../src/layers/transport/HttpRoutes.js"
import * as TransportWebSocket from "../../../src/layers/transport/TransportWebSocket.js"
import * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { TransportServer } from "../../../src/services/transport/Transport.js"

const options = Layer.succeed(RuntimeOptions.RuntimeOptions, RuntimeOptions.make())

/** A server with these routes; gives where it is, as http. */
const serving = <E>(
  routes: Layer.Layer<never, E, HttpRoutes.HttpRoutes>,
  config: TransportWebSocket.Options = {}
) =>
  TransportWebSocket.layer({ port: 0, ...config, routes }).pipe(
    Layer.provide(options),
    Layer.build,
    Effect.map((services) => new URL(Context.get(services, TransportServer).address.replace(/^ws/, "http")))
  )

interface Answered {
  readonly status: number | undefined
  readonly headers: IncomingMessage["headers"]
  readonly body: string
}

/** Requests without the additions of `fetch`, which sends no `Host` or `Origin` of one's own. */
const ask = (url: URL, init: { readonly method?: string; readonly headers?: Record<string, string> } = {}) =>
  Effect.async<Answered, Error>((resume) => {
    const request = httpRequest(url, { agent: false, ...init }, (response) => {
      let body = ""
      response.setEncoding("utf8")
      response.on("data", (text: string) => {
        body += text
      })
      response.on("error", (error) => resume(Effect.fail(error)))
      response.on("end", () =>
        resume(Effect.succeed({ status: response.statusCode, headers: response.headers, body }))
      )
    })
    request.on("error", (error) => resume(Effect.fail(error)))
    request.end()
    return Effect.sync(() => request.destroy())
  })

/** A connection to a server, for what no client sends. */
const connected = (url: URL) =>
  Effect.acquireRelease(
    Effect.async<Socket>((resume) => {
      const socket = connect(Number(url.port), url.hostname, () => resume(Effect.succeed(socket)))
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )
const requestTo = (path: string) => `GET ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n`

/** Says which mount has answered, and who was told to have asked. */
const named = (name: string) =>
  Effect.succeed(
    Effect.gen(function* () {
      const { url } = yield* HttpServerRequest.HttpServerRequest
      const { client, evidence } = yield* HttpRoutes.Visitor
      const cookie = evidence.headers?.["cookie"]?.map(Redacted.value).join()
      return HttpServerResponse.text(`${name} ${url} ${client} ${cookie ?? "-"}`)
    })
  )

describe("what is mounted", () => {
  it.scoped("answers its path and what is below; the nearest one does; the rest is as it was", () =>
    Effect.gen(function* () {
      const url = yield* serving(
        Layer.mergeAll(
          HttpRoutes.layer("/v1", named("v1")),
          HttpRoutes.layer("/v1/deep/", named("deep")),
          HttpRoutes.layer("/metrics", named("metrics"))
        )
      )
      const bodies = yield* Effect.forEach(
        ["/v1", "/v1/", "/v1/a?b=c", "/v1/deep", "/v1/deep/er", "/v1/deeper", "/metrics", "/v12", "/arcp"],
        (path) =>
          Effect.map(
            ask(new URL(path, url)),
            ({ body, status }) => `${status} ${body.split(" ").slice(0, 2).join(" ").trim()}`
          )
      )
      expect(bodies).toEqual([
        "200 v1 /v1",
        "200 v1 /v1/",
        "200 v1 /v1/a?b=c",
        "200 deep /v1/deep",
        "200 deep /v1/deep/er",
        "200 v1 /v1/deeper",
        "200 metrics /metrics",
        "404 not found:",
        "426 this is"
      ])
      // What is below another one is found from there.
      const { body } = yield* ask(new URL("/", url))
      expect(body).toBe("not found: the ARCP endpoint is at /arcp; other paths: /metrics, /v1\n")
    })
  )

  it.scoped("is loaded once, with the first request, and not at the start", () =>
    Effect.gen(function* () {
      let loads = 0
      const load = Effect.suspend(() => {
        loads++
        return named("late")
      })
      const url = yield* serving(HttpRoutes.layer("/late", load))
      expect(loads).toBe(0)
      yield* Effect.all([ask(new URL("/late", url)), ask(new URL("/late", url))], { concurrency: 2 })
      expect(loads).toBe(1)
    })
  )

  it.scoped("one that cannot be loaded is an error for whoever asks, and nobody else", () =>
    Effect.gen(function* () {
      const url = yield* serving(
        Layer.merge(
          Layer.merge(
            HttpRoutes.layer("/broken", Effect.fail("no")),
            HttpRoutes.layer("/broken/too", Effect.fail("no"), ({ message, status }) => ({
              contentType: "text/x-mine",
              body: `${status}: ${message}`
            }))
          ),
          HttpRoutes.layer("/whole", named("whole"))
        )
      )
      expect((yield* ask(new URL("/broken", url))).status).toBe(500)
      // As it says that the server is to refuse.
      const too = yield* ask(new URL("/broken/too", url))
      expect([too.status, too.headers["content-type"], too.body]).toEqual([
        500,
        "text/x-mine",
        "500: this part of the server does not work; try again later"
      ])
      expect((yield* ask(new URL("/whole", url))).status).toBe(200)
    })
  )

  it.scoped("one whose load dies is an error for whoever asks, and is tried again a while later", () =>
    Effect.gen(function* () {
      let loads = 0
      const load = Effect.suspend(() =>
        ++loads === 1 ? Effect.die(new Error("upside down")) : named("late")
      )
      const url = new URL("/late", yield* serving(HttpRoutes.layer("/late", load)))
      for (const _ of [1, 2]) {
        const { body, status } = yield* ask(url)
        expect([status, body]).toEqual([500, expect.stringContaining("does not work")])
      }
      expect(loads).toBe(1)
      yield* TestClock.adjust("1 second")
      expect((yield* ask(url)).status).toBe(200)
      expect(loads).toBe(2)
    })
  )

  it.scoped("whoever has gone while it was loaded is not handled", () =>
    Effect.gen(function* () {
      const begun = yield* Deferred.make<void>()
      const goOn = yield* Deferred.make<void>()
      const handled: Array<string> = []
      const app = Effect.map(HttpServerRequest.HttpServerRequest, ({ url }) => {
        handled.push(url)
        return HttpServerResponse.empty()
      })
      const load = Effect.zipRight(Deferred.succeed(begun, undefined), Deferred.await(goOn)).pipe(
        Effect.as(app)
      )
      const url = yield* serving(
        Layer.merge(HttpRoutes.layer("/late", load), HttpRoutes.layer("/other", named("other")))
      )
      const gone = yield* connected(url)
      gone.write(requestTo("/late/gone"))
      yield* Deferred.await(begun)
      const patient = yield* Effect.fork(ask(new URL("/late/patient", url)))
      gone.resetAndDestroy()
      // The server has read of the end of the one before it answers the next.
      for (const _ of [1, 2, 3]) yield* ask(new URL("/other", url))
      yield* Deferred.succeed(goOn, undefined)
      yield* Fiber.join(patient)
      expect(handled).toEqual(["/late/patient"])
    })
  )

  it.scoped("requests that wait behind another on their connection end with it", () =>
    Effect.gen(function* () {
      const begun = yield* Mailbox.make<void>()
      const closed = yield* Mailbox.make<string>()
      const endless = Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
        NodeHttpServerRequest.toServerResponse(request).once("close", () => closed.unsafeOffer(request.url))
        begun.unsafeOffer(undefined)
        return Effect.onInterrupt(Effect.never, () => Effect.sync(() => closed.unsafeOffer("interrupted")))
      })
      const url = yield* serving(HttpRoutes.layer("/endless", Effect.succeed(endless)))
      const socket = yield* connected(url)
      const paths = ["/endless/1", "/endless/2", "/endless/3"]
      socket.write(paths.map(requestTo).join(""))
      yield* begun.takeN(paths.length)
      socket.resetAndDestroy()
      const [ends] = yield* closed.takeN(2 * paths.length)
      expect([...ends].sort()).toEqual([...paths, ...paths.map(() => "interrupted")])
    })
  )

  it.scoped("the system asks whether a peer of which nothing comes is still there", () =>
    Effect.gen(function* () {
      const alive = Effect.map(HttpServerRequest.HttpServerRequest, (request) => {
        const { socket } = NodeHttpServerRequest.toIncomingMessage(request)
        const { keepAlive } = (socket as Socket & { readonly server: { readonly keepAlive: boolean } }).server
        return HttpServerResponse.text(`${keepAlive}`)
      })
      const url = yield* serving(HttpRoutes.layer("/alive", Effect.succeed(alive)))
      expect((yield* ask(new URL("/alive", url))).body).toBe("true")
    })
  )

  it.scoped("what is not sent whole in time is not waited for", () =>
    Effect.gen(function* () {
      // That Node keeps to it is Node's; it looks every five seconds.
      const times = Effect.map(HttpServerRequest.HttpServerRequest, (request) => {
        const { socket } = NodeHttpServerRequest.toIncomingMessage(request)
        const { headersTimeout, keepAliveTimeout, requestTimeout } = (
          socket as Socket & { readonly server: Server }
        ).server
        // Proxies keep an idle connection for a minute: one that is closed under a request is a failed one.
        expect(keepAliveTimeout).toBeGreaterThan(60_000)
        return HttpServerResponse.text(`${headersTimeout} ${requestTimeout}`)
      })
      const url = yield* serving(HttpRoutes.layer("/times", Effect.succeed(times)))
      expect((yield* ask(new URL("/times", url))).body).toBe("10000 10000")
    })
  )

  it.scoped("two at one path are a mistake", () =>
    Effect.gen(function* () {
      const twice = Layer.merge(
        HttpRoutes.layer("/twice", named("one")),
        Layer.fresh(HttpRoutes.layer("/twice/", named("two")))
      )
      const error = yield* Effect.flip(serving(twice))
      expect(error.message).toContain("something is mounted at /twice")
    })
  )

  it.scoped("what is being answered is ended with the server, in order", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const begun = yield* Deferred.make<void>()
      const ended = yield* Deferred.make<void>()
      const endless = Effect.succeed(
        Effect.sync(() =>
          HttpServerResponse.stream(
            Stream.concat(
              Stream.make(new TextEncoder().encode("begun\n")),
              Stream.fromEffect(Effect.zipRight(Deferred.succeed(begun, undefined), Effect.never))
            ).pipe(Stream.ensuring(Deferred.succeed(ended, undefined)))
          )
        )
      )
      const url = yield* serving(HttpRoutes.layer("/endless", endless)).pipe(Scope.extend(scope))
      const answered = yield* Effect.fork(ask(new URL("/endless", url)))
      yield* Deferred.await(begun)
      yield* Scope.close(scope, Exit.void)
      yield* Deferred.await(ended)
      // The end of a body that was cut off in order, and no reset.
      expect((yield* answered).body).toBe("begun\n")
    })
  )
})

describe("who may ask", () => {
  const asked = (url: URL, headers: Record<string, string>, method = "GET") =>
    ask(new URL("/v1", url), { method, headers })

  it.scoped("as of upgrades: Host, Origin, and the size of headers", () =>
    Effect.gen(function* () {
      const url = yield* serving(HttpRoutes.layer("/v1", named("v1")), {
        allowedOrigins: ["https://app.example.com"]
      })
      const statuses = yield* Effect.forEach(
        [
          {},
          { host: "evil.example.com" },
          { origin: "https://evil.example.com" },
          { origin: "null" },
          { origin: `http://${url.host}` },
          { origin: "https://app.example.com" }
        ],
        (headers) => Effect.map(asked(url, headers), ({ status }) => status)
      )
      expect(statuses).toEqual([200, 403, 403, 403, 200, 200])
      const flood = Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`x-${i}`, "y".repeat(200)]))
      expect((yield* asked(url, flood)).status).toBe(431)
    })
  )

  it.scoped("not who says a header twice of which one counts", () =>
    Effect.gen(function* () {
      const url = yield* serving(
        HttpRoutes.layer("/v1", named("v1"), ({ message }) => ({ contentType: "text/x", body: message })),
        { pages: { "/page": { headers: {}, body: "a page" } } }
      )
      const host = "host: 127.0.0.1"
      const upgrade = [host, "connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13"]
      for (const [path, lines, says] of [
        [
          "/v1",
          [host, "Host: evil"],
          /^HTTP\/1\.1 400 .*text\/x.*host: this header is there more than once/s
        ],
        ["/v1", [host, "authorization: a", "Authorization: b"], /^HTTP\/1\.1 400 .*authorization: this/s],
        ["/v1", [host, "idempotency-key: a", "idempotency-key: b"], /^HTTP\/1\.1 400 /],
        ["/page", [host, host], /^HTTP\/1\.1 400 .*text\/plain.*host: this header/s],
        ["/nothing", [host, host], /^HTTP\/1\.1 400 /],
        ["/arcp", [...upgrade, host, "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="], /^HTTP\/1\.1 400 /],
        ["/v1", [host, "accept: a/b", "accept: c/d", "connection: close"], /^HTTP\/1\.1 200 /]
      ] as const) {
        const socket = yield* connected(url)
        const answer = yield* Effect.async<string>((resume) => {
          let text = ""
          socket.on("data", (data) => {
            text += data
          })
          socket.once("close", () => resume(Effect.succeed(text)))
          socket.write([`GET ${path} HTTP/1.1`, ...lines, "x-end: 1", "", ""].join("\r\n"))
        })
        expect(answer, path).toMatch(says)
      }
    })
  )

  it.scoped(
    "is told in a sentence when what a mount writes of refusals cannot be sent; the server goes on",
    () =>
      Effect.gen(function* () {
        const writers: ReadonlyArray<HttpRoutes.RefusalWriter> = [
          () => {
            throw new Error("upside down")
          },
          () => ({ contentType: "text/plain", body: undefined as never }),
          () => ({ contentType: "text/plain\n", body: "odd" }),
          () => Promise.resolve("late") as never
        ]
        const url = yield* serving(
          writers
            .map((write, i) =>
              HttpRoutes.layer(`/${i}`, i % 2 === 0 ? named("v1") : Effect.fail("no"), write)
            )
            .reduce((routes, more) => Layer.merge(routes, more))
        )
        for (const i of writers.keys()) {
          const at = new URL(`/${i}`, url)
          const refused = yield* ask(at, { headers: { origin: "https://evil.example.com" } })
          expect([refused.status, refused.headers["content-type"]]).toEqual([
            403,
            "text/plain; charset=utf-8"
          ])
          expect(refused.body).toMatch(/^this Origin is not allowed/)
          expect((yield* ask(at)).status).toBe(i % 2 === 0 ? 200 : 500)
        }
      })
  )

  it.scoped("pages of allowed origins may read the answer, and are told so before they ask", () =>
    Effect.gen(function* () {
      const url = yield* serving(HttpRoutes.layer("/v1", named("v1")), {
        allowedOrigins: ["https://app.example.com"]
      })
      const origin = "https://app.example.com"
      const { headers } = yield* asked(url, { origin })
      expect(headers["access-control-allow-origin"]).toBe(origin)
      expect(headers["vary"]).toBe("Origin")
      expect(headers["access-control-allow-credentials"]).toBeUndefined()
      for (const name of ["ETag", "Link", "Location", "Retry-After"])
        expect(headers["access-control-expose-headers"]?.split(", ")).toContain(name)
      const preflight = {
        origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, idempotency-key"
      }
      const told = yield* asked(url, preflight, "OPTIONS")
      expect(told.status).toBe(204)
      expect(told.headers["access-control-allow-methods"]).toBe("POST")
      expect(told.headers["access-control-allow-headers"]).toBe("authorization, idempotency-key")
      const other = yield* asked(url, { ...preflight, origin: "https://evil.example.com" }, "OPTIONS")
      expect(other.status).toBe(403)
      expect(other.headers["access-control-allow-origin"]).toBeUndefined()
    })
  )

  it.scoped("many requests of one peer do not all come before that of another", () =>
    Effect.gen(function* () {
      const flood = 400
      let begun = 0
      const busy = Effect.gen(function* () {
        const { headers } = yield* HttpServerRequest.HttpServerRequest
        if (headers["authorization"] === "Bearer mine") return HttpServerResponse.text(`begun: ${begun}`)
        for (const until = performance.now() + 1; performance.now() < until; );
        begun++
        return HttpServerResponse.empty()
      })
      const url = yield* serving(HttpRoutes.layer("/v1", Effect.succeed(busy)))
      const request = (token: string) =>
        `GET /v1 HTTP/1.1\r\nHost: ${url.host}\r\nAuthorization: Bearer ${token}\r\n\r\n`
      // Both connections have been taken, and both writes have reached the server, before it reads either.
      const opened = (token: string) =>
        Effect.gen(function* () {
          const socket = yield* connected(url)
          const answers = yield* Mailbox.make<string>()
          socket.setEncoding("utf8").on("data", (text: string) => answers.unsafeOffer(text))
          socket.write(request(token))
          yield* answers.take
          return { socket, answers }
        })
      const flooding = yield* opened("flood")
      const mine = yield* opened("mine")
      flooding.socket.write(request("flood").repeat(flood))
      mine.socket.write(request("mine"))
      const body = yield* mine.answers.take
      // All of them, where each is begun when it is read.
      expect(Number(/begun: (\d+)/.exec(body)?.[1])).toBeLessThan(flood)
    })
  )

  it.scoped("makes no spans of requests, but for what an app makes", () =>
    Effect.gen(function* () {
      const spans: Array<string> = []
      const native = yield* Effect.tracer
      const tracer = Tracer.make({
        ...native,
        span: (name, ...rest) => {
          spans.push(name)
          return native.span(name, ...rest)
        }
      })
      const app = Effect.succeed(HttpServerResponse.text("here"))
      const url = yield* Effect.withTracer(
        serving(
          Layer.merge(
            HttpRoutes.layer("/plain", Effect.succeed(app)),
            HttpRoutes.layer("/traced", Effect.succeed(Effect.withSpan(app, "mine")))
          )
        ),
        tracer
      )
      expect((yield* ask(new URL("/plain", url))).status).toBe(200)
      expect(spans).toEqual([])
      expect((yield* ask(new URL("/traced", url))).status).toBe(200)
      expect(spans).toEqual(["mine"])
    })
  )

  it.scoped("cookies count only when the page that asks is known", () =>
    Effect.gen(function* () {
      const url = yield* serving(HttpRoutes.layer("/v1", named("v1")), { allowedOrigins: ["*"] })
      const cookie = "sid=1"
      const shown = yield* Effect.forEach(
        [
          { cookie },
          { cookie, origin: `http://${url.host}` },
          { cookie, origin: "https://anybody.example.com" },
          { cookie, "sec-fetch-site": "cross-site" },
          { cookie, "sec-fetch-site": "same-origin" }
        ],
        (headers) => Effect.map(asked(url, headers), ({ body }) => body.split(" ").at(-1))
      )
      expect(shown).toEqual(["sid=1", "sid=1", "-", "-", "sid=1"])
    })
  )
})
