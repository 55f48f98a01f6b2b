/** Opening the file of a runtime for writing: alone, in the current schema, and certain that it can be written. */
import type { Connection } from "@effect/sql/SqlConnection"
import * as Effect from "effect/Effect"
import type { Scope } from "effect/Scope"
import type { StoreError } from "../../services/store/Store.js"
import { whileBusy } from "./busy.js"
import { naming } from "./naming.js"
import { applicationId, migrations, schemaVersion } from "./schema.js"
import { toStoreError } from "./sqlError.js"
import {
  besideNow,
  connectOwn,
  inspect,
  lockPatiently,
  pragma,
  prepareFolder,
  type SqliteClient,
  writable
} from "./sqliteFile.js"
import { telling } from "./upgrading.js"

/** Bytes the write-ahead log is cut back to after a burst. */
const journalSizeLimit = 64 * 1024 * 1024

/** A file of its own needs no prefix. */
const unprefixed = naming("")

const begin = (connection: Connection) => whileBusy(connection.executeRaw("BEGIN IMMEDIATE", []))

/** Migrates the tables. What fails half way is undone when the scope closes the connection. */
const migrate = (sql: SqliteClient, from: number) =>
  Effect.flatMap(sql.reserve, (connection) =>
    Effect.forEach(
      migrations.slice(from),
      (statements, i) =>
        Effect.zipRight(
          begin(connection),
          Effect.forEach(
            [
              ...statements,
              `PRAGMA application_id = ${applicationId}`,
              `PRAGMA user_version = ${from + i + 1}`,
              "COMMIT"
            ],
            (statement) => connection.executeRaw(unprefixed(statement), []),
            { discard: true }
          )
        ),
      { discard: true }
    )
  ).pipe(Effect.scoped)

/** Refuses what cannot be written, for whatever reason, now and not at the first commit. */
const tryWriting = (sql: SqliteClient) =>
  Effect.flatMap(sql.reserve, (connection) =>
    begin(connection).pipe(
      Effect.zipRight(connection.executeRaw(unprefixed("DELETE FROM {runtime} WHERE id = -1"), [])),
      Effect.zipRight(connection.executeRaw("ROLLBACK", []))
    )
  ).pipe(Effect.scoped)

/** An open file: the connection that this thread has to it, and what another one that writes is to be told first. */
export interface OpenFile {
  readonly path: string
  readonly sql: SqliteClient
  readonly pragmas: ReadonlyArray<string>
}

/** What a connection that writes is told. */
const pragmasOf = (synchronous: "FULL" | "NORMAL"): ReadonlyArray<string> => [
  // Waiting in SQLite would block whoever else waits for this connection; the store waits by itself.
  "busy_timeout = 0",
  `synchronous = ${synchronous}`,
  // What a page had that moved to another is not left in it: where it costs no write of its own.
  "secure_delete = FAST",
  `journal_size_limit = ${journalSizeLimit}`
]

/**
 * Opens the file for the scope, and what is to be over it. When either fails, nothing is left beside the file that was
 * not there before.
 */
export const open = <A, R>(
  {
    filename,
    synchronous = "FULL"
  }: { readonly filename: string; readonly synchronous?: "FULL" | "NORMAL" | undefined },
  over: (file: OpenFile) => Effect.Effect<A, StoreError, R>
): Effect.Effect<A, StoreError, R | Scope> =>
  Effect.gen(function* () {
    const path = yield* prepareFolder(filename)
    yield* writable(path, filename)
    yield* lockPatiently(path, filename)
    let opened = false
    const clean = yield* besideNow(path)
    yield* Effect.addFinalizer(() => (opened ? Effect.void : clean))
    const version = yield* inspect(path, filename)
    const sql = yield* connectOwn(path, filename)
    const pragmas = pragmasOf(synchronous)
    yield* Effect.gen(function* () {
      yield* Effect.forEach(pragmas, (text) => pragma(sql, text), { discard: true })
      yield* telling(filename, version, schemaVersion)
      yield* migrate(sql, version)
      yield* tryWriting(sql)
    }).pipe(Effect.mapError(toStoreError(filename)))
    // A clean end leaves everything in the one file, also while a reader keeps the log file open.
    yield* Effect.addFinalizer(() => Effect.ignore(pragma(sql, "wal_checkpoint(TRUNCATE)")))
    const result = yield* over({ path, sql, pragmas })
    opened = true
    return result
  })
