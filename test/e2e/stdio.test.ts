import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { dialStdio, ownServers, serveArgs } from "./support/Server.js"
import type { SessionRecord } from "./support/SessionRecord.js"
import { WireClient } from "./support/WireClient.js"

const own = ownServers({ concurrent: true })

const start = async (args: ReadonlyArray<string>, session?: SessionRecord, from?: number) => {
  const program = own.program(serveArgs(["--transport", "stdio", ...args]))
  return { program, client: await WireClient.over(dialStdio(program), session, from) }
}

describe.concurrent("stdio", () => {
  it("speaks the same protocol, and stdout carries envelopes only", async () => {
    verifies("stdio-envelopes", "stdio-same-protocol")
    const { client, program } = await start(["--memory"])
    await client.hello()
    const { terminal } = await client.run("echo", { text: "two\nlines ✓" })
    expect(terminal.payload.result).toEqual({ text: "two\nlines ✓" })
    const running = await client.accept("emit", { count: 2_000, batch: 16 })
    const sleeping = await client.accept("sleep", { ms: 60_000 })
    await client.ping()
    client.request("job.cancel", {}, { job_id: sleeping.job_id })
    expect((await client.terminal(sleeping.job_id)).payload.code).toBe("CANCELLED")
    expect((await client.terminal(running.job_id)).payload.result).toEqual({ count: 2_000 })
    // A line that is no frame is already a violation of the client; here, that nothing came before.
    expect(program.stdout.startsWith('{"')).toBe(true)
    expect(client.frames[0]?.type).toBe("session.welcome")
  })

  it("a malformed line is answered and the session lives on", async () => {
    verifies("malformed-answer", "stdio-same-protocol")
    const { client } = await start(["--memory"])
    await client.hello()
    client.sendText("{nope")
    expect((await client.nextOf("session.error")).payload.code).toBe("INVALID_REQUEST")
    await client.run("echo", 1)
  })

  it("frames may arrive in pieces, cut anywhere", async () => {
    verifies("stdio-same-protocol")
    const { client, program } = await start(["--memory"])
    await client.hello()
    const payload = { agent: "echo", input: "✓".repeat(100) }
    const session_id = client.session.id
    const frame = { arcp: "1.1", id: "cut-1", type: "job.submit", session_id, payload }
    const bytes = new TextEncoder().encode(`${JSON.stringify(frame)}\n`)
    for (let at = 0; at < bytes.length; at += 7) {
      program.child.stdin?.write(bytes.slice(at, at + 7))
      await new Promise((resolve) => setImmediate(resolve))
    }
    const accepted = await client.answer("cut-1")
    expect((await client.terminal(accepted.job_id)).payload.result).toBe("✓".repeat(100))
  })

  it("a wrong token is refused and the program leaves", async () => {
    verifies("auth-unauthenticated", "stdio-same-protocol")
    const { client, program } = await start(["--memory"])
    client.sendHello({ token: "nobody" })
    expect((await client.nextOf("session.error")).payload.code).toBe("UNAUTHENTICATED")
    await program.leaves()
  })

  it("when stdin ends the program leaves; started again, the session resumes", async () => {
    verifies("stdio-resume", "restart-resume")
    const db = join(own.directory(), "arcp.db")
    const first = await start(["--db", db])
    await first.client.hello()
    await first.client.run("emit", { count: 5 })
    first.program.child.stdin?.end()
    expect((await first.program.leaves()).code).toBe(0)
    const { session } = first.client
    const second = await start(["--db", db], session, 2)
    const resume = { session_id: session.id, resume_token: session.resumeToken, last_event_seq: 2 }
    await second.client.hello({ payload: { resume } })
    await second.client.next(({ event_seq }) => event_seq === 7)
    await second.client.run("echo", 1)
  })
})
