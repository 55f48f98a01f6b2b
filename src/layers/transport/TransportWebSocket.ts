/**
 * WebSocket connections on Node (§4): a server of its own on a host and port, or a route on an HTTP
 * server that has other routes as well.
 */

import * as HttpServer from "@effect/platform/HttpServer"
import * as HttpServerRequest from "@effect/platform/HttpServerRequest"
import * as HttpServerResponse from "@effect/platform/HttpServerResponse"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { RuntimeOptions } from "../../services/runtime/RuntimeOptions.js"
import { TransportServer } from "../../services/transport/Transport.js"
import type { UpgradePolicy } from "./UpgradePolicy.js"
import * as Acceptor from "./WebSocketAcceptor.js"
import { bracketed, usage } from "./WebSocketListener.js"

export { protect } from "./WebSocketAcceptor.js"
export { layer, type Options } from "./WebSocketListener.js"

/** Options of an endpoint in an HTTP server of yours. */
export interface MountedOptions extends UpgradePolicy {
  /** Where {@link route} is mounted; only for the address. Default: `/arcp`. */
  readonly path?: string | undefined
}

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
