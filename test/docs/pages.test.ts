/** What the package's pages link to is in the package, and the programs of README.md run as they are. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join, posix } from "node:path"
import { setTimeout } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import ts from "typescript"
import { expect, it, onTestFinished } from "vitest"
import { Arcp } from "../../src/promise.node.js"

const root = fileURLToPath(new URL("../..", import.meta.url))
const read = (page: string) => readFileSync(join(root, page), "utf8")

const manifest: { readonly files: ReadonlyArray<string>; readonly [key: string]: unknown } = JSON.parse(
  read("package.json")
)
/** What npm packs whether it is named or not, and what is named. */
const packed = ["README.md", "package.json", ...manifest.files].map(
  (path) => new RegExp(`^${path.replaceAll(".", "\\.").replaceAll("*", "[^/]*")}(/|$)`)
)
const anchors = (page: string) =>
  [...read(page).matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replace(/[^\w\- ]/g, "")
      .replaceAll(" ", "-")
  )

/** The table of conformance.md names tests, which are in the repository only. */
const pages = [
  "README.md",
  "examples/README.md",
  "bench/README.md",
  ...readdirSync(join(root, "docs")).flatMap((name) =>
    name.endsWith(".md") && name !== "conformance.md" ? [`docs/${name}`] : []
  )
]

it.each(pages)("%s links to what is in the package", (page) => {
  for (const [, link = ""] of read(page).matchAll(/\]\(([^)\s]+)\)/g)) {
    if (/^https?:/.test(link)) continue
    const [path = "", anchor] = link.split("#")
    const target = path === "" ? page : posix.join(posix.dirname(page), path)
    expect(
      packed.some((pattern) => pattern.test(target)),
      `${link} is packed`
    ).toBe(true)
    if (anchor !== undefined) expect(anchors(target), link).toContain(anchor)
    else expect(existsSync(join(root, target)), `${link} is there`).toBe(true)
  }
})

it("begins with a line that installs the majors the package is made for", () => {
  const [line = ""] = /^npm i .*$/m.exec(read("README.md")) ?? []
  const asked = new Map(
    line
      .split(" ")
      .slice(2)
      .map((each) => {
        const at = each.lastIndexOf("@")
        return at > 0 ? [each.slice(0, at), each.slice(at + 1)] : [each, ""]
      })
  )
  const { dependencies, devDependencies, optionalDependencies } = manifest as Record<
    string,
    Record<string, string>
  >
  expect([...asked.keys()]).toEqual(["effect-arcp", "effect", "@effect/platform", "@effect/platform-node"])
  for (const [name, version] of asked)
    if (version !== "")
      expect(`${devDependencies?.[name] ?? dependencies?.[name] ?? optionalDependencies?.[name]}.`).toContain(
        `${version}.`
      )
})

const freePort = async () => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  server.close()
  await once(server, "close")
  return typeof address === "object" && address !== null ? address.port : 0
}

it("has a README whose programs run", { timeout: 120_000 }, async () => {
  const port = await freePort()
  const blocks = [...read("README.md").matchAll(/\n```ts\n(.*?)\n```\n/gs)].map(([, block = ""]) => block)
  const source = blocks.join("\n")
  expect(source).toContain("port: 7777")
  // Below the package, so that `effect-arcp` is this one.
  const directory = join(root, "examples/.build")
  mkdirSync(directory, { recursive: true })
  const file = join(directory, `readme-${process.pid}.mjs`)
  const cwd = mkdtempSync(join(tmpdir(), "arcp-readme-"))
  const { outputText } = ts.transpileModule(source.replace("port: 7777", `port: ${port}`), {
    compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 }
  })
  writeFileSync(file, outputText)
  const child = spawn(process.execPath, [file], { cwd, stdio: ["ignore", "pipe", "pipe"] })
  const exited = once(child, "exit")
  onTestFinished(async () => {
    child.kill("SIGKILL")
    await exited
    rmSync(file)
    rmSync(cwd, { recursive: true })
  })
  let output = ""
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (output += text))

  // Until it listens; a program that has ended instead is told of.
  const connect = (): ReturnType<typeof Arcp.connect> =>
    Arcp.connect({ url: `ws://127.0.0.1:${port}/arcp`, token: "secret" }).catch(async (error) => {
      if (child.exitCode !== null) throw error
      await setTimeout(50)
      return connect()
    })
  const greeted = (async () => {
    const arcp = await connect()
    const result = await (await arcp.submit("greet", { name: "Ada" })).result
    await arcp.close()
    return result
  })()
  const ended = exited.then(([code]) => `ended with ${code}: ${output}`)
  // Whichever is second has a handler too.
  greeted.catch(() => {})
  expect(await Promise.race([greeted, ended])).toBe("Hello, Ada")
  expect(output).toContain("Hello, world\n")
  child.kill("SIGTERM")
  expect(await exited, output).toEqual([0, null])
})
