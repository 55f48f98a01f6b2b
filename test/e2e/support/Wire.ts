import WebSocket from "ws"

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

export const dialWebSocket = (
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
