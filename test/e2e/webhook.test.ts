/** `arcp serve --webhook`: people are told, also when neither side was there at the same time. */
import { createHmac } from "node:crypto"
import { writeFileSync } from "node:fs"
import { createServer, type IncomingHttpHeaders } from "node:http"
import type { AddressInfo } from "node:net"
import { join } from "node:path"
import { expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { ownServers } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const own = ownServers({ concurrent: true })

interface Received {
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

/** Whoever is told; `waitFor` gives the request with that number, from 1. */
const receiver = async () => {
  const received: Array<Received> = []
  const waiting = new Set<() => void>()
  const state = { status: 503 }
  const server = createServer((request, response) => {
    let body = ""
    request.setEncoding("utf8").on("data", (text: string) => {
      body += text
    })
    request.on("end", () => {
      response.writeHead(state.status).end()
      received.push({ headers: request.headers, body })
      for (const wake of waiting) wake()
    })
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}/`,
    state,
    received,
    waitFor: (find: (all: ReadonlyArray<Received>) => Received | undefined) =>
      new Promise<Received>((resolve) => {
        const look = () => {
          const found = find(received)
          if (found === undefined) return
          waiting.delete(look)
          resolve(found)
        }
        waiting.add(look)
        look()
      }),
    close: () => {
      server.closeAllConnections()
      server.close()
    }
  }
}

it("a call that is owed survives kill -9, comes with the same id, signed, and without what was said", async () => {
  verifies("hooks-owed")
  const there = await receiver()
  try {
    const key = Buffer.alloc(32, 5)
    const file = join(own.directory(), "secret")
    writeFileSync(file, `whsec_${key.toString("base64")}\n`)
    const db = join(own.directory(), "arcp.db")
    const flags = ["--db", db, "--webhook", there.url, "--webhook-secret-file", file]
    const first = await own.start(...flags)
    const client = await WireClient.open(first.url)
    const { accepted } = await client.run("echo", "something private")
    const before = await there.waitFor((all) => all[0])
    await first.kill()
    await client.closing()
    there.state.status = 204
    const second = await own.start(...flags)
    const count = there.received.length
    const after = await there.waitFor((all) => all[count])
    expect(after.headers["webhook-id"]).toBe(before.headers["webhook-id"])
    expect(JSON.parse(after.body)).toMatchObject({
      type: "job.ended",
      data: { job_id: accepted.job_id, agent: "echo@1.0.0", principal: "alice", status: "success" }
    })
    expect(after.body).not.toContain("private")
    const signed = `${after.headers["webhook-id"]}.${after.headers["webhook-timestamp"]}.${after.body}`
    expect(after.headers["webhook-signature"]).toBe(
      `v1,${createHmac("sha256", key).update(signed).digest("base64")}`
    )
    // What was taken does not come again.
    const next = await WireClient.open(second.url)
    const other = await next.run("echo", 2)
    await there.waitFor((all) => all.find(({ body }) => body.includes(String(other.accepted.job_id))))
    expect(
      there.received.filter(({ headers }) => headers["webhook-id"] === after.headers["webhook-id"]).length
    ).toBe(count + 1)
  } finally {
    there.close()
  }
})
