/**
 * Makes a cluster of Postgres in a folder of its own and runs it, for as long as whoever started this keeps its stdin open: so
 * nothing is left when a test process is killed. Says `ready URL` when it takes connections. Understands lines on stdin:
 * `stop`, `kill` (without saying anything to clients) and `start`, and answers each with `done`.
 *
 *   node postgres-guard.mjs FOLDER-OF-BINARIES [durable]
 *
 * `durable`: it syncs what it commits, as it does anywhere else.
 */
import { execFileSync, spawn } from "node:child_process"
import { chownSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import pg from "pg"

const [binaries, durable] = process.argv.slice(2)
const folder = mkdtempSync(join(tmpdir(), "arcp-postgres-"))
const data = join(folder, "data")

/** Postgres refuses to run as root. */
const as = (() => {
  if (process.getuid() !== 0) return {}
  const id = (flag) => Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" }))
  const who = { uid: id("-u"), gid: id("-g") }
  chownSync(folder, who.uid, who.gid)
  return who
})()

const freePort = () =>
  new Promise((resolve) => {
    const server = createServer()
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })

const port = await freePort()
const passwords = join(folder, "password")
writeFileSync(passwords, "secret\n")
const options = { ...as, cwd: folder, stdio: ["ignore", "ignore", "pipe"] }
execFileSync(
  join(binaries, "initdb"),
  [
    "-D",
    data,
    "-U",
    "arcp",
    "-E",
    "UTF8",
    "--locale=C",
    "--no-sync",
    "-A",
    "scram-sha-256",
    `--pwfile=${passwords}`
  ],
  options
)

const settings = {
  listen_addresses: "127.0.0.1",
  port,
  unix_socket_directories: "",
  ...(durable === undefined ? { fsync: "off", full_page_writes: "off" } : {}),
  max_connections: "120",
  shared_buffers: "48MB",
  autovacuum_naptime: "5s",
  log_min_messages: "fatal"
}

let server
const exited = (child) =>
  new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve()
    else child.once("exit", resolve)
  })

const url = `postgres://arcp:secret@127.0.0.1:${port}/postgres`

/** Whether it takes connections, which it does not do for a moment after its port is open. */
const answers = async () => {
  const client = new pg.Client({ connectionString: url })
  client.on("error", () => undefined)
  try {
    await client.connect()
    await client.query("SELECT 1")
    return true
  } catch {
    return false
  } finally {
    await client.end().catch(() => undefined)
  }
}

const start = async () => {
  server = spawn(
    join(binaries, "postgres"),
    ["-D", data, ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])],
    options
  )
  let said = ""
  server.stderr.on("data", (chunk) => {
    said += chunk
  })
  while (!(await answers())) {
    if (server.exitCode !== null) throw new Error(`postgres has ended: ${said}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** SIGINT ends all connections and then the server, SIGQUIT at once. */
const stop = async (signal) => {
  server.kill(signal)
  await exited(server)
}

const end = async () => {
  if (server !== undefined) await stop("SIGQUIT")
  rmSync(folder, { recursive: true, force: true })
  process.exit(0)
}
process.on("SIGTERM", end)

await start()
console.log(`ready ${url}`)
for await (const line of createInterface({ input: process.stdin })) {
  if (line === "stop") await stop("SIGINT")
  else if (line === "kill") await stop("SIGQUIT")
  else if (line === "start") await start()
  console.log("done")
}
await end()
