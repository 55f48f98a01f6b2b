/**
 * Requests that offer another protocol than the WebSocket, as some clients do with every request (`Upgrade: h2c`). A server may
 * ignore the offer (RFC 9110, 7.8), but Node hands all of them to whoever upgrades anything.
 */
import type { IncomingMessage, Server, ServerResponse } from "node:http"
import type { Socket } from "node:net"

const listed = (header: string): ReadonlyArray<string> => header.split(",").map((one) => one.trim())

/** Returns whether a WebSocket is not among what a request offers. */
export const isOther = ({ headers }: IncomingMessage): boolean =>
  !listed(headers.upgrade ?? "").some((one) => one.toLowerCase() === "websocket")

/** What is said to the next hop only, and about the offer. */
const offering: ReadonlySet<string> = new Set(["upgrade", "http2-settings"])

/** Returns the head of a request as it would be without the offer. */
const headOf = ({ httpVersion, method, rawHeaders, url }: IncomingMessage): string => {
  const lines = [`${method} ${url} HTTP/${httpVersion}`]
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const [name = "", value = ""] = [rawHeaders[i], rawHeaders[i + 1]]
    const lower = name.toLowerCase()
    if (offering.has(lower)) continue
    const said =
      lower === "connection"
        ? listed(value)
            .filter((one) => !offering.has(one.toLowerCase()))
            .join(", ")
        : value
    if (lower !== "connection" || said !== "") lines.push(`${name}: ${said}`)
  }
  return `${lines.join("\r\n")}\r\n\r\n`
}

/**
 * Returns what has a server read a request again, without what it offers; `head` is what has come after its headers. Answers
 * have the order of their requests, and of requests that come at once each is read here: so one after the other, and never
 * one inside another.
 */
export const readingAgain = (server: Server) => {
  /** The newest answer of each connection. */
  const newest = new WeakMap<Socket, ServerResponse>()
  server.prependListener("request", ({ socket }: IncomingMessage, response: ServerResponse) => {
    newest.set(socket, response)
  })
  return (request: IncomingMessage, head: Buffer): void => {
    const socket: Socket = request.socket
    const read = () => {
      if (socket.destroyed) return
      server.emit("encrypted" in socket ? "secureConnection" : "connection", socket)
      // Before anything that the peer sends from now on: nobody has read from it since.
      socket.emit("data", Buffer.concat([Buffer.from(headOf(request), "latin1"), head]))
    }
    const before = newest.get(socket)
    if (before === undefined || before.writableFinished) setImmediate(read)
    else before.once("finish", read)
  }
}
