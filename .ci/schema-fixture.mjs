/**
 * Writes `test/fixtures/schema-N.sql` for the schema of this checkout: what its store leaves of a few jobs, sessions and
 * events. Run once, by whoever adds migration N, with what that migration brings added to the batch below; the file is never
 * edited after that. `test/layers/store/schemas.test.ts` opens all of them.
 */
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { pathToFileURL } from "node:url"
import * as esbuild from "esbuild"

const { DatabaseSync } = process.getBuiltinModule("node:sqlite") ?? (await import("@photostructure/sqlite"))
const commit = execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8" }).trim()

const job = (jobId, more = {}) => ({
  jobId,
  sessionId: "sess_a",
  submitId: `submit-${jobId}`,
  principal: "alice",
  agent: "echo@1.0.0",
  status: "running",
  rejected: false,
  lease: { "fs.read": ["/src/**"] },
  traceId: "4bf92f3577b34da6a3ce929d0e0e4736",
  createdAt: 1000,
  lastEventSeq: 0,
  ...more
})
const session = (sessionId, more = {}) => ({
  sessionId,
  principal: "alice",
  version: "1.1",
  features: ["ack", "heartbeat"],
  createdAt: 1000,
  lastSeenAt: 2000,
  attached: true,
  tokenDigest: "digest",
  acked: 0,
  ...more
})
const events = (from, to) =>
  Array.from({ length: to - from + 1 }, (_, i) => ({
    seq: from + i,
    type: "job.event",
    kind: "log",
    ownerSeq: 100 + from + i,
    payload: `{"kind":"log","n":${from + i}}`
  }))
const run = (eventSeq, count, jobId, jobSeq) => ({ eventSeq, jobId, jobSeq, count, bytes: count * 100 })

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "arcp-fixture-"))
const outfile = path.join(folder, "store.mjs")
await esbuild.build({
  stdin: {
    contents: `export { plan } from "./src/layers/store/plan.ts"
export { applicationId, migrations } from "./src/layers/store/schema.ts"`,
    resolveDir: new URL("..", import.meta.url).pathname
  },
  bundle: true,
  format: "esm",
  platform: "node",
  outfile,
  logLevel: "error"
})
const { applicationId, migrations, plan } = await import(pathToFileURL(outfile).href)
fs.rmSync(folder, { recursive: true })
const v = migrations.length

const db = new DatabaseSync(":memory:")
const name = (t) => t.replace(/\{(\w+)\}/g, "$1")
for (const s of migrations.flat()) db.exec(name(s))
db.exec(`PRAGMA application_id = ${applicationId}`)
db.exec(`PRAGMA user_version = ${v}`)
const state = { nextRow: 1, nextJob: 1, logs: new Map() }
const write = (batch) => {
  const p = plan(batch, state, new Map())
  for (const [t, ps] of p.statements) db.prepare(name(t)).run(...ps)
  p.adopt()
}
write([
  { _tag: "PutJob", job: job("job_a", { idempotencyKey: "nightly", budget: { USD: "1.50" } }) },
  { _tag: "PutJob", job: job("job_b") },
  { _tag: "PutJob", job: job("job_r", { rejected: true, status: "error", endedAt: 1500 }) },
  { _tag: "PutSession", session: session("sess_a") },
  {
    _tag: "PutSession",
    session: session("sess_b", { principal: "bob", tokenDigest: "old", issuedTokenDigests: ["new"] })
  },
  { _tag: "Observe", sessionId: "sess_b", jobId: "job_a" },
  { _tag: "Append", jobId: "job_a", events: events(1, 20) },
  { _tag: "Append", jobId: "job_b", events: events(1, 5) },
  { _tag: "PutRun", sessionId: "sess_a", run: run(1, 20, "job_a", 1) },
  { _tag: "PutRun", sessionId: "sess_a", run: run(21, 5, "job_b", 1) },
  { _tag: "PutRun", sessionId: "sess_b", run: run(1, 15, "job_a", 6) },
  { _tag: "Alive", at: 3000 },
  { _tag: "PutInput", jobId: "job_a", input: '{"name":"Ada"}' },
  {
    _tag: "PutJournal",
    jobId: "job_a",
    entries: [{ kind: "step", key: "one", ordinal: 1, about: '{"n":1}', value: '"done"' }]
  },
  {
    _tag: "PutJob",
    job: job("job_w", {
      survival: {
        restart: "steps",
        identity: {},
        features: [],
        attempt: 1,
        deaths: 0,
        progress: 0,
        waiting: { dueAt: 9000, sleepingUntil: 9000 }
      }
    })
  },
  { _tag: "PutHookEvent", event: { jobId: "job_a", seq: 3, text: '{"x":1}' } }
])
write([
  { _tag: "Append", jobId: "job_a", events: events(21, 25) },
  { _tag: "PutRun", sessionId: "sess_a", run: run(26, 5, "job_a", 21) },
  { _tag: "TrimJob", jobId: "job_a", seq: 4 },
  { _tag: "TrimSession", sessionId: "sess_a", eventSeq: 6 },
  { _tag: "PutJob", job: job("job_b", { status: "success", endedAt: 2500, lastEventSeq: 25 }) }
])
const lines = [
  `-- What schema version ${v} has left: made by the store of commit ${commit}. Never edit it.`,
  `PRAGMA application_id = ${applicationId};`,
  `PRAGMA user_version = ${v};`
]
const master = db
  .prepare(
    "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY type = 'table' DESC, type = 'index' DESC, rowid"
  )
  .all()
const squeeze = (s) => s.replace(/\s+/g, " ")
for (const r of master.filter((r) => r.type === "table")) {
  lines.push(`${squeeze(r.sql)};`)
  const columns = db
    .prepare(`SELECT name FROM pragma_table_info('${r.name}')`)
    .all()
    .map((c) => c.name)
  for (const row of db
    .prepare(`SELECT ${columns.map((c) => `quote(${c}) AS ${c}`).join(",")} FROM ${r.name}`)
    .all())
    lines.push(
      `INSERT INTO ${r.name} (${columns.join(", ")}) VALUES (${columns.map((c) => row[c]).join(", ")});`
    )
}
for (const r of master.filter((r) => r.type !== "table")) lines.push(`${squeeze(r.sql)};`)
fs.writeFileSync(new URL(`../test/fixtures/schema-${v}.sql`, import.meta.url), `${lines.join("\n")}\n`)
