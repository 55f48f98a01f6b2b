/** The tables of a store in a database of an application, and whose they are. */
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import { StoreError } from "../../services/store/Store.js"
import { whileBusy } from "./busy.js"
import type { Statements } from "./lending.js"
import { naming, prefixProblem } from "./naming.js"
import type { Query } from "./query.js"
import { applicationId, migrations, schemaVersion } from "./schema.js"
import { SqlClientTag } from "./sqlClientTag.js"
import { toStoreError } from "./sqlError.js"
import { telling } from "./upgrading.js"
import { select, type Work } from "./work.js"

/** Where the tables of a store are. */
export interface TableOptions {
  /** What error messages call the database. */
  readonly name?: string | undefined
  /**
   * What the names of all tables and indexes begin with, so that they are apart from the application's, and from those
   * of another store in the same database: lower-case letters, digits and underscores. Default: `arcp_`.
   */
  readonly prefix?: string | undefined
}

/** Returns the options with their defaults. */
export const tablesOf = ({ name = "the database", prefix = "arcp_" }: TableOptions) => ({ name, prefix })

/** `version` is that of the schema; `owner` is the store that may write. */
const createStore = `CREATE TABLE IF NOT EXISTS {store} (
  id INTEGER PRIMARY KEY CHECK (id = 0),
  version INTEGER NOT NULL,
  owner TEXT NOT NULL DEFAULT ''
)`

/** Returns the version in the header of a file of `StoreSqlite`, whose tables have no prefix; 0 of anything else. */
const versionInHeader = (sql: SqlClient.SqlClient, prefix: string) =>
  prefix !== ""
    ? Effect.succeed(0)
    : Effect.gen(function* () {
        const [[owner] = []] = yield* sql.unsafe("PRAGMA application_id").values
        if (owner !== applicationId) return 0
        const [[version] = []] = yield* sql.unsafe("PRAGMA user_version").values
        return Number(version)
      })

const upgrade = (sql: SqlClient.SqlClient, database: string, prefix: string) =>
  Effect.gen(function* () {
    const name = naming(prefix)
    // Not prepared: the driver would remember a statement that could not be, and fail it when it could.
    const run = (text: string, params: ReadonlyArray<unknown> = []) =>
      sql.unsafe(name(text), params).unprepared
    yield* run(createStore)
    const inHeader = yield* versionInHeader(sql, prefix)
    // The first thing that is done is a write: two that begin with a read could not both go on.
    yield* run(
      `INSERT INTO {store} (id, version) VALUES (0, ?)
       ON CONFLICT (id) DO UPDATE SET version = max(version, excluded.version)`,
      [inHeader]
    )
    const [[stored] = []] = yield* sql.unsafe(name("SELECT version FROM {store}")).values
    const version = Number(stored)
    if (version > schemaVersion)
      return yield* new StoreError({
        message:
          `the tables ${prefix}* of ${database} were written by a newer version (schema ${version}, this one knows ` +
          `${schemaVersion}); use that version, or another prefix`
      })
    if (version === schemaVersion) return
    yield* telling(`the tables ${prefix}* of ${database}`, version, schemaVersion)
    for (const statement of migrations.slice(version).flat()) yield* run(statement)
    yield* run("UPDATE {store} SET version = ?", [schemaVersion])
    if (inHeader > 0) yield* run(`PRAGMA user_version = ${schemaVersion}`)
  })

/**
 * Makes the tables of a store, or brings those of an older version up to date, in one transaction; in that of the
 * caller, if there is one. Does nothing to tables that are current. `StoreSql.layer` runs it too; by itself it is for
 * migrations that are run apart, and fits those of `@effect/sql`'s `Migrator`.
 *
 * Fails when the tables are of a newer version, or the prefix cannot be one.
 *
 * @example
 * SqliteMigrator.layer({ loader: SqliteMigrator.fromRecord({ "0001_users": users, "0002_arcp": StoreSql.migrate() }) })
 */
export const migrate = (options: TableOptions = {}): Effect.Effect<void, StoreError, SqlClient.SqlClient> => {
  const { name, prefix } = tablesOf(options)
  const problem = prefixProblem(prefix)
  if (problem !== undefined) return Effect.fail(new StoreError({ message: problem }))
  return Effect.flatMap(SqlClientTag, (sql) => sql.withTransaction(upgrade(sql, name, prefix))).pipe(
    Effect.withMaxOpsBeforeYield(Number.MAX_SAFE_INTEGER),
    // The driver throws where it should fail.
    Effect.catchAllDefect(Effect.fail),
    Effect.mapError(toStoreError(name)),
    whileBusy
  )
}

/** Makes `owner` the store that may write; whichever was so before finds out at its next commit. */
export const claim = (statements: Statements, owner: string): Effect.Effect<unknown, SqlError> =>
  statements.executeRaw("UPDATE {store} SET owner = ?", [owner])

/** Fails when another store has claimed the tables since. To be asked in the transaction that writes. */
export function* stillOwner(owner: string, database: string): Work<void> {
  const [row] = yield* select(storedOwner)
  if (row?.owner !== owner)
    throw new StoreError({
      message: `another runtime uses these tables of ${database} since; stop one of them, or give each a prefix of its own`,
      fenced: true
    })
}

const storedOwner: Query<{ readonly owner: string }> = ["SELECT owner FROM {store}", []]
