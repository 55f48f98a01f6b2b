/**
 * The store in one SQLite file, for one runtime at a time. Opening is careful: a file that is not ours,
 * not readable or newer than this version is refused before anything writes to it.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Scope } from "effect/Scope"
import { Store, StoreError, type StoreService } from "../../services/store/Store.js"
import * as StoreSql from "./StoreSql.js"
import { schemaVersion } from "./schema.js"
import { toStoreError } from "./sqlError.js"
import { connect, inspect } from "./sqliteFile.js"
import { open } from "./sqliteOpen.js"

/** Options of a store on a SQLite file. */
export interface Options {
  /** Path of the database. It and its folder are created when they do not exist. */
  readonly filename: string
  /**
   * `FULL` (default): a committed event survives a power cut. `NORMAL`: it survives the end of the
   * process, and a power cut may take the last moments before it; commits cost no disk flush.
   */
  readonly synchronous?: "FULL" | "NORMAL" | undefined
}

const make = (options: Options): Effect.Effect<StoreService, StoreError, Scope> =>
  open(options, (sql) => StoreSql.makeKeeping(sql, options.filename))

const makeReadOnly = (filename: string): Effect.Effect<StoreService, StoreError, Scope> =>
  Effect.gen(function* () {
    const version = yield* inspect(filename, filename)
    if (version === 0)
      return yield* new StoreError({
        message: `${filename} holds no runtime's data; name the file of a runtime`
      })
    if (version < schemaVersion)
      return yield* new StoreError({
        message: `${filename} was written by an older version; start a runtime on it once to bring it up to date`
      })
    const sql = yield* connect({ filename, readonly: true, disableWAL: true }, filename)
    yield* sql.unsafe("PRAGMA busy_timeout = 0").pipe(Effect.mapError(toStoreError(filename)))
    return yield* StoreSql.makeKeeping(sql, filename)
  })

/**
 * Provides the store of a runtime, for the lifetime of the layer. Fails when the file is in use by another
 * runtime, is corrupt, is no SQLite database, belongs to another application or was written by a newer
 * version; the file is then as it was.
 */
export const layer = (options: Options): Layer.Layer<Store, StoreError> => Layer.scoped(Store, make(options))

/**
 * Provides the same file for reading only, also while a runtime uses it. Commits fail. Fails like `layer`, and
 * when the file does not exist.
 */
export const layerReadOnly = (options: { readonly filename: string }): Layer.Layer<Store, StoreError> =>
  Layer.scoped(Store, makeReadOnly(options.filename))
