/**
 * `node bench/soak.mjs`: works a runtime for minutes and watches its memory. Jobs that emit, small jobs, subscribers,
 * cancels and sessions that come back, steadily; every few seconds the resident memory of the server is read. Prints a line
 * a minute, and at the end how much more the last third held than the middle one.
 */
import { tmpdir } from "node:os"
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

const observe = async (server) => {
  const readings = []
  const from = performance.now()
  while (!isOver()) {
    readings.push(server.rssBytes() / mebi)
    if (readings.length % 30 === 0)
      console.log(
        `${((performance.now() - from) / 60_000).toFixed(1)} min: ${readings.at(-1).toFixed(0)} MiB, ${JSON.stringify(done)}`
      )
    await pause(2_000)
  }
  return readings
}

const main = async () => {
  const server = await startServer({ kind: "arcp", store: flags.store, extra: limits, base: flags.dir })
  const workers = [emitting, emitting, small, small, cancelling].map((work) => work(server.target))
  const readings = await observe(server)
  await Promise.all(workers)
  const third = Math.floor(readings.length / 3)
  const middle = median(readings.slice(third, 2 * third))
  const last = median(readings.slice(2 * third))
  console.log(
    `${flags.store}, ${flags.minutes} min: ${JSON.stringify(done)}\n` +
      `resident: start ${readings[0].toFixed(0)} MiB, middle third ${middle.toFixed(0)} MiB, last third ${last.toFixed(0)} MiB ` +
      `(${(last / middle).toFixed(2)} ×), highest ${Math.max(...readings).toFixed(0)} MiB`
  )
  await server.stop()
}

process.on("exit", stopAll)
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(130))
await main()
