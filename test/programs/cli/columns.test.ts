/** What people read is as wide as their terminal, whoever wrote it, and what is cut says so. */
import { describe, expect, it } from "@effect/vitest"
import { aligned, columnsOf, cut, fitted, padded, widthOf } from "../../../src/programs/cli/columns.js"
import { entries } from "../../../src/programs/cli/commands.js"
import { parse } from "../../../src/programs/cli/parse.js"
import { table } from "../../../src/programs/cli/run/jobs.js"
import { said } from "../../../src/programs/cli/said.js"

describe("the width of a text", () => {
  it.each([
    ["", 0],
    ["plain", 5],
    ["日本", 4],
    ["한글", 4],
    ["ｆｕｌｌ", 8],
    ["e\u0301te\u0301", 3],
    ["👍", 2],
    ["👩‍👩‍👧‍👦", 2],
    ["🇩🇪", 2],
    ["👋🏽", 2],
    ["❤️", 2],
    ["…→▸", 3],
    ["\u001b[31mred\u001b[0m", 3],
    ["𝒳", 1],
    ["ไทย", 3]
  ])("of %j is %i", (text, width) => {
    expect(widthOf(text)).toBe(width)
  })

  it.each([1, 2, 3, 4, 5, 7, 10])(
    "is at most %i after a cut, which is between characters and marked",
    (columns) => {
      for (const text of [
        "日本語テキスト",
        "👩‍👩‍👧‍👦👩‍👩‍👧‍👦👩‍👩‍👧‍👦",
        "e\u0301".repeat(20),
        "a日b本c",
        "x".repeat(20)
      ]) {
        const short = cut(text, columns)
        expect(widthOf(short)).toBeLessThanOrEqual(columns)
        expect(encodeURIComponent(short)).not.toContain("%EF%BF%BD")
        if (short !== text) expect(short.endsWith("…")).toBe(true)
        expect(widthOf(padded(short, columns))).toBe(columns)
      }
      expect(cut("x", 0)).toBe("")
    }
  )

  it("is that of the terminal, 80 of one that does not know, and endless elsewhere", () => {
    expect(columnsOf({ isTTY: true, columns: 40 })).toBe(40)
    expect(columnsOf({ isTTY: true, columns: 0 })).toBe(80)
    expect(columnsOf({ isTTY: true })).toBe(80)
    expect(columnsOf({})).toBe(Number.POSITIVE_INFINITY)
  })
})

/** All commands, and those of the groups. */
const commands = entries.flatMap((entry) => [
  [entry.name],
  ...("commands" in entry
    ? entry.commands.map(({ name }) => [...entry.name.split(" "), name.split(" ").at(-1) ?? name])
    : [])
])

it("a table has however many rows", () => {
  const jobs = Array.from({ length: 150_000 }, (_, i) => ({
    job_id: `job_${i}`,
    agent: "a@1.0.0",
    status: "success",
    created_at: "2026-01-01T00:00:00Z"
  }))
  expect(table(jobs as unknown as Parameters<typeof table>[0], 0, 80)).toHaveLength(150_001)
  expect(aligned(jobs.map(({ job_id }) => [job_id, "x"]))).toHaveLength(150_000)
})

/** Lines to copy are as long as they are: a terminal that wraps them leaves them whole. */
const isToCopy = (line: string) =>
  /^ {4}--|^ {2}(arcp |bash |zsh |fish |[A-Z_]+=|\$|npx|[a-z]+ .*\| )/.test(line)

describe.each([80, 40])("in %i columns", (columns) => {
  const page = (args: ReadonlyArray<string>) =>
    said(parse(entries, args, {}) as Exclude<ReturnType<typeof parse>, { readonly _tag: "Run" }>, {
      columns,
      colours: false
    }).text

  it.each([[["--help"]], ...commands.map((words) => [["help", ...words]])])("the help of %j", (args) => {
    for (const line of page(args).split("\n"))
      if (!isToCopy(line)) {
        const longest = Math.max(...line.trim().split(" ").map(widthOf))
        // A word is not broken.
        expect(widthOf(line), line).toBeLessThanOrEqual(Math.max(columns, longest + 6))
      }
  })

  it.each([
    [["nonsense"]],
    [["submit", "--nonsense", "x"]],
    [["jobs", "--limit", "many"]],
    [["help", "nonsense"]],
    [[]]
  ])("what is wrong with %j", (args) => {
    for (const line of fitted(page(args), columns).split("\n"))
      expect(widthOf(line), line).toBeLessThanOrEqual(isToCopy(line) ? Number.POSITIVE_INFINITY : columns)
  })

  it("a table of many columns, whose end is cut rather than wrapped", () => {
    const row = ["sess_01M8E15JRNP2VSXBJ02BTBFG72", "alice", "connected", "4s", "9m", "1000", "1000000", "7"]
    const headings = ["SESSION", "PRINCIPAL", "STATE", "AGE", "LEFT", "JOBS", "EVENTS", "LAG"]
    const lines = aligned([headings, row], columns)
    for (const line of lines) expect(widthOf(line), line).toBeLessThanOrEqual(columns)
    expect(lines.every((line) => line.endsWith("…"))).toBe(columns === 40)
  })

  it("a name of a million characters, in a table that anything may read", () => {
    const rows = [
      ["SESSION", "PRINCIPAL"],
      ...Array.from({ length: 50 }, (_, i) => [`s${i}`, "漢".repeat(1_000_000)])
    ]
    const lines = aligned(rows)
    expect(lines).toHaveLength(51)
    for (const line of lines) expect(widthOf(line)).toBeLessThanOrEqual(300)
    expect(lines[1]).toMatch(/漢…$/)
  })

  it("a listing, with an id that is whole and what was cut marked", () => {
    const job = (agent: string) => ({
      job_id: "job_01M8E15JRNP2VSXBJ02BTBFG72",
      agent,
      status: "cancelled" as const,
      created_at: "2026-01-01T00:00:00Z",
      completed_at: "2026-01-01T00:10:00Z",
      last_event_seq: 3,
      lease: {}
    })
    const jobs = [job("a@1.0.0"), job(`${"long-name-".repeat(12)}@1.0.0`), job("漢字".repeat(30))]
    const lines = table(
      jobs as unknown as Parameters<typeof table>[0],
      Date.parse("2026-01-02T00:00:00Z"),
      columns
    )
    for (const line of lines) expect(widthOf(line), line).toBeLessThanOrEqual(columns)
    expect(lines.filter((line) => line.includes("job_01M8E15JRNP2VSXBJ02BTBFG72"))).toHaveLength(3)
    expect(lines.filter((line) => line.endsWith("…"))).toHaveLength(2)
    expect(lines.some((line) => line.includes("a@1.0.0"))).toBe(true)
  })
})
