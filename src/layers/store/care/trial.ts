/**
 * Trying what would become of a file: it is only read, also while a runtime has it, and what is dropped or trimmed is so in
 * tables of the connection that take the place of the file's and end with it. Of what only decides what is retained: nothing
 * can be appended, and nothing is freed.
 */
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import type { StoreError, StoreService } from "../../../services/store/Store.js"
import { type Naming, naming } from "../naming.js"
import * as StoreSql from "../StoreSql.js"
import * as StoreSqlite from "../StoreSqlite.js"
import { toStoreError } from "../sqlError.js"
import type { SqliteClient } from "../sqliteFile.js"

const unprefixed = naming("")

/** Tables with a row for each session, or for each job that is trimmed or observed: small enough to be copied. */
const copied = ["sessions", "observers", "run_trims", "run_drops", "event_trims"]

/** Jobs can be many, so of those only which were dropped is kept. */
const droppedJobs = [
  "CREATE TEMP TABLE dropped_jobs (id INTEGER PRIMARY KEY)",
  "CREATE TEMP VIEW jobs AS SELECT * FROM main.jobs WHERE id NOT IN (SELECT id FROM temp.dropped_jobs)",
  `CREATE TEMP TRIGGER drop_job INSTEAD OF DELETE ON temp.jobs
   BEGIN INSERT INTO dropped_jobs (id) VALUES (OLD.id); END`
]

/** A listing walks over an index of the file, which a view has none of; what was dropped has no record in the view. */
const tables: Naming = (text) =>
  unprefixed(text.replace("FROM {jobs} INDEXED BY", "FROM main.jobs INDEXED BY"))

/** Returns what makes a table, or an index, of the file one of the connection. */
const asTemporary = (definition: string): string =>
  definition.replace(/^CREATE TABLE /, "CREATE TEMP TABLE ").replace(/^CREATE INDEX /, "CREATE INDEX temp.")

const copy = (sql: SqliteClient, table: string): Effect.Effect<void, SqlError> =>
  Effect.gen(function* () {
    const definitions = yield* sql.unsafe<{ readonly sql: string }>(
      `SELECT sql FROM main.sqlite_master WHERE tbl_name = ? AND type IN ('table', 'index') AND sql IS NOT NULL
       ORDER BY type = 'index'`,
      [table]
    )
    for (const definition of definitions) yield* sql.unsafe(asTemporary(definition.sql))
    yield* sql.unsafe(`INSERT INTO temp.${table} SELECT * FROM main.${table}`)
  })

/** Puts the tables of the connection in place of the file's, as these are at one moment. */
const substitute = (sql: SqliteClient): Effect.Effect<void, SqlError> =>
  Effect.gen(function* () {
    yield* sql.unsafe("BEGIN")
    for (const table of copied) yield* copy(sql, table)
    for (const statement of droppedJobs) yield* sql.unsafe(statement)
    yield* sql.unsafe("COMMIT")
  })

/** Runs work on a file as if it could change it. */
export const trying = <A, E>(
  filename: string,
  work: (store: StoreService) => Effect.Effect<A, E>
): Effect.Effect<A, E | StoreError> =>
  Effect.gen(function* () {
    const sql = yield* StoreSqlite.connectReadOnly(filename)
    yield* Effect.mapError(substitute(sql), toStoreError(filename))
    return yield* work(yield* StoreSql.makeKeeping(sql, filename, tables))
  }).pipe(Effect.scoped)
