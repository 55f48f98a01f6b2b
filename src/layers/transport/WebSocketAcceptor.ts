/** Turns HTTP upgrades into connections, whoever owns the HTTP server. */

import { type IncomingMessage, type Server, STATUS_CODES } from "node:http"
import type { Socket } from "node:net"
import type { Duplex } from "node:stream"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Mailbox from "effect/Mailbox"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import { type WebSocket, WebSocketServer } from "ws"
import * as Argument from "../../protocol/Argument.js"
import * as Metrics from "../../services/runtime/Metrics.js"
import { RuntimeOptions } from "../../services/runtime/RuntimeOptions.js"
import { connected, TurnShare } from "../../services/runtime/TurnShare.js"
import { type Connection, closeCode, type Evidence } from "../../services/transport/Transport.js"
import { addressGroup, clientAddress, plainAddress, trustedProxies } from "./clientAddress.js"
import * as Door from "./Door.js"
import { repeatedHeader, repeatedMessage } from "./repeatedHeader.js"
import type { Traffic } from "./StreamWriter.js"
import { check, isExposed, isTrusted, policyRules, type UpgradePolicy } from "./UpgradePolicy.js"
import { evidenceOf, hasTooManyHeaders } from "./upgradeEvidence.js"
import * as WebSocketConnection from "./WebSocketConnection.js"

/** The HTTP answer to a request that is not upgraded. */
export interface UpgradeRefusal {
  /** HTTP status. */
  readonly status: number
  readonly message: string
  /** Seconds after which it may be tried again. */
  readonly retryAfter?: number | undefined
}

/** Upgrades HTTP requests to connections. */
export interface Acceptor {
  /** Why this request may not be upgraded, or `undefined`. */
  readonly refusal: (request: IncomingMessage) => UpgradeRefusal | undefined
  /** Completes the upgrade of a request that is not refused; the socket is then the acceptor's. */
  readonly accept: (request: IncomingMessage, socket: Duplex, head: Buffer) => void
  /** The connections that come of them. */
  readonly connections: Stream.Stream<Connection>
}

const noop = () => {}

const guarded = new WeakSet<Server>()

/**
 * Keeps every socket of an HTTP server from ending the process: Node takes its own `error` listener away
 * when a request asks for an upgrade, and a peer that resets the connection then would be uncaught.
 */
export const protect = <S extends Server>(server: S): S => {
  if (guarded.has(server)) return server
  guarded.add(server)
  // A connection may come here again, with a request that is read again.
  const guard = (socket: Socket) => socket.off("error", noop).on("error", noop)
  server.on("connection", guard)
  server.on("connection", connected)
  server.on("secureConnection", guard)
  return server
}

/** Answers an upgrade with a short readable error. */
export const refuse = (socket: Duplex, { message, retryAfter, status }: UpgradeRefusal): void => {
  const body = `${message}\n`
  const later = retryAfter === undefined ? "" : `Retry-After: ${retryAfter}\r\n`
  socket.once("finish", () => socket.destroy())
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\nConnection: close\r\n${later}` +
      `Content-Type: text/plain; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
  )
}

/** There may be another already, or there will be one soon. */
const isStopping: UpgradeRefusal = { status: 503, message: "server is stopping", retryAfter: 1 }
/** Whoever comes back sooner than somebody would have been waited for only adds to those who wait. */
const isFull = (patience: Duration.Duration): UpgradeRefusal => ({
  status: 503,
  message: "too many connections are waiting for session.hello; try again later",
  retryAfter: Math.ceil(Duration.toSeconds(patience))
})

/** Returns where the bytes of connections are counted, when somebody keeps metrics: the counter is brought up to date when it is read. */
const counted: Effect.Effect<Traffic | undefined, never, Scope.Scope> = Effect.gen(function* () {
  const metrics = yield* Metrics.here
  if (metrics === undefined) return undefined
  const traffic = { sent: 0 }
  let told = 0
  const tell = Effect.sync(() => {
    Metrics.families.bytesSent.update(traffic.sent - told)
    told = traffic.sent
    return []
  })
  yield* Effect.addFinalizer(() => tell)
  yield* metrics.watch(tell)
  return traffic
})

/**
 * Refuses what comes after its scope was closed, and closes with it the connections that are still open. A request is
 * upgraded when fewer than `maxPendingHellos` connections have not said hello; until then it waits, half as long as a
 * hello may take. `boundHost` is the host the HTTP server listens on.
 */
export const make = (
  policy: UpgradePolicy,
  boundHost: () => string | undefined
): Effect.Effect<Acceptor, never, RuntimeOptions | Scope.Scope> => {
  Argument.check("TransportWebSocket.acceptor", ["policy", Argument.fields(policyRules), policy])
  const trusted = trustedProxies(policy.trustedProxies ?? [])
  return Effect.gen(function* () {
    const { helloTimeout, maxFrameBytes, maxHelloFrameBytes, maxPendingHellos } = yield* RuntimeOptions
    const traffic = yield* counted
    const open = new Set<Connection>()
    const accepted = yield* Mailbox.make<Connection>()
    let stopping = false
    yield* Effect.addFinalizer(() =>
      Effect.zipRight(
        accepted.end,
        Effect.forEach(
          [...open],
          (connection) => connection.close(closeCode.goingAway, "server is stopping"),
          {
            concurrency: "unbounded",
            discard: true
          }
        )
      )
    )
    const patience = Door.patience(helloTimeout)
    const full = isFull(patience)
    const door = yield* Door.make({
      places: maxPendingHellos,
      patience,
      share: yield* TurnShare
    })
    yield* Effect.addFinalizer(() =>
      Effect.sync(() => {
        stopping = true
      })
    )

    const wss = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: maxFrameBytes,
      autoPong: false
    })

    /** Apart from the request, which is not to be held as long as the connection is. */
    const serve = (
      ws: WebSocket,
      socket: Socket,
      shown: { readonly client: string; readonly evidence: Evidence; readonly exposed: boolean },
      leave: () => void
    ) => {
      socket.setNoDelay(true)
      socket.setKeepAlive(true, 30_000)
      const through = `${socket.remoteAddress ?? "unknown"}:${socket.remotePort ?? 0}`
      const isProxied = shown.client !== plainAddress(socket.remoteAddress ?? "unix")
      const connection = WebSocketConnection.make(ws, socket, {
        remote: isProxied ? `${shown.client} through ${through}` : through,
        client: addressGroup(shown.client),
        exposed: shown.exposed,
        maxFrameBytes: maxHelloFrameBytes,
        maxPayload: maxFrameBytes,
        masked: false,
        evidence: shown.evidence,
        greeted: Effect.sync(leave),
        traffic
      })
      open.add(connection)
      // After the reader was told: its place in the hello room is free then too.
      ws.once("close", () => {
        open.delete(connection)
        leave()
      })
      accepted.unsafeOffer(connection)
    }

    const accept = (request: IncomingMessage, stream: Duplex, head: Buffer) => {
      const { socket } = request
      socket.on("error", noop)
      if (socket.destroyed) return
      const goAway = door.arrive({
        admit: (leave) => {
          socket.off("close", goAway)
          socket.once("close", leave)
          wss.handleUpgrade(request, stream, head, (ws) => {
            socket.off("close", leave)
            const evidence = evidenceOf(request, isTrusted(request, policy))
            const exposed = isExposed(request, trusted)
            serve(ws, socket, { client: clientAddress(request, trusted), evidence, exposed }, leave)
          })
        },
        refuse: () => refuse(stream, stopping ? isStopping : full)
      })
      socket.once("close", goAway)
    }

    const refusal = (request: IncomingMessage): UpgradeRefusal | undefined => {
      if (stopping) return isStopping
      if (hasTooManyHeaders(request))
        return { status: 431, message: "the headers of the request are too large" }
      const twice = repeatedHeader(request)
      if (twice !== undefined) return { status: 400, message: repeatedMessage(twice) }
      return check(request, boundHost(), policy)
    }
    return {
      refusal,
      accept,
      connections: Mailbox.toStream(accepted)
    }
  })
}
