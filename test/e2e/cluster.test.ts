/**
 * `arcp serve --cluster`: nodes on one Postgres that are killed, stopped and ended. What became of the jobs is read from what is
 * stored: each log without a gap, one end, each step ended once.
 */
import { setTimeout } from "node:timers/promises"
import { afterAll, beforeAll, describe, expect, it } from "vitest"
import { type Cluster, cluster, inDatabase, missingBinaries, query } from "../testing/Postgres.js"
import { ownServers, runToExit, type Server, serveArgs } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const own = ownServers()

/** How often nodes are killed; more by hand, for an hour of it. */
const cycles = Number(process.env["ARCP_TEST_CLUSTER_CYCLES"] ?? 2)

/** A machine under load is given this many times what is promised. */
const patience = 60_000

interface StoredJob {
  readonly jobId: string
  readonly node: string
  readonly status: string
  readonly events: number
}

describe.skipIf(missingBinaries !== undefined)(
  `nodes on one Postgres${missingBinaries === undefined ? "" : ` (${missingBinaries})`}`,
  () => {
    let postgres: Cluster
    let databases = 0
    beforeAll(async () => {
      postgres = await cluster()
    })
    afterAll(() => postgres.close())

    const database = async (): Promise<string> => {
      const name = `nodes_${++databases}`
      await query(postgres.url, `CREATE DATABASE ${name}`)
      return inDatabase(postgres.url, name)
    }
    const start = (url: string, node: string) => own.start("--pg", url, "--cluster", "--node", node)
    const jobs = async (url: string): Promise<ReadonlyArray<StoredJob>> =>
      (
        await query(
          url,
          `SELECT j.job_id, j.node, j.status, count(e.seq)::integer FROM arcp_jobs j
           LEFT JOIN arcp_events e ON e.job = j.id WHERE NOT j.rejected GROUP BY j.id ORDER BY j.id`
        )
      ).map(([jobId, node, status, events]) => ({
        jobId: String(jobId),
        node: String(node),
        status: String(status),
        events: Number(events)
      }))
    /** Waits until what is stored of the jobs is so. */
    const until = async (url: string, holds: (jobs: ReadonlyArray<StoredJob>) => boolean, what: string) => {
      const begun = performance.now()
      for (;;) {
        const stored = await jobs(url)
        if (holds(stored)) return { ms: performance.now() - begun, stored }
        if (performance.now() - begun > patience)
          throw new Error(`not within ${patience} ms: ${what}: ${JSON.stringify(stored)}`)
        await setTimeout(100)
      }
    }
    const reasonOf = async (url: string, jobId: string): Promise<unknown> => {
      const [[payload] = []] = await query(
        url,
        `SELECT payload FROM arcp_events e JOIN arcp_jobs j ON j.id = e.job WHERE j.job_id = '${jobId}' AND e.type = 'job.error'`
      )
      return payload === undefined ? undefined : JSON.parse(String(payload)).details?.reason
    }
    /** Each log without a gap, at most one end and nothing after it, and each step ended once. */
    const expectIntact = async (url: string) => {
      const wrong = await query(
        url,
        `WITH logs AS (
           SELECT j.job_id, j.ended_at IS NOT NULL AS ended, min(e.seq) AS first, max(e.seq) AS last, count(*) AS count,
             count(*) FILTER (WHERE e.type <> 'job.event') AS ends,
             max(e.seq) FILTER (WHERE e.type <> 'job.event') AS end_at
           FROM arcp_jobs j JOIN arcp_events e ON e.job = j.id WHERE NOT j.rejected GROUP BY j.id)
         SELECT job_id, first::text, last::text, count::text, ends::text FROM logs
         WHERE first <> 1 OR last <> count OR ends <> ended::integer OR end_at <> last`
      )
      expect(wrong).toEqual([])
      const repeated = await query(
        url,
        `SELECT j.job_id, e.payload::json #>> '{body,key}', count(*)::text
         FROM arcp_jobs j JOIN arcp_events e ON e.job = j.id
         WHERE e.kind = 'x-vendor.effect-arcp.step' AND e.payload::json #>> '{body,state}' = 'ended'
         GROUP BY 1, 2 HAVING count(*) > 1`
      )
      expect(repeated).toEqual([])
    }
    /** Jobs of every kind on a node: those that go on elsewhere, and those that end. */
    const load = async (server: Server) => {
      const client = await WireClient.open(server.url)
      const durable: Array<string> = []
      for (let i = 0; i < 4; i++) {
        const { job_id } = await client.accept("steps", { count: 30, ms: 100 })
        durable.push(String(job_id))
      }
      const napping = String((await client.accept("nap", { ms: 6_000 })).job_id)
      const lost = String((await client.accept("sleep", { ms: 600_000 })).job_id)
      await client.next((frame) => frame.job_id === durable[3] && (frame.event_seq ?? 0) > 20)
      return { client, durable: [...durable, napping], lost }
    }

    it("kill -9: what is durable goes on elsewhere, the rest is ended, every log is whole", async () => {
      const url = await database()
      let nodes = await Promise.all(["a", "b", "c"].map((node) => start(url, node)))
      for (let cycle = 0; cycle < cycles; cycle++) {
        const [killed, ...others] = nodes as [Server, ...Array<Server>]
        const name = "abc"[cycle % 3] as string
        const { client, durable, lost } = await load(killed)
        await killed.kill()
        await client.closing()
        const { ms } = await until(
          url,
          (stored) =>
            stored.every(({ node, status }) => node !== name || status === "error" || status === "success"),
          "nothing that has not ended is of the node that was killed"
        )
        console.log(`taken ${Math.round(ms)} ms after kill -9`)
        await until(
          url,
          (stored) => durable.every((id) => stored.find(({ jobId }) => jobId === id)?.status === "success"),
          "what is durable has ended"
        )
        expect(await reasonOf(url, lost)).toBe("runtime_restart")
        await expectIntact(url)
        // It comes back under its name, and is one of them again.
        nodes = [...others, await start(url, name)]
      }
    })

    it("SIGSTOP and SIGCONT: what was taken for gone writes nothing any more, and ends", async () => {
      const url = await database()
      const [a, b] = [await start(url, "a"), await start(url, "b")] as [Server, Server]
      const { durable } = await load(a)
      a.program.signal("SIGSTOP")
      await until(
        url,
        (stored) => stored.every(({ node, status }) => node === "b" || status === "error"),
        "b has taken everything"
      )
      a.program.signal("SIGCONT")
      const { code } = await a.program.leaves()
      expect(code).not.toBe(0)
      expect(a.program.stderr).toMatch(/node a (was taken for gone|could not say that it is alive)/)
      await until(
        url,
        (stored) => durable.every((id) => stored.find(({ jobId }) => jobId === id)?.status === "success"),
        "what is durable has ended"
      )
      await expectIntact(url)
      expect((await b.stop()).code).toBe(0)
    })

    it("SIGTERM: what is durable is handed over while the rest has its grace", async () => {
      const url = await database()
      const [a] = [await start(url, "a"), await start(url, "b")] as [Server, Server]
      const { durable, lost } = await load(a)
      const leaving = a.stop()
      const { ms } = await until(
        url,
        (stored) => durable.every((id) => stored.find(({ jobId }) => jobId === id)?.node === "b"),
        "b has what is durable"
      )
      console.log(`handed over ${Math.round(ms)} ms after SIGTERM`)
      expect((await leaving).code).toBe(0)
      expect(await reasonOf(url, lost)).toBe("runtime_restart")
      await until(
        url,
        (stored) => durable.every((id) => stored.find(({ jobId }) => jobId === id)?.status === "success"),
        "what is durable has ended"
      )
      await expectIntact(url)
    })

    it("the same key on two nodes at once: one job, and both are told of it", async () => {
      const url = await database()
      const servers = [await start(url, "a"), await start(url, "b")] as [Server, Server]
      const clients = await Promise.all(servers.map(({ url }) => WireClient.open(url)))
      for (let round = 0; round < 20; round++) {
        const accepted = await Promise.all(
          clients.map((client) => client.accept("sleep", { ms: 1_000 }, { idempotency_key: `key-${round}` }))
        )
        expect(new Set(accepted.map(({ job_id }) => job_id)).size).toBe(1)
      }
      expect(await jobs(url)).toHaveLength(20)
      const listed = await runToExit(["nodes", "--pg", url, "--json"])
      const nodes = listed.stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line))
      expect(nodes).toMatchObject([
        { node: "a", state: "alive" },
        { node: "b", state: "alive" }
      ])
    })

    it("one that is alone and nodes do not run at once", async () => {
      const url = await database()
      await start(url, "a")
      const refused = await runToExit(serveArgs(["--port", "0", "--pg", url]))
      expect(refused.exit?.code).toBe(1)
      expect(refused.stderr).toMatch(/node a\), which is alive; stop it, make both nodes of a cluster/)
      const unnamed = await runToExit(serveArgs(["--port", "0", "--pg", url, "--node", "b"]))
      expect(unnamed.stderr).toMatch(/give --cluster too/)
    })
  }
)
