/** The program as a person uses it: what it prints where, and what it leaves with. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { closeSync, existsSync, mkdtempSync, openSync, realpathSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, relative as pathRelative } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type Result, run, serving } from "./cli/inProcess.js"

const program = fileURLToPath(new URL("../../dist/programs/arcp.js", import.meta.url))
const folder = mkdtempSync(join(tmpdir(), "arcp-cli-"))
const db = join(folder, "arcp.db")

let url = ""
const environment = (): Record<string, string> => ({
  PATH: process.env["PATH"] ?? "",
  HOME: folder,
  XDG_STATE_HOME: join(folder, "state"),
  ARCP_URL: url,
  ARCP_TOKEN: "secret"
})
/** The command in this process. */
const arcp = (args: ReadonlyArray<string>, env = environment()): Promise<Result> => run(args, env)
/** The command in a process of its own, for signals and pipes; `onOutput` may act on it while it runs. */
const arcpProcess = (
  args: ReadonlyArray<string>,
  onOutput?: (text: string, kill: () => void) => void
): Promise<Result> =>
  new Promise((resolve) => {
    const child = spawn(process.execPath, [program, ...args], {
      env: environment(),
      stdio: ["ignore", "pipe", "pipe"]
    })
    let stdout = ""
    let stderr = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text
      onOutput?.(stdout, () => child.kill("SIGINT"))
    })
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text
      onOutput?.(stderr, () => child.kill("SIGINT"))
    })
    child.on("close", (code) => resolve({ code, stdout, stderr }))
  })
/** Interrupts the program once, when it has said that. */
const interruptAt = (said: string) => {
  let interrupted = false
  return (text: string, interrupt: () => void) => {
    if (interrupted || !text.includes(said)) return
    interrupted = true
    interrupt()
  }
}

let server: ReturnType<typeof spawn>
beforeAll(async () => {
  server = spawn(
    process.execPath,
    [
      program,
      "serve",
      "--port",
      "0",
      "--db",
      db,
      "--agents",
      "conformance",
      "--token",
      "secret=me",
      ...["--cancel-grace-ms", "500", "--shutdown-grace-ms", "0"]
    ],
    { env: environment(), stdio: ["ignore", "pipe", "ignore"] }
  )
  url = await new Promise<string>((resolve) => {
    createInterface({ input: server.stdout as NodeJS.ReadableStream }).once("line", (line) =>
      resolve(line.replace("listening ", ""))
    )
  })
})
afterAll(async () => {
  const gone = new Promise((resolve) => server.once("exit", resolve))
  server.kill("SIGTERM")
  await gone
  rmSync(folder, { recursive: true })
})

const lines = (text: string) =>
  text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>)

describe("arcp submit", () => {
  it("prints the result on stdout, the rest on stderr, and leaves with 0", async () => {
    const { code, stdout, stderr } = await arcpProcess(["submit", "echo", "--input", '{"a":1}'])
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toEqual({ a: 1 })
    expect(stderr).toContain("running")
    expect(stderr).toMatch(/^success in [\d.]+m?s, \d+ events?$/m)
  })
  it("--json gives one value per line and nothing else", async () => {
    const { code, stdout } = await arcp(["submit", "emit", "--input", '{"count":3}', "--json"])
    expect(code).toBe(0)
    const values = lines(stdout)
    expect(values.map((value) => value["type"])).toEqual([...Array(4).fill("job.event"), "job.result"])
    expect(values.at(-1)?.["result"]).toEqual({ count: 3 })
  })
  it("takes its input from a file", async () => {
    const file = join(folder, "input.json")
    writeFileSync(file, '"hello"')
    expect((await arcp(["submit", "echo", "--input", `@${file}`])).stdout).toBe("hello\n")
  })
  it.each([
    [
      "1 when the job fails, and says how by the name of the failure",
      ["submit", "fail", "--input", '{"mode":"fail","message":"no luck"}'],
      1,
      /^error in .*\n.*error: ConformanceFailure: no luck$/ms
    ],
    ["1 for an unknown agent, and says how to list them", ["submit", "nobody"], 1, /arcp agents/],
    ["2 for input that is not JSON", ["submit", "echo", "--input", "{"], 2, /is not JSON/],
    ["2 for an unknown flag", ["submit", "echo", "--nope"], 2, /nope/],
    [
      "4 when the job takes too long",
      ["submit", "sleep", "--input", '{"ms":60000}', "--timeout-sec", "1"],
      4,
      /TIMEOUT/
    ],
    ["5 when nobody is there", ["submit", "echo", "--url", "ws://127.0.0.1:9/arcp"], 5, /arcp serve/],
    ["1 for a wrong token", ["submit", "echo", "--token", "wrong"], 1, /--token/]
  ])("leaves with %s", async (_, args, expected, said) => {
    const { code, stderr, stdout } = await arcp(args)
    expect(`${stderr}${stdout}`).toMatch(said)
    expect(stderr).not.toMatch(/\n\s+at /)
    expect(code).toBe(expected)
  })
  it("Ctrl-C cancels the job, waits for its end, and leaves with 3", async () => {
    const ended = await arcpProcess(
      ["submit", "sleep", "--input", '{"ms":60000}', "--json"],
      interruptAt('"running"')
    )
    expect(ended.stderr).toContain("cancelling")
    expect(ended.code).toBe(3)
    expect(lines(ended.stdout).slice(-2)).toMatchObject([
      { kind: "log", body: { message: "cleanup" } },
      { type: "job.error", code: "CANCELLED" }
    ])
    const { stdout } = await arcp(["jobs", "--status", "cancelled", "--json"])
    expect(lines(stdout).map((job) => job["agent"])).toContain("sleep@1.0.0")
  })
})

describe("what a job does after Ctrl-C", () => {
  it("is shown as what it did before, and how it ended", async () => {
    const { code, stderr } = await arcpProcess(
      ["submit", "sleep", "--input", '{"ms":60000}'],
      interruptAt("running")
    )
    expect(stderr).toMatch(/cancelling; Ctrl-C again[^\n]*\n(.*\n)*info {2}cleanup\ncancelled in /)
    expect(code).toBe(3)
  })
})

describe("the other commands", () => {
  it("a detached job can be listed, watched and cancelled", async () => {
    const detached = await arcp(["submit", "sleep", "--input", '{"ms":60000}', "--detach"])
    const job = detached.stdout.trim()
    expect(job).toMatch(/^job_/)
    const listed = await arcp(["jobs", "--status", "running"])
    expect(listed.stdout).toContain(job)
    const watching = arcpProcess(["watch", job])
    // It knows where the job was submitted.
    const { ARCP_URL: _, ...elsewhere } = environment()
    const cancelled = await arcp(["cancel", job], elsewhere)
    expect(cancelled).toMatchObject({ code: 0, stdout: `${job} is being cancelled\n` })
    expect((await watching).code).toBe(3)
    const again = await arcp(["cancel", job])
    expect(again).toMatchObject({ code: 0, stdout: `${job} has ended already: cancelled\n` })
    const replayed = await arcp(["replay", "--db", db, "--job", job, "--json"])
    const events = lines(replayed.stdout)
    expect(events.map((event) => event["seq"])).toEqual(events.map((_, i) => i + 1))
    expect(events.at(-1)).toMatchObject({ type: "job.error", payload: { code: "CANCELLED" } })
  })
  it("a job that is to begin later is pending, says when it is due, and runs then", async () => {
    const later = await arcp(["submit", "echo", "--input", "1", "--delay", "10m", "--detach"])
    const listed = await arcp(["jobs", "--status", "pending"])
    expect(listed.stdout).toMatch(
      new RegExp(`${later.stdout.trim()} +pending +\\S+ +in (9m|10m) +echo@1.0.0`)
    )
    expect((await arcp(["cancel", later.stdout.trim()])).code).toBe(0)
    const soon = await arcp(["submit", "echo", "--input", "2", "--start-at", "2020-01-01"])
    expect(soon.stdout).toBe("2\n")
  })
  it("a cancel of a job that has ended says how it ended", async () => {
    const job = (await arcp(["submit", "echo", "--input", "1", "--detach"])).stdout.trim()
    expect((await arcp(["watch", job])).code).toBe(0)
    const { code, stdout } = await arcp(["cancel", job, "--json"])
    expect({ code, said: JSON.parse(stdout) }).toEqual({
      code: 0,
      said: { job_id: job, cancelled: false, status: "success" }
    })
  })
  it("Ctrl-C leaves a watched job alone, and is no success", async () => {
    const job = (await arcp(["submit", "sleep", "--input", '{"ms":60000}', "--detach"])).stdout.trim()
    const { code } = await arcpProcess(["watch", job], interruptAt("running\n"))
    expect(code).toBe(130)
    expect((await arcp(["jobs", "--status", "running"])).stdout).toContain(job)
    expect((await arcp(["cancel", job])).code).toBe(0)
  })
  it("leaves quietly when nobody reads its output any more", async () => {
    const child = spawn(
      process.execPath,
      [program, "submit", "emit", "--input", '{"count":20000}', "--json"],
      { env: environment(), stdio: ["ignore", "pipe", "pipe"] }
    )
    let stderr = ""
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text
    })
    child.stdout.once("data", () => child.stdout.destroy())
    const code = await new Promise((resolve) => child.on("close", resolve))
    expect(stderr).toBe("")
    expect(code).toBe(141)
  })
  it.runIf(existsSync("/dev/full"))("says in a sentence that its output cannot be written", async () => {
    const backup = ["backup", join(folder, "full.db"), "--db", db]
    for (const args of [["submit", "echo"], ["jobs"], ["jobs", "--json"], backup, ["--help"]]) {
      const full = openSync("/dev/full", "w")
      const child = spawn(process.execPath, [program, ...args], {
        env: environment(),
        stdio: ["ignore", full, "pipe"]
      })
      closeSync(full)
      let stderr = ""
      child.stderr?.setEncoding("utf8").on("data", (text: string) => {
        stderr += text
      })
      const code = await new Promise((resolve) => child.on("close", resolve))
      expect(stderr).toMatch(/^error: the output could not be written: the disk is full \(ENOSPC\)$/m)
      expect(stderr).not.toMatch(/^ +at /m)
      expect(code).toBe(6)
    }
  })
  it("agents lists versions and the default", async () => {
    expect((await arcp(["agents"])).stdout).toContain("ver  1.0.0, 2.0.0 (default)")
  })
  it("replay refuses what it cannot read, and says so", async () => {
    const { code, stderr } = await arcp(["replay", "--db", join(folder, "none.db"), "--job", "job_1"])
    expect(code).not.toBe(0)
    expect(stderr).toMatch(/none\.db/)
  })
  it("--version names the protocol", async () => {
    expect((await arcpProcess(["--version"])).stdout.trim()).toMatch(/^\d+\.\d+\.\d+ \(ARCP 1\.1\)$/)
  })
})

describe("leases", () => {
  const fetching = ["fetch", "--input", '{"url":"https://a.example/x"}']

  it("grants what --lease says, and says what to do about the rest", async () => {
    const allowed = await arcp(["submit", ...fetching, "--lease", "net.fetch=https://a.example/**"])
    expect(allowed).toMatchObject({ code: 0 })
    expect(JSON.parse(allowed.stdout)).toEqual({ url: "https://a.example/x" })
    const denied = await arcp(["submit", ...fetching, "--lease", "net.fetch=https://b.example/**"])
    expect(denied.code).toBe(1)
    expect(denied.stderr).toMatch(/✗ PERMISSION_DENIED net\.fetch .*\(net\.fetch "https:\/\/a\.example\/x"\)/)
    expect(denied.stderr).toMatch(/^error: PERMISSION_DENIED: .*\(net\.fetch "https:\/\/a\.example\/x"\)/m)
    expect(denied.stderr).toMatch(/--lease 'net\.fetch=PATTERN' allows it/)
  })

  it("takes fs patterns relative to where it runs, from a file too", async () => {
    writeFileSync(join(folder, "data.txt"), "what it says")
    const input = JSON.stringify({ path: join(realpathSync(folder), "data.txt") })
    const relative = `fs.read=${pathRelative(process.cwd(), realpathSync(folder))}/**`
    const flag = await arcp(["submit", "read", "--input", input, "--lease", relative])
    expect(JSON.parse(flag.stdout)).toEqual({ content: "what it says" })
    const file = join(folder, "lease.json")
    writeFileSync(file, JSON.stringify({ "fs.read": [`${realpathSync(folder)}/**`] }))
    const named = await arcp(["submit", "read", "--input", input, "--lease-file", file])
    expect(JSON.parse(named.stdout)).toEqual({ content: "what it says" })
    expect((await arcp(["submit", "read", "--input", input])).code).toBe(1)
  })

  it("shows what is left of a budget", async () => {
    const spent = await arcp([
      "submit",
      "spend",
      ...["--input", '{"amount":"0.4","times":4}'],
      ...["--lease", "tool.call=demo.tool", "--budget", "USD:0.60", "--budget", "USD:0.40"]
    ])
    expect(JSON.parse(spent.stdout)).toEqual({ spent: 3, denied: 1 })
    expect(spent.stderr).toMatch(/cost\.budget\.remaining 0\.6 USD.*remaining 0\.2 USD.*remaining -0\.2 USD/s)
    expect(spent.stderr).toMatch(/✗ BUDGET_EXHAUSTED/)
    expect(spent.stderr).toMatch(/^success in .*, spent USD 1\.2, USD 0\.2 over its budget$/m)
  })

  it("ends the job when --expires-in is over", async () => {
    const ended = await arcp(["submit", "sleep", "--input", '{"ms":60000}', "--expires-in", "1s"])
    expect(ended.code).toBe(1)
    expect(ended.stderr).toMatch(/LEASE_EXPIRED/)
  })

  it.each([
    [["--lease", "fs.read"], /CAPABILITY=PATTERN/],
    [["--lease", "fs.delete=/x"], /unknown capability/],
    [["--budget", "5"], /USD:5\.00/],
    [["--expires-in", "soon"], /30s, 10m, 2h or 1d/],
    [["--lease-file", "not-there.json"], /cannot be read: there is no such file/]
  ])("%j is refused as a mistake in the command", async (flags, message) => {
    const refused = await arcp(["submit", ...fetching, ...flags])
    expect(refused.code).toBe(2)
    expect(refused.stderr).toMatch(message)
  })

  it("identities come from a file, with ceilings; a bad file is refused and no token shown", async () => {
    const file = join(folder, "identities.json")
    writeFileSync(
      file,
      JSON.stringify([
        { token: "limited", principal: "ci", leaseCeiling: { "net.fetch": ["https://a.example/*"] } }
      ])
    )
    await serving(["--memory", "--agents", "conformance", "--identities", file], async (address) => {
      const flags = ["--url", address, "--token", "limited"]
      const wide = ["--lease", "net.fetch=https://**"]
      expect((await arcp(["submit", ...fetching, ...wide, ...flags])).code).toBe(0)
      const other = ["fetch", "--input", '{"url":"https://b.example/x"}']
      expect((await arcp(["submit", ...other, ...wide, ...flags])).stderr).toMatch(/PERMISSION_DENIED/)
    })
    writeFileSync(file, JSON.stringify([{ token: "hush", principal: "" }]))
    const refused = await arcp(["serve", "--port", "0", "--memory", "--identities", file])
    expect(refused.code).toBe(2)
    expect(refused.stderr).toMatch(/principal/)
    expect(refused.stderr).not.toMatch(/hush/)
  })
})

describe("arcp serve --transport stdio", () => {
  it("has nothing but envelopes on stdout, whatever is logged", async () => {
    const child = spawn(
      process.execPath,
      [program, "serve", "--transport", "stdio", "--memory", "--token", "s=me"].concat(
        ["--agents", "conformance", "--log-level", "trace"],
        ["--limit", "heartbeatIntervalSec=1", "--port", "0"]
      ),
      { env: environment(), stdio: ["pipe", "pipe", "pipe"] }
    )
    let stderr = ""
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text
    })
    const send = (type: string, payload: unknown, ids: object = {}) =>
      child.stdin.write(`${JSON.stringify({ arcp: "1.1", id: type, type, ...ids, payload })}\n`)
    send("session.hello", {
      client: { name: "test", version: "1" },
      auth: { scheme: "bearer", token: "s" },
      capabilities: { encodings: ["json"], features: ["subscribe"] }
    })
    const types: Array<string> = []
    const closed = once(child, "close")
    for await (const line of createInterface({ input: child.stdout })) {
      const { arcp, type, session_id, payload } = JSON.parse(line)
      expect(arcp).toBe("1.1")
      types.push(type)
      if (type === "session.welcome") send("job.submit", { agent: "echo", input: 1 }, { session_id })
      // Every decision about a subscription is logged.
      if (type === "job.result") send("job.subscribe", { job_id: payload.job_id ?? "job_x" }, { session_id })
      if (type === "session.error" || type === "job.error") child.stdin.end()
    }
    await closed
    expect(types).toContain("job.result")
    expect(stderr).toContain("subscribe")
    expect(stderr).toMatch(/level=WARN .*--port is for a server on a port/)
  })
})
