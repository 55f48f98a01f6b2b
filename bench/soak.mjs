/**
 * `node bench/soak.mjs`: works a runtime for minutes and watches its memory. Jobs that emit, small jobs, subscribers,
 * cancels and sessions that come back, steadily. Every few seconds the resident memory of the server is read, and every half
 * minute what is in use of its heap after a garbage collection, which is what must be level. Prints a line each time, and at the
 * end how much more the last third held than the middle one.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setTimeout as pause } from "node:timers/promises"
import { parseArgs } from "node:util"
import { startServer, stopAll } from "./processes.mjs"
import { Session } from "./session.mjs"
import { median } from "./stats.mjs"

const usage = `node bench/soak.mjs [options]
  --minutes N    how long (default 8)
  --store NAME   memory, FULL, NORMAL (default memory)
  --dir DIRECTORY  where the database goes`

const { values: flags } = parseArgs({
  options: {
    minutes: { type: "string", default: "8" },
    store: { type: "string", default: "memory" },
    dir: { type: "string", default: tmpdir() },
    help: { type: "boolean", default: false }
  }
})
if (flags.help) {
  console.log(usage)
  process.exit(0)
}

/** What is kept is bounded, so that the bounds are reached within minutes and memory has to be level from then on. */
const limits = [
  "maxMemoryLogBytes=50000000",
  "maxRetainedEvents=320000",
  "maxRetainedJobs=20000",
  "jobRetention=60000",
  "tailBytes=8000000"
]

/** Sessions that are left are gone after half a minute: with ten, as usual, they would become more for longer than this lasts. */
const window = ["--resume-window-sec", "30"]

const done = { events: 0, jobs: 0, cancels: 0, resumes: 0, sessions: 0 }
const until = performance.now() + Number(flags.minutes) * 60_000
const isOver = () => performance.now() > until

const fail = (error) => {
  console.error(error.message)
  process.exit(1)
}

/** One job that emits, with a subscriber; then the session comes back and goes on. */
const emitting = async (target) => {
  const owner = await Session.open(target, fail)
  const watcher = await Session.open(target, fail)
  while (!isOver()) {
    let jobId
    const ended = new Promise((onResult) =>
      owner.submit(
        "emit",
        { count: 2_000, size: 200, batch: 8, startDelayMs: 50 },
        {
          onAccepted: (id) => {
            jobId = id
            watched(watcher.subscribe(id, { onResult: () => {} }))
          },
          onResult
        }
      )
    )
    await ended
    done.events += 2_000
    await owner.resume(target, { from: owner.seq })
    done.resumes++
    await pause(50)
    if (jobId === undefined) fail(new Error("a job ended before it was accepted"))
  }
  await Promise.all([owner.close(), watcher.close()])
}

const watched = (promise) => void promise.catch(fail)

/** Small jobs, one after the other. */
const small = async (target) => {
  const session = await Session.open(target, fail)
  while (!isOver()) {
    await new Promise((onResult) => session.submit("echo", { text: "x".repeat(500) }, { onResult }))
    done.jobs++
    await pause(1)
  }
  await session.close()
}

/** Jobs that are cancelled, each in a session of its own. */
const cancelling = async (target) => {
  while (!isOver()) {
    const session = await Session.open(target, fail)
    let jobId
    await new Promise((onError) =>
      session.submit(
        "sleep",
        { ms: 600_000 },
        {
          onAccepted: (id) => {
            jobId = id
          },
          onEvent: () => jobId !== undefined && session.cancel(jobId),
          onCancelled: () => {},
          onError
        }
      )
    )
    done.cancels++
    await session.close()
    done.sessions++
    await pause(10)
  }
}

const mebi = 1024 ** 2

/** Mebibytes in use after a garbage collection. */
const inUse = async (server, file) => {
  rmSync(file, { force: true })
  process.kill(server.pid, "SIGUSR2")
  for (let i = 0; i < 600 && !existsSync(file); i++) await pause(50)
  const { external, heapUsed } = JSON.parse(readFileSync(file, "utf8"))
  return (heapUsed + external) / mebi
}

/** Readings of both, in mebibytes. */
const observe = async (server, file) => {
  const resident = []
  const heap = []
  const from = performance.now()
  while (!isOver()) {
    resident.push(server.rssBytes() / mebi)
    if (resident.length % 15 === 0) {
      heap.push(await inUse(server, file))
      const minutes = ((performance.now() - from) / 60_000).toFixed(1)
      console.log(
        `${minutes} min: resident ${resident.at(-1).toFixed(0)} MiB, in use ${heap.at(-1).toFixed(1)} MiB, ${JSON.stringify(done)}`
      )
    }
    await pause(2_000)
  }
  return { resident, heap }
}

const thirds = (name, readings) => {
  const third = Math.floor(readings.length / 3)
  if (third === 0) return `${name}: too short to tell`
  const middle = median(readings.slice(third, 2 * third))
  const last = median(readings.slice(2 * third))
  return (
    `${name}: start ${readings[0].toFixed(0)} MiB, middle third ${middle.toFixed(1)} MiB, last third ${last.toFixed(1)} MiB ` +
    `(${(last / middle).toFixed(2)} ×), highest ${Math.max(...readings).toFixed(0)} MiB`
  )
}

const main = async () => {
  const directory = mkdtempSync(join(tmpdir(), "arcp-soak-"))
  const file = join(directory, "heap.json")
  const { dir: base, store } = flags
  const server = await startServer({ kind: "arcp", store, extra: limits, flags: window, base, heap: file })
  const workers = [emitting, emitting, small, small, cancelling].map((work) => work(server.target))
  const { heap, resident } = await observe(server, file)
  await Promise.all(workers)
  console.log(`${store}, ${flags.minutes} min: ${JSON.stringify(done)}`)
  console.log([thirds("resident", resident), thirds("in use", heap)].join("\n"))
  await server.stop()
  rmSync(directory, { recursive: true })
}

process.on("exit", stopAll)
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(130))
await main()
