import { execFileSync } from "node:child_process"
import { readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { ownServers, runToExit, serveArgs } from "./support/Server.js"
import { smallDisk } from "./support/smallDisk.js"
import { statements } from "./support/sqlite.js"
import { WireClient } from "./support/WireClient.js"

const own = ownServers({ concurrent: true })

const refuses = async (args: ReadonlyArray<string>, message: RegExp) => {
  const run = await runToExit(serveArgs(args))
  expect(run.exit?.code, run.stdout + run.stderr).toBeGreaterThan(0)
  expect(run.stdout).not.toMatch(/^listening /m)
  const said = run.stderr + run.stdout
  expect(said).toMatch(message)
  // A message for an operator, not a stack trace for us.
  expect(said).not.toMatch(/\n\s+at .*\.js:\d+/)
}

describe.concurrent("a database that cannot be served", () => {
  it("is in use by another process: the second refuses, the first is not disturbed", async () => {
    verifies("store-locked")
    const db = join(own.directory(), "arcp.db")
    const { url } = await own.start("--db", db)
    const client = await WireClient.open(url)
    await refuses(["--port", "0", "--db", db], /arcp\.db|in use|lock/i)
    await client.run("echo", 1)
  })

  it("is no database: refused and not overwritten", async () => {
    verifies("store-corrupt")
    const db = join(own.directory(), "arcp.db")
    const text = "this is somebody's diary, not a database\n".repeat(200)
    writeFileSync(db, text)
    await refuses(["--port", "0", "--db", db], /database|corrupt|not a/i)
    expect(readFileSync(db, "utf8")).toBe(text)
  })

  it("is somebody else's database: refused or left as it was", async () => {
    verifies("store-corrupt")
    const db = join(own.directory(), "other.db")
    await statements(
      db,
      "CREATE TABLE sessions (diary TEXT)",
      "INSERT INTO sessions VALUES ('dear me')",
      "PRAGMA user_version = 7"
    )
    await refuses(["--port", "0", "--db", db], /database|schema|version/i)
    expect(await statements(db, "SELECT diary FROM sessions")).toEqual([{ diary: "dear me" }])
    expect(await statements(db, "PRAGMA user_version")).toEqual([{ user_version: 7 }])
  })

  it("has a newer schema: refused and not touched", async () => {
    verifies("store-newer")
    const db = join(own.directory(), "arcp.db")
    await (await own.start("--db", db)).stop()
    const version = Number((await statements(db, "PRAGMA user_version"))[0]?.["user_version"])
    expect(version).toBeGreaterThan(0)
    await statements(db, `PRAGMA user_version = ${version + 1}`)
    await refuses(["--port", "0", "--db", db], /newer|version|schema/i)
    expect(await statements(db, "PRAGMA user_version")).toEqual([{ user_version: version + 1 }])
  })

  it("lies in a directory that is not there or is a directory itself", async () => {
    verifies("store-unreadable")
    const directory = own.directory()
    await refuses(["--port", "0", "--db", directory], /directory|open|database/i)
    const file = join(directory, "file")
    writeFileSync(file, "")
    await refuses(["--port", "0", "--db", join(file, "arcp.db")], /folder|director|open|database/i)
  })
})

describe("surroundings and arguments", () => {
  it("a port in use", async () => {
    verifies("serve-port")
    const { url } = await own.start("--memory")
    await refuses(["--memory", "--port", new URL(url).port], /port|in use|EADDRINUSE/i)
    await (await WireClient.open(url)).run("echo", 1)
  })

  it("invalid flags", async () => {
    verifies("serve-flags")
    const invalid = [
      ["--port", "99999"],
      ["--heartbeat-sec", "-1"],
      ["--limit", "noSuchLimit=5"],
      ["--token", "no-principal"],
      ["--no-such-flag"]
    ]
    await Promise.all(invalid.map((args) => refuses(["--memory", ...args], /\S/)))
  })

  it("an agent module that does not load is named", async () => {
    verifies("serve-agents")
    const directory = own.directory()
    const broken = join(directory, "broken.mjs")
    writeFileSync(broken, "throw new Error('cannot start')\n")
    const empty = join(directory, "empty.mjs")
    writeFileSync(empty, "export const nothing = 1\n")
    const named = /missing\.mjs|broken\.mjs|empty\.mjs/
    const paths = [join(directory, "missing.mjs"), broken, empty]
    await Promise.all(paths.map((path) => refuses(["--memory", "--port", "0", "--agents", path], named)))
    const typed = join(directory, "typed.tsx")
    writeFileSync(typed, "export const agents = []\n")
    // A Node that reads .ts does not read .tsx, and compiles neither; where it reads none, esbuild does, which is not there.
    const toCompile =
      /typed\.tsx.*(?:reads no TypeScript: .*esbuild|\n.*: compile what is something else first)/
    await refuses(["--memory", "--port", "0", "--agents", typed], toCompile)
    const importing = join(directory, "importing.mjs")
    writeFileSync(importing, 'import "./typed.mjs"\n')
    writeFileSync(join(directory, "typed.mts"), "export const agents = []\n")
    await refuses(
      ["--memory", "--port", "0", "--agents", importing],
      /importing\.mjs.*\n.*there is typed\.mts: import it by that name/
    )
    // What runs before it comes to what this Node may not read is not run again.
    const runs = join(directory, "runs")
    const late = join(directory, "late.mjs")
    writeFileSync(
      late,
      `import { appendFileSync } from "node:fs"\nappendFileSync(${JSON.stringify(runs)}, "1")\nawait import("./typed.mts")\n`
    )
    await refuses(["--memory", "--port", "0", "--agents", late], /late\.mjs/)
    expect(readFileSync(runs, "utf8")).toBe("1")
  })
})

describe("a full disk", () => {
  it("fails jobs, not the process, and sends nothing that is not committed", {
    timeout: 240_000
  }, async (test) => {
    verifies("store-full")
    const directory = own.directory()
    const reason = smallDisk(directory, 9)
    if (reason !== undefined) {
      test.skip(`no small file system to fill: ${reason}`)
    }
    try {
      const db = join(directory, "arcp.db")
      const ballast = join(directory, "ballast")
      // What the write-ahead log holds has to fit into the file: with less, a checkpoint would take all of it and not end.
      writeFileSync(ballast, Buffer.alloc(5 * 1024 * 1024))
      const server = await own.start("--db", db)
      const client = await WireClient.open(server.url)
      const witness = await WireClient.open(server.url, { token: "tok-b" })
      const first = await client.run("echo", "before")
      const { job_id } = await client.accept("emit", { count: 100_000, size: 1_000 })
      const end = client.terminal(job_id, 120_000)
      // Until the disk is full the events come; then they stop, and the process still answers.
      for (let before = -1; before !== client.frames.length; ) {
        before = client.frames.length
        await new Promise((resolve) => setTimeout(resolve, 1_500))
      }
      await witness.ping()
      // What was emitted is tried again for a while. Then the job is given up; there may be room for its end, or not yet.
      const told = client.next(
        ({ payload, type }) => type === "session.error" && payload.details?.job_id === job_id
      )
      await Promise.race([end, told])
      const received = client.session.lastSeq
      expect(received).toBeGreaterThan(100)
      expect(received).toBeLessThan(100_000)
      rmSync(ballast)
      expect((await end).payload).toMatchObject({ code: "INTERNAL_ERROR", final_status: "error" })
      await witness.run("echo", "after")
      await server.kill()
      const again = await own.start("--db", db)
      const resumed = await WireClient.resume(again.url, client.session, { from: 0 })
      await resumed.next(({ event_seq }) => event_seq === received)
      expect((await resumed.terminal(first.accepted.job_id)).payload.result).toBe("before")
      await again.kill()
    } finally {
      execFileSync("umount", ["-l", directory], { stdio: "pipe" })
    }
  })
})
