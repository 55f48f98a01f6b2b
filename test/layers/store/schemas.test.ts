/**
 * Files as every version of the schema has left them, made by the code of that time (`test/fixtures/schema-N.sql`): each
 * is opened, reads as it was written, and goes on. A new migration comes with a new fixture.
 */
import * as fs from "node:fs"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import type * as SqlClient from "@effect/sql/SqlClient"
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { naming } from "../../../src/layers/store/naming.js"
import * as StoreSqlite from "../../../src/layers/store/StoreSqlite.js"
import { migrations, schemaVersion } from "../../../src/layers/store/schema.js"
import { Op, Store } from "../../../src/services/store/Store.js"
import { passing } from "../../support/besideThreads.js"
import * as SqliteClient from "../../support/sqliteClient.js"
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

const withSql = <A, E>(filename: string, body: (sql: SqlClient.SqlClient) => Effect.Effect<A, E>) =>
  Effect.flatMap(SqliteClient.make({ filename }), body).pipe(Effect.scoped)

const execute = (statements: ReadonlyArray<string>) => (sql: SqlClient.SqlClient) =>
  Effect.forEach(statements, (statement) => sql.unsafe(statement).unprepared, { discard: true })

/** Tables, indexes and triggers, by name, white space aside. */
const schemaOf = (sql: SqlClient.SqlClient) =>
  Effect.map(
    sql.unsafe("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").values,
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
    withSql(filename, (sql) =>
      Effect.zipRight(execute(migrations.slice(0, version).flat().map(naming("")))(sql), schemaOf(sql))
    )
  )

const versions = range(1, schemaVersion)

describe.each(versions)("a file of schema version %i", (version) => {
  it.scoped("has the tables that the migrations of today make up to it: none was edited since", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      yield* withSql(filename, execute(fixture(version)))
      assert.deepStrictEqual(yield* withSql(filename, schemaOf), yield* fresh(version))
    })
  )

  it.scoped("is brought up to date, reads as it was written, and goes on", () =>
    Effect.gen(function* () {
      const filename = yield* tempFile
      yield* withSql(filename, execute(fixture(version)))
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
      for (let round = 0; round < 2; round++)
        yield* passing(readsAsLeft(kept).pipe(Effect.provide(StoreSqlite.layer({ filename }))))
      assert.deepStrictEqual(yield* withSql(filename, schemaOf), yield* fresh(schemaVersion))
      yield* passing(goesOn.pipe(Effect.provide(StoreSqlite.layer({ filename }))))
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
      yield* withSql(
        filename,
        execute([
          ...fixture(6),
          "DELETE FROM sessions WHERE session_id = 'sess_b'",
          `UPDATE jobs SET session_id = 'sess_b', record = json_set(record, '$.sessionId', 'sess_b') WHERE job_id = 'job_a'`,
          "UPDATE events SET owner_seq = 0 WHERE job = 1",
          ...numbers.map(
            ([job, seq, owner]) =>
              `UPDATE events SET owner_seq = ${owner} WHERE job = ${job} AND seq = ${seq}`
          ),
          // Of one that lives the first twenty numbers were freed.
          "DELETE FROM runs WHERE session_id = 'sess_a' AND event_seq = 1",
          "UPDATE runs SET job_id = 'job_w' WHERE session_id = 'sess_a' AND event_seq = 21",
          "UPDATE run_trims SET before = 21, freed = 21",
          "UPDATE events SET owner_seq = seq + 9 WHERE job = 2"
        ])
      )
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
      const left = yield* withSql(
        filename,
        (sql) =>
          sql.unsafe(
            "SELECT (SELECT count(*) FROM runs WHERE session_id = 'sess_b'), (SELECT count(*) FROM run_drops)"
          ).values
      )
      assert.deepStrictEqual(left, [[0, 0]])
    })
  )
})
