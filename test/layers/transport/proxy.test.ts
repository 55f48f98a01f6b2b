/** A dialer on Node goes through the proxy that the usual environment variables name. */
import { createServer, type IncomingMessage } from "node:http"
import {
  type AddressInfo,
  createServer as createTcpServer,
  type Socket,
  connect as tcpConnect
} from "node:net"
import { describe, expect, it } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as DialerWebSocket from "../../../src/layers/transport/DialerWebSocket.js"
import * as TransportWebSocket from "../../../src/layers/transport/TransportWebSocket.js"
import * as RuntimeOptions from "../../../src/services/runtime/RuntimeOptions.js"
import { TransportServer } from "../../../src/services/transport/Transport.js"
import { selfSigned } from "./certificate.js"
import { receive } from "./Transport.suite.js"

/** The variables of these tests, and no others of their kind; as before with the scope. */
const environment = (variables: Readonly<Record<string, string>>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const before = Object.entries(process.env).filter(([name]) => /^(https?|all|no)_proxy$/i.test(name))
      for (const [name] of before) delete process.env[name]
      Object.assign(process.env, variables)
      return before
    }),
    (before) =>
      Effect.sync(() => {
        for (const name of Object.keys(variables)) delete process.env[name]
        Object.assign(process.env, Object.fromEntries(before))
      })
  )

interface Asked {
  readonly target: string
  readonly authorization: string | undefined
}

/** A proxy that connects to wherever it is asked to, unless `refuse` says with what it refuses. */
const proxy = (refuse?: (request: IncomingMessage) => string | undefined) =>
  Effect.acquireRelease(
    Effect.async<{ readonly port: number; readonly asked: ReadonlyArray<Asked>; readonly stop: () => void }>(
      (resume) => {
        const asked: Array<Asked> = []
        const sockets = new Set<Socket>()
        const server = createServer((_request, response) => response.writeHead(405).end())
        server.on("connection", (socket) => sockets.add(socket))
        server.on("connect", (request, socket, head) => {
          asked.push({ target: request.url ?? "", authorization: request.headers["proxy-authorization"] })
          socket.on("error", () => {})
          const refusal = refuse?.(request)
          if (refusal !== undefined) return socket.end(`HTTP/1.1 ${refusal}\r\nConnection: close\r\n\r\n`)
          const { hostname, port } = new URL(`http://${request.url}`)
          const upstream = tcpConnect(Number(port), hostname, () => {
            socket.write("HTTP/1.1 200 Connection established\r\n\r\n")
            upstream.write(head)
            upstream.pipe(socket).pipe(upstream)
          })
          sockets.add(upstream)
          upstream.on("error", () => socket.end("HTTP/1.1 502 Bad Gateway\r\n\r\n"))
        })
        server.listen(0, "127.0.0.1", () =>
          resume(
            Effect.succeed({
              port: (server.address() as AddressInfo).port,
              asked,
              stop: () => {
                for (const socket of sockets) socket.destroy()
                server.close()
              }
            })
          )
        )
      }
    ),
    ({ stop }) => Effect.sync(stop)
  )

/** A proxy that takes a connection and says nothing; and when it is there and gone. */
const silentProxy = Effect.gen(function* () {
  const gone = yield* Deferred.make<void>()
  const taken = yield* Deferred.make<void>()
  const silent = createTcpServer((socket) => {
    Deferred.unsafeDone(taken, Effect.void)
    socket.on("error", () => {})
    socket.on("close", () => Deferred.unsafeDone(gone, Effect.void))
    socket.resume()
  })
  yield* Effect.acquireRelease(
    Effect.async<void>((resume) => void silent.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () => Effect.sync(() => silent.close())
  )
  return {
    gone: Deferred.await(gone),
    port: (silent.address() as AddressInfo).port,
    taken: Deferred.await(taken)
  }
})

const listening = (config: TransportWebSocket.Options = {}) =>
  TransportWebSocket.layer({ port: 0, ...config }).pipe(
    Layer.provide(Layer.succeed(RuntimeOptions.RuntimeOptions, RuntimeOptions.make())),
    Layer.build,
    Effect.map((services) => Context.get(services, TransportServer))
  )

/** Dials, and sends a frame each way. */
const exchange = (
  server: TransportServer["Type"],
  url = server.address,
  more: Partial<DialerWebSocket.Options> = {}
) =>
  Effect.gen(function* () {
    const client = yield* DialerWebSocket.connect({ url, ...more })
    const accepted = yield* Effect.flatten(Stream.runHead(server.connections))
    yield* client.send(["there"])
    yield* accepted.send(["and back"])
    return [yield* receive(accepted, 1), yield* receive(client, 1)]
  }).pipe(Effect.scoped)

const both = [["there"], ["and back"]]

describe("a proxy of the environment", () => {
  for (const name of ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
    it.scoped(`connects to ws:// by ${name}, with user and password`, () =>
      Effect.gen(function* () {
        const { asked, port } = yield* proxy()
        yield* environment({ [name]: `http://ada:s%40crate@127.0.0.1:${port}` })
        const server = yield* listening()
        expect(yield* exchange(server)).toEqual(both)
        expect(asked).toEqual([
          {
            target: new URL(server.address.replace("ws", "http")).host,
            authorization: `Basic ${btoa("ada:s@crate")}`
          }
        ])
      })
    )

  for (const name of ["HTTPS_PROXY", "https_proxy"])
    it.scoped(`connects to wss:// by ${name}, with TLS to the runtime itself`, () =>
      Effect.gen(function* () {
        const { asked, port } = yield* proxy()
        yield* environment({ [name]: `http://127.0.0.1:${port}`, HTTP_PROXY: "http://127.0.0.1:1" })
        const tls = selfSigned()
        const server = yield* listening({ tls, host: "localhost" })
        // The agent must not depend on who seems to call it.
        const limit = Error.stackTraceLimit
        Error.stackTraceLimit = 0
        yield* Effect.addFinalizer(() => Effect.sync(() => Object.assign(Error, { stackTraceLimit: limit })))
        const url = server.address.replace(/\/\/[^:]*:/, "//localhost:")
        expect(yield* exchange(server, url, { ca: tls.cert })).toEqual(both)
        expect(asked.map(({ target }) => target)).toEqual([new URL(url.replace("wss", "https")).host])
        expect(asked[0]?.authorization).toBeUndefined()
      })
    )

  for (const name of ["NO_PROXY", "no_proxy"])
    it.scoped(`is passed by for what ${name} names`, () =>
      Effect.gen(function* () {
        const { asked, port } = yield* proxy()
        yield* environment({
          HTTP_PROXY: `http://127.0.0.1:${port}`,
          [name]: "example.com,127.0.0.1,localhost"
        })
        expect(yield* exchange(yield* listening())).toEqual(both)
        expect(asked).toEqual([])
      })
    )

  for (const elsewhere of [
    "http://ada:s3cret@192.0.2.1:3128",
    "proxy.invalid:3128",
    "socks5://192.0.2.1:1080"
  ])
    it.scoped(`elsewhere, as ${elsewhere}, is not where this machine's own runtime is`, () =>
      Effect.gen(function* () {
        yield* environment({ ALL_PROXY: elsewhere })
        expect(yield* exchange(yield* listening())).toEqual(both)
      })
    )

  it.scoped("without a scheme, or with spaces around it, is spoken to in plain HTTP", () =>
    Effect.gen(function* () {
      const { asked, port } = yield* proxy()
      for (const name of ["HTTPS_PROXY", "all_proxy"])
        for (const value of [`127.0.0.1:${port}`, ` http://127.0.0.1:${port} `])
          yield* Effect.gen(function* () {
            yield* environment({ [name]: value })
            const tls = selfSigned()
            const server = yield* listening({ tls, host: "localhost" })
            const url = server.address.replace(/\/\/[^:]*:/, "//localhost:")
            expect(yield* exchange(server, url, { ca: tls.cert })).toEqual(both)
          }).pipe(Effect.scoped)
      expect(asked).toHaveLength(4)
    })
  )

  it.scoped("is not asked by anybody when it is another scheme's", () =>
    Effect.gen(function* () {
      yield* environment({ HTTPS_PROXY: "http://127.0.0.1:1", HTTP_PROXY: "" })
      expect(yield* exchange(yield* listening())).toEqual(both)
    })
  )

  const failure = (variables: Readonly<Record<string, string>>, url = "ws://127.0.0.1:9/arcp") =>
    Effect.gen(function* () {
      yield* environment(variables)
      const error = yield* Effect.flip(DialerWebSocket.connect({ url }))
      expect(error._tag).toBe("TransportError")
      expect(error.message).not.toContain("s3cret")
      return error.message
    }).pipe(Effect.scoped)

  it.scoped("that refuses is said, with its answer and never with its password", () =>
    Effect.gen(function* () {
      for (const answer of ["407 Proxy Authentication Required", "403 Forbidden"]) {
        const { port } = yield* proxy(() => answer)
        expect(yield* failure({ HTTP_PROXY: `http://ada:s3cret@127.0.0.1:${port}` })).toBe(
          `the proxy http://127.0.0.1:${port} refused to connect to ws://127.0.0.1:9/arcp with ${answer}`
        )
      }
    })
  )

  it.scoped("that is not there, or is none, is said", () =>
    Effect.gen(function* () {
      const { port, stop } = yield* proxy()
      stop()
      const there = `http://ada:s3cret@127.0.0.1:${port}`
      const away = yield* failure({ HTTP_PROXY: there })
      expect(away).toContain(`the proxy http://127.0.0.1:${port} does not connect to ws://127.0.0.1:9/arcp`)
      expect(away).toContain("NO_PROXY")
      const socks = yield* failure({ ALL_PROXY: "socks5://ada:s3cret@127.0.0.1:1080" })
      expect(socks).toContain("socks5://127.0.0.1:1080, which the environment names as the proxy")
      expect(yield* failure({ HTTP_PROXY: "http://a b" })).toContain("is none")
    })
  )

  it.scoped("that takes connections and says nothing is given up in time, and its connection ended", () =>
    Effect.gen(function* () {
      const { gone, port, taken } = yield* silentProxy
      yield* environment({ HTTP_PROXY: `http://127.0.0.1:${port}` })
      const dialling = yield* Effect.fork(
        Effect.flip(
          Effect.scoped(DialerWebSocket.connect({ url: "ws://127.0.0.1:9/arcp", connectTimeout: "1 second" }))
        )
      )
      yield* taken
      expect((yield* Fiber.join(dialling)).message).toContain(
        `the proxy http://127.0.0.1:${port} does not connect to ws://127.0.0.1:9/arcp: no answer in time`
      )
      yield* gone
    })
  )

  it.scoped("that is still waited for is left when nobody wants the connection any more", () =>
    Effect.gen(function* () {
      const { gone, port, taken } = yield* silentProxy
      yield* environment({ HTTP_PROXY: `http://127.0.0.1:${port}` })
      const dialling = yield* Effect.fork(
        Effect.scoped(DialerWebSocket.connect({ url: "ws://127.0.0.1:9/arcp", connectTimeout: "1 hour" }))
      )
      yield* taken
      yield* Fiber.interrupt(dialling)
      yield* gone
    })
  )

  it.scoped("the runtime's own answers are still the runtime's", () =>
    Effect.gen(function* () {
      const { port } = yield* proxy()
      const server = yield* listening()
      const message = yield* failure(
        { HTTP_PROXY: `http://127.0.0.1:${port}` },
        server.address.replace(/\/arcp$/, "/elsewhere")
      )
      expect(message).toMatch(/\/elsewhere answered 404/)
    })
  )
})
