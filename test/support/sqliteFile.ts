/** Files of stores that are as a first start leaves them: made once, and copied, since making the tables costs as much as a test. */
import { copyFileSync, mkdtempSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as StoreSqlite from "../../src/layers/store/StoreSqlite.js"

/** In the folder of the whole run (`scratch.ts`), which goes with it. */
const made = Effect.runSync(
  Effect.cached(
    Effect.gen(function* () {
      const filename = join(mkdtempSync(join(process.env.XDG_CACHE_HOME ?? tmpdir(), "empty-")), "empty.db")
      yield* Layer.build(StoreSqlite.layer({ filename }))
      return filename
    }).pipe(Effect.scoped, Effect.orDie)
  )
)

/** Puts such a file there. */
export const putEmpty = (to: string): Effect.Effect<void> =>
  Effect.map(made, (filename) => copyFileSync(filename, to))
