/** `arcp replay --steps` and `--tree`: what a job has done, as a person and as a program reads it. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, describe, expect, it } from "vitest"
import { type StepRow, Telling, table } from "../../../src/programs/cli/run/replaySteps.js"
import * as Tree from "../../../src/programs/cli/run/replayTree.js"
import * as Vendor from "../../../src/protocol/Vendor.js"
import type { JobRecord } from "../../../src/services/store/Store.js"
import { run, serving } from "./inProcess.js"

const folder = mkdtempSync(join(tmpdir(), "arcp-replay-"))
afterAll(() => rmSync(folder, { recursive: true }))

const lines = (text: string) => text.trimEnd().split("\n")
const values = (text: string) => lines(text).map((line) => JSON.parse(line) as Record<string, unknown>)

it("shows the steps of a job and the tree below it, also while its runtime runs", async () => {
  const db = join(folder, "arcp.db")
  await serving(
    ["--agents", "conformance", "--token", "secret=me", "--db", db, "--log-level", "none"],
    async (url) => {
      const environment = { ARCP_URL: url, ARCP_TOKEN: "secret", XDG_STATE_HOME: folder, HOME: folder }
      const submit = async (...args: ReadonlyArray<string>) =>
        /job_\w{26}/.exec((await run(["submit", ...args], environment)).stderr)?.[0] as string
      const replay = (...args: ReadonlyArray<string>) => run(["replay", "--db", db, ...args])
      const steps = await submit("steps", "--input", '{"count":2,"nested":true}')

      const shown = await replay("--job", steps, "--steps")
      expect(shown.stderr).toBe(`steps@1.0.0 ${steps} success\n`)
      expect(lines(shown.stdout).map((line) => line.replace(/ +\d+ms$/, "").split(/ {2,}/))).toEqual([
        ["KEY", "KIND", "STATE", "TRIES", "TOOK", "NOTE"],
        ["1", "step", "ended", "1"],
        ["", "1 inner", "step", "ended", "1"],
        ["2", "step", "ended", "1"],
        ["", "2 inner", "step", "ended", "1"]
      ])
      const rows = values((await replay("--job", steps, "--steps", "--json")).stdout)
      expect(rows[1]).toMatchObject({
        job_id: steps,
        key: "1 inner",
        kind: "step",
        state: "ended",
        attempts: 1,
        within: "1"
      })

      const nap = await submit("nap", "--input", '{"ms":300}')
      const [slept] = values((await replay("--job", nap, "--steps", "--json")).stdout)
      expect(slept).toMatchObject({ key: "nap", kind: "sleep", state: "ended" })
      expect(slept?.["ms"]).toBeGreaterThanOrEqual(300)

      const failed = await submit("steps", "--input", '{"count":1,"failAt":1}')
      expect(values((await replay("--job", failed, "--steps", "--json")).stdout)).toMatchObject([
        { key: "1", state: "cut off" }
      ])

      const echo = await submit("echo", "--input", "1")
      const none = await replay("--job", echo, "--steps")
      expect(none).toMatchObject({ code: 0, stdout: "" })
      expect(none.stderr).toContain("its agent is not durable")

      const delegate = await submit(
        "delegate",
        "--input",
        '{"agent":"delegate","input":{"agent":"echo","input":1}}',
        "--lease",
        "agent.delegate=*"
      )
      const tree = await replay("--job", delegate, "--tree")
      const branches = lines(tree.stdout)
      expect(branches[0]).toMatch(new RegExp(`^delegate@1\\.0\\.0 {2}\\w+ {2}[\\d.]+m?s {2}${delegate}$`))
      expect(branches[1]).toMatch(/^└─ delegate@1\.0\.0 {2}/)
      const below = values((await replay("--job", delegate, "--tree", "--json")).stdout)
      expect(below.map(({ depth }) => depth)).toEqual(branches.map((_, i) => i))
      expect(below[1]).toMatchObject({ parent_job_id: delegate, agent: "delegate@1.0.0" })
    }
  )
})

it("a step takes from its beginning to its end, with all attempts and what was between them", () => {
  const telling = new Telling()
  const told = (at: number, body: unknown) =>
    telling.take({
      seq: 1,
      type: "job.event",
      kind: Vendor.step,
      payload: JSON.stringify({ kind: Vendor.step, ts: new Date(at).toISOString(), body })
    })
  told(0, { key: "flaky", state: "started", attempt: 1 })
  told(200, { key: "flaky", state: "retry", attempt: 2, ms: 1 })
  told(600, { key: "flaky", state: "ended", attempt: 2, ms: 1 })
  // The beginning of this one is retained no more, and this one has not ended.
  told(600, { key: "old", state: "ended", attempt: 1, ms: 7 })
  told(700, { key: "open", state: "retry", attempt: 2, ms: 1 })
  expect(Array.from(telling.steps, ([key, { ms }]) => [key, ms])).toEqual([
    ["flaky", 600],
    ["old", 7],
    ["open", undefined]
  ])
})

it.each([
  [["--job", "a", "--steps", "--tree"], /choose --steps or --tree/],
  [["--session", "a", "--steps"], /are of a job: --job JOB/],
  [["--session", "a", "--tree"], /are of a job: --job JOB/]
])("%j is a mistake", async (args, said) => {
  const { code, stderr } = await run(["replay", ...args])
  expect(code).toBe(2)
  expect(stderr).toMatch(said)
})

const row = (key: string, more: Partial<StepRow> = {}): StepRow => ({
  key,
  kind: "step",
  state: "ended",
  attempts: 1,
  ms: 1_234,
  within: undefined,
  started_at: undefined,
  note: "",
  ...more
})

const record = (n: number): JobRecord => ({
  jobId: `job_${String(n).padStart(26, "0")}`,
  sessionId: "s",
  submitId: "m",
  principal: "me",
  agent: `an-agent-of-some-length-${n}@1.0.0`,
  status: n % 2 === 0 ? "running" : "success",
  rejected: false,
  lease: {},
  traceId: "0".repeat(32),
  createdAt: 0,
  lastEventSeq: 0
})

it("shows however many steps, however deep", () => {
  const many = Array.from({ length: 150_000 }, (_, i) => row(`s${i}`))
  const deep = Array.from({ length: 2_000 }, (_, i) => row(`d${i}`, i === 0 ? {} : { within: `d${i - 1}` }))
  const shown = table([...many, ...deep], 80)
  expect(shown).toHaveLength(152_001)
  expect(shown[1]).toMatch(/^s0 /)
  expect(shown[150_002]).toMatch(/^ {2}d1 /)
})

describe.each([80, 40])("in %i columns", (columns) => {
  it("a table of steps fits, whatever is in it", () => {
    const rows = [
      row("a step with quite a long name, of seventy characters or so, as people do"),
      row("approve", {
        kind: "input",
        state: "answered by somebody-with-a-very-long-name",
        note: "Deploy to all of the hosts?\nReally\u001b[2J?"
      }),
      row("inner", { within: "a step with quite a long name, of seventy characters or so, as people do" }),
      row("x".repeat(256), { attempts: 1_000_000, ms: 1e12 })
    ]
    const shown = table(rows, columns)
    for (const line of shown) expect(line.length, line).toBeLessThanOrEqual(columns)
    expect(shown.join("\n")).not.toContain("\u001b")
    expect(shown.find((line) => line.startsWith("  inner"))).toBeDefined()
    expect(shown).toHaveLength(5)
  })

  it("a tree fits, and has every id whole at any depth", () => {
    const rows = Array.from(
      { length: 12 },
      (_, depth): Tree.TreeRow => ({
        job: record(depth),
        depth,
        follows: Array.from({ length: depth }, (_, i) => i % 2 === 0),
        key: depth % 3 === 1 ? "a key of a delegation" : undefined
      })
    )
    const shown = Tree.lines(rows, 5_000, columns)
    for (const line of shown) expect(line.length, line).toBeLessThanOrEqual(columns)
    for (const { job } of rows) expect(shown.join("\n")).toContain(job.jobId)
  })
})
