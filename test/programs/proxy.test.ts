/** `arcp submit` as a process of its own, through the proxy that its environment names. */

import { once } from "node:events"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import { type AddressInfo, connect, type Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createServer as createTlsServer } from "node:tls"
import { afterAll, afterEach, beforeEach, expect, it } from "vitest"
import { listening, Program } from "../e2e/support/Program.js"
import { selfSigned } from "../layers/transport/certificate.js"

const folder = mkdtempSync(join(tmpdir(), "arcp-proxy-"))
afterAll(() => rmSync(folder, { recursive: true }))

const ends: Array<() => unknown> = []
afterEach(async () => {
  for (const end of ends.splice(0)) await end()
})
const started = (args: ReadonlyArray<string>, env: NodeJS.ProcessEnv = {}) => {
  const program = new Program(args, env)
  ends.push(() => {
    program.signal("SIGKILL")
    return program.exited
  })
  return program
}

/** Of the surroundings no proxy, and no exception from one. */
const without = Object.fromEntries(
  ["http_proxy", "https_proxy", "all_proxy", "no_proxy"].flatMap((name) =>
    [name, name.toUpperCase()].map((as) => [as, undefined] as const)
  )
)

/** A proxy for CONNECT that wants a password; what it was asked for. */
const proxy = async () => {
  const asked: Array<string> = []
  const sockets = new Set<Socket>()
  const server = createServer((_, response) => response.writeHead(405).end())
  server.on("connection", (socket) => sockets.add(socket))
  server.on("connect", (request, socket, head) => {
    socket.on("error", () => {})
    const known = request.headers["proxy-authorization"] === `Basic ${btoa("me:secret")}`
    asked.push(`${known ? "" : "unknown: "}${request.url}`)
    if (!known) return socket.end("HTTP/1.1 407 Proxy Authentication Required\r\nConnection: close\r\n\r\n")
    const upstream = connect(Number(request.url?.split(":")[1]), "127.0.0.1", () => {
      socket.write("HTTP/1.1 200 Connection established\r\n\r\n")
      upstream.write(head)
      upstream.pipe(socket).pipe(upstream)
    })
    sockets.add(upstream)
    upstream.on("error", () => socket.destroy())
  })
  server.listen(0, "127.0.0.1")
  await once(server, "listening")
  ends.push(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { asked, host: `127.0.0.1:${(server.address() as AddressInfo).port}` }
}

let address: URL
beforeEach(async () => {
  const args = [
    "--memory",
    "--port",
    "0",
    "--agents",
    "conformance",
    "--token",
    "t=me",
    "--allow-host",
    "localhost"
  ]
  address = new URL(await listening(started(["serve", ...args])))
})

const submit = async (url: string, env: NodeJS.ProcessEnv, ...flags: ReadonlyArray<string>) => {
  const args = ["submit", "echo", "--input", '"x"', "--json", "--token", "t", "--url", url, ...flags]
  const program = started(args, { ...without, ...env })
  const { code } = await program.leaves(60_000)
  return { code, stdout: program.stdout, stderr: program.stderr }
}

it("a job is submitted through HTTP_PROXY, with its user and password, and not where NO_PROXY says so", async () => {
  const { asked, host } = await proxy()
  const HTTP_PROXY = `http://me:secret@${host}`
  const through = await submit(address.href, { HTTP_PROXY })
  expect(through.stdout).toMatch(/"result":"x"/)
  expect(through.code).toBe(0)
  expect(asked).toEqual([address.host])
  expect((await submit(address.href, { HTTP_PROXY, NO_PROXY: "127.0.0.1" })).code).toBe(0)
  expect(asked).toHaveLength(1)
})

it("a job is submitted over TLS through HTTPS_PROXY", async () => {
  const { cert, key } = selfSigned()
  const ca = join(folder, "ca.pem")
  writeFileSync(ca, cert)
  const tls = createTlsServer({ cert, key }, (socket) => {
    const upstream = connect(Number(address.port), "127.0.0.1")
    for (const end of [socket, upstream]) end.on("error", () => {})
    socket.pipe(upstream).pipe(socket)
    ends.push(() => socket.destroy())
  })
  tls.listen(0, "127.0.0.1")
  await once(tls, "listening")
  ends.push(() => tls.close())
  const { asked, host } = await proxy()
  const { port } = tls.address() as AddressInfo
  const url = `wss://localhost:${port}/arcp`
  const { code, stdout, stderr } = await submit(url, {
    HTTPS_PROXY: `http://me:secret@${host}`,
    NODE_EXTRA_CA_CERTS: ca
  })
  expect(stdout, stderr).toMatch(/"result":"x"/)
  expect(code).toBe(0)
  expect(asked).toEqual([`localhost:${port}`])
})

it("a proxy that refuses is named, without its password", async () => {
  const { host } = await proxy()
  const { code, stderr } = await submit(
    address.href,
    { HTTP_PROXY: `http://me:wrong@${host}` },
    "--give-up-after",
    "1s"
  )
  expect(stderr).toMatch(/^\{"type":"error",.*proxy/im)
  expect(stderr).toMatch(/407/)
  expect(stderr).not.toMatch(/wrong/)
  expect(code).not.toBe(0)
})
