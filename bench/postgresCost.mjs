/**
 * `node bench/postgresCost.mjs`: milliseconds of CPU that a commit takes, in this process and in its backend of Postgres: of
 * `StorePg`, and of the same statement sent bare, by turns. CPU, so that what else a machine does matters little. Uses a cluster
 * of its own, from the binaries that are installed (Linux: it reads `/proc`). Needs a build.
 *
 *   node --expose-gc bench/postgresCost.mjs [--rounds 9] [--events 12000]
 */
import { readFileSync } from "node:fs"
import { parseArgs } from "node:util"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import pg from "pg"
import { naming } from "../dist/layers/store/naming.js"
import * as StorePg from "../dist/layers/store/pg/StorePg.js"
import { writing } from "../dist/layers/store/pg/statements.js"
import { valuesOf } from "../dist/layers/store/pg/values.js"
import { size } from "./figures/common.mjs"
import { ownCluster } from "./ownCluster.mjs"
import { median } from "./stats.mjs"

const { values: flags } = parseArgs({
  options: { rounds: { type: "string", default: "9" }, events: { type: "string", default: "12000" } }
})
const cluster = await ownCluster()
const { url } = cluster
const name = naming("arcp_")
const payload = `{"kind":"log","ts":"2026-01-01T00:00:00.000Z","body":{"level":"info","message":"${".".repeat(size)}"}}`
const eventsFrom = (seq, count) =>
  Array.from({ length: count }, (_, i) => ({
    seq: seq + i,
    type: "job.event",
    kind: "log",
    payload
  }))
const runOf = (jobId, seq, count) => ({ eventSeq: seq, jobId, jobSeq: seq, count, bytes: count * size })

/** CPU of processes so far, in milliseconds; Linux counts it in hundredths of a second. */
const cpuOf = (pids) =>
  pids.reduce((sum, pid) => {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ")
    return sum + (Number(fields[11]) + Number(fields[12])) * 10
  }, 0)

const admin = new pg.Client({ connectionString: url })
await admin.connect()
const store = await new Promise((resolve) => {
  Effect.runFork(
    Effect.scoped(
      Effect.flatMap(StorePg.make({ url: Redacted.make(url) }), (made) => {
        resolve(made)
        return Effect.never
      })
    )
  )
})
await admin.query(
  name("INSERT INTO {writers} VALUES ('bench', 'bench', 'bench', 0, now(), now()) ON CONFLICT DO NOTHING")
)

/** Of a round; each waits for the disk. */
const maxBatches = 200

let jobs = 0
let number = 0
/** A job, and a session that observes it, in the store. */
const opened = async () => {
  const [jobId, sessionId] = [`job_${++jobs}`, `sess_${jobs}`]
  const job = {
    ...{ jobId, sessionId, submitId: "s", principal: "p", agent: "a", status: "running", rejected: false },
    ...{ lease: {}, traceId: "t", createdAt: 1, lastEventSeq: 0 }
  }
  const session = {
    ...{ sessionId, principal: "p", version: "1", features: [], createdAt: 1, lastSeenAt: 1 },
    ...{ attached: true, tokenDigest: "d", acked: 0 }
  }
  const ops = [
    { _tag: "PutJob", job },
    { _tag: "PutSession", session }
  ]
  const owned = (epoch) => [
    { job: jobId, epoch },
    { session: sessionId, epoch }
  ]
  await Effect.runPromise(store.commit({ ops, owners: owned(0) }))
  return { jobId, sessionId, owners: owned(1) }
}

/** Each returns how a batch is committed, and the backends that do it. */
const ways = {
  store: async () => {
    const { jobId, owners, sessionId } = await opened()
    const { rows } = await admin.query(
      "SELECT pid FROM pg_stat_activity WHERE application_name = 'effect-arcp'"
    )
    return {
      pids: rows.map(({ pid }) => pid),
      commit: (seq, count) =>
        Effect.runPromise(
          store.commit({
            ops: [
              { _tag: "Append", jobId, events: eventsFrom(seq, count) },
              { _tag: "PutRun", sessionId, run: runOf(jobId, seq, count) }
            ],
            owners
          })
        ),
      end: () => undefined
    }
  },
  bare: async () => {
    const { jobId, owners, sessionId } = await opened()
    const client = new pg.Client({ connectionString: url })
    await client.connect()
    const {
      rows: [{ id, pid }]
    } = await client.query(name("SELECT id, pg_backend_pid() AS pid FROM {jobs} WHERE job_id = $1"), [jobId])
    return {
      pids: [pid],
      commit: async (seq, count) => {
        const [sql, params] = writing(
          {
            events: valuesOf.events([[Number(id), eventsFrom(seq, count)]]),
            runs: valuesOf.runs([[sessionId, runOf(jobId, seq, count)]])
          },
          { writer: "bench", after: number, number: ++number, lease: 1000, owners }
        )
        const { rows } = await client.query({
          text: name(sql).replace("slot = 'runtime'", "slot = 'bench'"),
          values: params,
          rowMode: "array"
        })
        if (rows[0]?.[0] !== true) throw new Error("the bare statement has written nothing")
      },
      end: () => client.end()
    }
  }
}

/** CPU of a commit of so many events: here, and there. */
const measured = async (way, count) => {
  const { commit, end, pids } = await ways[way]()
  const batches = Math.min(maxBatches, Math.ceil(Number(flags.events) / count))
  let seq = 1
  const step = async () => {
    await commit(seq, count)
    seq += count
  }
  for (let i = 0; i < 20; i++) await step()
  globalThis.gc?.()
  const [here, there] = [process.cpuUsage(), cpuOf(pids)]
  for (let i = 0; i < batches; i++) await step()
  const spent = process.cpuUsage(here)
  const found = [(spent.user + spent.system) / 1000 / batches, (cpuOf(pids) - there) / batches]
  await end()
  return found
}

console.log("| events a commit | way | ms here | ms in Postgres | sum | bare / store, both (aim 0.8) |")
console.log("|---|---|---|---|---|---|")
for (const count of [1, 64, 256, 512]) {
  const found = { bare: [], store: [] }
  for (let round = 0; round < Number(flags.rounds); round++)
    for (const way of ["bare", "store"]) found[way].push(await measured(way, count))
  const of = (way, i) => median(found[way].map((each) => each[i]))
  const sum = (way) => of(way, 0) + of(way, 1)
  for (const way of ["bare", "store"])
    console.log(
      `| ${count} | ${way} | ${of(way, 0).toFixed(2)} | ${of(way, 1).toFixed(2)} | ${sum(way).toFixed(2)} | ${
        way === "store" ? (sum("bare") / sum("store")).toFixed(2) : ""
      } |`
    )
}
await admin.end()
cluster.stop()
process.exit(0)
