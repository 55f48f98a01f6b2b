/** The processes of a benchmark: servers under test and clients, started, observed and stopped here. */
import { fork, spawn, spawnSync } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"

const here = (file) => fileURLToPath(new URL(file, import.meta.url))
const startMs = 20_000
const token = "bench"

const stores = {
  memory: () => ["--memory"],
  FULL: (directory) => ["--db", join(directory, "bench.db"), "--synchronous", "FULL"],
  NORMAL: (directory) => ["--db", join(directory, "bench.db"), "--synchronous", "NORMAL"],
  /** In the Postgres that ARCP_BENCH_PG names. */
  postgres: () => ["--pg", process.env.ARCP_BENCH_PG]
}

const limits = [
  "maxSessionsPerPrincipal=10000",
  "maxJobsPerSession=1000",
  "maxJobsPerPrincipal=20000",
  "maxSubscriptionsPerSession=2000"
]

const running = new Set()
const directories = new Set()

const register = (child) => {
  running.add(child)
  child.once("exit", () => running.delete(child))
  return child
}

const stop = (child) =>
  new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve()
    child.once("exit", resolve)
    // Not SIGTERM: what the server would write down while it shuts down is thrown away anyway.
    child.kill("SIGKILL")
  })

const removeDirectory = (directory) => {
  directories.delete(directory)
  rmSync(directory, { recursive: true, force: true })
}

/** Stops every process that is still running and removes every file. */
export const stopAll = () => {
  for (const child of running) child.kill("SIGKILL")
  for (const directory of directories) removeDirectory(directory)
}

/** Nanoseconds of CPU that all threads of a process have used; undefined where there is no /proc. */
const cpuNs = (pid) => {
  try {
    let ns = 0
    for (const task of readdirSync(`/proc/${pid}/task`))
      ns += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ")[0])
    return ns
  } catch {
    return undefined
  }
}

/** The same of its main thread only. */
const mainCpuNs = (pid) => {
  try {
    return Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, "utf8").split(" ")[0])
  } catch {
    return undefined
  }
}

/** Resident bytes of a process. */
const rssBytes = (pid) => {
  try {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]) * 1024
  } catch {
    return Number(spawnSync("ps", ["-o", "rss=", "-p", String(pid)]).stdout) * 1024
  }
}

/** Watches the resident bytes of a process; the function returned tells by how much they have grown at most. */
const watchRss = (pid) => {
  if (pid === undefined) return () => NaN
  const before = rssBytes(pid)
  let highest = before
  const look = () => {
    highest = Math.max(highest, rssBytes(pid))
  }
  const timer = setInterval(look, 50)
  return () => {
    clearInterval(timer)
    look()
    return highest - before
  }
}

const commandOf = (kind, store, extra, directory, { flags, heap, profile }) =>
  kind === "floor"
    ? [here("floor.mjs")]
    : [
        // Bundled as it is shipped; for a profile as it was compiled, since that says where a function is.
        ...(profile === undefined
          ? [...(heap === undefined ? [] : ["--import", here("heap.mjs")]), here("../dist/programs/arcp.js")]
          : ["--import", here("profiling.mjs"), here("../dist/programs/cli/program.js")]),
        ...["serve", "--agents", "conformance", "--port", "0", "--token", `${token}=bench`],
        ...stores[store](directory),
        // Idle sessions are measured idle.
        ...["--heartbeat-sec", "3600"],
        ...[...limits, ...extra].flatMap((limit) => ["--limit", limit]),
        ...flags
      ]

/**
 * Starts a server and resolves when it listens. `kind` is `floor` or `arcp`, `base` the directory in which
 * its database gets a directory of its own, `extra` further `--limit` values, `flags` further flags, `profile` the file that a CPU profile is
 * written to (see `profiling.mjs`), `heap` the file that says what is in use (see `heap.mjs`).
 */
export const startServer = async ({ kind, store, extra = [], flags = [], base, heap, profile }) => {
  const directory = mkdtempSync(join(base, "arcp-bench-"))
  directories.add(directory)
  const child = register(
    spawn(process.execPath, commandOf(kind, store, extra, directory, { flags, heap, profile }), {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, BENCH_PROFILE: profile, BENCH_HEAP: heap }
    })
  )
  let stderr = ""
  child.stderr.on("data", (data) => {
    stderr = (stderr + data).slice(-2_000)
  })
  const server = {
    pid: child.pid,
    cpuNs: () => cpuNs(child.pid),
    mainCpuNs: () => mainCpuNs(child.pid),
    rssBytes: () => rssBytes(child.pid),
    watchRss: () => watchRss(child.pid),
    /** The end of what it wrote to stderr, for error messages. */
    stderr: () => stderr.trim(),
    stop: async () => {
      await stop(child)
      removeDirectory(directory)
    }
  }
  try {
    const url = await new Promise((resolve, reject) => {
      let stdout = ""
      const timer = setTimeout(() => reject(new Error(`no address within ${startMs} ms`)), startMs)
      child.stdout.on("data", (data) => {
        stdout += data
        const line = /^listening (ws:\S+)$/m.exec(stdout)
        if (line === null) return
        clearTimeout(timer)
        resolve(line[1])
      })
      child.once("error", reject)
      child.once("exit", (code) => {
        clearTimeout(timer)
        reject(new Error(`exited with ${code}`))
      })
    })
    return { ...server, target: { url, token } }
  } catch (error) {
    await server.stop()
    throw new Error(`${kind} server: ${error.message}\n${server.stderr()}`)
  }
}

/**
 * A server that somebody else has started: nothing of it is known but what it answers and, with its `pid`, what it uses.
 * It is never stopped.
 */
export const peerServer = ({ agents, pid, token, url }) => ({
  pid,
  cpuNs: () => (pid === undefined ? undefined : cpuNs(pid)),
  rssBytes: () => (pid === undefined ? undefined : rssBytes(pid)),
  watchRss: () => watchRss(pid),
  stderr: () => "",
  stop: async () => {},
  target: { url, token, agents }
})

/** Starts a client process; `run(server, scenario, params)` resolves with what the scenario returned. */
export const startClient = ({ deadlineMs }) => {
  const child = register(fork(here("client.mjs"), { execArgv: ["--expose-gc"] }))
  const run = (server, scenario, params = {}) =>
    new Promise((resolve, reject) => {
      const gone = (code) => reject(new Error(`client exited with ${code}`))
      child.once("exit", gone)
      child.once("message", ({ value, error }) => {
        child.off("exit", gone)
        if (error === undefined) return resolve(value)
        const said = server.stderr()
        reject(new Error(said === "" ? error : `${error}\nserver: ${said}`))
      })
      child.send({ scenario, target: server.target, params, deadlineMs })
    })
  return { run, stop: () => stop(child) }
}
