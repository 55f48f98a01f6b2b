/** Jobs are deleted from a server that runs on SQLite: sessions that had them, its death in the middle, and the bytes of the file. */
import { existsSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { setTimeout } from "node:timers/promises"
import { afterEach, expect, it } from "vitest"
import { listening, serveArgs } from "../e2e/support/Program.js"
import { ownServers } from "../e2e/support/Server.js"
import { settleClients, WireClient } from "../e2e/support/WireClient.js"
import { run } from "./cli/inProcess.js"

const own = ownServers()
afterEach(settleClients)

const start = async (db: string) => {
  const program = own.program(
    serveArgs(["--db", db, "--port", "0", "--operator", "bob", "--limit", "storeInputs=true"])
  )
  const url = await listening(program)
  const base = url.replace(/^ws/, "http").replace(/\/arcp$/, "")
  const ask = async (path: string, { token = "tok-a", ...init }: RequestInit & { token?: string } = {}) => {
    const response = await fetch(`${base}/v1/jobs${path}`, {
      ...init,
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      signal: AbortSignal.timeout(60_000)
    })
    // biome-ignore lint/suspicious/noExplicitAny: what a test reads of an answer is the test
    return { status: response.status, body: (await response.json()) as any }
  }
  const submit = async (agent: string, input: unknown): Promise<string> =>
    (await ask("", { method: "POST", body: JSON.stringify({ agent, input }) })).body.job_id
  return {
    program,
    url,
    ask,
    submit,
    remove: (path: string) => ask(path, { method: "DELETE", token: "tok-b" })
  }
}

/** Waits until nothing of a text is in the file, nor in its log. */
const erased = async (db: string, text: string) => {
  const isThere = (file: string) => existsSync(file) && readFileSync(file, "latin1").includes(text)
  for (let tries = 0; isThere(db) || isThere(`${db}-wal`); tries++) {
    expect(tries, "it is still in the file").toBeLessThan(600)
    await setTimeout(50)
  }
}

it("sessions that had read of it go on; others hear that it is gone", async () => {
  const db = join(own.directory(), "arcp.db")
  const { remove, url } = await start(db)
  const reader = await WireClient.open(url)
  const absent = await WireClient.open(url)
  const { accepted: first } = await reader.run("emit", { count: 10, message: "kept in nothing" })
  await absent.run("emit", { count: 10 })
  absent.drop()
  const watcher = await WireClient.open(url)
  await watcher.answer(
    watcher.request("job.subscribe", { job_id: first.job_id, history: true }, { job_id: first.job_id })
  )
  await watcher.terminal(first.job_id)
  expect((await remove(`/${first.job_id}`)).status).toBe(200)

  // The numbers of both go on, whatever was taken out before them.
  for (const client of [reader, watcher]) {
    await client.run("emit", { count: 5 })
    client.drop()
    const back = await WireClient.resume(url, client.session)
    await back.run("echo", 1)
  }
  expect(watcher.session.lastSeq).toBeGreaterThan(18)

  const theirs = absent.eventsOf([...absent.frames].find(({ type }) => type === "job.accepted")?.job_id)
  const asOperator = ["--running", "--url", url, "--token", "tok-b"]
  const job = theirs[0]?.job_id ?? ""
  const gone = await run(["jobs", "delete", job, ...asOperator])
  expect(gone).toMatchObject({
    code: 0,
    stdout: `${job}  deleted\n`,
    stderr: "1 job and 0 sessions deleted\n"
  })
  const again = await run(["jobs", "delete", job, ...asOperator])
  expect(again.code).toBe(1)
  expect(again.stderr).toContain("no such job")
  const notAllowed = await run([
    "jobs",
    "delete",
    "--principal",
    "alice",
    "--running",
    "--url",
    url,
    "--token",
    "tok-a"
  ])
  expect(notAllowed.code).toBe(1)
  expect(notAllowed.stderr).toMatch(/may not delete.*arcp serve --operator/)
  const late = await WireClient.resuming(url, absent.session, { from: 2 })
  const refused = await late.next(({ type }) => type === "session.error")
  expect(refused.payload["code"]).toBe("RESUME_WINDOW_EXPIRED")
})

it("kill -9 in the middle leaves whole jobs, which are deleted when it is asked again; no byte of them is left", async () => {
  const db = join(own.directory(), "arcp.db")
  const first = await start(db)
  const marker = "somebody who wants to be forgotten"
  const others = await first.submit("echo", "somebody else")
  for (let i = 0; i < 320; i += 40)
    await Promise.all(
      Array.from({ length: 40 }, () => first.submit("echo", { about: marker, pad: "x".repeat(2_000) }))
    )
  expect(readFileSync(`${db}-wal`, "latin1") + readFileSync(db, "latin1")).toContain(marker)
  const asked = first.remove("?principal=alice&cancel=true").catch(() => undefined)
  await setTimeout(20)
  first.program.signal("SIGKILL")
  await Promise.all([asked, first.program.leaves()])

  const second = await start(db)
  const { body: left } = await second.ask("?limit=1000")
  for (const { job_id: id } of left.jobs.slice(0, 20))
    expect((await second.ask(`/${id}/result`)).status).toBe(200)
  const gone = await second.remove("?principal=alice&cancel=true")
  expect(gone.status).toBe(200)
  expect(gone.body.jobs).toHaveLength(left.jobs.length)
  expect(left.jobs.length === 0 || gone.body.jobs.includes(others)).toBe(true)
  expect((await second.ask("")).body.jobs).toEqual([])
  await erased(db, marker)
})
