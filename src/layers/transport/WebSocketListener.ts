/**
 * A WebSocket server of its own. Apart from the route for other HTTP servers, because that needs the HTTP server
 * of the platform, which takes longer to load than all of this.
 */

import * as Http from "node:http"
import * as Https from "node:https"
import type { AddressInfo, Socket } from "node:net"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import * as Argument from "../../protocol/Argument.js"
import { isLoopback } from "../../protocol/Loopback.js"
import type { RuntimeOptions } from "../../services/runtime/RuntimeOptions.js"
import { TransportError, TransportServer } from "../../services/transport/Transport.js"
import { trustedProxies } from "./clientAddress.js"
import * as HttpRoutes from "./HttpRoutes.js"
import * as OtherUpgrade from "./otherUpgrade.js"
import { repeatedHeader, repeatedMessage } from "./repeatedHeader.js"
import * as RequestLine from "./requestLine.js"
import { pathOf, trimmed } from "./requestPath.js"
import { pathRule, policyRules, type UpgradePolicy } from "./UpgradePolicy.js"
import * as Acceptor from "./WebSocketAcceptor.js"

/** What a path answers to a `GET` or `HEAD`. */
export interface ServedPage {
  readonly headers: Readonly<Record<string, string>>
  readonly body: string | Uint8Array
}

/** Options of a WebSocket server on a port of its own. */
export interface Options extends UpgradePolicy {
  /** Host name or address to listen on. Default: `127.0.0.1`. */
  readonly host?: string | undefined
  /** Default: 7777; 0 is any free port. */
  readonly port?: number | undefined
  /** Default: `/arcp`. */
  readonly path?: string | undefined
  /** PEM key and certificate chain: serve `wss://`. */
  readonly tls?: { readonly key: string | Buffer; readonly cert: string | Buffer } | undefined
  /** Pages to serve beside the endpoint, by path. For more than a few, mount the endpoint in an HTTP server of yours. */
  readonly pages?: Readonly<Record<string, ServedPage>> | undefined
}

/** Options of a WebSocket server on a port of its own that answers other requests too. */
export interface OptionsWithRoutes<E, R> extends Options {
  /** What else the server answers, such as `HttpGateway.layer()`: layers that mount into its `HttpRoutes`. */
  readonly routes: Layer.Layer<never, E, R>
}

/** What an HTTP request that is no upgrade is told. */
export const usage = "this is an ARCP endpoint: connect with a WebSocket client\n"

/** Returns a host as URLs have it: IPv6 addresses in brackets. */
export const bracketed = (host: string) => (host.includes(":") ? `[${host}]` : host)

/**
 * Unfinished requests do not hold a socket longer than a hello may take. An idle connection is kept for longer than proxies keep
 * theirs (a minute, usually): one that this end closes while a request is on its way to it is a failed request, which a proxy
 * does not send again when it changes something. The system asks whether a peer is still there of which nothing comes: a stream
 * of JSON lines has nothing to send while nothing happens.
 */
const httpOptions = {
  headersTimeout: 10_000,
  requestTimeout: 10_000,
  keepAliveTimeout: 75_000,
  connectionsCheckingInterval: 5_000,
  keepAlive: true,
  keepAliveInitialDelay: 30_000
}

/** Connections that the kernel keeps until they are accepted: when a server comes back, thousands come at once. */
const backlog = 4096

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
    if (sockets.has(socket)) return
    sockets.add(socket)
    socket.once("close", () => sockets.delete(socket))
  })
  return Effect.acquireRelease(
    Effect.async<AddressInfo, TransportError>((resume) => {
      // Stays for good: a later error, of one accept, must not end the process.
      server.on("error", (cause) => resume(Effect.fail(listenError(cause, host, port))))
      server.listen({ host, port, backlog }, () => resume(Effect.succeed(server.address() as AddressInfo)))
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

/** Mounts the routes of a listener; they end before its sockets do, but begin before anybody is let in. */
const mounted = <E, R>(mounts: HttpRoutes.Mounts, routes: Layer.Layer<never, E, R>) =>
  Effect.gen(function* () {
    const scope = yield* Effect.flatMap(Effect.scope, (parent) =>
      Scope.fork(parent, ExecutionStrategy.sequential)
    )
    yield* Layer.buildWithScope(
      Layer.provide(routes, Layer.succeed(HttpRoutes.HttpRoutes, mounts.service)),
      scope
    )
    return Effect.addFinalizer((exit) => Scope.close(scope, exit))
  })

/** What else there is to go to, for whoever has come to a path where there is nothing. */
const alsoAt = (paths: ReadonlyArray<string>): string => {
  const others = [...new Set(paths)]
    .filter((path) => !paths.some((above) => path.startsWith(`${above}/`)))
    .sort()
  return others.length === 0 ? "" : `; other paths: ${others.join(", ")}`
}

/** Answers what is no upgrade: pages, then routes; the rest is told what there is. */
const answering =
  (
    path: string,
    pages: ReadonlyMap<string, ServedPage>,
    mounts: HttpRoutes.Mounts,
    refusal: Acceptor.Acceptor["refusal"]
  ): HttpRoutes.Answer =>
  (request, response) => {
    const at = pathOf(request)
    const found = pages.get(at)
    const route = found === undefined ? mounts.at(at) : undefined
    const refuse = (status: number, text: string, headers: Http.OutgoingHttpHeaders = {}) => {
      response.writeHead(status, {
        "content-type": "text/plain; charset=utf-8",
        connection: "close",
        ...headers
      })
      response.end(text)
    }
    const twice = repeatedHeader(request)
    // A mount says it as it says all that it refuses.
    if (twice !== undefined && route === undefined) return refuse(400, `${repeatedMessage(twice)}\n`)
    if (found !== undefined && (request.method === "GET" || request.method === "HEAD")) {
      response.writeHead(200, { ...found.headers, "content-length": Buffer.byteLength(found.body) })
      response.end(request.method === "HEAD" ? undefined : found.body)
      return
    }
    if (found !== undefined) return refuse(405, "this page can only be read\n", { allow: "GET, HEAD" })
    if (at === trimmed(path)) return refuse(426, usage, { upgrade: "websocket" })
    return route === undefined
      ? refuse(
          404,
          `not found: the ARCP endpoint is at ${path}${alsoAt([...pages.keys(), ...mounts.paths])}\n`
        )
      : HttpRoutes.answer(route, request, response, refusal(request))
  }

const pem = Argument.that(
  "PEM: a text or a Buffer",
  (value) => (typeof value === "string" && value !== "") || Buffer.isBuffer(value)
)

/** What Node takes as headers. */
const areHeaders = (headers: unknown): boolean => {
  try {
    for (const [name, value] of Object.entries(headers as ServedPage["headers"])) {
      Http.validateHeaderName(name)
      Http.validateHeaderValue(name, value)
    }
    return true
  } catch {
    return false
  }
}

const page = Argument.fields({
  headers: Argument.that("headers that can be sent", areHeaders),
  body: Argument.that("a text or bytes", (body) => typeof body === "string" || body instanceof Uint8Array)
})

/** A page that cannot be sent would end the process once somebody asks for it. */
const pages: Argument.Rule = (value, name) =>
  Argument.object(value, name) ??
  Argument.fields(Object.fromEntries(Object.keys(value as object).map((path) => [path, page])))(value, name)

const optionsRule = Argument.options<OptionsWithRoutes<never, never>>({
  ...policyRules,
  host: Argument.maybe(Argument.text),
  port: Argument.maybe(Argument.port),
  path: Argument.maybe(pathRule),
  tls: Argument.maybe(Argument.fields({ key: pem, cert: pem })),
  pages: Argument.maybe(pages),
  routes: Argument.maybe(Argument.that("a layer", Layer.isLayer))
})

/**
 * Listens on `host:port` and serves WebSocket connections at `path`, `pages` and `routes`. Other paths answer 404, requests
 * that are no upgrade 426, and a refused `Origin` or `Host` 403.
 *
 * Fails with `TransportError` when the port is taken, and when a host other than loopback is asked for
 * with neither `tls` nor `allowInsecure`: tokens would travel readable.
 */
export function layer(options?: Options): Layer.Layer<TransportServer, TransportError, RuntimeOptions>
export function layer<E, R>(
  options: OptionsWithRoutes<E, R>
): Layer.Layer<TransportServer, TransportError | E, RuntimeOptions | Exclude<R, HttpRoutes.HttpRoutes>>
export function layer<E, R>(
  options: Options & Partial<OptionsWithRoutes<E, R>> = {}
): Layer.Layer<TransportServer, TransportError | E, RuntimeOptions | Exclude<R, HttpRoutes.HttpRoutes>> {
  Argument.check("TransportWebSocket.layer", ["options", optionsRule, options])
  return Layer.scoped(
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
      const proxies = trustedProxies(options.trustedProxies ?? [])
      const mounts = new HttpRoutes.Mounts(
        (request) => HttpRoutes.visitorOf(request, options, proxies),
        yield* RequestLine.make
      )
      const unmount = options.routes === undefined ? Effect.void : yield* mounted(mounts, options.routes)
      // Finalizers run backwards: no new connections, then the open ones are closed, then every socket.
      const address = yield* listen(server, host, port)
      yield* unmount
      const acceptor = yield* Acceptor.make(options, () => host)
      yield* Effect.addFinalizer(() => Effect.sync(() => server.close()))

      const pages = new Map(Object.entries(options.pages ?? {}))
      const readAgain = OtherUpgrade.readingAgain(server)
      server.on("request", answering(path, pages, mounts, acceptor.refusal))
      server.on("upgrade", (request, socket, head) => {
        if (OtherUpgrade.isOther(request)) return readAgain(request, head)
        const refusal =
          pathOf(request) === trimmed(path)
            ? acceptor.refusal(request)
            : { status: 404, message: `not found: the ARCP endpoint is at ${path}` }
        if (refusal === undefined) acceptor.accept(request, socket, head)
        else Acceptor.refuse(socket, refusal)
      })
      return {
        address: `${tls === undefined ? "ws" : "wss"}://${bracketed(host)}:${address.port}${path}`,
        connections: acceptor.connections
      }
    })
  )
}
