/**
 * Writes `test/fixtures/pg-schema-N.sql` for the schema of this checkout: what its store leaves in a Postgres of a few jobs,
 * sessions and events, as `pg_dump` tells it. Run once, by whoever adds migration N, with what that migration brings added to
 * `schema-fixture-batches.mjs`; the file is never edited after that. `test/layers/store/pg/schemas.test.ts` opens all of them.
 */
import { execFileSync } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { pathToFileURL } from "node:url"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as esbuild from "esbuild"
import { ownCluster } from "../bench/ownCluster.mjs"
import { batches, credentials } from "./schema-fixture-batches.mjs"

const commit = execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8" }).trim()
const root = new URL("..", import.meta.url).pathname
// Beside the packages that it imports.
const folder = fs.mkdtempSync(path.join(root, "node_modules", ".arcp-fixture-"))
const outfile = path.join(folder, "store.mjs")
await esbuild.build({
  stdin: {
    contents: `export { open } from "./src/layers/store/pg/StorePg.ts"
export { CredentialStore } from "./src/services/credentials/CredentialStore.ts"
export { Store } from "./src/services/store/Store.ts"
export { migrations } from "./src/layers/store/pg/schema.ts"`,
    resolveDir: root
  },
  bundle: true,
  packages: "external",
  format: "esm",
  platform: "node",
  outfile,
  logLevel: "error"
})
const { CredentialStore, migrations, open, Store } = await import(pathToFileURL(outfile).href)
fs.rmSync(folder, { recursive: true })
const version = migrations.length

const { binaries, stop, url } = await ownCluster()
await Effect.runPromise(
  Effect.scoped(
    Effect.flatMap(open({ url: Redacted.make(url) }), (stores) =>
      Effect.zipRight(
        Effect.forEach(batches, (ops) => Context.get(stores, Store).commit({ ops, owners: [] })),
        Effect.forEach(credentials, (record) => Context.get(stores, CredentialStore).insert(record))
      )
    )
  )
)
const dump = execFileSync(
  path.join(binaries, "pg_dump"),
  ["--inserts", "--column-inserts", "--no-owner", "--no-privileges", "--schema=public", url],
  { encoding: "utf8" }
)
stop()
// Without what it says to psql, and about the schema that is there anyway.
const statements = dump
  .split(/;\n/)
  .map((statement) =>
    statement
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("--") && !line.startsWith("\\"))
      .join(" ")
      .replace(/\s+/g, " ")
      .trim()
  )
  .filter((statement) => /^(CREATE (?!SCHEMA)|ALTER TABLE|INSERT|SELECT pg_catalog.setval)/.test(statement))
fs.writeFileSync(
  path.join(root, `test/fixtures/pg-schema-${version}.sql`),
  `${[
    `-- What schema version ${version} has left in Postgres: made by the store of commit ${commit}. Never edit it.`,
    ...statements.map((statement) => `${statement};`)
  ].join("\n")}\n`
)
