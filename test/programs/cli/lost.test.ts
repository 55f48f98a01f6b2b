/** A runtime that goes away under a command, and signals that end one. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync } from "node:fs"
import { writeFile } from "node:fs/promises"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { afterAll, expect, it } from "vitest"

const program = fileURLToPath(new URL("../../../dist/programs/arcp.js", import.meta.url))
const folder = mkdtempSync(join(tmpdir(), "arcp-lost-"))
afterAll(() => rmSync(folder, { recursive: true }))
const environment = { PATH: process.env["PATH"] ?? "", HOME: folder, ARCP_TOKEN: "secret" }

const start = (...args: ReadonlyArray<string>) =>
  spawn(process.execPath, [program, ...args], { env: environment, stdio: ["ignore", "pipe", "pipe"] })
const ended = (child: ChildProcess) =>
  new Promise<number | null>((resolve) => child.once("close", (code) => resolve(code)))

const exit = (child: ChildProcess) =>
  new Promise((resolve) => child.once("exit", (code, by) => resolve({ code, by })))
/** Waits until a command has said that on stderr. */
const said = (child: ReturnType<typeof start>, text: string) =>
  new Promise<string>((resolve, reject) => {
    let stderr = ""
    child.once("close", () => reject(new Error(`left before it said ${text}\n${stderr}`)))
    child.stderr.setEncoding("utf8").on("data", (more: string) => {
      stderr += more
      if (stderr.includes(text)) resolve(stderr)
    })
  })
const submitSleep = (url: string) => start("submit", "sleep", "--input", '{"ms":600000}', "--url", url)
const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const

/** `arcp serve` in memory, and where it listens. */
const serve = async () => {
  const server = start(
    ...["serve", "--memory", "--port", "0", "--agents", "conformance", "--token", "secret=me"],
    ...["--shutdown-grace-ms", "0"]
  )
  server.stderr.resume()
  const url = await new Promise<string>((resolve) =>
    createInterface({ input: server.stdout }).once("line", (line) => resolve(line.replace("listening ", "")))
  )
  return { server, url }
}

it.each([["submit", "--json"], ["submit"]])(
  "%s %s says on stderr that the runtime has gone, and leaves with 5",
  async (command, ...more) => {
    const { server, url } = await serve()
    const client = start(
      // Its first dial has this time, too.
      ...[command, "sleep", "--input", '{"ms":600000}', "--url", url, "--give-up-after", "5s", ...more]
    )
    let stdout = ""
    let stderr = ""
    client.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text
    })
    await new Promise<void>((resolve, reject) => {
      const look = (text: string) => {
        if (text.includes("running")) resolve()
      }
      client.once("close", () => reject(new Error(`left before its job ran\n${stderr}`)))
      client.stdout.setEncoding("utf8").on("data", (text: string) => {
        stdout += text
        look(stdout)
      })
      client.stderr.on("data", () => look(stderr))
    })
    server.kill("SIGKILL")
    expect(await ended(client)).toBe(5)
    expect(stderr).toMatch(/reconnecting/)
    expect(stderr).toMatch(/no runtime for 5s, gave up \(--give-up-after\)/)
    expect(stderr).not.toMatch(/cancelling/)
    for (const line of stdout.trim().split("\n").filter(Boolean)) JSON.parse(line)
  }
)

it.each(signals)("%s ends arcp submit at once when its runtime has gone", async (signal) => {
  const { server, url } = await serve()
  const client = submitSleep(url)
  await said(client, "running")
  server.kill("SIGKILL")
  await said(client, "reconnecting")
  const told = said(client, "ends it later")
  client.kill(signal)
  expect(await exit(client)).toEqual({ code: 130, by: null })
  expect(await told).toMatch(/could not cancel: the runtime is away; the job may go on, arcp cancel job_/)
})

it("arcp submit leaves when its runtime does not answer the cancel, and arcp cancel ends the job later; SIGTERM ends arcp serve in order", async () => {
  const { server, url } = await serve()
  const client = submitSleep(url)
  await said(client, "running")
  server.kill("SIGSTOP")
  const told = said(client, "ends it later")
  client.kill("SIGTERM")
  expect(await exit(client)).toEqual({ code: 130, by: null })
  server.kill("SIGCONT")
  const [jobId = ""] = /job_\w+/.exec(await told) ?? []
  expect(await exit(start("cancel", jobId, "--url", url))).toEqual({ code: 0, by: null })
  server.kill("SIGTERM")
  expect(await exit(server)).toEqual({ code: 0, by: null })
})

it("a second SIGHUP ends arcp submit at once", async () => {
  const { server, url } = await serve()
  const client = start("submit", "stubborn", "--input", '{"ms":600000}', "--url", url)
  await said(client, "running")
  const cancelling = said(client, "cancelling")
  client.kill("SIGHUP")
  await cancelling
  client.kill("SIGHUP")
  expect(await exit(client)).toEqual({ code: null, by: "SIGTERM" })
  server.kill("SIGKILL")
})

/** A server that takes connections and says nothing. */
const silent = async () => {
  const sockets = createServer((socket) => void socket.on("error", () => {}).resume())
  await new Promise<void>((resolve) => sockets.listen(0, "127.0.0.1", resolve))
  const address = sockets.address()
  const connected = new Promise<void>((resolve) => sockets.once("connection", () => resolve()))
  return {
    url: `ws://127.0.0.1:${typeof address === "object" ? address?.port : ""}/arcp`,
    connected,
    sockets
  }
}

it.each([["submit", "sleep"], ["watch", "job_x"], ["jobs"], ["cancel", "job_x"], ["agents"]])(
  "a signal ends arcp %s while it waits for a welcome",
  async (...args) => {
    const { connected, sockets, url } = await silent()
    const client = start(...args, "--url", url)
    await connected
    client.kill("SIGTERM")
    expect(await exit(client)).toEqual({ code: 130, by: null })
    sockets.close()
  }
)

const fifo = (name: string) => {
  mkdirSync(join(folder, name, ".."), { recursive: true })
  execFileSync("mkfifo", [join(folder, name)])
  return join(folder, name)
}

/** Waits until a process has a file open. */
const opened = async (child: ReturnType<typeof start>, file: string) => {
  const { pid } = child
  let stderr = ""
  child.stderr.setEncoding("utf8").on("data", (more: string) => {
    stderr += more
  })
  const links = () => {
    if (child.exitCode !== null)
      throw new Error(`left with ${child.exitCode} before it read ${file}\n${stderr}`)
    return readdirSync(`/proc/${pid}/fd`).map((fd) => linkOf(`/proc/${pid}/fd/${fd}`))
  }
  while (!links().includes(file)) await new Promise((resolve) => setTimeout(resolve, 20))
}
const linkOf = (path: string) => {
  try {
    return readlinkSync(path)
  } catch {
    return undefined
  }
}

it.runIf(process.platform === "linux")(
  "what has no writer does not keep a command from leaving (on Linux)",
  async () => {
    const pipe = fifo("pipe")
    fifo(".config/arcp/config.json")
    for (const [code, file, ...args] of [
      [130, pipe, "submit", "echo", "--input", `@${pipe}`],
      [130, pipe, "submit", "echo", "--lease-file", pipe],
      [0, pipe, "serve", "--memory", "--port", "0", "--identities", pipe],
      [0, pipe, "serve", "--memory", "--port", "0", "--jwt-public-key", pipe]
    ] as const) {
      const client = start(...args)
      await opened(client, file)
      client.kill("SIGHUP")
      expect([...args, await exit(client)]).toEqual([...args, { code, by: null }])
    }
    const server = start("serve", "--memory", "--port", "0", "--agents", pipe)
    expect(await exit(server)).toEqual({ code: 2, by: null })
    // Nobody names the file of contexts: in its place a pipe is a mistake, and is not waited for.
    expect(await exit(start("jobs"))).toEqual({ code: 1, by: null })
    rmSync(join(folder, ".config"), { recursive: true })
  }
)

it("a command that is interrupted while it reads stdin leaves with 130", async () => {
  const client = spawn(process.execPath, [program, "submit", "echo", "--input", "-"], {
    env: environment,
    stdio: ["pipe", "ignore", "ignore"]
  })
  // What is written is read, and with it the command line was.
  await new Promise<void>((resolve) => client.stdin.write(" ".repeat(1024 * 1024), () => resolve()))
  client.kill("SIGTERM")
  expect(await exit(client)).toEqual({ code: 130, by: null })
})

it.runIf(process.platform === "linux")(
  "an input may come through a pipe (on Linux); SIGHUP ends arcp serve in order",
  async () => {
    const { server, url } = await serve()
    const pipe = fifo("input")
    const client = start("submit", "echo", "--input", `@${pipe}`, "--url", url)
    const stdout = new Promise<string>((resolve) => {
      let text = ""
      client.stdout.setEncoding("utf8").on("data", (more: string) => {
        text += more
      })
      client.once("close", () => resolve(text))
    })
    await writeFile(pipe, '{"x":1}')
    expect(JSON.parse(await stdout)).toEqual({ x: 1 })
    server.kill("SIGHUP")
    expect(await exit(server)).toEqual({ code: 0, by: null })
  }
)
