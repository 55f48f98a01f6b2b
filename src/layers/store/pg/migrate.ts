/** Making the tables of a store in Postgres, and bringing older ones up to date. */
import * as Effect from "effect/Effect"
import { StoreError } from "../../../services/store/Store.js"
import { createStore, createWriters, migrations, schemaVersion } from "./schema.js"
import type { PgFailure, PgStatements } from "./statement.js"

/** Runs statements as one transaction, on the one connection that they are given to. */
export const transaction = <A, E>(
  statements: PgStatements,
  body: Effect.Effect<A, E>
): Effect.Effect<A, E | PgFailure> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.zipRight(
      statements.executeRaw("BEGIN", []),
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

/**
 * Makes the tables, or brings them up to date, in one transaction; whoever does the same at once waits for it. Only looks when
 * they are current, so that a user who may not make tables can use those that are there.
 */
export const migrate = (
  statements: PgStatements,
  database: string,
  prefix: string
): Effect.Effect<void, PgFailure | StoreError> => {
  return Effect.gen(function* () {
    if ((yield* versionOf(statements, prefix)) === schemaVersion) return
    yield* transaction(
      statements,
      Effect.gen(function* () {
        yield* statements.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", [`arcp ${prefix}`])
        const version = yield* versionOf(statements, prefix)
        if (version > schemaVersion)
          return yield* new StoreError({
            message:
              `the tables ${prefix}* of ${database} were written by a newer version (schema ${version}, this one ` +
              `knows ${schemaVersion}); use that version, or another prefix`
          })
        yield* statements.executeRaw(createStore, [])
        yield* statements.executeRaw(createWriters, [])
        for (const statement of migrations.slice(version).flat()) yield* statements.executeRaw(statement, [])
        yield* statements.executeRaw(
          "INSERT INTO {store} (id, version) VALUES (0, $1) ON CONFLICT (id) DO UPDATE SET version = excluded.version",
          [schemaVersion]
        )
      })
    )
  })
}
