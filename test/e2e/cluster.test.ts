/**
 * `arcp serve --cluster`: nodes on one Postgres, of which some are killed, stopped and ended at once. What became of the jobs is read
 * from what is stored: each log without a gap, one end, each step ended once. The long form, with clients that move and every fault
 * by a seed, is `node bench/failover.mjs`.
 */
import { setTimeout } from "node:timers/promises"
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest"
import { type Cluster, cluster, inDatabase, missingBinaries, query } from "../testing/Postgres.js"
import { breaches, type StoredJob, storedJobs } from "../trial/stored.js"
import { features } from "./support/Frame.js"
import { type KeyGateway, startKeyGateway } from "./support/KeyGateway.js"
import { ownServers, runToExit, type Server, serveArgs } from "./support/Server.js"
import { WireClient } from "./support/WireClient.js"

const own = ownServers({ concurrent: true })

/** A machine under load is given this many times what is promised. */
const patience = 60_000

/** What an orchestrator is told that asks whether a node may be sent clients. */
const readiness = async (server: Server): Promise<string> => {
  const url = new URL(server.url.replace(/^ws/, "http"))
  url.pathname = "/readyz"
  const answer = await fetch(url)
  return `${answer.status} ${await answer.text()}`
}

describe.skipIf(missingBinaries !== undefined)(
  `nodes on one Postgres${missingBinaries === undefined ? "" : ` (${missingBinaries})`}`,
  () => {
    let postgres: Cluster
    let url: string
    let nodes: ReadonlyArray<Server>
    let gateway: KeyGateway
    beforeAll(async () => {
      gateway = await startKeyGateway()
      postgres = await cluster()
      await query(postgres.url, "CREATE DATABASE nodes")
      url = inDatabase(postgres.url, "nodes")
      // The first makes the tables.
      const first = await start("a")
      nodes = [first, ...(await Promise.all(["b", "c", "d"].map(start)))]
    })
    afterAll(async () => {
      await postgres.close()
      await gateway.stop()
    })

    const start = (node: string) =>
      own.startWith(
        gateway.env,
        ...["--pg", url, "--cluster", "--node", node, "--limit", "shutdownGraceMs=3000"]
      )
    const nodeOf = (i: number) => nodes[i] as Server

    /** Waits until what is stored of these jobs is so. */
    const until = async (
      ids: ReadonlyArray<string>,
      holds: (job: StoredJob) => boolean,
      what: string
    ): Promise<number> => {
      const begun = performance.now()
      for (;;) {
        const stored = (await storedJobs(url)).filter(({ jobId }) => ids.includes(jobId))
        if (stored.length === ids.length && stored.every(holds)) return performance.now() - begun
        if (performance.now() - begun > patience)
          throw new Error(`not within ${patience} ms: ${what}: ${JSON.stringify(stored)}`)
        await setTimeout(100)
      }
    }
    const reasonOf = async (jobId: string): Promise<unknown> => {
      const [[payload] = []] = await query(
        url,
        `SELECT payload FROM arcp_events e JOIN arcp_jobs j ON j.id = e.job WHERE j.job_id = '${jobId}' AND e.type = 'job.error'`
      )
      return payload === undefined ? undefined : JSON.parse(String(payload)).details?.reason
    }
    /** The keys at the gateway that a job has. */
    const keysOf = (jobId: string) => [...gateway.live].flatMap(([key, of]) => (of === jobId ? [key] : []))
    /** Jobs of every kind on a node: those that go on elsewhere, and those that end. */
    const load = async (server: Server) => {
      const client = await WireClient.open(server.url, { features: [...features, "provisioned_credentials"] })
      const durable: Array<string> = []
      for (let i = 0; i < 4; i++) {
        const { job_id } = await client.accept("steps", { count: 30, ms: 100 })
        durable.push(String(job_id))
      }
      const napping = String((await client.accept("nap", { ms: 6_000 })).job_id)
      const models = { lease_request: { "model.use": ["gpt-4o"] } }
      const lost = String((await client.accept("sleep", { ms: 600_000 }, models)).job_id)
      await client.next((frame) => frame.job_id === durable[3] && (frame.event_seq ?? 0) > 20)
      return { client, durable: [...durable, napping], lost }
    }
    const isOver = ({ status }: StoredJob) => status === "success" || status === "error"
    const endedWell = (ids: ReadonlyArray<string>) =>
      until(ids, ({ status }) => status === "success", "what is durable has ended")

    it("the same key on two nodes at once: one job, and both are told of it", async () => {
      const clients = await Promise.all([0, 1].map((i) => WireClient.open(nodeOf(i).url)))
      for (let round = 0; round < 20; round++) {
        const accepted = await Promise.all(
          clients.map((client) => client.accept("sleep", { ms: 1_000 }, { idempotency_key: `key-${round}` }))
        )
        expect(new Set(accepted.map(({ job_id }) => job_id)).size).toBe(1)
      }
      expect(await storedJobs(url)).toHaveLength(20)
      for (const client of clients) client.drop()
      const listed = await runToExit(["nodes", "--pg", url, "--json"])
      const seen = listed.stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line))
      expect(seen).toMatchObject(["a", "b", "c", "d"].map((node) => ({ node, state: "alive" })))
    })

    it("one that is alone and nodes do not run at once", async () => {
      const alone = runToExit(serveArgs(["--port", "0", "--pg", url]))
      const unnamed = runToExit(serveArgs(["--port", "0", "--pg", url, "--node", "e"]))
      const refused = await alone
      expect(refused.exit?.code).toBe(1)
      expect(refused.stderr).toMatch(/node \w\), which is alive; stop it, make both nodes of a cluster/)
      expect((await unnamed).stderr).toMatch(/give --cluster too/)
    })

    describe.concurrent("of which three go at once", () => {
      it("kill -9: what is durable goes on elsewhere, the rest is ended", async () => {
        const node = nodeOf(0)
        const { client, durable, lost } = await load(node)
        expect(keysOf(lost)).toHaveLength(1)
        await node.kill()
        await client.closing()
        const ms = await until(
          [...durable, lost],
          (job) => job.node !== "a" || isOver(job),
          "others have what it had"
        )
        console.log(`taken ${Math.round(ms)} ms after kill -9`)
        await endedWell(durable)
        expect(await reasonOf(lost)).toBe("runtime_restart")
        // Nobody has asked for that: another node has found what this one had recorded.
        await vi.waitUntil(() => keysOf(lost).length === 0, { timeout: patience })
        // It comes back under its name, and is one of them again.
        expect(await readiness(await start("a"))).toBe("200 ready\n")
      })

      it("SIGSTOP and SIGCONT: what was taken for gone writes nothing any more, and ends", async () => {
        const node = nodeOf(1)
        const { durable, lost } = await load(node)
        node.program.signal("SIGSTOP")
        await until([...durable, lost], (job) => job.node !== "b" || isOver(job), "others have what it had")
        node.program.signal("SIGCONT")
        const { code } = await node.program.leaves()
        expect(code).not.toBe(0)
        expect(node.program.stderr).toMatch(/node b (was taken for gone|could not say that it is alive)/)
        await endedWell(durable)
      })

      it("SIGTERM: what is durable is handed over while the rest has its grace", async () => {
        const node = nodeOf(2)
        const { durable, lost } = await load(node)
        expect(await readiness(node)).toBe("200 ready\n")
        const leaving = node.stop()
        // It says so at once, and goes on answering while the rest has its grace.
        let told = await readiness(node)
        while (told === "200 ready\n") told = await readiness(node)
        expect(told).toBe("503 not ready: shutting down\n")
        const ms = await until(
          durable,
          (job) => job.node !== "c" || isOver(job),
          "others have what is durable"
        )
        console.log(`handed over ${Math.round(ms)} ms after SIGTERM`)
        expect((await leaving).code).toBe(0)
        expect(await reasonOf(lost)).toBe("runtime_restart")
        await endedWell(durable)
      })
    })

    it("every log is whole, and who is left ends as an operator ends it", async () => {
      expect(await breaches(url)).toEqual([])
      expect((await nodeOf(3).stop()).code).toBe(0)
    })
  }
)
