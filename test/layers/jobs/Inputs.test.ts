/** What durable jobs ask, over a store in memory and a durable one. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as StoreMemory from "../../../src/layers/store/StoreMemory.js"
import * as StoreSqlite from "../../../src/layers/store/StoreSqlite.js"
import { alsoInPostgres } from "../store/pg/layers.js"
import { suite } from "./Inputs.suite.js"

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "arcp-inputs-"))),
  (made) => Effect.sync(() => rmSync(made, { recursive: true }))
)

suite("memory", StoreMemory.layer())
/** Over processes, durable jobs run on SQLite (test/e2e/durable.test.ts). */
const inPostgres = alsoInPostgres()
for (const { layer } of inPostgres) suite("Postgres", layer())
if (inPostgres.length === 0)
  suite(
    "SQLite",
    Layer.unwrapScoped(
      Effect.map(folder, (made) =>
        StoreSqlite.layer({ filename: join(made, "arcp.db"), synchronous: "NORMAL" })
      )
    )
  )
