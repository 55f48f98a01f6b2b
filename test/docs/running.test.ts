/** What docs/running.md and docs/security.md promise is there: every code of an error, and every test that is named. */
import { readdirSync, readFileSync } from "node:fs"
import { expect, it } from "vitest"
import { retryable } from "../../src/protocol/Errors.js"

const at = (path: string) => new URL(`../../${path}`, import.meta.url)
const read = (path: string) => readFileSync(at(path), "utf8")

/** First cells of the tables below a heading, and the cells after them. */
const rows = (page: string, heading: string): ReadonlyArray<ReadonlyArray<string>> =>
  (page.split(`\n## ${heading}\n`)[1]?.split("\n## ")[0] ?? "")
    .split("\n")
    .filter((line) => line.startsWith("| ") && !line.startsWith("|---"))
    .map((line) =>
      line
        .split("|")
        .slice(1, -1)
        .map((cell) => cell.trim())
    )

it("the incident guide has a row for every code of an error, with what it means and what to do", () => {
  const guide = rows(read("docs/running.md"), "When something is wrong")
  const codes = guide.flatMap(([first = ""]) => /^`([A-Z_]+)`$/.exec(first)?.[1] ?? [])
  expect([...codes].sort()).toEqual(Object.keys(retryable).sort())
  for (const row of guide) for (const cell of row) expect(cell, row.join(" | ")).not.toBe("")
})

it.each([
  "README.md",
  ...readdirSync(at("docs")).flatMap((name) => (/\.md$/.test(name) ? [`docs/${name}`] : []))
])("the tables of %s have as many cells in each row as in the first", (page) => {
  const prose = read(page).replaceAll(/^```[\s\S]*?^```/gm, "")
  for (const [table] of prose.matchAll(/(?:^\|.*\n)+/gm)) {
    const [first = [], ...others] = table
      .trim()
      .split("\n")
      .map((line) => line.split(/(?<!\\)\|/))
    for (const row of others) expect(row, row.join("|")).toHaveLength(first.length)
  }
})

it("the unit of systemd has its agents where they find the package", () => {
  const [, folder = "", agents = ""] =
    /^ExecStart=(\S+)\/node_modules\/\.bin\/arcp serve .*--agents (\S+)/m.exec(read("docs/running.md")) ?? []
  expect(folder).not.toBe("")
  expect(agents.startsWith(`${folder}/`)).toBe(true)
})

it("the way to a newer version begins with what the change log says of it", () => {
  const [, said = ""] = /\[change log\]\(\.\.\/CHANGELOG\.md\): "([^"]+)"/.exec(read("docs/running.md")) ?? []
  expect(said).not.toBe("")
  expect(read("CHANGELOG.md").replaceAll("**", "")).toContain(said)
})

it("the incident guide quotes what the program says", () => {
  const sources = ["sqliteFile", "sqliteThread", "sqliteWorker"]
    .map((name) => read(`src/layers/store/${name}.ts`))
    .join("\n")
  for (const part of [
    "another arcp runtime",
    "was written by a newer version",
    "is corrupt",
    "names (hard links)",
    "has died",
    "was removed or replaced while it was open"
  ]) {
    expect(read("docs/running.md")).toContain(part)
    expect(sources).toContain(part)
  }
})

const security = read("docs/security.md")

/** What a cell says that shows it: each file, with the names of tests in it. */
const shown = (cell: string): ReadonlyArray<readonly [file: string, names: ReadonlyArray<string>]> =>
  [...cell.matchAll(/`(test\/[\w/.-]+\.ts)` \(((?:\*[^*]+\*(?:; )?)+)\)/g)].map(
    ([, file = "", names = ""]) => [file, [...names.matchAll(/\*([^*]+)\*/g)].map(([, name = ""]) => name)]
  )

it("every item of the protocol's checklist has a row with tests, and every test that is named is there", () => {
  const items = rows(security, "What the protocol asks for").slice(1)
  expect(items.length).toBe(9)
  for (const [item, , cell = ""] of [...items, ...rows(security, "What we add").slice(1)]) {
    const tests = shown(cell)
    expect(tests, item).not.toEqual([])
    // Nothing is named in another way.
    expect([...cell.matchAll(/`test\//g)], item).toHaveLength(tests.length)
    for (const [file, names] of tests) {
      const source = read(file)
      for (const name of names) expect(source.includes(name), `${file}: ${name}`).toBe(true)
    }
  }
})

it("a release says where it was built, from pinned actions, after everything was checked", () => {
  const workflow = read(".github/workflows/release.yml")
  expect(workflow).toMatch(/npm publish --provenance/)
  expect(workflow).toMatch(/id-token: write/)
  expect(workflow.indexOf("bash .ci/run")).toBeGreaterThan(0)
  expect(workflow.indexOf("bash .ci/run")).toBeLessThan(workflow.indexOf("npm publish"))
  for (const [, version = ""] of workflow.matchAll(/uses: [\w/-]+@(\S+)/g))
    expect(version).toMatch(/^[0-9a-f]{40}$/)
})
