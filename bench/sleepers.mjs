/**
 * `node bench/sleepers.mjs`: what a durable job costs that only waits, and how soon thousands of them go on when they are due.
 * Jobs of the agent `nap` fall asleep on a server over SQLite; its heap is read after a garbage collection, without them, with
 * them loaded, and with them unloaded. Then the server is killed, and started again before they are due, all at once.
 */
import { spawn } from "node:child_process"
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { Session } from "./session.mjs"

const usage = `node bench/sleepers.mjs [options], after a build
  --jobs N         how many sleep (default 10000)
  --sec N          how long they sleep (default 90)
  --dir DIRECTORY  where the database goes`

const { values: flags } = parseArgs({
  options: {
    jobs: { type: "string", default: "10000" },
    sec: { type: "string", default: "90" },
    dir: { type: "string", default: tmpdir() },
    help: { type: "boolean", default: false }
  }
})
if (flags.help) {
  console.log(usage)
  process.exit(0)
}

const jobs = Number(flags.jobs)
const ms = Number(flags.sec) * 1000
/** How long a job only waits before it is unloaded, in milliseconds: long enough for all of them to be there. */
const unloadAfterMs = Math.min(20_000, ms / 4)

const directory = mkdtempSync(join(flags.dir, "sleepers-"))
const here = (file) => fileURLToPath(new URL(file, import.meta.url))
const heapFile = join(directory, "heap.json")
let server

const fail = (error) => {
  console.error(error.message)
  server?.kill("SIGKILL")
  process.exit(1)
}
process.once("exit", () => rmSync(directory, { recursive: true, force: true }))

/** Starts a server over the database; resolves with its address. */
const start = () =>
  new Promise((resolve) => {
    const limits = [
      "maxJobsPerSession=1000000",
      "maxJobsPerPrincipal=1000000",
      "maxWaitingJobsPerPrincipal=1000000",
      `unloadAfterMs=${unloadAfterMs}`
    ]
    const args = [
      "--import",
      here("heap.mjs"),
      here("../dist/programs/arcp.js"),
      "serve",
      "--agents",
      "conformance"
    ]
    const more = ["--port", "0", "--db", join(directory, "sleepers.db"), "--token", "bench=bench"]
    server = spawn(process.execPath, [...args, ...more, ...limits.flatMap((limit) => ["--limit", limit])], {
      env: { ...process.env, BENCH_HEAP: heapFile },
      stdio: ["ignore", "pipe", "ignore"]
    })
    server.once("exit", (code) => code !== null && fail(new Error(`the server ended with ${code}`)))
    let text = ""
    server.stdout.on("data", (data) => {
      text += data
      const url = /listening (ws:\S+)/.exec(text)?.[1]
      if (url !== undefined) resolve({ url, token: "bench" })
    })
  })

/** Bytes of the server's heap that are in use after a garbage collection. */
const heap = async () => {
  rmSync(heapFile, { force: true })
  server.kill("SIGUSR2")
  while (!existsSync(heapFile)) await pause(50)
  const { arrayBuffers, heapUsed, rss } = JSON.parse(readFileSync(heapFile, "utf8"))
  return { used: heapUsed + arrayBuffers, rss }
}

const mib = (bytes) => `${(bytes / 1024 / 1024).toFixed(1)} MiB`

let target = await start()
const session = await Session.open(target, fail)
let ended = 0
let done = () => {}
const submit = (count, agent, input) =>
  new Promise((resolve) => {
    let slept = 0
    ended = 0
    for (let i = 0; i < count; i++)
      session.submit(agent, input, {
        onAccepted: () => {
          if (++slept === count) resolve()
        },
        onResult: () => {
          if (++ended === count) done()
        }
      })
  })

// What the server holds of anything that has run once is there before.
const warm = new Promise((resolve) => {
  done = resolve
})
await submit(1_000, "nap", { ms: 1 })
await warm
const before = await heap()
const startedAt = Date.now()
await submit(jobs, "nap", { ms })
const acceptedAt = Date.now()
const loaded = await heap()
await pause(Math.max(0, acceptedAt + unloadAfterMs - Date.now()))
let unloaded = loaded
for (let level = 0; level < 6; ) {
  await pause(1_000)
  const next = await heap()
  level = next.used < unloaded.used - 64 * 1024 ? 0 : level + 1
  unloaded = next
  if (Date.now() > startedAt + ms - 1_000)
    fail(new Error("they were due before all of them were unloaded; sleep longer"))
}
const each = ({ used }) => `${Math.round((used - before.used) / jobs)} bytes each`
console.log(`${jobs} jobs accepted in ${((acceptedAt - startedAt) / 1000).toFixed(1)} s, owner attached`)
console.log(`heap without them ${mib(before.used)}; loaded ${mib(loaded.used)}, ${each(loaded)}`)
console.log(`unloaded ${mib(unloaded.used)}, ${each(unloaded)}`)

server.removeAllListeners("exit")
const seq = session.seq
session.drop()
server.kill("SIGKILL")
await pause(500)
const restartedAt = Date.now()
target = await start()
console.log(`listening again after ${Date.now() - restartedAt} ms`)
const all = new Promise((resolve) => {
  done = resolve
})
await session.resume(target, { from: seq })
const again = await heap()
console.log(`heap after the restart, owner back: ${mib(again.used)}, resident ${mib(again.rss)}`)
if (ended < jobs) await all
const lastDue = acceptedAt + ms
console.log(`all ended ${((Date.now() - lastDue) / 1000).toFixed(1)} s after the last was due`)
server.removeAllListeners("exit")
server.kill("SIGKILL")
await session.drop()
process.exit(0)
