/** Making the tables of a store in Postgres, and bringing older ones up to date. */
import * as Effect from "effect/Effect"
import { StoreError } from "../../../services/store/Store.js"
import { telling } from "../upgrading.js"
import { createStore, createWriters, migrations, schemaVersion } from "./schema.js"
import type { PgFailure, PgStatements } from "./statement.js"

/**
 * Begins a transaction that Postgres ends when nothing is said in it for longer: of a machine that vanishes it learns nothing by
 * itself before the connection is probed, of a process that is stopped never, and until then whoever follows waits for what it
 * had locked. So it is well within the time after which others take a node for gone: they would be next. In one message.
 */
const begin = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '2s'"

/** Runs statements as one transaction, on the one connection that they are given to. */
export const transaction = <A, E>(
  statements: PgStatements,
  body: Effect.Effect<A, E>
): Effect.Effect<A, E | PgFailure> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.zipRight(
      statements.executeRaw(begin, []),
      Effect.matchCauseEffect(restore(body), {
        onFailure: (cause) =>
          Effect.zipRight(Effect.ignore(statements.executeRaw("ROLLBACK", [])), Effect.failCause(cause)),
        onSuccess: (result) => Effect.as(statements.executeRaw("COMMIT", []), result)
      })
    )
  )

/** Returns the version of the schema; 0 when there are no tables. */
export const versionOf = (statements: PgStatements, prefix: string): Effect.Effect<number, PgFailure> =>
  Effect.gen(function* () {
    // By the catalog, and not `to_regclass`, which remembers that there was none while others make it.
    const [[table] = []] = yield* statements.executeValues(
      "SELECT EXISTS (SELECT 1 FROM pg_class WHERE relname = $1::text AND pg_table_is_visible(oid))",
      [`${prefix}store`]
    )
    if (table !== true) return 0
    const [[version] = []] = yield* statements.executeValues("SELECT version FROM {store}", [])
    return Number(version ?? 0)
  })

/** Refuses what a newer version has written. */
const known = (statements: PgStatements, database: string, prefix: string) =>
  Effect.filterOrFail(
    versionOf(statements, prefix),
    (version) => version <= schemaVersion,
    (version) =>
      new StoreError({
        message:
          `the tables ${prefix}* of ${database} were written by a newer version (schema ${version}, this one ` +
          `knows ${schemaVersion}); use that version, or another prefix`
      })
  )

/** Runs a body as one transaction; whoever does the same with these tables at once waits for it. */
const exclusively = <A, E>(statements: PgStatements, prefix: string, body: Effect.Effect<A, E>) =>
  transaction(
    statements,
    Effect.zipRight(
      statements.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", [`arcp ${prefix}`]),
      body
    )
  )

/** Makes what says which version the tables are of, and who holds them. */
const makeFirst = (statements: PgStatements) =>
  Effect.zipRight(statements.executeRaw(createStore, []), statements.executeRaw(createWriters, []))

/** Makes what it takes to hold the tables, where there is nothing yet. Returns the version that they had, 0 of none. */
export const prepare = (
  statements: PgStatements,
  database: string,
  prefix: string
): Effect.Effect<number, PgFailure | StoreError> =>
  Effect.tap(known(statements, database, prefix), (version) =>
    version === 0 ? exclusively(statements, prefix, makeFirst(statements)) : Effect.void
  )

/** Fails when the tables are not of this version: somebody has brought them up to date since this process looked. */
export const stillCurrent = (
  statements: PgStatements,
  database: string,
  prefix: string
): Effect.Effect<unknown, PgFailure | StoreError> => known(statements, database, prefix)

/**
 * Makes the tables, or brings them up to date, in one transaction: by whoever holds them alone, or while none of the nodes that
 * share them is there. One that is goes on with the tables that it knew when it started.
 */
export const migrate = (
  statements: PgStatements,
  database: string,
  prefix: string
): Effect.Effect<void, PgFailure | StoreError> =>
  exclusively(statements, prefix, migrated(statements, database, prefix))

/**
 * Brings tables up to date that nodes share, unless somebody has them: returns who that is. Nobody takes a place among their
 * writers meanwhile.
 */
export const migrateUnheld = <Held>(
  statements: PgStatements,
  database: string,
  prefix: string,
  held: Effect.Effect<Held | undefined, PgFailure>
): Effect.Effect<Held | undefined, PgFailure | StoreError> =>
  exclusively(
    statements,
    prefix,
    Effect.gen(function* () {
      yield* statements.executeRaw(lockWriters, [])
      // Another that waited has done it, and may be there by now.
      if ((yield* known(statements, database, prefix)) === schemaVersion) return undefined
      const by = yield* held
      if (by === undefined) yield* migrated(statements, database, prefix)
      return by
    })
  )

/** Held by whoever takes a place among the writers, or takes one from somebody. */
export const lockWriters = "SELECT pg_advisory_xact_lock(hashtextextended('{writers}', 0))"

const migrated = (
  statements: PgStatements,
  database: string,
  prefix: string
): Effect.Effect<void, PgFailure | StoreError> =>
  Effect.gen(function* () {
    const version = yield* known(statements, database, prefix)
    yield* telling(database, version, schemaVersion)
    if (version === 0) yield* makeFirst(statements)
    for (const statement of migrations.slice(version).flat()) yield* statements.executeRaw(statement, [])
    yield* statements.executeRaw(
      "INSERT INTO {store} (id, version) VALUES (0, $1) ON CONFLICT (id) DO UPDATE SET version = excluded.version",
      [schemaVersion]
    )
  })
