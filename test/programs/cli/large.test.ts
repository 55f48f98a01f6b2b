/** Files, pipes and answers without an end: what reads them says so, and holds no more of them than it may. */
import { execFileSync, spawn } from "node:child_process"
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from "node:fs"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, expect, it } from "vitest"
import { run } from "./inProcess.js"

const folder = mkdtempSync(join(tmpdir(), "arcp-large-"))
const at = (name: string) => join(folder, name)
afterAll(() => rmSync(folder, { recursive: true }))

beforeAll(() => {
  const file = openSync(at("huge"), "w")
  // Without a byte on the disk.
  ftruncateSync(file, 3 * 1024 ** 3)
  closeSync(file)
  execFileSync("mkfifo", [at("fifo"), at("silent")])
})

/** Runs something while a process writes into the pipe without end. */
const whileWritten = async <A>(use: () => Promise<A>): Promise<A> => {
  const writer = spawn("sh", ["-c", `exec yes > '${at("fifo")}'`], { stdio: "ignore" })
  try {
    return await use()
  } finally {
    writer.kill("SIGKILL")
  }
}

const flags: ReadonlyArray<readonly [string, (name: string) => ReadonlyArray<string>]> = [
  ["--input", (name) => ["submit", "echo", "--input", `@${name}`]],
  ["--lease-file", (name) => ["submit", "echo", "--lease-file", name]],
  ["--identities", (name) => ["serve", "--memory", "--port", "0", "--identities", name]],
  ["--jwt-public-key", (name) => ["serve", "--memory", "--port", "0", "--jwt-public-key", name]]
]

it.each(flags)("%s reads no more than it may of a file or a pipe", async (flag, args) => {
  const before = process.memoryUsage().rss
  for (const read of [() => run(args(at("huge"))), () => whileWritten(() => run(args(at("fifo"))))]) {
    const { code, stderr } = await read()
    expect(stderr).toContain(flag)
    expect(stderr).toContain("it has more than 128 MiB")
    expect(code).toBe(2)
  }
  expect(process.memoryUsage().rss - before).toBeLessThan(512 * 1024 * 1024)
})

it("arcp doctor reads no key out of a pipe, and no key set without an end", async () => {
  const server = createServer((_, response) => {
    const more = () => {
      while (!response.destroyed && response.write(Buffer.alloc(65_536, "x")));
    }
    response.on("drain", more)
    more()
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  const doctor = (...args: ReadonlyArray<string>) =>
    run(["doctor", "--db", at("arcp.db"), "--port", "0", ...args], { HOME: folder, XDG_CONFIG_HOME: folder })
  try {
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
    expect((await doctor("--jwt-jwks", url)).stdout).toContain("the answer has more than 1048576 bytes")
    expect((await doctor("--jwt-public-key", at("silent"))).stdout).toContain("silent is no regular file")
  } finally {
    server.closeAllConnections()
    server.close()
  }
})
