/** What somebody wants to be deleted leaves no byte in the file of a runtime, whoever commits to it and whoever reads it meanwhile. */
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { pathToFileURL } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import * as Option from "effect/Option"
import * as StoreSqlite from "../../../src/layers/store/StoreSqlite.js"
import { Op, Store } from "../../../src/services/store/Store.js"
import { pass, passUntil } from "../../support/besideThreads.js"
import * as SqliteClient from "../../support/sqliteClient.js"
import { aJob, vacuumAll } from "./fixtures.js"

const tempFolder = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(path.join(os.tmpdir(), "arcp-erasing-"))),
  (folder) => Effect.sync(() => fs.rmSync(folder, { recursive: true, force: true }))
)

const marker = "somebody who wants to be forgotten"

const payload = JSON.stringify({ marker, pad: "x".repeat(20_000) })

const events = [1, 2, 3].map((seq) => ({ seq, type: "job.event", kind: "log", payload }) as const)

/** Whether the bytes are in the file, or in the one that is its log. */
const isIn = (filename: string): boolean =>
  [filename, `${filename}-wal`].some((file) => fs.existsSync(file) && fs.readFileSync(file).includes(marker))

for (const [how, worker] of [
  ["by a thread", undefined],
  ["by this process", "missing.mjs"]
] as const) {
  const test = (title: string, readsMeanwhile: boolean) =>
    it.scoped(title, () =>
      Effect.gen(function* () {
        const folder = yield* tempFolder
        const filename = path.join(folder, "arcp.db")
        const said: Array<string> = []
        const logger = Logger.replace(
          Logger.defaultLogger,
          Logger.make(({ logLevel, message }) => said.push(`${logLevel.label} ${String(message)}`))
        )
        const store = yield* Layer.build(
          StoreSqlite.layer({ filename, worker: worker && pathToFileURL(path.join(folder, worker)) })
        ).pipe(
          Effect.map((context) => context.unsafeMap.get(Store.key) as Store["Type"]),
          Effect.provide(logger)
        )
        said.length = 0
        yield* store.commit({
          ops: [Op.PutJob({ job: aJob("job_a") }), Op.Append({ jobId: "job_a", events })],
          owners: []
        })
        assert.isTrue(isIn(filename))
        const { erasing } = store
        if (erasing === undefined) return assert.fail("nothing is overwritten")
        const reader = yield* Effect.flatMap(SqliteClient.make({ filename }), (sql) => sql.reserve)
        if (readsMeanwhile) {
          yield* reader.executeRaw("BEGIN", [])
          yield* reader.execute("SELECT count(*) FROM events", [], undefined)
        }
        yield* erasing(store.commit({ ops: [Op.DropJob({ jobId: "job_a" })], owners: [] }))
        const freeing = yield* Effect.fork(
          Effect.provide(vacuumAll, Layer.merge(Layer.succeed(Store, store), logger))
        )
        if (readsMeanwhile) {
          yield* pass("2 minutes")
          assert.isTrue(Option.isNone(yield* Fiber.poll(freeing)))
          // Others commit.
          yield* store.commit({ ops: [Op.Alive({ at: 7 })], owners: [] })
          yield* reader.executeRaw("COMMIT", [])
        }
        yield* passUntil(freeing)
        assert.isFalse(isIn(filename))
        assert.deepStrictEqual(said, [])
      })
    )

  describe(`what is deleted, ${how}`, () => {
    test("is overwritten", false)
    test("is overwritten when nobody reads any more, and nobody is told of that", true)
  })
}
