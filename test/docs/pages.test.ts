/** What the package's pages link to is in the package, and the programs of README.md run as they are. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join, posix } from "node:path"
import { setTimeout } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import ts from "typescript-api"
import { expect, it, onTestFinished } from "vitest"
import { Arcp } from "../../src/promise.node.js"

const root = fileURLToPath(new URL("../..", import.meta.url))
const read = (page: string) => readFileSync(join(root, page), "utf8")

const manifest: { readonly files: ReadonlyArray<string>; readonly [key: string]: unknown } = JSON.parse(
  read("package.json")
)
/** What a package needs, as package.json and the lock say it. */
interface Needs {
  readonly dependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>
}

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
  const { devDependencies, optionalDependencies } = manifest as Record<string, Record<string, string>>
  expect([...asked.keys()]).toEqual(["effect-arcp", "effect", "@effect/platform", "@effect/platform-node"])
  for (const [name, version] of asked)
    if (version !== "")
      expect(`${devDependencies?.[name] ?? optionalDependencies?.[name]}.`).toContain(`${version}.`)
})

it("says of how many packages the client alone consists", () => {
  const { packages }: { packages: Record<string, Needs> } = JSON.parse(read("package-lock.json"))
  const client = new Set(["effect-arcp"])
  const add = (from: string, { dependencies, peerDependencies, peerDependenciesMeta }: Needs) => {
    for (const name of Object.keys({ ...dependencies, ...peerDependencies })) {
      if (peerDependenciesMeta?.[name]?.optional) continue
      const nested = `${from}node_modules/${name}`
      const path = nested in packages ? nested : `node_modules/${name}`
      if (client.has(path)) continue
      client.add(path)
      add(`${path}/`, packages[path] ?? {})
    }
  }
  add("", packages[""] ?? {})
  expect(read("README.md")).toContain(`is ${client.size} packages`)
  expect(read("docs/platforms.md")).toContain(`| the same with \`--omit=optional\` | ${client.size} |`)
})

it("names every package with an install script", () => {
  const { packages }: { packages: Record<string, { dev?: boolean; hasInstallScript?: boolean }> } =
    JSON.parse(read("package-lock.json"))
  const scripted = Object.entries(packages).flatMap(([path, { dev, hasInstallScript }]) =>
    hasInstallScript === true && dev !== true ? [path.replace(/^.*node_modules\//, "")] : []
  )
  expect(scripted).toHaveLength(3)
  expect(read("docs/platforms.md")).toContain("Three have an install script")
  for (const name of scripted) expect(read("docs/platforms.md")).toContain(`\`${name}\``)
})

const freePort = async () => {
  const server = createServer().listen(0, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  server.close()
  await once(server, "close")
  return typeof address === "object" && address !== null ? address.port : 0
}

/** Runs a program of README.md, in a folder of its own. */
const start = (name: string, source: string) => {
  // Below the package, so that `effect-arcp` is this one.
  const directory = join(root, "examples/.build")
  mkdirSync(directory, { recursive: true })
  const file = join(directory, `readme-${name}-${process.pid}.mjs`)
  const cwd = mkdtempSync(join(tmpdir(), "arcp-readme-"))
  const { outputText } = ts.transpileModule(source, {
    compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 }
  })
  writeFileSync(file, outputText)
  const child = spawn(process.execPath, [file], { cwd, stdio: ["ignore", "pipe", "pipe"] })
  const exited = once(child, "close")
  const printed = { text: "" }
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (printed.text += text))
  onTestFinished(async () => {
    child.kill("SIGKILL")
    await exited
    rmSync(file)
    rmSync(cwd, { recursive: true })
  })
  return { child, exited, printed }
}

it("has a README whose programs run", { timeout: 120_000 }, async () => {
  const port = await freePort()
  const blocks = [...read("README.md").matchAll(/\n```ts\n(.*?)\n```\n/gs)].map(([, block = ""]) => block)
  const isClient = (block: string) => block.includes("ws://127.0.0.1:7777")
  const server = blocks.filter((block) => !isClient(block)).join("\n")
  const clients = blocks.filter((block, i) => i === 0 || isClient(block)).join("\n")
  expect(server).toContain("port: 7777")
  const { child, exited, printed } = start("server", server.replace("port: 7777", `port: ${port}`))

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
  const ended = exited.then(([code]) => `ended with ${code}: ${printed.text}`)
  // Whichever is second has a handler too.
  greeted.catch(() => {})
  expect(await Promise.race([greeted, ended])).toBe("Hello, Ada")
  expect(printed.text).toContain("Hello, world\n")
  const asking = start("clients", clients.replaceAll("127.0.0.1:7777", `127.0.0.1:${port}`))
  expect(await asking.exited, asking.printed.text).toEqual([0, null])
  expect(asking.printed.text.match(/^Hello, Ada$/gm)).toHaveLength(2)
  child.kill("SIGTERM")
  expect(await exited, printed.text).toEqual([0, null])
})
