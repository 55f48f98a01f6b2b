/** Endpoints in HTTP servers that are somebody else's: each kind of server, several paths, refusals and the end. */
import { createServer, type Server } from "node:http"
import { createServer as createHttpsServer } from "node:https"
import { type AddressInfo, connect as tcpConnect } from "node:net"
import * as HttpApi from "@effect/platform/HttpApi"
import * as HttpApiBuilder from "@effect/platform/HttpApiBuilder"
import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpLayerRouter from "@effect/platform/HttpLayerRouter"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServer from "@effect/platform/HttpServer"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import { WebSocketServer } from "ws"
import * as Registry from "../../../src/layers/agents/Registry.js"
import * as Auth from "../../../src/layers/auth/Auth.js"
import * as ArcpClient from "../../../src/layers/client/ArcpClient.js"
import * as Runtime from "../../../src/layers/runtime/Runtime.js"
import * as RuntimeOptions from "../../../src/layers/runtime/RuntimeOptions.js"
import * as DialerWebSocket from "../../../src/layers/transport/DialerWebSocket.js"
import * as TransportWebSocket from "../../../src/layers/transport/TransportWebSocket.js"
import * as Agent from "../../../src/services/agents/Agent.js"
import { TransportServer } from "../../../src/services/transport/Transport.js"
import { open } from "../../support/Wire.js"
import { selfSigned } from "./certificate.js"

/** Says which runtime it runs in. */
const whoami = (name: string) =>
  Agent.handle(Agent.make("whoami", { version: "1.0.0", input: Schema.Unknown, output: Schema.String }), () =>
    Effect.succeed(name)
  )
const forever = Agent.handle(Agent.make("forever", { version: "1.0.0" }), () => Effect.never)

const options = RuntimeOptions.layer({ shutdownGrace: "0 millis" })

/** A runtime of its own that knows one token: its own name. The transport and what it needs come from outside. */
const runtime = (name: string) =>
  Runtime.serve().pipe(
    Layer.provide(Runtime.layerMemory({ options: { shutdownGrace: "0 millis" } })),
    Layer.provide(Registry.layer([whoami(name), forever])),
    Layer.provide(Auth.layerStatic({ [name]: name }))
  )

/** Runs a job as a client of the runtime `name`, and says in which one it ran. */
const ask = (url: string, token: string, more: Partial<DialerWebSocket.Options> = {}) =>
  Effect.gen(function* () {
    const client = yield* ArcpClient.make({ token: Redacted.make(token) })
    const job = yield* client.submit("whoami", null)
    return yield* job.result
  }).pipe(Effect.scoped, Effect.provide(DialerWebSocket.layer({ url, ...more })))

const listening = <S extends Server>(server: S) =>
  Effect.acquireRelease(
    Effect.async<S>((resume) => {
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    () => Effect.sync(() => server.close())
  )
const portOf = (server: Server) => (server.address() as AddressInfo).port

/** The status line and what follows it, of a request sent as it is, once the server has closed or upgraded. */
const raw = (port: number, path: string, headers: Record<string, string> = {}) =>
  Effect.async<string>((resume) => {
    const socket = tcpConnect(port, "127.0.0.1")
    let answer = ""
    socket.setEncoding("utf8")
    socket.on("error", () => {})
    socket.on("data", (data) => {
      answer += data
      if (answer.includes(" 101 ")) socket.destroy()
    })
    socket.on("close", () => resume(Effect.succeed(answer)))
    const lines = Object.entries({ Host: `127.0.0.1:${port}`, ...headers })
    socket.write(
      `GET ${path} HTTP/1.1\r\n${lines.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`
    )
    return Effect.sync(() => socket.destroy())
  })
const upgrade = {
  Connection: "Upgrade",
  Upgrade: "websocket",
  "Sec-WebSocket-Version": "13",
  "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="
}

const text = (url: string) =>
  Effect.promise(async () => {
    const answer = await fetch(url)
    return `${answer.status} ${await answer.text()}`
  })

/** Two runtimes at two paths: each knows its own token only. */
const bothAnswer = (at: string) =>
  Effect.gen(function* () {
    expect(yield* ask(`${at}/public`, "public")).toBe("public")
    expect(yield* ask(`${at}/internal`, "internal")).toBe("internal")
    expect((yield* Effect.flip(ask(`${at}/public`, "internal"))).code).toBe("UNAUTHENTICATED")
    expect((yield* Effect.flip(ask(`${at}/internal`, "public"))).code).toBe("UNAUTHENTICATED")
  })

describe("on a router of the platform", () => {
  const node = NodeHttpServer.layer(() => TransportWebSocket.protect(createServer()), {
    port: 0,
    host: "127.0.0.1"
  })
  const port = Effect.map(HttpServer.HttpServer, ({ address }) =>
    address._tag === "TcpAddress" ? address.port : 0
  )

  it.scopedLive("HttpApiBuilder.Router: next to an API, several paths", () => {
    const Api = HttpApi.make("app").add(
      HttpApiGroup.make("health").add(HttpApiEndpoint.get("ok", "/health").addSuccess(Schema.String))
    )
    const health = HttpApiBuilder.group(Api, "health", (handlers) =>
      handlers.handle("ok", () => Effect.succeed("healthy"))
    )
    const at = (name: "public" | "internal") =>
      runtime(name).pipe(
        Layer.provide(TransportWebSocket.mount({ path: `/${name}`, server: HttpApiBuilder.Router }))
      )
    const application = HttpApiBuilder.serve().pipe(
      Layer.provide(HttpApiBuilder.api(Api).pipe(Layer.provide(health))),
      Layer.provide([at("public"), at("internal")]),
      Layer.provide(options),
      Layer.provideMerge(node)
    )
    return Effect.gen(function* () {
      const at = yield* port
      yield* bothAnswer(`ws://127.0.0.1:${at}`)
      expect(yield* text(`http://127.0.0.1:${at}/health`)).toBe('200 "healthy"')
      expect(yield* text(`http://127.0.0.1:${at}/public`)).toContain("426 ")
      expect(yield* raw(at, "/elsewhere", upgrade)).toMatch(/^HTTP\/1.1 404 /)
    }).pipe(Effect.provide(application))
  })

  it.scopedLive("HttpLayerRouter: next to other routes, several paths", () => {
    const at = (name: "public" | "internal") =>
      runtime(name).pipe(
        Layer.provide(TransportWebSocket.mount({ path: `/${name}`, server: HttpLayerRouter.HttpRouter }))
      )
    const routes = Layer.mergeAll(
      at("public"),
      at("internal"),
      HttpLayerRouter.add("GET", "/health", HttpServerResponse.text("healthy"))
    )
    const application = HttpLayerRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
      Layer.provide(options),
      Layer.provideMerge(node)
    )
    return Effect.gen(function* () {
      const at = yield* port
      yield* bothAnswer(`ws://127.0.0.1:${at}`)
      expect(yield* text(`http://127.0.0.1:${at}/health`)).toBe("200 healthy")
      expect(yield* text(`http://127.0.0.1:${at}/public`)).toContain("426 ")
      expect(yield* raw(at, "/elsewhere", upgrade)).toMatch(/^HTTP\/1.1 404 /)
    }).pipe(Effect.provide(application))
  })

  it.scopedLive("an HttpRouter that is a value takes the route of an acceptor", () =>
    Effect.gen(function* () {
      const acceptor = yield* TransportWebSocket.acceptor({}, () => "127.0.0.1")
      const application = HttpRouter.empty.pipe(
        HttpRouter.get("/public", TransportWebSocket.route(acceptor)),
        HttpServer.serve(),
        Layer.provideMerge(node)
      )
      yield* Effect.gen(function* () {
        yield* Layer.build(
          runtime("public").pipe(
            Layer.provide(Layer.succeed(TransportServer, { address: "", connections: acceptor.connections }))
          )
        )
        expect(yield* ask(`ws://127.0.0.1:${yield* port}/public`, "public")).toBe("public")
      }).pipe(Effect.provide(application))
    }).pipe(Effect.provide(options))
  )
})

describe("on a server of Node", () => {
  const mountedAt = (
    server: Server,
    name: "public" | "internal",
    policy: TransportWebSocket.UpgradePolicy = {}
  ) =>
    Layer.build(
      runtime(name).pipe(
        Layer.provideMerge(TransportWebSocket.mount({ ...policy, path: `/${name}`, server })),
        Layer.provide(options)
      )
    ).pipe(Effect.map(Context.get(TransportServer)))

  it.scopedLive("of its own: several paths, and everything else answered", () =>
    Effect.gen(function* () {
      const server = createServer()
      const internal = yield* mountedAt(server, "internal")
      yield* listening(server)
      yield* mountedAt(server, "public")
      const port = portOf(server)
      expect(internal.address).toBe(`ws://127.0.0.1:${port}/internal`)
      yield* bothAnswer(`ws://127.0.0.1:${port}`)
      expect(yield* raw(port, "/elsewhere", upgrade)).toMatch(/^HTTP\/1.1 404 .*\/internal, \/public/s)
      expect(yield* raw(port, "/elsewhere")).toMatch(/^HTTP\/1.1 404 /)
      expect(yield* raw(port, "/public?x=1")).toMatch(/^HTTP\/1.1 426 .*upgrade: websocket/is)
      expect(yield* raw(port, "/public", { ...upgrade, Origin: "https://evil.example.com" })).toMatch(
        /^HTTP\/1.1 403 .*allowedOrigins/s
      )
      expect(yield* raw(port, "/public", { ...upgrade, "Sec-WebSocket-Key": "short" })).toMatch(
        /^HTTP\/1.1 400 /
      )
      expect(yield* raw(port, "/public", { ...upgrade, Cookie: "x".repeat(15_000) })).toContain(" 101 ")
    })
  )

  it.scopedLive("with a listener, as Express has one: its requests and upgrades are left alone", () =>
    Effect.gen(function* () {
      // A function of request and response, which is what `express()` is.
      const app = createServer((request, response) => {
        response.writeHead(request.url === "/health" ? 200 : 404).end("from the application")
      })
      yield* listening(app)
      yield* mountedAt(app, "public")
      yield* mountedAt(app, "internal")
      const port = portOf(app)
      expect(yield* raw(port, "/elsewhere", upgrade)).toMatch(/^HTTP\/1.1 404 .*ARCP endpoint/s)
      // Its own endpoint: it answers what is its own, and nothing else.
      const own = new WebSocketServer({ noServer: true })
      const handler = (...[request, socket, head]: Parameters<typeof own.handleUpgrade>) => {
        if (request.url === "/own") own.handleUpgrade(request, socket, head, (ws) => ws.close(4242))
        if (request.url === "/teapot")
          TransportWebSocket.refuse(socket, { status: 418, message: "no coffee" })
      }
      app.on("upgrade", handler as (...args: Array<unknown>) => void)
      yield* bothAnswer(`ws://127.0.0.1:${port}`)
      expect(yield* raw(port, "/own", upgrade)).toContain(" 101 ")
      expect(yield* raw(port, "/teapot", upgrade)).toMatch(/^HTTP\/1.1 418 .*no coffee/s)
      expect(yield* text(`http://127.0.0.1:${port}/health`)).toBe("200 from the application")
      expect(yield* text(`http://127.0.0.1:${port}/public`)).toBe("404 from the application")
    })
  )

  it.scopedLive("over TLS", () =>
    Effect.gen(function* () {
      const certificate = selfSigned()
      const server = createHttpsServer(certificate)
      yield* listening(server)
      const { address } = yield* mountedAt(server, "public")
      expect(address).toMatch(/^wss:/)
      const url = address.replace("127.0.0.1", "localhost")
      expect(yield* ask(url, "public", { ca: certificate.cert })).toBe("public")
    })
  )

  it.scopedLive("a path that is taken is said so, and the first endpoint goes on", () =>
    Effect.gen(function* () {
      const server = yield* listening(createServer())
      yield* mountedAt(server, "public")
      const error = yield* Effect.flip(mountedAt(server, "public"))
      expect(error).toMatchObject({ _tag: "TransportError" })
      expect(String(error)).toContain("/public")
      expect(yield* ask(`ws://127.0.0.1:${portOf(server)}/public`, "public")).toBe("public")
    })
  )

  it.scopedLive("ends jobs, then sessions, then connections; then the path is the application's again", () =>
    Effect.gen(function* () {
      const server = yield* listening(
        createServer((_, response) => response.writeHead(404).end("application"))
      )
      yield* mountedAt(server, "internal")
      const scope = yield* Scope.make()
      const { address } = yield* Scope.extend(mountedAt(server, "public"), scope)
      const port = portOf(server)
      yield* Effect.gen(function* () {
        const session = yield* open({ auth: { scheme: "bearer", token: "public" } })
        yield* session.request("job.submit", { agent: "forever", input: null })
        yield* session.expect("job.event")
        yield* Effect.fork(Scope.close(scope, Exit.void))
        expect((yield* session.expect("job.error")).payload.details.reason).toBe("runtime_restart")
        yield* session.expect("session.bye")
        expect((yield* session.closed).code).toBe(1001)
      }).pipe(Effect.scoped, Effect.provide(DialerWebSocket.layer({ url: address })))
      yield* Scope.close(scope, Exit.void)
      expect(yield* raw(port, "/public", upgrade)).toMatch(/^HTTP\/1.1 404 .*at \/internal\n/s)
      expect(yield* ask(`ws://127.0.0.1:${port}/internal`, "internal")).toBe("internal")
      const again = yield* mountedAt(server, "public")
      expect(yield* ask(again.address, "public")).toBe("public")
    })
  )
})
