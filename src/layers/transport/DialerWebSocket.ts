/** Dials a runtime over WebSocket from Node (§4). */

import type { IncomingMessage } from "node:http"
import type { Socket } from "node:net"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { WebSocket } from "ws"
import { type Connection, closeCode, Dialer, TransportError } from "../../services/transport/Transport.js"
import * as DialerWebSocketGlobal from "./DialerWebSocketGlobal.js"
import { type DialOptions, defaults, label, refusal } from "./DialPolicy.js"
import { checkWebSocket } from "./dialling.js"
import { forUrl, type HttpProxy } from "./proxy.js"
import * as WebSocketConnection from "./WebSocketConnection.js"

/** Options of a dialer over `ws`. */
export interface Options extends DialOptions {
  /** Headers of the upgrade request, such as what a proxy asks for. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** PEM certificates to trust instead of the system's. */
  readonly ca?: string | Buffer | undefined
}

/** Characters of a refusal's body that are quoted in the error. */
const maxQuotedChars = 512

/**
 * Returns the milliseconds that a refusal asks to wait (`Retry-After` of a 429 or 503: seconds, or a date of HTTP), `undefined`
 * when it does not. `now` is in epoch milliseconds.
 */
const retryAfter = ({ headers, statusCode }: IncomingMessage, now: number): number | undefined => {
  const value = statusCode === 429 || statusCode === 503 ? headers["retry-after"]?.trim() : undefined
  if (value === undefined) return undefined
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - now
  return ms > 0 ? ms : undefined
}

const connectError = (
  cause: NodeJS.ErrnoException,
  url: string,
  proxy: HttpProxy | undefined
): TransportError => {
  const message =
    proxy !== undefined && proxy.answered() === undefined
      ? `the proxy ${proxy.label} does not connect to ${label(url)}: ${cause.message || (cause.code ?? "unknown reason")}; check the proxy, or name the host in NO_PROXY`
      : cause.code === "ECONNREFUSED"
        ? `nothing listens at ${label(url)}: start the runtime, or check host and port`
        : cause.code === "ENOTFOUND" || cause.code === "EAI_AGAIN"
          ? `the host of ${label(url)} is not known: check its name`
          : `cannot connect to ${label(url)}: ${cause.message || (cause.code ?? "unknown reason")}`
  return new TransportError({ message, cause })
}

const start = (options: Options, proxy: HttpProxy | undefined): Effect.Effect<WebSocket, TransportError> =>
  Effect.try({
    try: () =>
      new WebSocket(options.url, {
        autoPong: false,
        handshakeTimeout: Duration.toMillis(options.connectTimeout ?? defaults.connectTimeout),
        maxPayload: options.maxFrameBytes ?? defaults.maxFrameBytes,
        perMessageDeflate: false,
        ...(proxy === undefined ? {} : { agent: proxy.agent }),
        ...(options.headers === undefined ? {} : { headers: { ...options.headers } }),
        ...(options.ca === undefined ? {} : { ca: options.ca })
      }),
    catch: (cause) => connectError(cause as Error, options.url, proxy)
  })

const open = (
  ws: WebSocket,
  options: Options,
  proxy: HttpProxy | undefined,
  now: () => number
): Effect.Effect<Connection, TransportError> =>
  Effect.async((resume) => {
    const { maxFrameBytes = defaults.maxFrameBytes, url } = options
    const fail = (error: TransportError) => resume(Effect.fail(error))
    const onError = (cause: Error) => fail(connectError(cause, url, proxy))
    // Stays on an attempt that failed: ending it reports once more.
    ws.on("error", onError)
    ws.once("unexpected-response", (_request, response) => {
      let body = ""
      response.setEncoding("utf8")
      response.on("data", (text: string) => {
        body = (body + text).slice(0, maxQuotedChars)
      })
      const refused =
        proxy !== undefined && proxy.answered() !== 200
          ? `the proxy ${proxy.label} refused to connect to ${label(url)} with ${response.statusCode} ${response.statusMessage ?? ""}`
          : `${label(url)} answered ${response.statusCode}`
      response.once("close", () =>
        fail(
          new TransportError({
            message: `${refused.trim()} ${body.trim()}`.trim(),
            retryAfter: retryAfter(response, now())
          })
        )
      )
    })
    let socket: Socket | null | undefined
    ws.once("upgrade", (response: IncomingMessage) => {
      socket = response.socket
    })
    ws.once("open", () => {
      // Bun puts its own WebSocket in place of `ws`, and does not give its socket.
      if (!socket) return resume(Effect.succeed(DialerWebSocketGlobal.fromOpen(ws, options)))
      ws.off("error", onError)
      socket.setKeepAlive(true, 30_000)
      resume(
        Effect.succeed(
          WebSocketConnection.make(ws, socket, {
            remote: label(url),
            maxFrameBytes,
            maxPayload: maxFrameBytes,
            masked: true
          })
        )
      )
    })
  })

/** Connects; the connection is closed with the scope. */
export const connect = (options: Options): Effect.Effect<Connection, TransportError, Scope.Scope> =>
  Effect.gen(function* () {
    const refused = refusal(options)
    if (refused !== undefined) return yield* refused
    const proxy = yield* forUrl(options.url)
    const ws = yield* Effect.acquireRelease(start(options, proxy), (ws) => Effect.sync(() => ws.terminate()))
    const clock = yield* Effect.clock
    const connection = yield* open(ws, options, proxy, () => clock.unsafeCurrentTimeMillis())
    // Before the socket is let go, which then has nothing more to do.
    yield* Effect.addFinalizer(() => connection.close(closeCode.normal, ""))
    return connection
  })

/** Connects over a new socket each time. */
export const layer = (options: Options): Layer.Layer<Dialer> => {
  checkWebSocket(options)
  return Layer.succeed(Dialer, { connect: connect(options) })
}
