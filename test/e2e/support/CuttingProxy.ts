/** A TCP proxy that cuts its connections, at moments a seed chooses: in the middle of frames and handshakes too. */
import * as Net from "node:net"
import type { seeded } from "./random.js"

export interface CutOptions {
  readonly port: number
  readonly random: ReturnType<typeof seeded>
  /** So many connections are cut; those after them stay. */
  readonly cuts: number
  /** A cut comes at the latest after so many bytes from the server, or so many milliseconds. */
  readonly maxBytes: number
  readonly maxMs: number
}

/** A connection's answer to the upgrade and its `session.welcome` fit in so many bytes. */
const handshakeBytes = 1_200

export class CuttingProxy {
  /** How often which moment was met. */
  readonly cut = { total: 0, inHandshake: 0, toServer: 0, halfOpen: 0 }
  private readonly sockets = new Set<Net.Socket>()
  private readonly server: Net.Server

  private constructor(private readonly options: CutOptions) {
    this.server = Net.createServer((socket) => this.accept(socket))
  }

  static async start(options: CutOptions): Promise<CuttingProxy> {
    const proxy = new CuttingProxy(options)
    await new Promise<void>((resolve) => proxy.server.listen(0, "127.0.0.1", resolve))
    return proxy
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.server.address() as Net.AddressInfo).port}/arcp`
  }

  async stop(): Promise<void> {
    for (const socket of this.sockets) socket.destroy()
    await new Promise((resolve) => this.server.close(resolve))
  }

  private accept(client: Net.Socket): void {
    const { maxBytes, maxMs, port, random } = this.options
    const server = Net.connect(port, "127.0.0.1")
    for (const socket of [client, server]) {
      this.sockets.add(socket)
      socket.setNoDelay(true)
      socket.on("error", () => {})
      socket.on("close", () => this.sockets.delete(socket))
    }
    client.on("close", () => server.destroy())
    server.on("close", () => client.destroy())
    if (this.cut.total >= this.options.cuts) {
      client.pipe(server)
      server.pipe(client)
      return
    }
    this.cut.total++

    const how = random.next()
    const early = how < 0.25
    const toServer = how > 0.9
    const halfOpen = random.next() < 0.2
    let left = early
      ? 1 + random.below(handshakeBytes)
      : toServer
        ? 350 + random.below(1_500)
        : random.below(maxBytes)
    let over = false
    const timer = setTimeout(() => end(), 1 + random.below(maxMs))
    const end = () => {
      if (over) return
      over = true
      clearTimeout(timer)
      if (early) this.cut.inHandshake++
      if (toServer) this.cut.toServer++
      if (halfOpen) {
        // The server does not learn of it: it is left with a connection that swallows what it sends.
        this.cut.halfOpen++
        client.removeAllListeners("close")
        server.removeAllListeners("data").resume()
      }
      // What was passed on is delivered first, else a cut would seldom be in the middle of something.
      if (random.next() < 0.5) client.end(() => client.destroy())
      else client.resetAndDestroy()
      if (!halfOpen) server.destroy()
    }
    const forward = (from: Net.Socket, to: Net.Socket, counted: boolean) =>
      from.on("data", (data) => {
        if (over) return
        const part = counted ? data.subarray(0, left) : data
        if (counted) left -= part.length
        if (part.length > 0 && !to.write(part)) {
          from.pause()
          to.once("drain", () => from.resume())
        }
        if (counted && left === 0) end()
      })
    forward(client, server, toServer)
    forward(server, client, !toServer)
  }
}
