/** `arcp sessions` and `arcp top`: what a server is about, read from its file while it runs. */
import { execFileSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, expect, it, vi } from "vitest"
import { type Look, page, summaryLine, summaryOf } from "../../../src/programs/cli/run/topView.js"
import { listening, Program, serveArgs } from "../../e2e/support/Program.js"
import { WireClient } from "../../e2e/support/WireClient.js"
import { aJob } from "../../layers/store/fixtures.js"
import { run } from "./inProcess.js"

const folder = mkdtempSync(join(tmpdir(), "arcp-observe-"))
afterAll(() => rmSync(folder, { recursive: true }))
const db = join(folder, "arcp.db")

const values = (text: string) =>
  text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>)

it("shows sessions, jobs and rates of a server that runs, and what is left of one that does not", async () => {
  const server = new Program(serveArgs(["--port", "0", "--db", db]))
  try {
    const url = await listening(server)
    const alice = await WireClient.open(url)
    const bob = await WireClient.open(url, { token: "tok-b" })
    await alice.accept("sleep", { ms: 3_600_000 })
    await alice.accept("emit", { count: 100_000, delayMs: 5 })
    await bob.run("echo", "hello")
    // Whoever only asks comes back to no session, and leaves none.
    for (const asks of [
      ["jobs"],
      ["agents"],
      ["answer", "job_x", "inp_x", "--value", "1"],
      ["cancel", "job_x"]
    ])
      await run(asks, { ARCP_URL: url, ARCP_TOKEN: "tok-a", XDG_STATE_HOME: folder })
    await vi.waitFor(
      async () => expect(values((await run(["sessions", "--db", db, "--json"])).stdout)).toHaveLength(2),
      30_000
    )
    const listed = await run(["sessions", "--db", db])
    expect(listed.code).toBe(0)
    const [headings = "", ...rows] = listed.stdout.trimEnd().split("\n")
    expect(headings).toMatch(/^SESSION +PRINCIPAL +STATE +AGE +LEFT +JOBS +EVENTS +LAG$/)
    expect(rows.length).toBe(2)
    expect(rows.find((row) => row.includes("alice"))).toMatch(/^sess_\w+ +alice +connected +\d+s +2 +\d+/)
    expect(rows.find((row) => row.includes("bob"))).toMatch(/connected/)
    const [only, ...more] = values(
      (await run(["sessions", "--db", db, "--principal", "alice", "--json"])).stdout
    )
    expect(only).toMatchObject({ principal: "alice", state: "connected", jobs: 2 })
    expect(more).toEqual([])

    const looks = values(
      (await run(["top", "--db", db, "--json", "--interval", "1s", "--count", "2"])).stdout
    )
    expect(looks.length).toBe(2)
    expect(looks[0]).toMatchObject({
      running: 2,
      pending: 0,
      ended: 1,
      connected: 2,
      sessions: 2,
      server_runs: true
    })
    expect(looks[1]?.["events_per_second"]).toBeGreaterThan(0)
    // Without a terminal it is a line for each look.
    const lines = await run(["top", "--db", db, "--count", "1", "--principal", "bob"])
    expect(lines.stdout).toMatch(
      /^\d\d:\d\d:\d\d {2}0 running, 0 pending, 1 ended or refused {2}1 of 1 session connected {2}0 B\n$/
    )
  } finally {
    server.signal("SIGKILL")
    await server.leaves()
  }
  const after = values((await run(["sessions", "--db", db, "--json"])).stdout)
  expect(after.map(({ state }) => state)).toEqual(["gone", "gone"])
  const [look] = values((await run(["top", "--db", db, "--json", "--count", "1"])).stdout)
  expect(look).toMatchObject({ running: 2, connected: 0, sessions: 2, server_runs: false })
  const { stdout } = await run(["top", "--db", db, "--count", "1"])
  expect(stdout).toMatch(/ended or refused {2}no server runs {2}0 of 2 sessions connected/)
})

const inAnotherContainer = ["-rp", "--fork", "--mount-proc", "--kill-child"]
const hasContainers = (() => {
  try {
    execFileSync("unshare", [...inAnotherContainer, "true"], { stdio: "ignore" })
    return true
  } catch {
    return false
  }
})()

it.skipIf(!hasContainers)("sees from another container whether a server runs", async () => {
  const shared = join(folder, "shared.db")
  const program = fileURLToPath(new URL("../../../dist/programs/arcp.js", import.meta.url))
  const elsewhere = (...args: ReadonlyArray<string>) =>
    values(
      execFileSync(
        "unshare",
        [...inAnotherContainer, process.execPath, program, ...args, "--db", shared, "--json"],
        { encoding: "utf8" }
      )
    )
  const server = new Program(serveArgs(["--port", "0", "--db", shared]))
  try {
    await WireClient.open(await listening(server))
    expect(elsewhere("top", "--count", "1")).toMatchObject([{ connected: 1, server_runs: true }])
    expect(elsewhere("sessions")).toMatchObject([{ state: "connected" }])
    expect(elsewhere("doctor", "--port", "0").find(({ check }) => check === "lock")).toMatchObject({
      said: expect.stringMatching(/that cannot be seen from here has the file/)
    })
  } finally {
    server.signal("SIGKILL")
    await server.leaves()
  }
  expect(elsewhere("top", "--count", "1")).toMatchObject([{ connected: 0, server_runs: false }])
})

it("says nothing of a server where it cannot be told whether one runs", () => {
  const look: Look = { at: 0, now: 0, isHeld: undefined, jobs: [], connected: 2, sessions: 2, ended: 0 }
  expect(summaryLine(look, undefined)).toMatch(/refused {2}2 of 2 sessions connected/)
  expect(JSON.parse(JSON.stringify(summaryOf(look, undefined)))).not.toHaveProperty("server_runs")
})

it("a page fits the terminal, the busiest jobs first, with what is left of their budgets", () => {
  const seen = (n: number, events: number) => ({
    job: aJob(`job_${n}`, { createdAt: 1_000, lease: { "cost.budget": ["USD:5"] }, budget: { USD: "1.25" } }),
    events,
    bytes: 100
  })
  const at = (ms: number, events: number): Look => ({
    at: ms,
    now: 61_000,
    isHeld: true,
    jobs: Array.from({ length: 50 }, (_, i) => seen(i, events * i)),
    connected: 1,
    sessions: 2,
    ended: 3
  })
  const lines = page(at(3_000, 300), at(1_000, 100), { columns: 60, rows: 20 })
  expect(lines.length).toBeLessThanOrEqual(20)
  for (const line of lines) expect(line.length, line).toBeLessThanOrEqual(60)
  expect(lines[3]).toMatch(/^job_49 +running +1m +14700 +4900 +USD 1\.25\/5 +echo@/)
  expect(lines.at(-1)).toBe("and 34 more")
  expect(summaryLine(at(1_000, 1), undefined)).not.toMatch(/events\/s/)
  expect(summaryOf(at(3_000, 300), at(1_000, 100))).toMatchObject({ running: 50, events_per_second: 122_500 })
})

it.each([
  [["top", "--interval", "soon"], /--interval takes 1s to 1h/],
  [["top", "--interval", "0s"], /--interval takes 1s to 1h/],
  [["top", "--count", "0"], /--count takes/]
])("%j is refused", async (args, said) => {
  const { code, stderr } = await run([...args, "--db", db])
  expect(stderr).toMatch(said)
  expect(code).toBe(2)
})
