/** The examples of docs/http.md, run as they stand by a shell with the real curl. */
import { execFile } from "node:child_process"
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { afterAll, expect, it } from "vitest"
import { listening, Program } from "../e2e/support/Program.js"
import { sentOf } from "../layers/http/served.js"

const folder = mkdtempSync(join(tmpdir(), "arcp-docs-http-"))
let program: Program | undefined
afterAll(async () => {
  program?.signal("SIGKILL")
  await program?.exited
  rmSync(folder, { recursive: true })
})

const page = readFileSync(new URL("../../docs/http.md", import.meta.url), "utf8")
const [serving = "", asking = ""] = [...page.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, text = ""]) => text)

it("the page's commands run an agent, follow it, go on after an event, and get its result", async () => {
  // Something to look at, so that there are more events than the example goes on after.
  for (let i = 0; i < 6; i++) {
    mkdirSync(join(folder, `folder-${i}`))
    for (let n = 0; n < 4; n++) writeFileSync(join(folder, `folder-${i}`, `${n}.txt`), "text\n")
  }
  const [command, ...args] = serving.trim().split(/\s+/)
  expect(command).toBe("arcp")
  program = new Program([...args, "--port", "0", "--memory"], {}, folder)
  const host = new URL((await listening(program)).replace(/^ws/, "http")).host
  const commands = asking.replaceAll("\\\n", " ").trim().split(/\n+/)
  expect(commands).toHaveLength(4)
  const run = async (text: string, job = "") => {
    expect(text).toContain("localhost:7777")
    const line = text.replaceAll("localhost:7777", host).replaceAll("JOB", job)
    return (await promisify(execFile)("sh", ["-c", line], { timeout: 60_000, cwd: folder })).stdout
  }
  const [submit = "", follow = "", after = "", result = ""] = commands
  const { agent, job_id: job } = JSON.parse(await run(submit))
  expect(agent).toMatch(/^survey@/)
  // The same key again is the same job.
  expect(JSON.parse(await run(submit)).job_id).toBe(job)
  const all = sentOf(await run(follow, job))
  expect(all.map(({ id }) => id)).toEqual(all.map((_, i) => i + 1))
  expect(all.at(-1)?.event, JSON.stringify(all.at(-1))).toBe("job.result")
  expect(all.length).toBeGreaterThan(17)
  expect(sentOf(await run(after, job))).toEqual(all.slice(17))
  // Streamed as text.
  expect(await run(result, job)).toMatch(/^# Survey of /)
})
