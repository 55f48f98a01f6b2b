import WebSocket from "ws"
import { beyond } from "../../support/currentTest.js"

/** How a transport ended: the WebSocket close code, or a process's exit code over stdio. */
export interface Closure {
  readonly code: number
  readonly reason: string
}

export interface WireListener {
  readonly text: (text: string) => void
  readonly closed: (closure: Closure) => void
}

/** A transport without any notion of the protocol. */
export interface Wire {
  readonly send: (text: string | Uint8Array) => void
  readonly close: () => void
  /** Ends it without any goodbye, as a network does. */
  readonly drop: () => void
  readonly pause: () => void
  readonly resume: () => void
}

/** What a frame is where there are no others. */
export const textOnly = (frame: string | Uint8Array): string =>
  typeof frame === "string"
    ? frame
    : beyond("it sends a binary frame, which only a WebSocket can tell from text")

type Dial = (listener: WireListener) => Promise<Wire>

const endpoints = new Map<string, Dial>()

/** Gives what is dialled by `dial` an address: `stdio:1`, `memory:2`. */
export const endpoint = (scheme: string, dial: Dial): string => {
  const address = `${scheme}:${endpoints.size + 1}`
  endpoints.set(address, dial)
  return address
}

/** Connects to an address, of whatever transport. */
export const dial = (
  address: string,
  listener: WireListener,
  options?: WebSocket.ClientOptions
): Promise<Wire> => endpoints.get(address)?.(listener) ?? dialWebSocket(address, listener, options)

const dialWebSocket = (
  url: string,
  listener: WireListener,
  options: WebSocket.ClientOptions = {}
): Promise<Wire> =>
  new Promise((resolve, reject) => {
    const socket = new WebSocket(url, { perMessageDeflate: false, handshakeTimeout: 10_000, ...options })
    socket.on("message", (data, isBinary) => {
      listener.text(isBinary ? "(binary frame)" : data.toString())
    })
    socket.on("close", (code, reason) => listener.closed({ code, reason: reason.toString() }))
    socket.on("error", reject)
    socket.on("open", () =>
      resolve({
        send: (text) => socket.send(text),
        close: () => socket.close(),
        drop: () => socket.terminate(),
        pause: () => socket.pause(),
        resume: () => socket.resume()
      })
    )
  })
