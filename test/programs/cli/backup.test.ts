/** `arcp backup` while a server commits, and `arcp restore`: what comes back, event by event. */
import { mkdtempSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, expect, it } from "vitest"
import { listening, Program, serveArgs } from "../../e2e/support/Program.js"
import { WireClient } from "../../e2e/support/WireClient.js"
import { run } from "./inProcess.js"

const folder = mkdtempSync(join(tmpdir(), "arcp-cli-backup-"))
afterAll(() => rmSync(folder, { recursive: true }))
const [db, copy, back] = ["arcp.db", "copy.db", "back.db"].map((name) => join(folder, name)) as [
  string,
  string,
  string
]

const serve = (filename: string) => new Program(serveArgs(["--port", "0", "--db", filename]))

/** The events of a job as they are stored, one line each. */
const eventsOf = async (filename: string, job: string): Promise<ReadonlyArray<string>> => {
  const { code, stderr, stdout } = await run(["replay", "--db", filename, "--job", job])
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" })
  return stdout.trimEnd().split("\n")
}

it("a backup made under load has every event that was sent before it, and goes on where it is restored", async () => {
  const server = serve(db)
  try {
    const client = await WireClient.open(await listening(server))
    const jobs: Array<string> = []
    for (let i = 0; i < 4; i++) {
      const accepted = await client.answer(client.submit("emit", { count: 20_000 }))
      jobs.push(String(accepted.job_id))
    }
    const sent = async (atLeast: number) => {
      for (const job of jobs)
        await client.next(({ job_id }) => job_id === job && client.eventsOf(job).length >= atLeast)
      return jobs.map((job) => client.eventsOf(job).length)
    }
    const before = await sent(200)
    const made = await run(["backup", copy, "--db", db])
    expect(made.stderr).toBe("")
    expect(made.code).toBe(0)
    expect(made.stdout).toMatch(/copy\.db {2}4 jobs, \d+ events, schema \d+, [\d.]+ [kM]B\n$/)
    expect(statSync(copy).mode & 0o777).toBe(0o600)

    const during = await run(["restore", copy, "--db", db])
    expect(during.code).toBe(1)
    expect(during.stderr).toMatch(new RegExp(`process ${server.child.pid}.* uses .*stop it before`))

    for (const job of jobs) await client.terminal(job)
    const restored = await run(["restore", copy, "--db", back, "--json"])
    expect(restored.code).toBe(0)
    expect(JSON.parse(restored.stdout)).toMatchObject({ jobs: 4, sessions: 0, file: back })
    for (const [i, job] of jobs.entries()) {
      const [whole, part] = [await eventsOf(db, job), await eventsOf(back, job)]
      expect(whole.length).toBeGreaterThan(20_000)
      expect(whole.at(-1)).toContain('"type":"job.result"')
      expect(part.length).toBeGreaterThanOrEqual(before[i] ?? 0)
      expect(part).toEqual(whole.slice(0, part.length))
    }
  } finally {
    server.signal("SIGKILL")
    await server.leaves()
  }

  // What was running when the backup was made is ended by the runtime that starts on it.
  const next = serve(back)
  try {
    const client = await WireClient.open(await listening(next))
    const { terminal } = await client.run("echo", "after")
    expect(terminal.payload.result).toBe("after")
  } finally {
    next.signal("SIGTERM")
    expect((await next.leaves()).code).toBe(0)
  }
})

it("refuses in words", async () => {
  for (const [args, said] of [
    [["backup", join(folder, "x.db"), "--db", join(folder, "none.db")], /none\.db does not exist/],
    [["backup", copy, "--db", db], /copy\.db exists; .*--force/],
    [["restore", join(folder, "none.db"), "--db", db], /none\.db does not exist/]
  ] as const) {
    const { code, stderr, stdout } = await run([...args])
    expect(stderr).toMatch(said)
    expect(stdout).toBe("")
    expect(code).toBe(1)
  }
  for (const command of ["backup", "restore"]) {
    const { code, stderr } = await run([command])
    expect(code).toBe(2)
    expect(stderr).toMatch(/needs FILE/)
  }
})
