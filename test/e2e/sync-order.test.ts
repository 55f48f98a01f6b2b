/** What the kernel is asked for, in which order: no event leaves before it is on the disk. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { expect, it } from "vitest"
import { verifies } from "./requirements.js"
import { ownServers } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const own = ownServers()

const calls = "write,writev,sendto,sendmsg,pwrite64,pwritev,fsync,fdatasync"

/** Starts to trace a process, all its threads. Gives why it cannot, where that is so. */
const trace = async (pid: number, file: string): Promise<ChildProcess | string> => {
  if (spawnSync("strace", ["-V"]).error !== undefined) return "there is no strace"
  const strace = spawn("strace", [
    "-f",
    "-y",
    "-s",
    "1000000",
    "-e",
    `trace=${calls}`,
    "-o",
    file,
    "-p",
    `${pid}`
  ])
  let said = ""
  return new Promise((resolve) => {
    strace.stderr.setEncoding("utf8").on("data", (text: string) => {
      said += text
      if (/attached/.test(said)) resolve(strace)
    })
    strace.once("exit", () => resolve(said.trim()))
  })
}

const ended = (child: ChildProcess) =>
  new Promise<void>((resolve) => {
    child.once("exit", () => resolve())
    child.kill("SIGINT")
  })

it("an event is written to the log, and the log is synced, before any of it is sent", {
  timeout: 240_000
}, async (test) => {
  verifies("persist-before-send")
  const directory = own.directory()
  const server = await own.start("--db", join(directory, "arcp.db"), "--synchronous", "FULL")
  const client = await WireClient.open(server.url)
  const file = join(directory, "calls")
  const strace = await trace(server.pid, file)
  if (typeof strace === "string") {
    return test.skip(`what the process asks the kernel for cannot be seen: ${strace}`)
  }
  const count = 600
  const { job_id } = await client.accept("emit", { count, size: 40 })
  await client.terminal(job_id)
  await ended(strace)

  /** Messages by their number: not yet written, written, synced, sent. */
  const states = new Map<string, "written" | "synced">()
  let sent = 0
  for (const line of readFileSync(file, "utf8").split("\n")) {
    const numbers = Array.from(line.matchAll(/\\"message\\":\\"(\d+)\./g), ([, n = ""]) => n)
    if (/-wal>/.test(line)) {
      // A sync that another thread's call interrupts is done when it is resumed.
      for (const n of numbers) if (!states.has(n)) states.set(n, "written")
    }
    if (/(fsync|fdatasync)(\(\d+<[^>]*-wal>\)| resumed>\)?).*= 0$/.test(line))
      for (const [n, state] of states) if (state === "written") states.set(n, "synced")
    if (/(write|writev|sendto|sendmsg)\(\d+<(TCP|socket)/.test(line))
      for (const n of numbers) {
        expect(states.get(n), `message ${n} was sent`).toBe("synced")
        sent++
      }
  }
  expect(sent).toBe(count)
})
