import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as StoreSqlite from "../../../src/layers/store/StoreSqlite.js"
import { putEmpty } from "../../support/sqliteFile.js"

/** A SQLite store in a folder of its own. */
export const sqlite = () =>
  Layer.unwrapScoped(
    Effect.gen(function* () {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "arcp-log-"))),
        (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
      )
      const filename = join(folder, "log.db")
      yield* putEmpty(filename)
      return StoreSqlite.layer({ filename, synchronous: "NORMAL" })
    })
  )
