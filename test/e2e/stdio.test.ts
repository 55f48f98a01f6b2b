import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { dialStdio, ownServers, serveArgs } from "./support/Server.js"
import type { SessionRecord } from "./support/SessionRecord.js"
import { WireClient } from "./support/WireClient.js"

const strays = fileURLToPath(new URL("./support/stray-agents.mjs", import.meta.url))
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

  it("a line that is too long is the last that is read; jobs get the grace, their ends are said, and bye", async () => {
    verifies("stdio-same-protocol")
    const { client, program } = await start(["--memory", "--shutdown-grace-ms", "50"])
    await client.hello()
    const { job_id } = await client.accept("sleep", { ms: 600_000 })
    client.sendText("x".repeat(3_000_000))
    expect((await client.nextOf("session.error")).payload).toMatchObject({
      code: "INVALID_REQUEST",
      message: "frame larger than 1048576 bytes",
      details: { limit: "frame_bytes" }
    })
    expect((await client.terminal(job_id)).payload.details).toEqual({ reason: "runtime_restart" })
    expect((await client.nextOf("session.bye")).payload["reason"]).toBe("shutdown")
    expect((await program.leaves()).code).toBe(0)
  })

  it.each(["ended", "not ended"])(
    "a hello that is too long, its line %s, is refused in words",
    async (how) => {
      verifies("stdio-same-protocol")
      const program = own.program(serveArgs(["--transport", "stdio", "--memory"]))
      program.child.stdin?.write("x".repeat(70_000) + (how === "ended" ? "\n" : ""))
      expect((await program.leaves()).code).toBe(0)
      const said = program.stdout.trimEnd().split("\n")
      expect(said.map((line) => JSON.parse(line))).toMatchObject([
        {
          type: "session.error",
          payload: {
            code: "INVALID_REQUEST",
            message: "the hello is larger than 65536 bytes",
            details: { limit: "frame_bytes" }
          }
        }
      ])
      expect(program.stderr).toContain("a login was refused: the hello is larger than 65536 bytes")
    }
  )

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

  it("what agents write to stdout, also while their module is loaded, goes to stderr", async () => {
    verifies("stdio-envelopes")
    const { client, program } = await start(["--memory", "--agents", strays])
    await client.hello()
    expect((await client.run("chatty", {})).terminal.payload.result).toBe("said")
    program.child.stdin?.end()
    await program.leaves()
    for (const said of [
      "the module was loaded",
      "half a line\nof 49",
      "info 49",
      "no newline 49",
      "imported 49"
    ])
      expect(program.stderr).toContain(said)
    expect(program.stdout.split("\n").filter((line) => line !== "" && !line.startsWith('{"arcp"'))).toEqual(
      []
    )
  })

  it("a byte order mark before the first line is skipped, and no other", async () => {
    verifies("stdio-bom")
    const program = own.program(serveArgs(["--transport", "stdio", "--memory"]))
    program.child.stdin?.write(new Uint8Array([0xef, 0xbb, 0xbf]))
    const client = await WireClient.over(dialStdio(program))
    await client.hello()
    client.sendText(`\ufeff${JSON.stringify({ arcp: "1.1", id: "m1", type: "session.ping", payload: {} })}`)
    expect((await client.nextOf("session.error")).payload.code).toBe("INVALID_REQUEST")
  })

  it("when stdin ends, what was asked for is decided, and its end and the bye are written", async () => {
    verifies("stdio-end-of-input")
    const { client, program } = await start([
      "--memory",
      "--heartbeat-sec",
      "1",
      "--shutdown-grace-ms",
      "200000"
    ])
    await client.hello()
    // Longer than a heartbeat, which nobody answers any more.
    const submitted = client.submit("emit", { count: 20, delayMs: 150 })
    program.child.stdin?.end()
    const accepted = await client.answer(submitted)
    expect((await client.terminal(accepted.job_id)).payload.result).toEqual({ count: 20 })
    expect((await client.nextOf("session.bye")).payload["reason"]).toBe("shutdown")
    expect(client.frames.at(-1)?.type).toBe("session.bye")
    expect(await program.leaves()).toEqual({ code: 0, signal: null })
  })

  it("when stdin ends, jobs get the grace, and an agent that does not end keeps nothing from leaving", async () => {
    verifies("stdio-end-of-input")
    const { client, program } = await start([
      "--memory",
      "--shutdown-grace-ms",
      "100",
      "--cancel-grace-ms",
      "100"
    ])
    await client.hello()
    const { job_id } = await client.accept("stubborn", { ms: 600_000 })
    const long = await client.accept("sleep", { ms: 600_000 })
    program.child.stdin?.end()
    expect((await client.terminal(job_id)).payload.code).toBe("INTERNAL_ERROR")
    const ended = (await client.terminal(long.job_id)).payload
    expect([ended.code, ended.details]).toEqual(["INTERNAL_ERROR", { reason: "runtime_restart" }])
    await client.nextOf("session.bye")
    expect(await program.leaves()).toEqual({ code: 0, signal: null })
  })

  it("whole conversations may come at once, as from a file", async () => {
    verifies("stdio-end-of-input")
    const program = own.program(serveArgs(["--transport", "stdio", "--memory"]))
    const hello = { client: { name: "t", version: "1" }, auth: { scheme: "bearer", token: "tok-a" } }
    program.child.stdin?.end(
      `${JSON.stringify({ arcp: "1.1", id: "m1", type: "session.hello", payload: hello })}\n`
    )
    expect(await program.leaves()).toEqual({ code: 0, signal: null })
    const types = program.stdout.split("\n").map((line) => (line === "" ? "" : JSON.parse(line).type))
    expect(types).toEqual(["session.welcome", "session.bye", ""])
  })

  const farewell = async ({ client, program }: Awaited<ReturnType<typeof start>>) => {
    expect((await client.nextOf("session.bye")).payload["reason"]).toBe("shutdown")
    expect(await program.leaves()).toEqual({ code: 0, signal: null })
  }

  it.each(["SIGTERM", "SIGINT"] as const)(
    "%s: the ends of jobs within the grace, the bye, exit 0",
    async (signal) => {
      verifies("stdio-shutdown")
      const started = await start(["--memory", "--shutdown-grace-ms", "200000"])
      const { client, program } = started
      await client.hello()
      const { job_id } = await client.accept("emit", { count: 5, delayMs: 50 })
      program.signal(signal)
      expect((await client.terminal(job_id)).payload.result).toEqual({ count: 5 })
      await farewell(started)
    }
  )

  it.each(["SIGTERM", "SIGINT"] as const)(
    "%s: what does not end within the grace is ended",
    async (signal) => {
      verifies("stdio-shutdown")
      const started = await start(["--memory", "--shutdown-grace-ms", "100"])
      const { client, program } = started
      await client.hello()
      const { job_id } = await client.accept("sleep", { ms: 600_000 })
      program.signal(signal)
      expect((await client.terminal(job_id)).payload.code).toBe("INTERNAL_ERROR")
      await farewell(started)
    }
  )

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
