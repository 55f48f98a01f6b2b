/** Processes that die, and disks that fill, while jobs have emitted as much as may wait for its commit. */
import { execFileSync } from "node:child_process"
import { readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { describe, expect, it } from "vitest"
import { verifies } from "./requirements.js"
import type { Frame } from "./support/Frame.js"
import { seeded } from "./support/random.js"
import { ownServers } from "./support/Server.js"
import { smallDisk } from "./support/smallDisk.js"
import { statements } from "./support/sqlite.js"
import { WireClient } from "./support/WireClient.js"

const own = ownServers()

const agents = ["--agents", fileURLToPath(new URL("support/window-agents.mjs", import.meta.url))]
const cycles = Number(process.env["ARCP_KILL_CYCLES"] ?? 3)
const seed = Number(process.env["ARCP_SEED"] ?? 20_261_127)
/** Fibers of each job. */
const fibers = [1, 4, 8]

/** What the jobs have called, as they wrote it down themselves. */
const called = (file: string, slot: number) => {
  const words = readFileSync(file)
  const [emits = 0, costs = 0, waits = 0] = [0, 4, 8].map((at) => words.readUInt32LE(slot * 12 + at))
  return { emits, costs, waits }
}

/** Starts one job of each size; gives their ids. */
const flood = async (client: WireClient, file: string, costs: boolean) => {
  writeFileSync(file, Buffer.alloc(12 * fibers.length))
  const ids: Array<string> = []
  for (const [slot, count] of fibers.entries()) {
    const lease_request = { "cost.budget": ["USD:100000"] }
    const { job_id } = await client.accept("flood", { file, slot, fibers: count, costs }, { lease_request })
    ids.push(String(job_id))
  }
  return ids
}

/** What became of a job: the numbers that it logged, in order, how many costs, and its ends. */
const storyOf = (frames: ReadonlyArray<Frame>) => {
  const bodies = (kind: string) =>
    frames
      .filter(({ payload }) => payload["kind"] === kind)
      .map(({ payload }) => payload["body"] as { readonly message?: string; readonly name?: string })
  return {
    logged: bodies("log").map(({ message }) => Number(message)),
    costs: bodies("metric").filter(({ name }) => name === "cost.work").length,
    ends: frames.filter(({ type }) => type !== "job.event")
  }
}

const upTo = (n: number) => Array.from({ length: n }, (_, i) => i + 1)

/** What the records of jobs say is left of their budgets. */
const budgets = async (db: string) => {
  const rows = await statements(db, "SELECT job_id, record FROM jobs")
  return new Map(
    rows.map(({ job_id, record }) => [
      String(job_id),
      (JSON.parse(String(record)) as { budget?: Record<string, string> }).budget?.["USD"]
    ])
  )
}

describe("while the windows of several jobs are full", () => {
  it("kill -9 takes the ends of logs only: what is left has no hole, and its costs are exact", {
    timeout: 120_000 + cycles * 60_000
  }, async () => {
    verifies("persist-before-send", "restart-running", "event-id-stable")
    const random = seeded(seed)
    const directory = own.directory()
    const db = join(directory, "arcp.db")
    const file = join(directory, "called")
    let lost = 0
    let waits = 0
    for (let cycle = 0; cycle < cycles; cycle++) {
      const server = await own.start("--db", db, ...agents)
      const client = await WireClient.open(server.url)
      const ids = await flood(client, file, true)
      // The windows are full from the first hundreds on.
      const at = 300 + random.below(2_000)
      await client.next(({ event_seq }) => event_seq === at)
      await server.kill()
      await client.closing()

      const after = await own.start("--db", db, ...agents)
      const again = await WireClient.resume(after.url, client.session, { from: 0 })
      for (const id of ids) await again.terminal(id)
      await after.kill()
      const left = await budgets(db)
      for (const [slot, id] of ids.entries()) {
        const { costs, ends, logged } = storyOf(again.eventsOf(id))
        const book = called(file, slot)
        // What was emitted, in the order of the calls, from the first on.
        expect(logged).toEqual(upTo(logged.length))
        expect(logged.length).toBeLessThanOrEqual(book.emits)
        expect(costs).toBeLessThanOrEqual(book.costs)
        expect(Number(left.get(id))).toBeCloseTo(100_000 - costs / 100, 6)
        expect(ends.map(({ payload }) => payload.details?.["reason"])).toEqual(["runtime_restart"])
        lost += book.emits - logged.length
        waits += book.waits
      }
    }
    console.info(`${cycles} cycles: ${waits} emits had to wait, ${lost} were lost at the ends of logs`)
    // Otherwise no window was full, and nothing was tried.
    expect(waits).toBeGreaterThan(0)
  })

  it("a full disk breaks them: what comes has no hole, and the runtime goes on when there is room", {
    timeout: 240_000
  }, async (test) => {
    verifies("store-full")
    const directory = own.directory()
    const file = join(own.directory(), "called")
    const reason = smallDisk(directory, 16)
    if (reason !== undefined) {
      test.skip(`no small file system to fill: ${reason}`)
    }
    try {
      const db = join(directory, "arcp.db")
      const ballast = join(directory, "ballast")
      writeFileSync(ballast, Buffer.alloc(10 * 1024 * 1024))
      const server = await own.start("--db", db, ...agents)
      const client = await WireClient.open(server.url)
      // A cost would fail its handler at once; this way all of them wait with full windows.
      const ids = await flood(client, file, false)
      const ends = Promise.all(ids.map((id) => client.terminal(id, 120_000)))
      // Of a job that is broken and whose end is not stored either the owner is told.
      const told = ids.map((id) =>
        client.next(
          ({ payload, type }) => type === "session.error" && payload.details?.job_id === id,
          120_000
        )
      )
      for (const each of told) each.catch(() => {})
      await Promise.race([ends, Promise.all(told)])
      const received = client.session.lastSeq
      rmSync(ballast)
      for (const { payload } of await ends)
        expect(payload).toMatchObject({ code: "INTERNAL_ERROR", details: { reason: "storage" } })
      // Nothing but the ends has come since, and what could not be committed has not.
      expect(client.session.lastSeq - received).toBeLessThanOrEqual(ids.length)
      await client.run("echo", "after")
      await server.kill()
      for (const [slot, id] of ids.entries()) {
        const { ends, logged } = storyOf(client.eventsOf(id))
        expect(logged).toEqual(upTo(logged.length))
        expect(logged.length).toBeLessThan(called(file, slot).emits)
        expect(ends).toHaveLength(1)
      }
    } finally {
      execFileSync("umount", ["-l", directory], { stdio: "pipe" })
    }
  })
})
