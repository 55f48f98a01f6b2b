/** The compose file and the manifests of examples/cluster: no engine reads them here, so what they name is held against what there is. */
import { readFileSync } from "node:fs"
import { expect, it } from "vitest"

const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8")
const files = ["compose.yaml", "kubernetes.yaml", "nginx.conf", "Dockerfile"].map(
  (name) => [name, read(`examples/cluster/${name}`)] as const
)
const said = new Map(files)
const of = (name: string) => said.get(name) ?? ""
/** Without what is only said. */
const lines = (name: string) =>
  of(name)
    .split("\n")
    .filter((line) => !/^\s*#/.test(line))

it("the flags are those of arcp serve, and the variables those that it reads", () => {
  const operations = read("docs/operations.md")
  const help = read("src/programs/cli/serve.ts")
  for (const name of ["compose.yaml", "kubernetes.yaml"]) {
    const flags = lines(name).flatMap((line) => line.match(/(?<![\w-])--[a-z][a-z-]+/g) ?? [])
    expect(flags).toContain("--cluster")
    for (const flag of flags) expect(operations, `${name}: ${flag}`).toContain(`\`${flag}`)
    const variables = lines(name).flatMap((line) => line.match(/\bARCP_[A-Z_]+/g) ?? [])
    expect(new Set(variables)).toEqual(new Set(["ARCP_PG", "ARCP_TOKENS"]))
    for (const variable of variables) expect(help, variable).toContain(`also ${variable}`)
  }
})

it("they are asked at the port and the paths that arcp serve has", () => {
  const [, port = "none"] =
    /`--port`, `--path` \| `127\.0\.0\.1`, `(\d+)`/.exec(read("docs/operations.md")) ?? []
  for (const [name, text] of files) expect(text, name).toContain(port)
  const paths = files.flatMap(([, text]) => text.match(/\/(?:healthz|readyz)\b/g) ?? [])
  expect(new Set(paths)).toEqual(new Set(["/healthz", "/readyz"]))
})

it("a text in a list that has a colon is quoted: else it is no text", () => {
  const items = lines("compose.yaml").filter((line) => /^\s*- [^'"{[]/.test(line))
  expect(items).not.toEqual([])
  for (const item of items) expect(item).not.toMatch(/:\s/)
})

it("a node that has ended is started again, by a user that can be told from root, within the time that it may take", () => {
  expect(
    of("compose.yaml")
      .split("\n  node:\n")[1]
      ?.split(/\n {2}\w/)[0]
  ).toMatch(/^ {4}restart: always$/m)
  expect(of("Dockerfile")).toMatch(/^USER \d+$/m)
  const manifest = of("kubernetes.yaml")
  const grace = Number(/terminationGracePeriodSeconds: (\d+)/.exec(manifest)?.[1])
  const pause = Number(/"sleep", "(\d+)"/.exec(manifest)?.[1])
  // And some seconds for the ends to be written.
  const [shutdown, cancel] = ["shutdownGrace", "cancelGrace"].map((name) =>
    Number(new RegExp(`\\| \`${name}\` \\| (\\d+) seconds`).exec(read("docs/operations.md"))?.[1])
  ) as [number, number]
  expect(grace).toBeGreaterThan(pause + shutdown + cancel + 10)
  expect(Number(/stop_grace_period: (\d+)s/.exec(of("compose.yaml"))?.[1])).toBeGreaterThan(
    shutdown + cancel + 10
  )
})
