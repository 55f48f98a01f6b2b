import { createServer } from "node:http"
import {
  type AddressInfo,
  createServer as createTcpServer,
  type Socket,
  connect as tcpConnect
} from "node:net"
import { createServer as createTlsServer, connect as tlsConnect } from "node:tls"
import * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { WebSocket } from "ws"
import * as DialerWebSocket from "../../../src/layers/transport/DialerWebSocket.js"
import * as DialerWebSocketGlobal from "../../../src/layers/transport/DialerWebSocketGlobal.js"
import * as TransportWebSocket from "../../../src/layers/transport/TransportWebSocket.js"
import * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { eventLoop } from "../../../src/services/runtime/Turn.js"
import {
  type Connection,
  closeCode,
  type TransportError,
  TransportServer,
  Unreadable
} from "../../../src/services/transport/Transport.js"
import { selfSigned } from "./certificate.js"
import { receive, receiveToEnd, suite } from "./Transport.suite.js"

const options = Layer.succeed(RuntimeOptions.RuntimeOptions, RuntimeOptions.make())

const listening = (config: TransportWebSocket.Options = {}) =>
  TransportWebSocket.layer({ port: 0, ...config }).pipe(
    Layer.provide(options),
    Layer.build,
    Effect.map((services) => Context.get(services, TransportServer))
  )

const accepted = (server: { readonly connections: Stream.Stream<Connection> }) =>
  Effect.flatten(Stream.runHead(server.connections))

const pairBy = (
  dial: (config: { readonly url: string }) => Effect.Effect<Connection, TransportError, Scope.Scope>
) =>
  Effect.gen(function* () {
    const server = yield* listening()
    const client = yield* dial({ url: server.address })
    return [client, yield* accepted(server)] as const
  })

suite("WebSocket", pairBy(DialerWebSocket.connect), { carriesCodes: true, clientPauses: true })

const PageWebSocket = WebSocket as unknown as new (url: string) => globalThis.WebSocket
suite(
  "the browsers' WebSocket",
  pairBy((config) => DialerWebSocketGlobal.connect({ ...config, WebSocket: PageWebSocket })),
  { carriesCodes: false, clientPauses: false }
)

/** A `ws` client that is no part of ours, open. */
const rawClient = (address: string) =>
  Effect.acquireRelease(
    Effect.async<WebSocket>((resume) => {
      const ws = new WebSocket(address)
      ws.on("error", () => {})
      ws.once("open", () => resume(Effect.succeed(ws)))
    }),
    (ws) => Effect.sync(() => ws.terminate())
  )

const rawClosed = (ws: WebSocket) =>
  Effect.async<number>((resume) => {
    ws.once("close", (code) => resume(Effect.succeed(code)))
  })

const portOf = (address: string) => Number(new URL(address).port)

const tcp = (port: number) =>
  Effect.acquireRelease(
    Effect.async<Socket>((resume) => {
      const socket = tcpConnect(port, "127.0.0.1", () => resume(Effect.succeed(socket)))
      socket.on("error", () => {})
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )

const upgradeText = (path: string, headers: Record<string, string>) =>
  [
    `GET ${path} HTTP/1.1`,
    ...Object.entries({
      Connection: "Upgrade",
      Upgrade: "websocket",
      "Sec-WebSocket-Version": "13",
      "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
      ...headers
    }).map(([name, value]) => `${name}: ${value}`),
    "",
    ""
  ].join("\r\n")

/** Sends a request as it is and gives what has come at the end, or at the end of a 101's head. */
const request = (port: number, text: string) =>
  Effect.scoped(
    Effect.flatMap(tcp(port), (socket) =>
      Effect.async<string>((resume) => {
        let answer = ""
        socket.setEncoding("utf8")
        socket.on("data", (data) => {
          answer += data
          if (answer.startsWith("HTTP/1.1 101") && answer.includes("\r\n\r\n")) resume(Effect.succeed(answer))
        })
        socket.on("close", () => resume(Effect.succeed(answer)))
        socket.write(text)
      })
    )
  )

const upgrade = (address: string, headers: Record<string, string> = {}, path = "/arcp") =>
  request(portOf(address), upgradeText(path, { Host: new URL(address).host, ...headers }))

/** Resets TCP connections right behind an upgrade request: an uncaught error would fail the test run. */
const resetDuringUpgrade = (address: string, path: string) =>
  Effect.forEach(
    Array.from({ length: 30 }),
    () =>
      Effect.scoped(
        Effect.flatMap(tcp(portOf(address)), (socket) =>
          Effect.async<void>((resume) => {
            socket.once("close", () => resume(Effect.void))
            socket.write(upgradeText(path, { Host: new URL(address).host }), () => socket.resetAndDestroy())
          })
        )
      ),
    { discard: true }
  )

describe("who may connect", () => {
  it.scoped("Origin: none, the server's own and listed ones only", () =>
    Effect.gen(function* () {
      const { address } = yield* listening({ allowedOrigins: ["https://app.example.com"] })
      const { host, port } = new URL(address)
      const verdicts = yield* Effect.forEach(
        [
          {},
          { Origin: `http://${host}` },
          { Origin: "https://app.example.com" },
          { Origin: "https://evil.example.com" },
          { Origin: `http://evil.example.com:${port}` },
          { Origin: `http://${host}.evil.example.com` },
          { Origin: "http://127.0.0.1:1" },
          { Origin: "null" },
          { Origin: "" }
        ],
        (headers) => Effect.map(upgrade(address, headers), (answer) => answer.slice(9, 12))
      )
      expect(verdicts).toEqual(["101", "101", "101", "403", "403", "403", "403", "403", "403"])
      expect(yield* upgrade(address, { Origin: "https://evil.example.com" })).toContain("allowedOrigins")
    })
  )

  it.scoped("any Origin when the list says so", () =>
    Effect.gen(function* () {
      const { address } = yield* listening({ allowedOrigins: ["*"] })
      expect(yield* upgrade(address, { Origin: "https://anywhere.example.com" })).toContain(" 101 ")
    })
  )

  it.scoped("Host on a loopback bind: this machine's names and listed ones only", () =>
    Effect.gen(function* () {
      const { address } = yield* listening({ allowedHosts: ["arcp.example.com"] })
      const { port } = new URL(address)
      const verdicts = yield* Effect.forEach(
        [
          "localhost",
          `localhost:${port}`,
          `[::1]:${port}`,
          "127.0.0.1",
          "ARCP.example.com:443",
          "rebound.example.com",
          `rebound.example.com:${port}`,
          "localhost.example.com",
          "localhost@rebound.example.com",
          ""
        ],
        (Host) => Effect.map(upgrade(address, { Host }), (answer) => answer.slice(9, 12))
      )
      expect(verdicts).toEqual(["101", "101", "101", "101", "101", "403", "403", "403", "403", "403"])
      expect(yield* upgrade(address, { Host: "rebound.example.com" })).toContain("allowedHosts")
    })
  )

  it.scoped("a rebound page is not same-origin's business", () =>
    Effect.gen(function* () {
      const { address } = yield* listening()
      const host = `rebound.example.com:${portOf(address)}`
      expect(yield* upgrade(address, { Host: host, Origin: `http://${host}` })).toContain(" 403 ")
    })
  )

  it.scoped("other paths are 404, requests that do not upgrade 426, broken upgrades 400", () =>
    Effect.gen(function* () {
      const { address } = yield* listening()
      const Host = new URL(address).host
      const port = portOf(address)
      expect(yield* upgrade(address, {}, "/other")).toMatch(/^HTTP\/1.1 404 .*\/arcp/s)
      expect(yield* upgrade(address, {}, "/arcp?x=1")).toContain(" 101 ")
      expect(yield* request(port, `GET /arcp HTTP/1.1\r\nHost: ${Host}\r\n\r\n`)).toMatch(/^HTTP\/1.1 426 /)
      expect(yield* request(port, `GET / HTTP/1.1\r\nHost: ${Host}\r\n\r\n`)).toMatch(/^HTTP\/1.1 404 /)
      expect(yield* upgrade(address, { "Sec-WebSocket-Key": "short" })).toMatch(/^HTTP\/1.1 400 /)
    })
  )

  it.scoped("plaintext beyond loopback has to be asked for", () =>
    Effect.gen(function* () {
      const refused = yield* Effect.flip(listening({ host: "0.0.0.0" }))
      expect(refused._tag).toBe("TransportError")
      expect(refused.message).toMatch(/0\.0\.0\.0.*tls.*allowInsecure/s)
      const { address } = yield* listening({ host: "0.0.0.0", allowInsecure: true })
      expect(yield* upgrade(address, { Host: "any.example.com" })).toContain(" 101 ")
      const dialled = yield* Effect.flip(DialerWebSocket.connect({ url: "ws://198.51.100.7/arcp" }))
      expect(dialled.message).toMatch(/wss:.*allowInsecure/)
    })
  )

  it.scoped("TLS", () =>
    Effect.gen(function* () {
      const certificate = selfSigned()
      const server = yield* listening({ host: "localhost", tls: certificate })
      expect(server.address).toMatch(/^wss:\/\/localhost:\d+\/arcp$/)
      const client = yield* DialerWebSocket.connect({ url: server.address, ca: certificate.cert })
      const connection = yield* accepted(server)
      yield* client.send(["over TLS"])
      expect(yield* receive(connection, 1)).toEqual(["over TLS"])
      const distrusted = yield* Effect.flip(DialerWebSocket.connect({ url: server.address }))
      expect(distrusted.message).toContain("certificate")
      const unusable = yield* Effect.flip(listening({ tls: { key: "k", cert: "c" } }))
      expect(unusable.message).toContain("PEM")
    })
  )

  for (const scheme of ["ws", "wss"] as const)
    it.scoped(
      `tells over ${scheme} that a peer takes a single large frame, long before it has all of it`,
      () =>
        Effect.gen(function* () {
          const certificate = selfSigned()
          const server = yield* listening(scheme === "wss" ? { host: "localhost", tls: certificate } : {})
          const port = portOf(server.address)
          const peer = yield* Effect.acquireRelease(
            Effect.sync(() =>
              scheme === "ws"
                ? tcpConnect(port, "127.0.0.1")
                : tlsConnect({ port, host: "localhost", ca: certificate.cert })
            ),
            (socket) => Effect.sync(() => socket.destroy())
          )
          // Some of it, and then no more until the next time.
          peer.on("error", () => {}).on("data", () => void peer.pause())
          peer.write(upgradeText("/arcp", { Host: `localhost:${port}` }))
          const connection = yield* accepted(server)
          // Many times what the system holds for both.
          const sending = yield* Effect.fork(connection.send(["x".repeat(64 * 1024 * 1024)]))
          const seen = new Set<string>()
          for (; seen.size < 8; yield* eventLoop.next) {
            peer.resume()
            seen.add(connection.progress())
            expect(sending.unsafePoll()).toBe(null)
          }
          peer.destroy()
          yield* Fiber.join(sending)
        })
    )

  it.scoped("more connections than may say hello at once wait before the upgrade, and not for ever", () =>
    Effect.gen(function* () {
      const few = Layer.succeed(
        RuntimeOptions.RuntimeOptions,
        RuntimeOptions.make({ maxPendingHellos: 2, helloTimeout: "400 millis" })
      )
      const services = yield* Layer.build(TransportWebSocket.layer({ port: 0 }).pipe(Layer.provide(few)))
      const server = Context.get(services, TransportServer)
      const kept = [yield* rawClient(server.address), yield* rawClient(server.address)]
      const third = yield* Effect.flip(DialerWebSocket.connect({ url: server.address }))
      expect(third.message).toContain("503")
      expect(third.retryAfter).toBe(1_000)
      expect(kept.map((ws) => ws.readyState)).toEqual([WebSocket.OPEN, WebSocket.OPEN])
      // One that has said hello makes room, and so does one that is gone.
      yield* (yield* accepted(server)).greeted ?? Effect.die("greeted is not asked for")
      yield* rawClient(server.address)
      kept[1]?.terminate()
      yield* rawClient(server.address)
    })
  )
})

describe("what arrives", () => {
  it.scoped("a binary frame is unreadable, and the connection goes on", () =>
    Effect.gen(function* () {
      const server = yield* listening()
      const ws = yield* rawClient(server.address)
      const connection = yield* accepted(server)
      ws.send(Buffer.from("{}"))
      ws.send("{}")
      const frames = yield* receive(connection, 2)
      expect(frames[0]).toBeInstanceOf(Unreadable)
      expect(frames[1]).toBe("{}")
    })
  )

  it.scoped.each([
    { what: "just over the hello limit", bytes: 64 * 1024 + 1 },
    { what: "far over the hello limit", bytes: 1024 * 1024 },
    { what: "over every limit", bytes: 3 * 1024 * 1024 }
  ])("a first frame $what closes with 1009, at once", ({ bytes }) =>
    Effect.gen(function* () {
      const server = yield* listening()
      const ws = yield* rawClient(server.address)
      const connection = yield* accepted(server)
      const started = performance.now()
      ws.send("x".repeat(bytes))
      expect(yield* rawClosed(ws)).toBe(closeCode.tooBig)
      expect((yield* receiveToEnd(connection)).closed.code).toBe(closeCode.tooBig)
      expect(performance.now() - started).toBeLessThan(1_500)
    })
  )

  it.scoped("a fragmented first message is cut off before all of it was held", () =>
    Effect.gen(function* () {
      const server = yield* listening()
      const ws = yield* rawClient(server.address)
      const connection = yield* accepted(server)
      const closed = yield* Effect.fork(rawClosed(ws))
      for (let i = 0; i < 40; i++) ws.send("x".repeat(10_000), { fin: false })
      expect((yield* receiveToEnd(connection)).closed.code).toBe(closeCode.tooBig)
      expect(yield* closed).toBe(closeCode.tooBig)
    })
  )

  it.scoped("many frames below the hello limit are fine, however many bytes together", () =>
    Effect.gen(function* () {
      const server = yield* listening()
      const client = yield* DialerWebSocket.connect({ url: server.address })
      const connection = yield* accepted(server)
      const frames = Array.from({ length: 40 }, (_, i) => String(i).padEnd(60_000))
      yield* Effect.fork(client.send(frames))
      expect(yield* receive(connection, 40)).toEqual(frames)
    })
  )

  it.scoped("text that is not UTF-8 closes with 1007, a broken frame with 1002", () =>
    Effect.gen(function* () {
      const server = yield* listening()
      for (const [bytes, code] of [
        [[0x81, 0x81, 0, 0, 0, 0, 0xff], 1007],
        [[0xf1, 0x80, 0, 0, 0, 0], 1002]
      ] as const) {
        const socket = yield* tcp(portOf(server.address))
        socket.write(upgradeText("/arcp", { Host: new URL(server.address).host }))
        const connection = yield* accepted(server)
        socket.write(Buffer.from(bytes))
        expect((yield* receiveToEnd(connection)).closed.code).toBe(code)
      }
    })
  )

  it.scoped("pings are answered", () =>
    Effect.gen(function* () {
      const server = yield* listening()
      const ws = yield* rawClient(server.address)
      yield* accepted(server)
      ws.ping("are you there")
      const answer = yield* Effect.async<string>((resume) => {
        ws.once("pong", (data) => resume(Effect.succeed(data.toString())))
      })
      expect(answer).toBe("are you there")
    })
  )

  it.scoped("a peer that is gone without a close is 1006", () =>
    Effect.gen(function* () {
      const server = yield* listening()
      const ws = yield* rawClient(server.address)
      const connection = yield* accepted(server)
      ws.send("last words")
      expect(yield* receive(connection, 1)).toEqual(["last words"])
      ws.terminate()
      expect((yield* receiveToEnd(connection)).closed.code).toBe(closeCode.abnormal)
      yield* connection.send(["into the void"])
      yield* connection.close(closeCode.normal, "")
    })
  )

  it.scoped("a close reason is cut to what a close frame holds", () =>
    Effect.gen(function* () {
      const server = yield* listening()
      const client = yield* DialerWebSocket.connect({ url: server.address })
      const connection = yield* accepted(server)
      yield* Effect.fork(connection.close(closeCode.policy, "é".repeat(200)))
      const { closed } = yield* receiveToEnd(client)
      expect(closed.code).toBe(1008)
      expect(closed.reason).toMatch(/^é{60}/)
    })
  )

  it.scoped("a peer that answers no close is dropped after the grace", () =>
    Effect.gen(function* () {
      const server = yield* listening()
      const socket = yield* tcp(portOf(server.address))
      socket.write(upgradeText("/arcp", { Host: new URL(server.address).host }))
      const connection = yield* accepted(server)
      yield* connection.close(closeCode.normal, "")
      yield* Effect.async<void>((resume) => {
        if (socket.closed) return resume(Effect.void)
        socket.resume().once("close", () => resume(Effect.void))
      })
    })
  )
})

describe("the server", () => {
  it.scoped("survives resets during the upgrade", () =>
    Effect.gen(function* () {
      const server = yield* listening()
      yield* resetDuringUpgrade(server.address, "/arcp")
      yield* resetDuringUpgrade(server.address, "/other")
      expect(yield* upgrade(server.address)).toContain(" 101 ")
    })
  )

  it.scoped("names the port that is in use and what to do", () =>
    Effect.gen(function* () {
      const { address } = yield* listening()
      const error = yield* Effect.flip(listening({ port: portOf(address) }))
      expect(error._tag).toBe("TransportError")
      expect(error.message).toMatch(
        new RegExp(`port ${portOf(address)} on 127.0.0.1 is in use: .*another port`)
      )
      expect(
        (yield* Effect.flip(listening({ host: "198.51.100.7", allowInsecure: true }))).message
      ).toContain("not an address of this machine")
    })
  )

  it.scoped("closes its connections with 1001 and its port with its scope", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const server = yield* Scope.extend(listening(), scope)
      const client = yield* DialerWebSocket.connect({ url: server.address })
      const waiting = yield* DialerWebSocket.connect({ url: server.address })
      const connection = yield* accepted(server)
      yield* Scope.close(scope, Exit.void)
      for (const end of [client, waiting, connection])
        expect((yield* receiveToEnd(end)).closed.code).toBe(closeCode.goingAway)
      expect((yield* Effect.flip(DialerWebSocket.connect({ url: server.address }))).message).toMatch(
        /nothing listens.*start the runtime/
      )
    })
  )
})

describe("the dialers", () => {
  it.scoped("say why a connection could not be made", () =>
    Effect.gen(function* () {
      const { address } = yield* listening()
      const elsewhere = address.replace("/arcp", "/elsewhere?token=secret")
      const failures = [
        [DialerWebSocket.connect({ url: elsewhere }), /elsewhere answered 404 not found: .*\/arcp/],
        [DialerWebSocket.connect({ url: address, headers: { Origin: "http://x.example" } }), /403 .*Origin/],
        [DialerWebSocket.connect({ url: "http://127.0.0.1/" }), /no WebSocket URL/],
        [DialerWebSocket.connect({ url: "nonsense" }), /no WebSocket URL/],
        [
          DialerWebSocketGlobal.connect({ url: elsewhere, WebSocket: PageWebSocket }),
          /cannot connect to .*elsewhere/
        ]
      ] as const
      for (const [connect, message] of failures) {
        const error = yield* Effect.flip(connect)
        expect(error._tag).toBe("TransportError")
        expect(error.message).toMatch(message)
        expect(error.message).not.toContain("secret")
      }
    })
  )

  /** A server that answers whatever comes with what it likes. */
  const peer = (does: (socket: Socket) => void, tls?: ReturnType<typeof selfSigned>) =>
    Effect.acquireRelease(
      Effect.async<{ readonly port: number; readonly close: () => void }>((resume) => {
        const sockets = new Set<Socket>()
        const met = (socket: Socket) => {
          sockets.add(socket)
          socket.on("error", () => {}).once("data", () => does(socket))
        }
        const server = tls === undefined ? createTcpServer(met) : createTlsServer(tls, met)
        server.listen(0, "127.0.0.1", () => {
          const bound = server.address()
          const close = () => {
            server.close()
            for (const socket of sockets) socket.destroy()
          }
          resume(Effect.succeed({ port: typeof bound === "object" ? (bound?.port ?? 0) : 0, close }))
        })
      }),
      ({ close }) => Effect.sync(close)
    )

  it.scopedLive(
    "say what is there that is no runtime, and what to do, whatever it answers without an end",
    () =>
      Effect.gen(function* () {
        const head = (text: string) => `HTTP/1.1 ${text}\r\n\r\n`
        const peers = {
          ssh: yield* peer((socket) => socket.write("SSH-2.0-OpenSSH_9.2\r\n")),
          endless: yield* peer((socket) => {
            socket.write(head("200 OK\r\nContent-Type: text/html"))
            const more = () => {
              while (!socket.destroyed && socket.write("<p>more</p>".repeat(1_000)));
            }
            socket.on("drain", more)
            more()
          }),
          slow: yield* peer((socket) => socket.write(`${head("500 No\r\nContent-Length: 100")}partly`)),
          redirects: yield* peer((socket) =>
            socket.end(head("308 Moved\r\nContent-Length: 0\r\nLocation: https://elsewhere.example/arcp"))
          ),
          secret: yield* peer(() => {}, selfSigned())
        }
        const at = (name: keyof typeof peers, scheme = "ws") =>
          `${scheme}://127.0.0.1:${peers[name].port}/arcp`
        for (const [url, message] of [
          [at("ssh"), /does not speak HTTP: check the port/],
          [at("endless"), /answered 200 (?:<p>more<\/p>)+/],
          [at("slow"), /answered 500 partly$/],
          [
            at("redirects"),
            /answered 308, and that it is at https:\/\/elsewhere\.example\/arcp: .*not followed/
          ],
          [at("ssh", "wss"), /does not speak TLS: use ws:/],
          [
            at("secret", "wss"),
            /certificate of .* is not trusted: self.signed certificate.*; NODE_EXTRA_CA_CERTS/
          ]
        ] as const)
          expect((yield* Effect.flip(DialerWebSocket.connect({ url }))).message).toMatch(message)
      })
  )

  it.scoped("give up on a server that does not answer", () =>
    Effect.gen(function* () {
      const silent = yield* Effect.acquireRelease(
        Effect.async<ReturnType<typeof createServer>>((resume) => {
          const server = createServer()
          server.on("upgrade", () => {})
          server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.sync(() => server.close())
      )
      const bound = silent.address()
      const url = `ws://127.0.0.1:${typeof bound === "object" ? bound?.port : 0}/arcp`
      const node = yield* Effect.flip(DialerWebSocket.connect({ url, connectTimeout: "20 millis" }))
      expect(node.message).toContain("no answer in time")
      const page = yield* Effect.flip(
        DialerWebSocketGlobal.connect({ url, connectTimeout: "20 millis", WebSocket: PageWebSocket })
      )
      expect(page.message).toContain("no answer in time")
    })
  )

  it.scoped("wait for an answer also where they may wait for longer than a timer can", () =>
    Effect.gen(function* () {
      const { address: url } = yield* listening()
      const connectTimeout = "30 days"
      yield* DialerWebSocket.connect({ url, connectTimeout })
      yield* DialerWebSocketGlobal.connect({ url, connectTimeout, WebSocket: PageWebSocket })
    })
  )

  it.scoped("give up on a server whose answer has no end, however often something comes", () =>
    Effect.gen(function* () {
      const dripping = createServer()
      dripping.on("upgrade", (_request, socket) => {
        socket.on("error", () => {})
        socket.write("HTTP/1.1 101 Switching Protocols\r\nx: ")
        const drip = setInterval(() => socket.write("."), 5)
        socket.on("close", () => clearInterval(drip))
      })
      yield* Effect.acquireRelease(
        Effect.async<void>((resume) => void dripping.listen(0, "127.0.0.1", () => resume(Effect.void))),
        () => Effect.sync(() => dripping.close())
      )
      const bound = dripping.address()
      const url = `ws://127.0.0.1:${typeof bound === "object" ? bound?.port : 0}/arcp`
      const error = yield* Effect.flip(DialerWebSocket.connect({ url, connectTimeout: "400 millis" }))
      expect(error.message).toContain("no answer in time")
    })
  )

  it.scoped("the browsers' one closes when frames come faster than they are taken", () =>
    Effect.gen(function* () {
      const server = yield* listening()
      const client = yield* DialerWebSocketGlobal.connect({
        url: server.address,
        WebSocket: PageWebSocket,
        maxHeldBytes: 12_560
      })
      const connection = yield* accepted(server)
      yield* connection.send(Array.from({ length: 20 }, () => "x".repeat(1_000)))
      yield* receiveToEnd(connection)
      expect(yield* receiveToEnd(client)).toMatchObject({
        frames: { length: 10 },
        closed: { code: closeCode.tryLater }
      })
    })
  )
})

describe("mounted next to other routes", () => {
  class Router extends HttpRouter.Tag("test/Router")<Router>() {}
  const health = Router.use((router) => router.get("/health", HttpServerResponse.text("healthy")))

  const mounted = (config: TransportWebSocket.UpgradePolicy = {}) =>
    Router.serve().pipe(
      Layer.provide(health),
      Layer.provideMerge(TransportWebSocket.mount({ ...config, server: Router })),
      Layer.provide(
        NodeHttpServer.layer(() => TransportWebSocket.protect(createServer()), { port: 0, host: "127.0.0.1" })
      ),
      Layer.provide(options),
      Layer.build,
      Effect.map((services) => Context.get(services, TransportServer))
    )

  it.scoped("serves both", () =>
    Effect.gen(function* () {
      const server = yield* mounted()
      const health = Effect.promise(() =>
        fetch(`http://127.0.0.1:${portOf(server.address)}/health`).then((answer) => answer.text())
      )
      expect(yield* health).toBe("healthy")
      const client = yield* DialerWebSocket.connect({ url: server.address })
      const connection = yield* accepted(server)
      yield* client.send(["in"])
      yield* connection.send(["out"])
      expect(yield* receive(connection, 1)).toEqual(["in"])
      expect(yield* receive(client, 1)).toEqual(["out"])
      expect(yield* health).toBe("healthy")
      yield* client.close(closeCode.superseded, "done")
      expect((yield* receiveToEnd(connection)).closed).toMatchObject({ code: 4001, reason: "done" })
    })
  )

  it.scoped("applies the same rules", () =>
    Effect.gen(function* () {
      const { address } = yield* mounted({ allowedOrigins: ["https://app.example.com"] })
      const Host = new URL(address).host
      expect(yield* upgrade(address, { Origin: "https://app.example.com" })).toContain(" 101 ")
      expect(yield* upgrade(address, { Origin: "https://evil.example.com" })).toMatch(
        / 403 .*allowedOrigins/s
      )
      expect(yield* upgrade(address, { Host: "rebound.example.com" })).toMatch(/ 403 .*allowedHosts/s)
      expect(yield* upgrade(address, {}, "/nowhere")).toContain(" 404 ")
      expect(
        yield* request(portOf(address), `GET /arcp HTTP/1.1\r\nHost: ${Host}\r\nConnection: close\r\n\r\n`)
      ).toMatch(/^HTTP\/1.1 426 .*WebSocket client/s)
    })
  )

  it.scoped("survives resets during the upgrade, on every path", () =>
    Effect.gen(function* () {
      const { address } = yield* mounted()
      yield* resetDuringUpgrade(address, "/arcp")
      yield* resetDuringUpgrade(address, "/nowhere")
      expect(yield* upgrade(address)).toContain(" 101 ")
    })
  )

  it.scoped("closes its connections with its scope", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const server = yield* Scope.extend(mounted(), scope)
      const client = yield* DialerWebSocket.connect({ url: server.address })
      yield* accepted(server)
      yield* Scope.close(scope, Exit.void)
      expect((yield* receiveToEnd(client)).closed.code).toBe(closeCode.goingAway)
    })
  )
})

describe("a refusal that says when to come back", () => {
  /** Answers every request with this status and `Retry-After`. */
  const refusing = (status: number, later: string) =>
    Effect.acquireRelease(
      Effect.async<{ readonly url: string; readonly close: () => void }>((resume) => {
        const server = createServer((_request, response) => {
          response.writeHead(status, { "retry-after": later, connection: "close" }).end("not now")
        })
        server.listen(0, "127.0.0.1", () => {
          const { port } = server.address() as AddressInfo
          resume(Effect.succeed({ url: `ws://127.0.0.1:${port}/arcp`, close: () => server.close() }))
        })
      }),
      ({ close }) => Effect.sync(close)
    )

  for (const [status, later, least, most] of [
    [503, "7", 7_000, 7_000],
    [429, " 2 ", 2_000, 2_000],
    [503, new Date(Date.now() + 3_600_000).toUTCString(), 3_000_000, 3_600_000],
    [503, "Thu, 01 Jan 1970 00:00:00 GMT", undefined, undefined],
    [503, "soon", undefined, undefined],
    [404, "7", undefined, undefined]
  ] as const)
    it.scopedLive(`${status}, Retry-After: ${later}`, () =>
      Effect.gen(function* () {
        const { url } = yield* refusing(status, later)
        const { message, retryAfter } = yield* Effect.flip(DialerWebSocket.connect({ url }))
        expect(message).toContain(`${status} not now`)
        if (least === undefined) return expect(retryAfter).toBeUndefined()
        expect(retryAfter).toBeGreaterThanOrEqual(least)
        expect(retryAfter).toBeLessThanOrEqual(most)
      })
    )
})
