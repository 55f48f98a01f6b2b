/** A proxy that has a server below a prefix of its own, as reverse proxies do for many servers at one name. */
import * as Http from "node:http"
import type { AddressInfo, Socket } from "node:net"

/** Starts one for the server at a port; what is not below the prefix is 404. */
export const belowPrefix = async (prefix: string, port: string) => {
  const sockets = new Set<Socket>()
  const onward = ({ headers, method, url = "" }: Http.IncomingMessage) =>
    Http.request({ host: "127.0.0.1", port, method, path: url.slice(prefix.length) || "/", headers })
  const proxy = Http.createServer((request, response) => {
    if (request.url?.startsWith(`${prefix}/`) !== true) return void response.writeHead(404).end()
    const asked = onward(request)
    asked.on("response", (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(response)
    })
    asked.on("error", () => response.destroy())
    request.pipe(asked)
  })
  proxy.on("connection", (socket) => {
    sockets.add(socket)
    socket.on("close", () => sockets.delete(socket))
  })
  proxy.on("upgrade", (request, socket, head) => {
    if (request.url?.startsWith(`${prefix}/`) !== true) return void socket.destroy()
    const asked = onward(request)
    asked.on("upgrade", (answer, far, rest) => {
      const lines = Object.entries(answer.headers).map(([name, value]) => `${name}: ${value}\r\n`)
      socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join("")}\r\n`)
      socket.write(rest)
      far.write(head)
      far.pipe(socket).pipe(far)
      for (const each of [far, socket]) each.on("error", () => each.destroy())
    })
    asked.on("error", () => socket.destroy())
    asked.on("response", () => socket.destroy())
    asked.end()
  })
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve))
  return {
    origin: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    stop: () =>
      new Promise<void>((resolve) => {
        proxy.close(() => resolve())
        for (const socket of sockets) socket.destroy()
      })
  }
}
