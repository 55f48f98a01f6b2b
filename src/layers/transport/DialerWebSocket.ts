/** Dials a runtime over WebSocket from Node (§4). */

import type { IncomingMessage } from "node:http"
import type { Socket } from "node:net"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { WebSocket } from "ws"
import { cut } from "../../protocol/Text.js"
import { timerMillis } from "../../services/runtime/timerMillis.js"
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

/** Milliseconds in which it may come. */
const maxQuotingMs = 1_000

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

/** Codes of a certificate that nobody whom this machine trusts has signed. */
const untrusted: ReadonlySet<string | undefined> = new Set([
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE"
])

/** Says why there is no connection to a peer, and what to look at. */
const explain = ({ code, message }: NodeJS.ErrnoException, peer: string): string => {
  if (code === "ECONNREFUSED") return `nothing listens at ${peer}: start the runtime, or check host and port`
  if (code === "ENOTFOUND" || code === "EAI_AGAIN") return `the host of ${peer} is not known: check its name`
  // Other things that go wrong with TLS have the same code.
  if (code === "ERR_SSL_WRONG_VERSION_NUMBER" || (code === "EPROTO" && /wrong version number/i.test(message)))
    return `what listens at ${peer} does not speak TLS: use ws://, or the port that does`
  if (code?.startsWith("HPE_"))
    return `what listens at ${peer} does not speak HTTP: check the port (${message})`
  if (untrusted.has(code))
    return `the certificate of ${peer} is not trusted: ${message}; NODE_EXTRA_CA_CERTS=FILE names who has signed it`
  return `cannot connect to ${peer}: ${message || (code ?? "unknown reason")}`
}

const connectError = (
  cause: NodeJS.ErrnoException,
  url: string,
  proxy: HttpProxy | undefined
): TransportError => {
  const message =
    proxy !== undefined && proxy.answered() === undefined
      ? `the proxy ${proxy.label} does not connect to ${label(url)}: ${cause.message || (cause.code ?? "unknown reason")}; check the proxy, or name the host in NO_PROXY`
      : explain(cause, label(url))
  return new TransportError({ message, cause })
}

/** Returns where a redirect leads, which is not followed: it would be given the token. */
const elsewhere = ({ headers: { location }, statusCode = 0 }: IncomingMessage): string =>
  statusCode >= 300 && statusCode < 400 && location !== undefined
    ? `, and that it is at ${cut(location, maxQuotedChars)}: redirects are not followed, name that address`
    : ""

/** Reads as much of a refusal's body as is quoted: it may have no end, or not come. */
const quoted = (response: IncomingMessage, read: (body: string) => void): void => {
  let body = ""
  const late = setTimeout(() => response.destroy(), maxQuotingMs)
  response.setEncoding("utf8")
  response.on("error", () => {})
  response.on("data", (text: string) => {
    body = (body + text).slice(0, maxQuotedChars)
    if (body.length === maxQuotedChars) response.destroy()
  })
  response.once("close", () => {
    clearTimeout(late)
    read(body.trim())
  })
}

const start = (options: Options, proxy: HttpProxy | undefined): Effect.Effect<WebSocket, TransportError> =>
  Effect.try({
    try: () =>
      new WebSocket(options.url, {
        autoPong: false,
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
    const fail = (error: TransportError) => {
      clearTimeout(timer)
      resume(Effect.fail(error))
    }
    const onError = (cause: Error) => fail(connectError(cause, url, proxy))
    // `handshakeTimeout` of `ws` would wait for as long as anything comes, and not at all for a proxy's answer.
    const timer = setTimeout(
      () => onError(new Error("no answer in time")),
      timerMillis(options.connectTimeout ?? defaults.connectTimeout)
    )
    // Stays on an attempt that failed: ending it reports once more.
    ws.on("error", onError)
    ws.once("unexpected-response", (_request, response) => {
      // What it says is read in a time of its own.
      clearTimeout(timer)
      const isProxys = proxy !== undefined && proxy.answered() !== 200
      const refused = isProxys
        ? `the proxy ${proxy.label} refused to connect to ${label(url)} with ${response.statusCode} ${response.statusMessage ?? ""}`.trim()
        : `${label(url)} answered ${response.statusCode}${elsewhere(response)}`
      quoted(response, (body) =>
        fail(
          new TransportError({
            message: `${refused} ${body}`.trim(),
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
      clearTimeout(timer)
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
    return Effect.sync(() => clearTimeout(timer))
  })

/** Connects; the connection is closed with the scope. */
export const connect = (options: Options): Effect.Effect<Connection, TransportError, Scope.Scope> =>
  Effect.gen(function* () {
    const refused = refusal(options)
    if (refused !== undefined) return yield* refused
    const proxy = yield* forUrl(options.url)
    yield* Effect.addFinalizer(() => Effect.sync(() => proxy?.abandon()))
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
