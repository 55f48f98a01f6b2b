/** Opening a store is in nobody's trace. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as StoreSqlite from "../../../src/layers/store/StoreSqlite.js"
import { keeping } from "../../support/tracer.js"

it.scopedLive("opening and closing a file makes no spans", () =>
  Effect.gen(function* () {
    const { spans, tracer } = keeping()
    const folder = mkdtempSync(join(tmpdir(), "arcp-untraced-"))
    yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(folder, { recursive: true })))
    const store = StoreSqlite.layer({ filename: join(folder, "a.db") })
    yield* Layer.build(store).pipe(Effect.scoped, Effect.withTracer(tracer))
    assert.deepStrictEqual(
      spans.map(({ name }) => name),
      []
    )
  })
)
