/**
 * Writes `test/fixtures/schema-N.sql` for the schema of this checkout: what its store leaves of a few jobs, sessions and
 * events. Run once, by whoever adds migration N, with what that migration brings added to `schema-fixture-batches.mjs`; the file is never
 * edited after that. `test/layers/store/schemas.test.ts` opens all of them.
 */
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { pathToFileURL } from "node:url"
import * as esbuild from "esbuild"
import { batches } from "./schema-fixture-batches.mjs"

const { DatabaseSync } = process.getBuiltinModule("node:sqlite") ?? (await import("@photostructure/sqlite"))
const commit = execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8" }).trim()

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "arcp-fixture-"))
const outfile = path.join(folder, "store.mjs")
await esbuild.build({
  stdin: {
    contents: `export { pack } from "./src/layers/store/packing.ts"
export { plan } from "./src/layers/store/plan.ts"
export { applicationId, migrations } from "./src/layers/store/schema.ts"`,
    resolveDir: new URL("..", import.meta.url).pathname
  },
  bundle: true,
  format: "esm",
  platform: "node",
  outfile,
  logLevel: "error"
})
const { applicationId, migrations, pack, plan } = await import(pathToFileURL(outfile).href)
fs.rmSync(folder, { recursive: true })
const v = migrations.length

const db = new DatabaseSync(":memory:")
const name = (t) => t.replace(/\{(\w+)\}/g, "$1")
for (const s of migrations.flat()) db.exec(name(s))
db.exec(`PRAGMA application_id = ${applicationId}`)
db.exec(`PRAGMA user_version = ${v}`)
const state = { nextRow: 1, nextJob: 1, logs: new Map(), epochs: new Map() }
const write = (ops) => {
  const p = plan(pack({ ops, owners: [] }), state, { logs: new Map(), epochs: new Map() })
  for (const [t, ps] of p.statements) db.prepare(name(t)).run(...ps)
  p.adopt()
}
for (const batch of batches) write(batch)
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
