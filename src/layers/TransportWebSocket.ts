/**
 * WebSocket connections on Node (§4): a server of its own on a host and port, or a route on an HTTP
 * server that has other routes as well.
 */

import * as Http from "node:http"
import * as Https from "node:https"
import type { AddressInfo, Socket } from "node:net"
import * as HttpServer from "@effect/platform/HttpServer"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import type { RuntimeOptions } from "../services/RuntimeOptions.js"
import { TransportError, TransportServer } from "../services/Transport.js"
import { isLoopback } from "./internal/loopback.js"
import type { UpgradePolicy } from "./internal/UpgradePolicy.js"
import * as Acceptor from "./internal/WebSocketAcceptor.js"

export { protect } from "./internal/WebSocketAcceptor.js"

export interface Options extends UpgradePolicy {
  /** Host name or address to listen on. Default: `127.0.0.1`. */
  readonly host?: string
  /** Default: 7777; 0 is any free port. */
  readonly port?: number
  /** Default: `/arcp`. */
  readonly path?: string
  /** PEM key and certificate chain: serve `wss://`. */
  readonly tls?: { readonly key: string | Buffer; readonly cert: string | Buffer }
}

export interface MountedOptions extends UpgradePolicy {
  /** Where {@link route} is mounted; only for the address. Default: `/arcp`. */
  readonly path?: string
}

const usage = "this is an ARCP endpoint: connect with a WebSocket client\n"

const bracketed = (host: string) => (host.includes(":") ? `[${host}]` : host)

/** Unfinished requests do not hold a socket longer than a hello may take. */
const httpOptions = { headersTimeout: 10_000, requestTimeout: 10_000, connectionsCheckingInterval: 5_000 }

const listenError = (cause: NodeJS.ErrnoException, host: string, port: number): TransportError => {
  const at = `${bracketed(host)}:${port}`
  const message =
    cause.code === "EADDRINUSE"
      ? `port ${port} on ${host} is in use: stop what is listening there, or choose another port (0 = any free one)`
      : cause.code === "EACCES"
        ? `no permission to listen on ${at}: choose a port above 1023`
        : cause.code === "ENOTFOUND" || cause.code === "EADDRNOTAVAIL"
          ? `${host} is not an address of this machine: listen on 127.0.0.1, or on 0.0.0.0 for all of them`
          : `cannot listen on ${at}: ${cause.message}`
  return new TransportError({ message, cause })
}

/** A listening HTTP server whose sockets all go with the scope. */
const listen = (
  server: Http.Server,
  host: string,
  port: number
): Effect.Effect<AddressInfo, TransportError, Scope.Scope> => {
  const sockets = new Set<Socket>()
  server.on("connection", (socket) => {
    sockets.add(socket)
    socket.once("close", () => sockets.delete(socket))
  })
  return Effect.acquireRelease(
    Effect.async<AddressInfo, TransportError>((resume) => {
      // Stays for good: a later error, of one accept, must not end the process.
      server.on("error", (cause) => resume(Effect.fail(listenError(cause, host, port))))
      server.listen({ host, port }, () => resume(Effect.succeed(server.address() as AddressInfo)))
    }),
    () =>
      Effect.sync(() => {
        server.close()
        for (const socket of sockets) socket.destroy()
      })
  )
}

const makeTls = (tls: NonNullable<Options["tls"]>): Effect.Effect<Http.Server, TransportError> =>
  Effect.try({
    try: () => Https.createServer({ ...httpOptions, handshakeTimeout: 10_000, key: tls.key, cert: tls.cert }),
    catch: (cause) =>
      new TransportError({ message: "the TLS key or certificate is not usable: give PEM", cause })
  })

/**
 * Listens on `host:port` and serves WebSocket connections at `path`. Other paths answer 404, requests
 * that are no upgrade 426, and a refused `Origin` or `Host` 403.
 *
 * Fails with `TransportError` when the port is taken, and when a host other than loopback is asked for
 * with neither `tls` nor `allowInsecure`: tokens would travel readable.
 */
export const layer = (options: Options = {}): Layer.Layer<TransportServer, TransportError, RuntimeOptions> =>
  Layer.scoped(
    TransportServer,
    Effect.gen(function* () {
      const { host = "127.0.0.1", path = "/arcp", port = 7777, tls } = options
      if (tls === undefined && !isLoopback(host) && options.allowInsecure !== true)
        return yield* new TransportError({
          message:
            `refusing to listen on ${host} without TLS, tokens would travel readable: ` +
            "give tls {key, cert}, listen on 127.0.0.1 behind a TLS proxy, or set allowInsecure"
        })
      const server = Acceptor.protect(
        tls === undefined ? Http.createServer(httpOptions) : yield* makeTls(tls)
      )
      // Finalizers run backwards: no new connections, then the open ones are closed, then every socket.
      const address = yield* listen(server, host, port)
      const acceptor = yield* Acceptor.make(options, () => host)
      yield* Effect.addFinalizer(() => Effect.sync(() => server.close()))

      const isElsewhere = (request: Http.IncomingMessage) => request.url?.split("?", 1)[0] !== path
      server.on("request", (request, response) => {
        const status = isElsewhere(request) ? 404 : 426
        response.writeHead(status, {
          "content-type": "text/plain; charset=utf-8",
          connection: "close",
          ...(status === 426 ? { upgrade: "websocket" } : {})
        })
        response.end(status === 426 ? usage : `not found: the ARCP endpoint is at ${path}\n`)
      })
      server.on("upgrade", (request, socket, head) => {
        const refusal = isElsewhere(request)
          ? { status: 404, message: `not found: the ARCP endpoint is at ${path}` }
          : acceptor.refusal(request)
        if (refusal === undefined) acceptor.accept(request, socket, head)
        else Acceptor.refuse(socket, refusal)
      })
      return {
        address: `${tls === undefined ? "ws" : "wss"}://${bracketed(host)}:${address.port}${path}`,
        connections: acceptor.connections
      }
    })
  )

/** What {@link route} hands its upgrades to; provided by {@link layerMounted}. */
export class WebSocketUpgrade extends Context.Tag("arcp/layers/WebSocketUpgrade")<
  WebSocketUpgrade,
  Pick<Acceptor.Acceptor, "accept" | "refusal">
>() {}

/**
 * The HTTP app to mount in your own router, as a `GET` route. Answers what is no WebSocket upgrade with
 * 426 and a refused one with 403.
 *
 * @example
 * const router = HttpRouter.empty.pipe(
 *   HttpRouter.get("/health", HttpServerResponse.text("ok")),
 *   HttpRouter.get("/arcp", TransportWebSocket.route)
 * )
 * const server = NodeHttpServer.layer(() => TransportWebSocket.protect(createServer()), { port: 3000 })
 * const http = router.pipe(HttpServer.serve())
 * const transport = TransportWebSocket.layerMounted()
 * // http and the runtime on `transport`, both provided with `transport` and `server`
 */
export const route: Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  never,
  HttpServerRequest.HttpServerRequest | WebSocketUpgrade
> = Effect.gen(function* () {
  const request = yield* HttpServerRequest.HttpServerRequest
  const upgrade = yield* WebSocketUpgrade
  const incoming = NodeHttpServerRequest.toIncomingMessage(request)
  if (incoming.headers.upgrade?.toLowerCase() !== "websocket")
    return HttpServerResponse.text(usage, { status: 426, headers: { upgrade: "websocket" } })
  const socket = incoming.socket
  socket.on("error", () => {})
  const refusal = upgrade.refusal(incoming)
  if (refusal !== undefined)
    return HttpServerResponse.text(`${refusal.message}\n`, {
      status: refusal.status,
      headers: { connection: "close" }
    })
  // The platform would write its answer to the socket that is now ours: let it find an answer that has
  // been ended already, on no socket.
  const response = NodeHttpServerRequest.toServerResponse(request)
  response.removeAllListeners("finish")
  response.detachSocket(socket)
  response.end()
  // A client may not send before it has our answer (RFC 6455, 4.1), so there is no head to hand over.
  upgrade.accept(incoming, socket, Buffer.alloc(0))
  return HttpServerResponse.empty({ status: 101 })
})

/**
 * Connections from {@link route} on an existing `HttpServer`. Plaintext from other machines is refused
 * unless `allowInsecure` is set (a TLS proxy on another machine needs it). Make the node server with
 * {@link protect}: without it a reset during an upgrade on any other path ends the process.
 */
export const layerMounted = (
  options: MountedOptions = {}
): Layer.Layer<TransportServer | WebSocketUpgrade, never, RuntimeOptions | HttpServer.HttpServer> =>
  Layer.scopedContext(
    Effect.gen(function* () {
      const { address } = yield* HttpServer.HttpServer
      const tcp = address._tag === "TcpAddress" ? address : undefined
      const { connections, ...upgrade } = yield* Acceptor.make(options, () => tcp?.hostname)
      const at = tcp === undefined ? "unix" : `${bracketed(tcp.hostname)}:${tcp.port}`
      return Context.make(TransportServer, {
        address: `ws://${at}${options.path ?? "/arcp"}`,
        connections
      }).pipe(Context.add(WebSocketUpgrade, upgrade))
    })
  )
