/** A connection over `ws`, the same on the server and the client side. */

import type { Socket } from "node:net"
import * as Effect from "effect/Effect"
import { WebSocket } from "ws"
import {
  Closed,
  type Connection,
  closeCode,
  type Evidence,
  Unreadable
} from "../../services/transport/Transport.js"
import { tooBig } from "./Inbox.js"
import { PausingInbox } from "./PausingInbox.js"
import { StreamWriter, type Traffic } from "./StreamWriter.js"
import { encodeTextFrames } from "./textFrames.js"

/** Milliseconds a closing handshake may take before the socket is destroyed. */
const closeGraceMs = 2_000
/** What one read from the socket may hold beyond the frame that is being received. */
const readAheadBytes = 64 * 1024
/** A close frame holds 125 bytes, two of them the code. */
const maxReasonBytes = 123

const noop = () => {}

const isSendable = (code: number) =>
  (code >= 1000 && code <= 1014 && code !== 1004 && code !== 1005 && code !== 1006) ||
  (code >= 3000 && code <= 4999)

const clip = (reason: string): string => {
  const bytes = Buffer.from(reason)
  // A character cut in half decodes to U+FFFD, which is itself three bytes: leave room for it.
  return bytes.length <= maxReasonBytes ? reason : bytes.toString("utf8", 0, maxReasonBytes - 3)
}

/** The close code with which `ws` answered a frame it could not accept. */
const receiveErrorCode = (error: Error & { readonly code?: unknown }): number => {
  switch (error.code) {
    case "WS_ERR_UNSUPPORTED_MESSAGE_LENGTH":
      return closeCode.tooBig
    case "WS_ERR_INVALID_UTF8":
      return 1007
    case "WS_ERR_TOO_MANY_BUFFERED_PARTS":
      return closeCode.policy
    default:
      return typeof error.code === "string" && error.code.startsWith("WS_ERR_")
        ? closeCode.protocolError
        : closeCode.abnormal
  }
}

/** Options of a connection over a WebSocket. */
export interface Options {
  readonly remote: string
  /** See `Connection.client`. */
  readonly client?: string | undefined
  /** See `Connection.exposed`. */
  readonly exposed?: boolean | undefined
  /** Largest inbound frame until `setMaxFrameBytes`, in bytes. */
  readonly maxFrameBytes: number
  /** What `ws` itself enforces (its `maxPayload`), in bytes. */
  readonly maxPayload: number
  /** This is the client's side. */
  readonly masked: boolean
  /** What the peer has shown while it connected. */
  readonly evidence?: Evidence | undefined
  /** See `Connection.greeted`. */
  readonly greeted?: Effect.Effect<void> | undefined
  /** Where what is sent is counted. */
  readonly traffic?: Traffic | undefined
}

/** Given once and then forgotten: headers are long, and connections many. */
const once = (evidence: Evidence) => {
  let kept: Evidence | undefined = evidence
  return Effect.sync(() => {
    const given = kept ?? {}
    kept = undefined
    return given
  })
}

/** Takes an open `ws` (made with `autoPong: false`) and the raw socket below it. */
export const make = (ws: WebSocket, socket: Socket, options: Options): Connection => {
  // Apart, so that what goes on does not hold the evidence.
  const { client, evidence, exposed, masked, maxPayload, remote } = options
  const inbox = new PausingInbox({ pause: () => ws.pause(), resume: () => ws.resume() })
  const writer = new StreamWriter(
    socket,
    (frames, taken) => {
      // A client's frames are masked, which `ws` does; a server's go out as they are.
      if (masked) for (const frame of frames) ws.send(frame, taken)
      else if (ws.readyState === WebSocket.OPEN) socket.write(encodeTextFrames(frames), taken)
    },
    options.traffic
  )
  let timer: ReturnType<typeof setTimeout> | undefined
  let maxFrameBytes = options.maxFrameBytes

  const end = (closed: Closed) => {
    inbox.end(closed)
    writer.release()
    ws.resume()
    timer ??= setTimeout(() => ws.terminate(), closeGraceMs)
  }

  const close = (code: number, reason: string) => {
    // Looked at first: an error takes time to make, and all connections are closed at their end.
    if (inbox.ended) return
    end(new Closed({ code, reason }))
    if (isSendable(code)) ws.close(code, clip(reason))
    else ws.terminate()
  }

  const closeTooBig = () => {
    const { code, reason } = tooBig(maxFrameBytes)
    close(code, reason)
  }

  // `ws` checks frames against its fixed maxPayload only. While our limit is lower, count what arrives
  // without completing a frame, so that an unknown peer cannot make us hold more than it may send.
  let unfinished = 0
  let completed = false
  const count = (data: Buffer) => {
    unfinished = completed ? data.length : unfinished + data.length
    completed = false
    if (unfinished <= maxFrameBytes + readAheadBytes) return
    closeTooBig()
    // The rest of the frame is read and thrown away, so that the peer gets to read the close frame.
    socket.removeAllListeners("data")
    socket.on("data", noop)
    socket.end()
  }
  const setMaxFrameBytes = (bytes: number) => {
    maxFrameBytes = bytes
    unfinished = 0
    socket.removeListener("data", count)
    if (bytes < maxPayload && !inbox.ended) socket.on("data", count)
  }
  setMaxFrameBytes(maxFrameBytes)

  ws.on("message", (data: Buffer, isBinary: boolean) => {
    completed = true
    if (isBinary) inbox.offer(new Unreadable({ reason: "binary frame" }), data.length)
    else if (data.length > maxFrameBytes) closeTooBig()
    else inbox.offer(data.toString(), data.length)
  })
  // Answered by hand: a peer that pings and never reads must not fill the send buffer.
  ws.on("ping", (data: Buffer) => {
    if (ws.readyState === WebSocket.OPEN && !socket.writableNeedDrain) ws.pong(data)
  })
  ws.on("error", (error) => end(new Closed({ code: receiveErrorCode(error), reason: error.message })))
  ws.on("close", (code: number, reason: Buffer) => {
    if (!inbox.ended) end(new Closed({ code, reason: reason.toString() }))
    clearTimeout(timer)
  })

  return {
    kind: "websocket",
    remote,
    client,
    exposed,
    ...(evidence === undefined ? {} : { evidence: once(evidence) }),
    take: inbox.take,
    send: (frames) => writer.send(frames),
    progress: writer.progress,
    close: (code, reason) =>
      Effect.async<void>((resume) => {
        close(code, reason)
        if (ws.readyState === WebSocket.CLOSED) return resume(Effect.void)
        const gone = () => resume(Effect.void)
        ws.once("close", gone)
        return Effect.sync(() => ws.off("close", gone))
      }),
    setMaxFrameBytes: (bytes) => Effect.sync(() => setMaxFrameBytes(bytes)),
    ...(options.greeted === undefined ? {} : { greeted: options.greeted })
  }
}
