/**
 * `node bench/postgres.mjs`: events/s on Postgres against SQLite FULL, and against the statement of a commit sent bare to the same
 * Postgres, in turn, as a table. Uses the Postgres that `ARCP_BENCH_PG` names (a database that may be written to), or else a
 * cluster of its own, which syncs, from the binaries that are installed. Needs a build. What a commit costs in CPU, which a busy
 * machine does not change, is `node --expose-gc bench/postgresCost.mjs`.
 *
 *   node bench/postgres.mjs [--runs 5]
 */
import { tmpdir } from "node:os"
import { parseArgs } from "node:util"
import pg from "pg"
import { naming } from "../dist/layers/store/naming.js"
import { writing } from "../dist/layers/store/pg/statements.js"
import { valuesOf } from "../dist/layers/store/pg/values.js"
import { grouped, size } from "./figures/common.mjs"
import { ownCluster } from "./ownCluster.mjs"
import { startClient, startServer, stopAll } from "./processes.mjs"
import { median } from "./stats.mjs"

const { values: flags } = parseArgs({
  options: { runs: { type: "string", default: "5" }, count: { type: "string", default: "50000" } }
})
const runs = Number(flags.runs)
const count = Number(flags.count)

const cluster = process.env.ARCP_BENCH_PG === undefined ? await ownCluster() : undefined
const url = process.env.ARCP_BENCH_PG ?? cluster.url
process.env.ARCP_BENCH_PG = url

/** Events/s that a client sees of a server: one job, or eight, each with 64 emits in flight. */
const through = async (store, jobs) => {
  const server = await startServer({ kind: "arcp", store, base: tmpdir() })
  const client = startClient({ deadlineMs: 120_000 })
  const once = () => client.run(server, "emit", { batch: 64, count: Math.ceil(count / jobs), jobs, size })
  try {
    await once()
    const rates = []
    for (let i = 0; i < runs; i++) rates.push((await once()).values.rate)
    return median(rates)
  } finally {
    await client.stop()
    await server.stop()
  }
}

/** Events/s of the statement of a commit, so many events each, sent one after the other. */
const bare = async (batch) => {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  const name = naming("arcp_")
  const payload = `{"kind":"log","ts":"2026-01-01T00:00:00.000Z","body":{"level":"info","message":"${".".repeat(size)}"}}`
  await client.query(
    name("INSERT INTO {writers} VALUES ('bench', 'bench', 'bench', 0, now(), now()) ON CONFLICT DO NOTHING")
  )
  const rates = []
  let number = 0
  try {
    for (let run = 0; run <= runs; run++) {
      const job = Number((await client.query(name("SELECT nextval('{job_ids}')"))).rows[0].nextval)
      const start = performance.now()
      for (let seq = 1; seq <= count; seq += batch) {
        const events = Array.from({ length: batch }, (_, i) => ({
          seq: seq + i,
          type: "job.event",
          kind: "log",
          payload
        }))
        const [sql, params] = writing(
          {
            events: valuesOf.events([[job, events]]),
            runs: valuesOf.runs([
              [
                `bench_${job}`,
                { eventSeq: seq, jobId: `bench_${job}`, jobSeq: seq, count: batch, bytes: batch }
              ]
            ])
          },
          { writer: "bench", after: number, number: ++number, lease: 1000, owners: [] }
        )
        await client.query({ text: name(sql).replace("slot = 'runtime'", "slot = 'bench'"), values: params })
      }
      if (run > 0) rates.push(count / ((performance.now() - start) / 1000))
    }
  } finally {
    await client.query(name("DELETE FROM {writers} WHERE slot = 'bench'"))
    await client.end()
  }
  return median(rates)
}

const line = (cells) => `| ${cells.join(" | ")} |`
const ratio = (a, b) => (a / b).toFixed(2)
console.log(
  line([
    "jobs",
    "Postgres",
    "SQLite FULL",
    "ratio (aim 0.25)",
    "bare, as many a statement as are in flight",
    "ratio (aim 0.8)"
  ])
)
console.log(line(["---", "---", "---", "---", "---", "---"]))
for (const jobs of [1, 8]) {
  const postgres = await through("postgres", jobs)
  const sqlite = await through("FULL", jobs)
  const statement = await bare(64 * jobs)
  console.log(
    line([
      jobs,
      `${grouped(Math.round(postgres))}/s`,
      `${grouped(Math.round(sqlite))}/s`,
      ratio(postgres, sqlite),
      `${grouped(Math.round(statement))}/s`,
      ratio(postgres, statement)
    ])
  )
}
stopAll()
cluster?.stop()
