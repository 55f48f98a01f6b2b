/** Dials a runtime over the WebSocket that browsers (and Node from 22) bring along (§4). No Node built-ins. */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Scope from "effect/Scope"
import { amiss } from "../../protocol/amounts.js"
import { byteLength, exceeds } from "../../protocol/Utf8.js"
import { called } from "../../services/runtime/called.js"
import { onLeave } from "../../services/runtime/onLeave.js"
import { eventLoop } from "../../services/runtime/Turn.js"
import { timerMillis } from "../../services/runtime/timerMillis.js"
import {
  Closed,
  type Connection,
  closeCode,
  Dialer,
  TransportError,
  Unreadable
} from "../../services/transport/Transport.js"
import { type DialOptions, defaults, label, refusal } from "./DialPolicy.js"
import { Inbox, tooBig } from "./Inbox.js"

/** Options of a dialer over the platform's own `WebSocket`. */
export interface Options extends DialOptions {
  /** Default: `globalThis.WebSocket`. */
  readonly WebSocket?: (new (url: string) => WebSocket) | undefined
  /**
   * Bytes held for a consumer that does not take them, 256 more for each frame. This API cannot pause its socket, so beyond this
   * the connection is closed (1013) and the session has to be resumed. Default: 64 MiB.
   */
  readonly maxHeldBytes?: number | undefined
}

const closeGraceMs = 2_000
/** Unsent bytes above which a sender waits; there is no event for it, so it looks again at intervals. */
const highWaterBytes = 256 * 1024
const drainPollMs = 10
const maxHeldBytesDefault = 64 * 1024 * 1024
/** A reason has at most 123 bytes; this many characters never have more. */
const maxReasonChars = 41

/** What a frame takes beside its text, in bytes. */
const frameOverhead = 256

/** A frame: a string, or a binary one: a `Blob` in browsers, in Bun a `Buffer`, and an `ArrayBuffer` where that is asked for. */
interface Data {
  readonly length?: number | undefined
  readonly size?: number | undefined
  readonly byteLength?: number | undefined
}

/** What is used of an open `WebSocket`, whoever made it. */
interface Open {
  readonly OPEN: number
  readonly CLOSED: number
  readonly readyState: number
  readonly bufferedAmount: number
  readonly send: (text: string) => void
  readonly close: (code: number, reason: string) => void
  addEventListener(type: "message", listener: (event: { readonly data: Data }) => void): void
  addEventListener(
    type: "close",
    listener: (event: { readonly code: number; readonly reason: string }) => void
  ): void
}

/** Makes a connection of an open socket. */
export const fromOpen = (ws: Open, options: Options): Connection => {
  const maxHeldBytes = options.maxHeldBytes ?? maxHeldBytesDefault
  let maxFrameBytes = options.maxFrameBytes ?? defaults.maxFrameBytes
  const inbox = new Inbox()
  let handed = 0
  const close = (closed: Closed) => {
    if (inbox.ended) return
    inbox.end(closed)
    // Browsers let pages send 1000 and the private codes only.
    ws.close(closed.code < 3000 ? closeCode.normal : closed.code, closed.reason.slice(0, maxReasonChars))
  }
  ws.addEventListener("message", ({ data }) => {
    const isText = typeof data === "string"
    const size = data.length ?? data.size ?? data.byteLength ?? 0
    if (isText ? exceeds(data, maxFrameBytes) : size > maxFrameBytes) return close(tooBig(maxFrameBytes))
    // What a frame is held in counts too: of empty ones there may be any number.
    const bytes = size + frameOverhead
    if (inbox.held + bytes > maxHeldBytes)
      close(new Closed({ code: closeCode.tryLater, reason: "frames are not taken" }))
    else inbox.offer(isText ? data : new Unreadable({ reason: "binary frame" }), bytes)
  })
  ws.addEventListener("close", ({ code, reason }) => inbox.end(new Closed({ code, reason })))

  const room = called((back) => {
    const timer = setInterval(() => {
      if (ws.readyState === ws.OPEN && ws.bufferedAmount > highWaterBytes) return
      clearInterval(timer)
      back()
    }, drainPollMs)
    return () => clearInterval(timer)
  })

  return {
    kind: "websocket",
    remote: label(options.url),
    take: inbox.take,
    send: (frames) =>
      Effect.suspend(() => {
        if (ws.readyState !== ws.OPEN) return eventLoop.next
        for (const frame of frames) {
          handed += byteLength(frame)
          ws.send(frame)
        }
        return ws.bufferedAmount > highWaterBytes ? room : eventLoop.next
      }),
    progress: () => `${handed - ws.bufferedAmount}`,
    close: (code, reason) =>
      called((back) => {
        close(new Closed({ code, reason }))
        const gone = () => {
          clearTimeout(timer)
          back()
        }
        const timer = setTimeout(gone, closeGraceMs)
        ws.addEventListener("close", gone)
        if (ws.readyState === ws.CLOSED) gone()
      }),
    setMaxFrameBytes: (bytes) =>
      Effect.sync(() => {
        maxFrameBytes = bytes
      })
  }
}

const failed = (options: Options, why: unknown, cause?: unknown) =>
  new TransportError({ message: `cannot connect to ${label(options.url)}: ${why}`, cause })

const start = (options: Options): Effect.Effect<WebSocket, TransportError> =>
  Effect.suspend(() => {
    const Socket = options.WebSocket ?? globalThis.WebSocket
    try {
      return Effect.succeed(new Socket(options.url))
    } catch (cause) {
      return failed(options, Socket ? cause : "no WebSocket here: use effect-arcp/node", cause)
    }
  })

const open = (ws: WebSocket, options: Options): Effect.Effect<Connection, TransportError> =>
  Effect.async((resume) => {
    const fail = (why: string) => {
      clearTimeout(timer)
      resume(failed(options, why))
    }
    const timer = setTimeout(
      () => fail("no answer in time"),
      timerMillis(options.connectTimeout ?? defaults.connectTimeout)
    )
    // Why it failed is not told to pages.
    ws.addEventListener("error", () => fail("is it running, and this origin allowed?"))
    ws.addEventListener("open", () => {
      clearTimeout(timer)
      resume(Effect.succeed(fromOpen(ws, options)))
    })
    return Effect.sync(() => clearTimeout(timer))
  })

/** Connects; the connection is closed with the scope. */
export const connect = (options: Options): Effect.Effect<Connection, TransportError, Scope.Scope> =>
  Effect.gen(function* () {
    const refused = refusal(options)
    if (refused) return yield* refused
    const ws = yield* Effect.uninterruptible(
      Effect.flatMap(start(options), (ws) => Effect.as(onLeave(Effect.sync(() => ws.close())), ws))
    )
    const connection = yield* open(ws, options)
    // Before the socket is let go, which then has nothing more to do.
    yield* onLeave(connection.close(closeCode.normal, ""))
    return connection
  })

/** Connects over a new socket each time. Throws when an option is no amount. */
export const layer = (options: Options): Layer.Layer<Dialer> => {
  const wrong = amiss("DialerWebSocketGlobal.layer: ", options)
  if (wrong) throw wrong
  return Layer.succeedContext(Context.make(Dialer, { connect: connect(options) }))
}
