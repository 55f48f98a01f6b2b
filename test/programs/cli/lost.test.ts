/** A runtime that goes away under a command, and signals that end one. */
import { type ChildProcess, spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { expect, it } from "vitest"

const program = fileURLToPath(new URL("../../../dist/programs/arcp.js", import.meta.url))
const environment = { PATH: process.env["PATH"] ?? "", ARCP_TOKEN: "secret" }

const start = (...args: ReadonlyArray<string>) =>
  spawn(process.execPath, [program, ...args], { env: environment, stdio: ["ignore", "pipe", "pipe"] })
const ended = (child: ChildProcess) =>
  new Promise<number | null>((resolve) => child.once("close", (code) => resolve(code)))

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
      ...[command, "sleep", "--input", '{"ms":600000}', "--url", url, "--give-up-after", "1s", ...more]
    )
    let stdout = ""
    let stderr = ""
    client.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text
    })
    await new Promise<void>((resolve) => {
      const look = (text: string) => {
        if (text.includes("running")) resolve()
      }
      client.stdout.setEncoding("utf8").on("data", (text: string) => {
        stdout += text
        look(stdout)
      })
      client.stderr.on("data", () => look(stderr))
    })
    server.kill("SIGKILL")
    expect(await ended(client)).toBe(5)
    expect(stderr).toMatch(/reconnecting/)
    expect(stderr).toMatch(/no runtime for 1s, gave up \(--give-up-after\)/)
    expect(stderr).not.toMatch(/cancelling/)
    for (const line of stdout.trim().split("\n").filter(Boolean)) JSON.parse(line)
  }
)

it.each(["SIGHUP", "SIGTERM"] as const)("%s ends arcp serve in order", async (signal) => {
  const { server } = await serve()
  server.kill(signal)
  const exit = await new Promise((resolve) => server.once("exit", (code, by) => resolve({ code, by })))
  expect(exit).toEqual({ code: 0, by: null })
})
