/**
 * The store in one SQLite file, for one runtime at a time. Opening is careful: a file that is not ours,
 * not readable or newer than this version is refused before anything writes to it.
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Scope } from "effect/Scope"
import * as Argument from "../../protocol/Argument.js"
import { type Fenced, Store, StoreError, type StoreService } from "../../services/store/Store.js"
import { whileBusy } from "./busy.js"
import * as Erasing from "./erasing.js"
import { kept } from "./lending.js"
import { naming } from "./naming.js"
import { noted } from "./noted.js"
import * as StoreSql from "./StoreSql.js"
import { schemaVersion } from "./schema.js"
import { toStoreError } from "./sqlError.js"
import { connect, pragma, type SqliteClient, schemaOf } from "./sqliteFile.js"
import { open } from "./sqliteOpen.js"
import type { SqliteThread } from "./sqliteThread.js"
import * as Thread from "./sqliteThread.js"
import { readsOver } from "./sqlReads.js"

/** Options of a store on a SQLite file. */
export interface Options {
  /** Path of the database. It and its folder are created when they do not exist. */
  readonly filename: string
  /**
   * `FULL` (default): a committed event survives a power cut. `NORMAL`: it survives the end of the
   * process, and a power cut may take the last moments before it; commits cost no disk flush.
   */
  readonly synchronous?: "FULL" | "NORMAL" | undefined
  /**
   * Where the file `effect-arcp/sqlite-worker` is, when the application is bundled and a copy of it lies elsewhere. It is the
   * thread that commits; where it cannot be had, commits hold up the process.
   */
  readonly worker?: URL | undefined
}

const optionsRule = Argument.options<Options>({
  filename: Argument.text,
  // It is part of a pragma, and SQLite takes what it does not know for NORMAL, and OFF for what it says.
  synchronous: Argument.maybe(Argument.oneOf("FULL", "NORMAL")),
  worker: Argument.maybe(Argument.that("a URL", (value) => value instanceof URL))
})

const readOnlyRule = Argument.options<Pick<Options, "filename">>({ filename: Argument.text })

/** What this process reads it reads on a connection of its own, beside the thread that writes. */
const makeBeside = (
  thread: SqliteThread,
  sql: SqliteClient,
  name: string
): Effect.Effect<StoreService, StoreError, Scope> =>
  Effect.gen(function* () {
    const mapError = Effect.mapError(toStoreError(name))
    yield* mapError(pragma(sql, "query_only = 1"))
    const lend = yield* mapError(kept(sql, naming("")))
    const [reading, writing] = [noted("reading from the store"), noted("writing to the store")]
    // Once asked for it ends as a whole, and its caller learns how. Between two attempts others may write.
    const write = <A, E extends StoreError | Fenced>(work: Effect.Effect<A, E>) =>
      work.pipe(Effect.uninterruptible, whileBusy, writing)
    return {
      kind: "durable",
      ...(yield* readsOver(name, (work) => reading(whileBusy(mapError(lend(work)))))),
      commit: (batch) => (batch.ops.length === 0 ? Effect.void : write(thread.commit(batch))),
      ...Erasing.make({ run: (sql) => thread.run(sql, []), patiently: write, free: thread.free }, name),
      died: thread.died,
      held: () => 0
    }
  })

const make = (options: Options): Effect.Effect<StoreService, StoreError, Scope> =>
  Effect.flatMap(Thread.start(options.filename, options.worker), (starting) =>
    open(options, ({ path, pragmas, sql }) =>
      starting.open(path, pragmas).pipe(
        Effect.flatMap((thread) => makeBeside(thread, sql, options.filename)),
        Effect.catchTag("NoThread", ({ message }) =>
          Effect.zipRight(
            Effect.logWarning(
              `commits hold up this process, because no thread can be had for them: ${message}`
            ),
            StoreSql.makeErasing(sql, options.filename)
          )
        )
      )
    )
  )

/** Opens the file of a runtime for reading only. */
export const connectReadOnly = (filename: string): Effect.Effect<SqliteClient, StoreError, Scope> =>
  Effect.gen(function* () {
    const version = yield* schemaOf(filename, filename)
    if (version < schemaVersion)
      return yield* new StoreError({
        message: `${filename} was written by an older version; start a runtime on it once to bring it up to date`
      })
    const sql = yield* connect({ filename, readonly: true, disableWAL: true }, filename)
    yield* pragma(sql, "busy_timeout = 0").pipe(Effect.mapError(toStoreError(filename)))
    return sql
  })

const makeReadOnly = (filename: string): Effect.Effect<StoreService, StoreError, Scope> =>
  Effect.flatMap(connectReadOnly(filename), (sql) => StoreSql.makeKeeping(sql, filename))

/**
 * Provides the store of a runtime, for the lifetime of the layer. Fails when the file is in use by another
 * runtime, is corrupt, is no SQLite database, belongs to another application or was written by a newer
 * version; the file is then as it was.
 */
export const layer = (options: Options): Layer.Layer<Store, StoreError> => {
  Argument.check("StoreSqlite.layer", ["options", optionsRule, options])
  return Layer.scoped(Store, make(options))
}

/**
 * Provides the same file for reading only, also while a runtime uses it. Commits fail. Fails like `layer`, and
 * when the file does not exist.
 */
export const layerReadOnly = (options: { readonly filename: string }): Layer.Layer<Store, StoreError> => {
  Argument.check("StoreSqlite.layerReadOnly", ["options", readOnlyRule, options])
  return Layer.scoped(Store, makeReadOnly(options.filename))
}
