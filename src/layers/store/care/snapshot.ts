/** A copy of a SQLite file as it was at one moment, and whether a file is whole. */
import * as fs from "node:fs"
import * as Effect from "effect/Effect"
import { StoreError } from "../../../services/store/Store.js"
import { whileBusy } from "../busy.js"
import { toStoreError } from "../sqlError.js"
import { besideNow, connect, type SqliteClient } from "../sqliteFile.js"

/** Runs work on a connection that only reads, and that leaves nothing beside the file that was not there. */
export const reading = <A, E>(
  path: string,
  name: string,
  work: (sql: SqliteClient) => Effect.Effect<A, E>
): Effect.Effect<A, E | StoreError> =>
  Effect.flatMap(besideNow(path), (clean) =>
    connect({ filename: path, readonly: true, disableWAL: true, busyTimeout: 0 }, name).pipe(
      Effect.flatMap(work),
      Effect.scoped,
      Effect.ensuring(clean)
    )
  )

/** Returns the first value of the first row of a query. */
export const value = (sql: SqliteClient, text: string, name: string): Effect.Effect<unknown, StoreError> =>
  whileBusy(sql.unsafe(text).values).pipe(
    Effect.map((rows) => rows[0]?.[0]),
    Effect.mapError(toStoreError(name))
  )

/**
 * Copies a database into a file that is empty, as it is at this moment, what is in its write-ahead log included, and without
 * its free pages. Whoever writes goes on meanwhile. What comes of it is one file, with no log beside it.
 */
export const copyInto = (path: string, name: string, target: string): Effect.Effect<void, StoreError> =>
  reading(path, name, (sql) =>
    whileBusy(sql.unsafe("VACUUM INTO ?", [target]).unprepared).pipe(
      Effect.asVoid,
      // SQLite does not say which of the two it was.
      Effect.mapError(toStoreError(`${name} or its copy`))
    )
  )

/** Fails when a database is damaged anywhere: reads all of it. */
export const soundness = (path: string, name: string): Effect.Effect<void, StoreError> =>
  reading(path, name, (sql) => value(sql, "PRAGMA integrity_check(1)", name)).pipe(
    Effect.filterOrFail(
      (found) => found === "ok",
      (found) => new StoreError({ message: `${name} is corrupt: ${String(found)}` })
    ),
    Effect.asVoid
  )

/** Returns the size of a file in bytes; 0 of what there is not, or cannot be looked at. */
export const sizeOf = (path: string): number => {
  try {
    return fs.statSync(path).size
  } catch {
    return 0
  }
}
