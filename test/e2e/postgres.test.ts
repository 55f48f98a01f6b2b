/** `arcp serve --pg`: processes that are killed, and a Postgres that is stopped, crashes and comes back. */
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { run } from "../programs/cli/inProcess.js"
import { type Cluster, cluster, inDatabase, missingBinaries, query } from "../testing/Postgres.js"
import { TcpProxy } from "../testing/TcpProxy.js"
import { type Frame, isTerminal, type Payload } from "./support/Frame.js"
import { trouble } from "./support/postgresTrouble.js"
import { ownServers, serveArgs } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const own = ownServers()

describe.skipIf(missingBinaries !== undefined)(
  `serve --pg${missingBinaries === undefined ? "" : ` (${missingBinaries})`}`,
  () => {
    let postgres: Cluster
    let databases = 0
    beforeAll(async () => {
      postgres = await cluster()
    })
    afterAll(() => postgres.close())

    const database = async (): Promise<string> => {
      const name = `e2e_${++databases}`
      await query(postgres.url, `CREATE DATABASE ${name}`)
      return inDatabase(postgres.url, name)
    }
    /** A resume that Postgres has refused is tried again. */
    const resumeAgain = async (url: string, { session }: WireClient): Promise<WireClient> => {
      for (let attempt = 0; attempt < 50; attempt++) {
        const client = await WireClient.resuming(url, session)
        const answer = await client.next(({ type }) => /session.(welcome|error)/.test(type))
        if (answer.type === "session.welcome") return client
        expect(answer.payload.code).toBe("INTERNAL_ERROR")
      }
      throw new Error("the resume was refused fifty times")
    }
    /** Ends the lease of one that has just been killed, whose end a start would wait for. */
    const forget = (url: string) => query(url, "UPDATE arcp_writers SET expires = clock_timestamp()")

    it("kill -9: what was sent is there for the next process, and what ran is ended by it", async () => {
      const url = await database()
      const before = await own.start("--pg", url)
      const client = await WireClient.open(before.url)
      const running = await client.accept("emit", { count: 100_000, delayMs: 1 })
      await client.next((frame) => frame.job_id === running.job_id && (frame.event_seq ?? 0) > 50)
      const done = await client.run("echo", { a: 1 })
      await before.kill()
      await client.closing()
      await forget(url)
      const after = await own.start("--pg", url)
      const again = await WireClient.resume(after.url, client.session)
      const end = await again.terminal(running.job_id)
      expect(end.payload.details?.["reason"]).toBe("runtime_restart")
      const listed = await again.answer(again.request("session.list_jobs", {}))
      expect(JSON.stringify(listed.payload)).toContain(String(done.accepted.job_id))
      await again.run("echo", 2)
      expect((await after.stop()).code).toBe(0)
      // A clean end leaves the tables to the next at once.
      await own.start("--pg", url)
    })

    it.each(["stop", "kill"] as const)(
      "Postgres ends (%s) and comes back: jobs wait, and go on",
      async (how) => {
        const url = await database()
        const server = await own.start("--pg", url)
        const client = await WireClient.open(server.url)
        const job = await client.accept("emit", { count: 600, delayMs: 1 })
        await client.next((frame) => frame.job_id === job.job_id && (frame.event_seq ?? 0) > 50)
        await postgres.command(how)
        await client.ping()
        await postgres.command("start")
        expect((await client.terminal(job.job_id)).payload.result).toEqual({ count: 600 })
        await client.run("echo", "well again")
      }
    )

    it("Postgres stays away for longer than storagePatience: the job is broken, and says so when it can", async () => {
      const url = await database()
      const server = await own.start("--pg", url, "--limit", "storagePatience=100 millis")
      const client = await WireClient.open(server.url)
      const job = await client.accept("emit", { count: 100_000, delayMs: 1 })
      await client.next((frame) => frame.job_id === job.job_id && (frame.event_seq ?? 0) > 50)
      await postgres.command("stop")
      // The end cannot be stored either, of which the owner is told.
      await client.nextOf("session.error")
      expect(server.program.stderr).toMatch(/writing to the store failed.*cannot be reached/)
      await postgres.command("start")
      const end = await client.terminal(job.job_id)
      expect(end.payload).toMatchObject({ code: "INTERNAL_ERROR", details: { reason: "storage" } })
      await client.run("echo", "well again")
    })

    it("one that was paused for longer than its lease writes nothing to what another has taken, and ends", async () => {
      const url = await database()
      const paused = await own.start("--pg", url)
      const client = await WireClient.open(paused.url)
      const job = await client.accept("emit", { count: 100_000, delayMs: 1 })
      await client.next((frame) => frame.job_id === job.job_id && (frame.event_seq ?? 0) > 50)
      process.kill(paused.pid, "SIGSTOP")
      try {
        await forget(url)
        const next = await own.start("--pg", url)
        const again = await WireClient.resume(next.url, client.session)
        expect((await again.terminal(job.job_id)).payload.details?.["reason"]).toBe("runtime_restart")
        const stored = () =>
          query(
            url,
            "SELECT job, count(*), max(seq), md5(string_agg(payload, '')) FROM arcp_events GROUP BY 1"
          )
        const before = await stored()
        process.kill(paused.pid, "SIGCONT")
        expect((await paused.program.exited).code).toBe(1)
        expect(paused.program.stderr).toMatch(/another runtime holds the tables/)
        expect(await stored()).toEqual(before)
        await again.run("echo", "not disturbed")
      } finally {
        // Nothing that is paused is left.
        paused.program.signal("SIGCONT")
      }
    })

    it("Postgres fails all the time, under jobs, readers and a new process: every client sees all of it once, in order", async () => {
      const url = await database()
      const limits = ["--limit", "storagePatience=60 seconds"]
      const first = await own.start("--pg", url, ...limits)
      const owner = await WireClient.open(first.url)
      const watcher = await WireClient.open(first.url)
      const count = 300
      const jobs: Array<string> = []
      for (let i = 0; i < 4; i++)
        jobs.push(String((await owner.accept("emit", { count, delayMs: 2, batch: 1 + 7 * (i % 2) })).job_id))
      /** Asks again what Postgres has refused. */
      const asked = async (client: WireClient, type: string, payload: Payload): Promise<Frame> => {
        for (let attempt = 0; attempt < 100; attempt++) {
          const answer = await client.answer(client.request(type, payload))
          if (!/error/.test(answer.type)) return answer
          expect(answer.payload.code).toBe("INTERNAL_ERROR")
        }
        throw new Error(`${type} was refused a hundred times`)
      }
      const said = (client: WireClient, job: string) =>
        client.eventsOf(job).flatMap(({ payload }) => /^\d+/.exec(String(payload.body?.["message"])) ?? [])
      const all = Array.from({ length: count }, (_, i) => String(i))

      const troubled = trouble(postgres, 7, 20)
      for (const job_id of jobs) await asked(watcher, "job.subscribe", { job_id, history: true })
      for (const job of jobs) {
        await asked(owner, "session.list_jobs", {})
        for (const client of [owner, watcher]) await client.terminal(job, 120_000)
      }
      // Jobs whose ends nobody who is there will number, and another process for them.
      const accepted = async (): Promise<string> => {
        for (let attempt = 0; attempt < 100; attempt++) {
          const answer = await owner.answer(owner.submit("emit", { count: 100_000, delayMs: 1 }))
          if (answer.type === "job.accepted") return String(answer.job_id)
          expect(answer.payload.code).toBe("INTERNAL_ERROR")
        }
        throw new Error("a submit was refused a hundred times")
      }
      const cut = [await accepted(), await accepted()]
      for (const job of cut)
        await owner.next(({ job_id, event_seq }) => job_id === job && event_seq !== undefined)
      await troubled.stop()
      await first.kill()
      await owner.closing()
      await forget(url)
      const second = await own.start("--pg", url, ...limits)
      const again = trouble(postgres, 11, 25)
      const resumed = await resumeAgain(second.url, owner)
      for (const job of cut) {
        const { payload } = await resumed.terminal(job, 120_000)
        expect(payload.details?.["reason"]).toBe("runtime_restart")
      }
      await asked(resumed, "session.list_jobs", {})
      await again.stop()
      for (const job of jobs)
        for (const client of [owner, watcher]) {
          expect(said(client, job)).toEqual(all)
          expect(client.eventsOf(job).filter(isTerminal)).toMatchObject([{ payload: { result: { count } } }])
        }
      expect(troubled.done.ended).toBeGreaterThan(0)
      const stored = await query(
        url,
        "SELECT count(*) = max(seq) AND min(seq) = 1 AND count(*) = count(DISTINCT seq) FROM arcp_events GROUP BY job"
      )
      expect(new Set(stored.map(([isWhole]) => isWhole))).toEqual(new Set([true]))
    })

    it("a second runtime is refused, and the first is not disturbed", async () => {
      const url = await database()
      const first = await own.start("--pg", url)
      const client = await WireClient.open(first.url)
      const second = await run(serveArgs(["--port", "0", "--pg", url]))
      expect(second.code).toBe(1)
      expect(second.stderr).toMatch(/is held by another runtime \(.*\), which is alive/)
      expect(second.stderr + second.stdout).not.toContain("secret")
      const home = { HOME: own.directory() }
      const doctor = await run(["doctor", "--pg", url, "--port", "0"], home)
      expect(doctor.stdout).toMatch(/^ok {4}postgres .*answers in/m)
      expect(doctor.stdout).toMatch(/^ok {4}schema .*version \d+$/m)
      expect(doctor.stdout).toMatch(/^ok {4}lock .*has it, and said so \d s ago$/m)
      const { port } = new URL(first.url)
      expect((await run(["doctor", "--pg", url, "--port", port], home)).stdout).toMatch(
        new RegExp(`^ok {4}port {9}127.0.0.1:${port} is taken, while .*, process \\d+ has the tables`, "m")
      )
      const away = await run(["doctor", "--pg", `${url}_not`, "--port", "0"], home)
      expect(away.code).toBe(1)
      expect(away.stdout).toMatch(/^fail {2}postgres .*does not exist/m)
      expect(doctor.stdout + away.stdout).not.toContain("secret")
      await client.run("echo", 1)
    })

    it("is looked at and deleted from by the commands that do so with a file; the others say what to use", async () => {
      const url = await database()
      const server = await own.start("--pg", url)
      const client = await WireClient.open(server.url)
      const { job_id } = (await client.run("echo", "of Postgres")).accepted
      const jobId = String(job_id)
      const arcp = (...args: ReadonlyArray<string>) => run([...args, "--pg", url])
      const rows = ({ stdout }: { readonly stdout: string }) =>
        stdout
          .trim()
          .split("\n")
          .map((line) => JSON.parse(line) as Record<string, unknown>)

      const sessions = await arcp("sessions", "--json")
      expect(rows(sessions)).toMatchObject([{ session_id: client.session.id, state: "connected" }])
      // However often it looks.
      let connections = 0
      const counted = new URL(url)
      const proxy = await TcpProxy.start(() => {
        connections++
        return { host: counted.hostname, port: Number(counted.port || 5432) }
      })
      const target = new URL(url)
      target.host = `127.0.0.1:${proxy.port}`
      const looks = rows(
        await run(["top", "--json", "--count", "4", "--interval", "1s", "--pg", target.href])
      )
      await proxy.stop()
      expect(looks).toMatchObject(Array.from({ length: 4 }, () => ({ connected: 1, server_runs: true })))
      expect(connections).toBeLessThanOrEqual(2)
      const replayed = rows(await arcp("replay", "--job", jobId))
      expect(replayed.at(-1)).toMatchObject({ job_id: jobId, type: "job.result" })
      const refused = await arcp("jobs", "delete", jobId)
      expect(refused.stderr).toMatch(/is held by another runtime .*alive/)
      for (const [args, instead] of [
        [["backup", "nowhere.db"], /pg_dump/],
        [["restore", "nowhere.db"], /pg_restore/],
        [["db", "stats"], /psql/],
        [["db", "sweep"], /forgets by itself/]
      ] as const) {
        const { code, stderr } = await arcp(...args)
        expect(stderr).toMatch(instead)
        expect(code).toBe(2)
      }

      expect((await server.stop()).code).toBe(0)
      expect(rows(await arcp("sessions", "--json"))).toMatchObject([{ state: "gone" }])
      expect(rows(await arcp("top", "--json", "--count", "1"))).toMatchObject([{ server_runs: false }])
      const deleted = await arcp("jobs", "delete", jobId, "--json")
      expect(rows(deleted)).toMatchObject([{ job_id: jobId, deleted: true }])
      expect(await query(url, "SELECT 1 FROM arcp_jobs UNION ALL SELECT 1 FROM arcp_events")).toEqual([])
      const gone = await arcp("replay", "--job", jobId)
      expect(gone.stderr).toMatch(/is not in postgres:.*--pg names another/)
      expect(refused.stderr + gone.stderr).not.toContain("secret")
    })
  }
)
