/**
 * WebSocket connections on Node (§4): a server of its own on a host and port, or a path of an HTTP server that has
 * other routes as well.
 */

import type { Server as NodeHttpServer } from "node:http"
import { Server as NetServer } from "node:net"
import { Server as TlsServer } from "node:tls"
import type * as HttpLayerRouter from "@effect/platform/HttpLayerRouter"
import type * as HttpRouter from "@effect/platform/HttpRouter"
import * as HttpServer from "@effect/platform/HttpServer"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Argument from "../../protocol/Argument.js"
import { needs } from "../../services/runtime/needs.js"
import type { RuntimeOptions } from "../../services/runtime/RuntimeOptions.js"
import { type TransportError, TransportServer } from "../../services/transport/Transport.js"
import { pathRule, policyRules, type UpgradePolicy } from "./UpgradePolicy.js"
import { endpointAt } from "./upgradePaths.js"
import * as Acceptor from "./WebSocketAcceptor.js"
import { bracketed, usage } from "./WebSocketListener.js"

export type { UpgradePolicy } from "./UpgradePolicy.js"
export { type Acceptor, make as acceptor, protect, refuse, type UpgradeRefusal } from "./WebSocketAcceptor.js"
export { layer, type Options, type OptionsWithRoutes } from "./WebSocketListener.js"

/** Imported when there is a router of the platform, and with it a server of this package. */
const platform = needs(
  "TransportWebSocket, on a router of the platform,",
  "@effect/platform-node",
  () => import("@effect/platform-node/NodeHttpServerRequest")
)

/**
 * Returns the answer to a `GET` route in a router of the platform: completes the upgrade with the acceptor, answers what
 * is no upgrade with 426 and a refused one with the reason. {@link mount} adds it to routers that are services; for an
 * `HttpRouter` that is a value, add it yourself.
 *
 * @example
 * const acceptor = yield* TransportWebSocket.acceptor({}, () => "127.0.0.1")
 * const router = HttpRouter.empty.pipe(HttpRouter.get("/arcp", TransportWebSocket.route(acceptor)))
 */
export const route = (
  acceptor: Pick<Acceptor.Acceptor, "accept" | "refusal">
): Effect.Effect<HttpServerResponse.HttpServerResponse, never, HttpServerRequest.HttpServerRequest> =>
  Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    const { toIncomingMessage, toServerResponse } = yield* Effect.orDie(platform)
    const incoming = toIncomingMessage(request)
    if (incoming.headers.upgrade?.toLowerCase() !== "websocket")
      return HttpServerResponse.text(usage, { status: 426, headers: { upgrade: "websocket" } })
    const socket = incoming.socket
    socket.on("error", () => {})
    const refusal = acceptor.refusal(incoming)
    if (refusal !== undefined)
      return HttpServerResponse.text(`${refusal.message}\n`, {
        status: refusal.status,
        headers: {
          connection: "close",
          ...(refusal.retryAfter === undefined ? {} : { "retry-after": `${refusal.retryAfter}` })
        }
      })
    // The platform would write its answer to the socket that is now ours: let it find an answer that has
    // been ended already, on no socket.
    const response = toServerResponse(request)
    response.removeAllListeners("finish")
    response.detachSocket(socket)
    response.end()
    // A client may not send before it has our answer (RFC 6455, 4.1), so there is no head to hand over.
    acceptor.accept(incoming, socket, Buffer.alloc(0))
    return HttpServerResponse.empty({ status: 101 })
  })

/** Where {@link mount} puts an endpoint, and who may connect to it. */
export interface MountOptions<Server> extends UpgradePolicy {
  /** Where the endpoint is. Default: `/arcp`. */
  readonly path?: `/${string}` | undefined
  /**
   * What it is mounted in: an HTTP server of Node, which is what Express, Fastify and others listen with; or a router of
   * the platform, such as `HttpApiBuilder.Router` or `HttpLayerRouter.HttpRouter`.
   */
  readonly server: Server
}

const mountRule = Argument.options<MountOptions<unknown>>({
  ...policyRules,
  path: Argument.maybe(pathRule),
  server: Argument.that(
    "an HTTP server of Node, or the tag of a router",
    (value) => value instanceof NetServer || Context.isTag(value)
  )
})

/** The router that `HttpLayerRouter.serve` serves. */
type LayerRouter = Context.Tag<HttpLayerRouter.HttpRouter, HttpLayerRouter.HttpRouter>

/** A router made by `HttpRouter.Tag`, whichever. */
declare class SomeRouter {
  private readonly some: true
}

const defaultPath = "/arcp"

/** `ws://host:port/path` as bound, as far as it is. */
const addressOf = (host: { readonly hostname: string; readonly port: number } | undefined, path: string) =>
  `ws://${host === undefined ? "unix" : `${bracketed(host.hostname)}:${host.port}`}${path}`

/** Where a server of Node listens; `undefined` when on no TCP port, or not yet. */
const boundTo = (server: NetServer) => {
  const bound = server.address()
  return bound === null || typeof bound === "string"
    ? undefined
    : { hostname: bound.address === "::" ? "0.0.0.0" : bound.address, port: bound.port }
}

/** The server need not listen yet when the layer is built, so its address is looked up when it is asked for. */
const mountOnNode = (
  options: MountOptions<NodeHttpServer>
): Layer.Layer<TransportServer, TransportError, RuntimeOptions> =>
  Layer.scoped(
    TransportServer,
    Effect.gen(function* () {
      const { path = defaultPath, server } = options
      const { connections } = yield* endpointAt(
        server,
        path,
        Acceptor.make(options, () => boundTo(server)?.hostname)
      )
      return {
        get address() {
          const address = addressOf(boundTo(server), path)
          return server instanceof TlsServer ? address.replace(/^ws:/, "wss:") : address
        },
        connections
      }
    })
  )

/** Adds the endpoint by `add` to a router of the server in context. */
const mountOnPlatform = <E, R>(
  options: MountOptions<unknown>,
  add: (path: `/${string}`, handler: ReturnType<typeof route>) => Effect.Effect<void, E, R>
) =>
  Layer.scoped(
    TransportServer,
    Effect.gen(function* () {
      const { path = defaultPath } = options
      const { address } = yield* HttpServer.HttpServer
      const tcp = address._tag === "TcpAddress" ? address : undefined
      const acceptor = yield* Acceptor.make(options, () => tcp?.hostname)
      yield* add(path, route(acceptor))
      return { address: addressOf(tcp, path), connections: acceptor.connections }
    })
  )

/**
 * Connections at a path of an HTTP server that is yours. Every call is an endpoint of its own, for a runtime of its own:
 * provide each runtime's `serve` with its own.
 *
 * On a server of Node, upgrades of other paths are left to the application's `upgrade` listeners, and answered with 404
 * when it has none. On a router of the platform make the node server with {@link protect}: without it a reset during an
 * upgrade on any other path ends the process. A server that the platform serves has its router's answer for every path,
 * so mount on the router there. Plaintext from other machines is refused unless `allowInsecure` is set (a TLS proxy on
 * another machine needs it).
 *
 * Fails with `TransportError` when an endpoint is mounted at this path of this node server already.
 *
 * @example
 * const server = createServer(express()).listen(3000)
 * const transport = TransportWebSocket.mount({ path: "/arcp", server })
 *
 * @example
 * const transport = TransportWebSocket.mount({ path: "/arcp", server: HttpApiBuilder.Router })
 */
export function mount(
  options: MountOptions<NodeHttpServer>
): Layer.Layer<TransportServer, TransportError, RuntimeOptions>
export function mount(
  options: MountOptions<LayerRouter>
): Layer.Layer<TransportServer, never, RuntimeOptions | HttpServer.HttpServer | HttpLayerRouter.HttpRouter>
export function mount<Self, Name extends string, E, R>(
  options: MountOptions<HttpRouter.HttpRouter.TagClass<Self, Name, E, R>>
): Layer.Layer<TransportServer, never, RuntimeOptions | HttpServer.HttpServer>
export function mount(
  options: MountOptions<
    NodeHttpServer | LayerRouter | HttpRouter.HttpRouter.TagClass<SomeRouter, string, unknown, unknown>
  >
): Layer.Layer<
  TransportServer,
  TransportError,
  RuntimeOptions | HttpServer.HttpServer | HttpLayerRouter.HttpRouter
> {
  Argument.check("TransportWebSocket.mount", ["options", mountRule, options])
  const { server } = options
  if (server instanceof NetServer) return mountOnNode({ ...options, server })
  if (!("Live" in server))
    return mountOnPlatform(options, (path, handler) =>
      Effect.flatMap(server, (router) => router.add("GET", path, handler))
    )
  return mountOnPlatform(options, (path, handler) =>
    Effect.flatMap(server, (router) => router.get(path, handler))
  ).pipe(Layer.provide(server.Live))
}
