/** Emptying the log of a database: what is overwritten there goes into the file, and the log begins anew. */
import * as Effect from "effect/Effect"
import type { StoreError } from "../../services/store/Store.js"
import { toStoreError } from "./sqlError.js"

export const emptyLog = "PRAGMA wal_checkpoint(TRUNCATE)"

/** Fails as for a lock when the log was not emptied: of a reader in the way SQLite tells in the first column of its one row. */
export const emptied = (rows: ReadonlyArray<object>, name: string): Effect.Effect<void, StoreError> =>
  Object.values(rows[0] ?? {})[0] === 0
    ? Effect.void
    : Effect.fail(toStoreError(name)(Object.assign(new Error("database is locked"), { code: "SQLITE_BUSY" })))
