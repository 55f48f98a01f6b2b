/**
 * Files as every version of the schema has left them, made by the code of that time (`test/fixtures/schema-N.sql`): each
 * is opened, reads as it was written, and goes on. A new migration comes with a new fixture.
 */
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import { afterAll } from "vitest"
import { naming } from "../../../src/layers/store/naming.js"
import * as StoreSqlite from "../../../src/layers/store/StoreSqlite.js"
import { migrations, schemaVersion } from "../../../src/layers/store/schema.js"
import { loadDriver } from "../../../src/layers/store/sqliteDriver.js"
import { Op, Store } from "../../../src/services/store/Store.js"
import { passing } from "../../support/besideThreads.js"
import { range, vacuumAll } from "./fixtures.js"
import { goesOn, readsAsLeft } from "./left.js"

const fixture = (version: number): ReadonlyArray<string> =>
  fs
    .readFileSync(fileURLToPath(new URL(`../../fixtures/schema-${version}.sql`, import.meta.url)), "utf8")
    .split("\n")
    .filter((line) => line !== "" && !line.startsWith("--"))

const tempFile = Effect.acquireRelease(
  Effect.sync(() => path.join(fs.mkdtempSync(path.join(os.tmpdir(), "arcp-schema-")), "arcp.db")),
  (file) => Effect.sync(() => fs.rmSync(path.dirname(file), { recursive: true, force: true }))
)

/** Runs statements on a file. None is left prepared, for which a close would have to collect (Node before 22.16). */
const execute = (filename: string, statements: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const driver = yield* Effect.promise(loadDriver)
    const database = yield* Effect.acquireRelease(
      Effect.sync(() => driver.open(filename)),
      (database) => Effect.promise(async () => database.close())
    )
    database.exec("PRAGMA journal_mode = WAL")
    for (const statement of statements) database.exec(statement)
  }).pipe(Effect.scoped)

/** One connection for all files, which are attached to it for a moment, in turn. */
const looking = Effect.runSync(
  Effect.cached(Effect.map(Effect.promise(loadDriver), (driver) => driver.open(":memory:")))
)
afterAll(() =>
  Effect.runPromise(Effect.flatMap(looking, (database) => Effect.promise(async () => database.close())))
)

/** Returns the rows of a statement on a file. */
const rowsOf = (filename: string, statement: string) =>
  Effect.map(looking, (database) => {
    database.exec(`ATTACH '${filename}' AS file`)
    try {
      return database.prepared(statement).values([])
    } finally {
      database.exec("DETACH file")
    }
  })

/** Tables, indexes and triggers, by name, white space aside. */
const schemaOf = (filename: string) =>
  Effect.map(
    rowsOf(filename, "SELECT name, sql FROM file.sqlite_master WHERE sql IS NOT NULL ORDER BY name"),
    (rows) =>
      rows.map(([name, text]) => [
        name,
        String(text)
          .replace(/\s+/g, " ")
          .replace(/ ?([(),]) ?/g, "$1")
      ])
  )

/** What is left when so many of the migrations of today are done. */
const fresh = (version: number) =>
  Effect.flatMap(tempFile, (filename) =>
    Effect.zipRight(
      execute(filename, migrations.slice(0, version).flat().map(naming(""))),
      schemaOf(filename)
    )
  )

const versions = range(1, schemaVersion)

describe.each(versions)("a file of schema version %i", (version) => {
  it.scoped("has the tables that the migrations of today make up to it: none was edited since", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      yield* execute(filename, fixture(version))
      assert.deepStrictEqual(yield* schemaOf(filename), yield* fresh(version))
    })
  )

  it.scoped("is brought up to date, reads as it was written, and goes on", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      yield* execute(filename, fixture(version))
      const reading = StoreSqlite.layerReadOnly({ filename })
      const read = Effect.flatMap(Store, (store) => store.job("job_a")).pipe(Effect.provide(reading))
      if (version < schemaVersion)
        assert.match(
          (yield* passing(Effect.flip(read))).message,
          /written by an older version; start a runtime on it once/
        )
      const kept = {
        inputs: version >= 2,
        journals: version >= 3,
        due: version >= 4,
        hooks: version >= 5,
        epochs: version >= 6,
        numbersOfGone: version >= 7,
        cursors: version >= 8,
        wishes: version >= 9
      }
      const logged: Array<string> = []
      const logger = Logger.replace(
        Logger.defaultLogger,
        Logger.make(({ message }) => void logged.push(String(message)))
      )
      for (const then of [Effect.void, goesOn])
        yield* passing(
          Effect.zipRight(readsAsLeft(kept), then).pipe(
            Effect.provide(Layer.provide(StoreSqlite.layer({ filename }), logger))
          )
        )
      const upgraded = `${filename} is brought up to date, from schema ${version} to ${schemaVersion}; older versions cannot open it after that`
      assert.deepStrictEqual(logged, version < schemaVersion ? [upgraded] : [])
      assert.deepStrictEqual(yield* schemaOf(filename), yield* fresh(schemaVersion))
    })
  )
})

describe("Numbers of events that the sessions which had them have lost", () => {
  it.scoped("are those that the events were stored with", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      const numbers = [
        // Numbered by a session that is gone: two stretches, one event in between that it never had, and one of another job.
        [1, 11, 0],
        [1, 12, 101],
        [1, 13, 102],
        [1, 14, 102],
        [1, 15, 104]
      ] as const
      yield* execute(filename, [
        ...fixture(6),
        "DELETE FROM sessions WHERE session_id = 'sess_b'",
        `UPDATE jobs SET session_id = 'sess_b', record = json_set(record, '$.sessionId', 'sess_b') WHERE job_id = 'job_a'`,
        "UPDATE events SET owner_seq = 0 WHERE job = 1",
        ...numbers.map(
          ([job, seq, owner]) => `UPDATE events SET owner_seq = ${owner} WHERE job = ${job} AND seq = ${seq}`
        ),
        // Of one that lives the first twenty numbers were freed.
        "DELETE FROM runs WHERE session_id = 'sess_a' AND event_seq = 1",
        "UPDATE runs SET job_id = 'job_w' WHERE session_id = 'sess_a' AND event_seq = 21",
        "UPDATE run_trims SET before = 21, freed = 21",
        "UPDATE events SET owner_seq = seq + 9 WHERE job = 2"
      ])
      yield* passing(
        Effect.gen(function* () {
          const store = yield* Store
          for (const [after, next] of [
            [0, 12],
            [101, 13],
            [102, 15],
            [103, 15],
            [104, undefined]
          ] as const)
            assert.deepStrictEqual(yield* store.numbering("sess_b", "job_a", after), {
              last: 104,
              through: 15,
              next
            })
          assert.deepStrictEqual(yield* store.view("sess_b"), { first: 1, last: 0 })
          assert.deepStrictEqual(yield* store.numbering("sess_a", "job_b", 11), {
            last: 14,
            through: 5,
            next: 3
          })
          assert.deepStrictEqual(yield* store.view("sess_a"), { first: 21, last: 30 })
          yield* vacuumAll
          assert.strictEqual((yield* store.numbering("sess_a", "job_b", 0)).last, 14)
          yield* store.commit({ ops: [Op.DropJob({ jobId: "job_a" })], owners: [] })
          yield* vacuumAll
        }).pipe(Effect.provide(StoreSqlite.layer({ filename })))
      )
      const left = yield* rowsOf(
        filename,
        "SELECT (SELECT count(*) FROM file.runs WHERE session_id = 'sess_b'), (SELECT count(*) FROM file.run_drops)"
      )
      assert.deepStrictEqual(left, [[0, 0]])
    })
  )
})
