/** A TCP proxy before a server, which loses, holds or cuts what a test tells it to. */
import * as Net from "node:net"

/** What becomes of a chunk: it goes on, or the connection ends without it. */
export type Judge = (chunk: Buffer, from: "client" | "server") => "pass" | "cut"

/** Where a connection leads. */
export interface Target {
  readonly host: string
  readonly port: number
}

/** `held`: connections are made and stay, and nothing passes. `cut`: there are none. */
export type Passage = "open" | "held" | "cut"

export class TcpProxy {
  judge: Judge = () => "pass"
  private current: Passage = "open"
  private readonly sockets = new Set<Net.Socket>()
  private readonly server: Net.Server

  private constructor(private readonly targetOf: () => Target | undefined) {
    this.server = Net.createServer((client) => this.accept(client))
  }

  /** `target` may be another one for each connection; where it is none the connection ends. */
  static async start(target: Target | (() => Target | undefined)): Promise<TcpProxy> {
    const proxy = new TcpProxy(typeof target === "function" ? target : () => target)
    await new Promise<void>((resolve) => proxy.server.listen(0, "127.0.0.1", resolve))
    return proxy
  }

  get port(): number {
    return (this.server.address() as Net.AddressInfo).port
  }

  get passage(): Passage {
    return this.current
  }
  set passage(passage: Passage) {
    this.current = passage
    for (const socket of this.sockets)
      if (passage === "cut") socket.destroy()
      else if (passage === "held") socket.pause()
      else socket.resume()
  }

  async stop(): Promise<void> {
    for (const socket of this.sockets) socket.destroy()
    await new Promise((resolve) => this.server.close(resolve))
  }

  private accept(client: Net.Socket): void {
    client.on("error", () => undefined)
    const target = this.current === "cut" ? undefined : this.targetOf()
    if (target === undefined) {
      client.destroy()
      return
    }
    const server = Net.connect(target)
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
    if (this.current === "held") for (const socket of [client, server]) socket.pause()
  }
}
