/** A TCP proxy before a server, which loses what a test tells it to lose. */
import * as Net from "node:net"

/** What becomes of a chunk: it goes on, or the connection ends without it. */
export type Judge = (chunk: Buffer, from: "client" | "server") => "pass" | "cut"

export class TcpProxy {
  judge: Judge = () => "pass"
  private readonly sockets = new Set<Net.Socket>()
  private readonly server: Net.Server

  private constructor(readonly target: { readonly host: string; readonly port: number }) {
    this.server = Net.createServer((client) => this.accept(client))
  }

  static async start(target: { readonly host: string; readonly port: number }): Promise<TcpProxy> {
    const proxy = new TcpProxy(target)
    await new Promise<void>((resolve) => proxy.server.listen(0, "127.0.0.1", resolve))
    return proxy
  }

  get port(): number {
    return (this.server.address() as Net.AddressInfo).port
  }

  async stop(): Promise<void> {
    for (const socket of this.sockets) socket.destroy()
    await new Promise((resolve) => this.server.close(resolve))
  }

  private accept(client: Net.Socket): void {
    const server = Net.connect(this.target)
    for (const socket of [client, server]) {
      this.sockets.add(socket)
      socket.setNoDelay(true)
      socket.on("error", () => undefined)
      socket.on("close", () => this.sockets.delete(socket))
    }
    client.on("close", () => server.destroy())
    server.on("close", () => client.destroy())
    const forward = (from: "client" | "server", source: Net.Socket, target: Net.Socket) =>
      source.on("data", (chunk: Buffer) => {
        if (this.judge(chunk, from) === "pass") target.write(chunk)
        else client.destroy()
      })
    forward("client", client, server)
    forward("server", server, client)
  }
}
