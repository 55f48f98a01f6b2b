import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { ownServers, type Server } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const own = ownServers({ concurrent: true })

/** Until nobody new gets a session: refused at the socket, or by an error in place of the welcome. */
const stopsAccepting = async (server: Server) => {
  const deadline = performance.now() + 40_000
  const welcomed = () =>
    WireClient.open(server.url, { token: "tok-b" }).then(
      (client) => {
        client.drop()
        return true
      },
      () => false
    )
  while (await welcomed()) {
    if (performance.now() > deadline) throw new Error("still giving sessions after 40 s")
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

describe.concurrent("shutdown", () => {
  it.each(["SIGTERM", "SIGINT"] as const)("%s: bye to every session, exit 0", async (signal) => {
    verifies("shutdown-bye", "shutdown-exit")
    const server = await own.start("--memory")
    const clients = [await WireClient.open(server.url), await WireClient.open(server.url, { token: "tok-b" })]
    await clients[0]?.run("echo", 1)
    server.program.signal(signal)
    for (const client of clients) {
      expect((await client.nextOf("session.bye")).payload["reason"]).toBe("shutdown")
      await client.closing()
    }
    expect(await server.program.leaves()).toEqual({ code: 0, signal: null })
  })

  it("a job that ends within the grace is delivered before the bye, and survives on disk", async () => {
    verifies("shutdown-grace", "shutdown-flushed")
    const db = join(own.directory(), "arcp.db")
    const server = await own.start("--db", db)
    const client = await WireClient.open(server.url)
    const { job_id } = await client.accept("emit", { count: 10, delayMs: 30 })
    await client.next(({ event_seq }) => event_seq === 2)
    server.program.signal("SIGTERM")
    expect((await client.terminal(job_id)).payload.result).toEqual({ count: 10 })
    await client.nextOf("session.bye")
    expect(client.frames.at(-1)?.type).toBe("session.bye")
    expect((await server.program.leaves()).code).toBe(0)
    const next = await own.start("--db", db)
    const again = await WireClient.resume(next.url, client.session, { from: 0 })
    await again.terminal(job_id)
    expect(again.session.lastSeq).toBe(12)
  })

  it("a job that does not end is not waited for longer than the grace", async () => {
    verifies("shutdown-grace", "shutdown-exit")
    const server = await own.start("--memory", "--limit", "shutdownGraceMs=300", "--cancel-grace-ms", "300")
    const client = await WireClient.open(server.url)
    await client.accept("sleep", { ms: 600_000 })
    await client.accept("stubborn", { ms: 600_000 })
    server.program.signal("SIGTERM")
    await client.nextOf("session.bye")
    expect((await server.program.leaves()).code).toBe(0)
  })

  it("a second signal exits at once", async () => {
    verifies("shutdown-second-signal", "shutdown-stops-accepting")
    const server = await own.start("--memory", "--limit", "shutdownGraceMs=60000")
    const client = await WireClient.open(server.url)
    await client.accept("stubborn", { ms: 600_000 })
    server.program.signal("SIGTERM")
    await stopsAccepting(server)
    expect(server.program.exit).toBeUndefined()
    server.program.signal("SIGTERM")
    await server.program.leaves(40_000)
  })
})
