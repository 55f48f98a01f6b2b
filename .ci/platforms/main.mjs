// What runs where: the packed package under Node, Bun and Deno.
//
//   node .ci/platforms/main.mjs FOLDER
//
// FOLDER is a project in which it is installed. Bun and Deno come from npm, into a folder of their own; where they cannot
// be had, that is said, and they are skipped. docs/platforms.md says what is tried here.
import { execFileSync, spawn } from "node:child_process"
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

const versions = { bun: "1.4.5", deno: "2.9.6" }
const project = resolve(process.argv[2] ?? ".")
const folder = mkdtempSync(join(realpathSync(tmpdir()), "arcp-platforms-"))
const program = join(project, "node_modules/effect-arcp/dist/programs/arcp.js")
const patienceMs = 300_000
let failures = 0

/** Runs a command to its end; gives its code and what it printed. */
const run = (command, args) =>
  new Promise((done) => {
    const child = spawn(command, args, { cwd: folder, stdio: ["ignore", "pipe", "pipe"] })
    let output = ""
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (data) => {
        output += data
      })
    const timer = setTimeout(() => child.kill("SIGKILL"), patienceMs)
    child.once("close", (code) => {
      clearTimeout(timer)
      done({ code, output })
    })
    child.once("error", (error) => {
      output += error.message
    })
  })

/** Starts `arcp serve`; gives its address and what stops it, which gives the code that it left with. */
const serve = async ([command, ...args], flags) => {
  const child = spawn(
    command,
    [...args, program, "serve", "--agents", "conformance", "--port", "0", "--token", "secret=me", ...flags],
    { cwd: folder, stdio: ["ignore", "pipe", "pipe"] }
  )
  const exit = new Promise((done) => child.once("close", done))
  let log = ""
  child.stderr.on("data", (data) => {
    log += data
  })
  const timer = setTimeout(() => child.kill("SIGKILL"), patienceMs)
  const line = await Promise.race([
    new Promise((done) => createInterface({ input: child.stdout }).once("line", done)),
    exit.then(() => undefined)
  ])
  return {
    url: line?.replace("listening ", ""),
    log: () => log,
    stop: () => {
      child.kill("SIGTERM")
      return exit.finally(() => clearTimeout(timer))
    }
  }
}

const report = (what, { code, output }) => {
  if (code !== 0) failures++
  console.log(`${code === 0 ? "ok     " : "FAILED "} ${what}`)
  if (code !== 0) console.log(output.replace(/^/gm, "        "))
  else for (const line of output.split("\n")) if (line.startsWith("skipped")) console.log(`        ${line}`)
}

/** Tries each of `uses` on one server. */
const on = async (host, flags, uses) => {
  const server = await serve(host, flags)
  for (const [what, use] of Object.entries(uses))
    report(what, server.url === undefined ? { code: 1, output: server.log() } : await use(server.url))
  const code = await server.stop()
  // Also that no thread could be had which commits.
  if (/level=WARN/.test(server.log())) report("the server's log", { code: 1, output: server.log() })
  if (code !== 0) report("the server's end", { code: 1, output: `it left with ${code}\n${server.log()}` })
}

/** Bun and Deno, without the scripts of their packages, which only move what another package brought. */
const installed = () => {
  const at = join(folder, "runtimes")
  mkdirSync(at)
  writeFileSync(join(at, "package.json"), '{"private":true}')
  const wanted = Object.entries(versions).map(([name, version]) => `${name}@${version}`)
  try {
    execFileSync("npm", ["i", "--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts", ...wanted], {
      cwd: at,
      stdio: ["ignore", "ignore", "pipe"]
    })
  } catch (error) {
    console.log(`skipped Bun and Deno: npm cannot install them (${String(error.stderr).split("\n")[0]})`)
    return []
  }
  const binary = (scope, file) => {
    const packages = join(at, "node_modules", scope)
    const found = (existsSync(packages) ? readdirSync(packages) : [])
      .map((name) => join(packages, name, file))
      .find((path) => existsSync(path))
    if (found === undefined) console.log(`skipped ${scope}: it has no binary for this platform`)
    return found
  }
  const bun = binary("@oven", "bin/bun")
  const deno = binary("@deno", "deno")
  return [
    ...(bun === undefined ? [] : [{ name: `Bun ${versions.bun}`, command: [bun] }]),
    ...(deno === undefined ? [] : [{ name: `Deno ${versions.deno}`, command: [deno, "run", "--allow-all"] }])
  ]
}

const node = { name: `Node ${process.versions.node}`, command: [process.execPath] }

/** Where the server of the other side works, and what must not be read from there. */
const workspace = join(folder, "workspace")
const tries = ["client.mjs", "fetch.mjs"]

try {
  mkdirSync(workspace)
  writeFileSync(join(workspace, "inside"), "inside")
  writeFileSync(join(folder, "outside"), "outside")
  symlinkSync(join(folder, "outside"), join(workspace, "link"))
  for (const name of tries) copyFileSync(fileURLToPath(new URL(name, import.meta.url)), join(project, name))
  for (const { name, command } of [node, ...installed()]) {
    const [executable, ...args] = command
    const client =
      ([executable, ...args]) =>
      (url) =>
        run(executable, [...args, join(project, "client.mjs"), url, "secret", workspace])
    const submit = (url) =>
      run(executable, [...args, program, "submit", "echo", "--url", url, "--token", "secret", "--input", "1"])
    await on(node.command, ["--memory", "--workspace", workspace], {
      [`${name}: the client`]: client(command),
      [`${name}: arcp submit`]: submit
    })
    report(
      `${name}: agents fetch from no private address`,
      await run(executable, [...args, join(project, "fetch.mjs")])
    )
    await on(command, ["--memory", "--workspace", workspace], {
      [`${name}: arcp serve --memory`]: client(node.command)
    })
    // Twice: the second finds what the first has left.
    for (const which of ["a SQLite file", "the file again"])
      await on(
        command,
        ["--db", join(folder, `${executable.replaceAll("/", "-")}.db`), "--workspace", workspace],
        {
          [`${name}: arcp serve, ${which}`]: client(node.command)
        }
      )
  }
} finally {
  rmSync(folder, { recursive: true, force: true })
  for (const name of tries) rmSync(join(project, name), { force: true })
}
if (failures > 0) process.exit(1)
