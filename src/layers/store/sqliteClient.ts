/** A connection of `@effect/sql` to a SQLite file, and the client that has this one connection. */
import { pathToFileURL } from "node:url"
import * as Reactivity from "@effect/experimental/Reactivity"
import * as SqlClient from "@effect/sql/SqlClient"
import type { Connection } from "@effect/sql/SqlConnection"
import { SqlError } from "@effect/sql/SqlError"
import * as SqlStatement from "@effect/sql/Statement"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { optionalPackages } from "../../services/runtime/optionalPackages.js"
import { StoreError } from "../../services/store/Store.js"
import { isBusy } from "./sqlError.js"
import { type Database, type Driver, loadDriver, substitute } from "./sqliteDriver.js"

/** Which file is opened, and how. */
export interface Config {
  readonly filename: string
  /** Nothing can be written, and a file that does not exist is not created. */
  readonly readonly?: boolean | undefined
  /** Leaves the journal as it is; otherwise it becomes a write-ahead log. */
  readonly disableWAL?: boolean | undefined
  /** Milliseconds that SQLite waits for locks of others, until it is told otherwise; 5 000 unless given. */
  readonly busyTimeout?: number | undefined
}

/** KiB of pages that a connection holds. */
const cacheSize = 16_000

const load: Effect.Effect<Driver, StoreError> = Effect.tryPromise({
  try: loadDriver,
  catch: (cause) =>
    new StoreError({
      message:
        `a store on a SQLite file needs Node 22.16 or newer, or ${substitute}, which cannot be loaded here: ` +
        `npm i ${substitute}@${optionalPackages[substitute]}; or keep everything in memory, with --memory or StoreMemory`,
      publicMessage: "the database cannot be opened",
      cause
    })
})

const attempt = <A>(f: () => A): Effect.Effect<A, SqlError> =>
  Effect.try({ try: f, catch: (cause) => new SqlError({ cause, message: "Failed to execute statement" }) })

const connectionOf = (database: Database): Connection => ({
  execute: (sql, params, transform) => {
    const rows = attempt(() => database.prepared(sql).all(params))
    return transform === undefined ? rows : Effect.map(rows, transform)
  },
  // Nobody asks for rows here. What has no parameters leaves no statement behind, for which closing would collect all garbage.
  executeRaw: (sql, params) =>
    attempt(() => (params.length === 0 ? database.exec(sql) : database.prepared(sql).run(params))),
  executeValues: (sql, params) => attempt(() => database.prepared(sql).values(params)),
  executeUnprepared: (sql, params, transform) => {
    const rows = attempt(() => database.prepare(sql).all(params))
    return transform === undefined ? rows : Effect.map(rows, transform)
  },
  executeStream: () => Stream.dieMessage("streams of rows are not implemented")
})

const close = (database: Database): Effect.Effect<void> =>
  Effect.suspend(() => {
    const closing = database.close()
    return closing === undefined ? Effect.void : Effect.promise(() => closing)
  })

/** What there is to know of a file before it is opened for good. */
export interface Identity {
  readonly applicationId: number
  /** The version of the schema, as its application counts. */
  readonly version: number
  /** Nothing was ever created in it. */
  readonly blank: boolean
}

/** Asks a file that nothing is written to, and that is closed again; what is asked leaves nothing that closing waits for. */
const asking = <A>(
  filename: string,
  ask: (database: Database) => A
): Effect.Effect<A, SqlError | StoreError> =>
  Effect.gen(function* () {
    const driver = yield* load
    const database = yield* Effect.acquireRelease(
      attempt(() => driver.open(filename, { readOnly: true })),
      close
    )
    return yield* attempt(() => ask(database))
  }).pipe(Effect.scoped)

/** Milliseconds that SQLite waits for locks of others, unless told otherwise. */
const defaultBusyTimeout = 5_000

/**
 * Reads the identity of a file. `logged`: the newest header may still be in its write-ahead log. Without, no locks are taken
 * and no files appear beside it; but through SQLite, which closes it only when nobody in this process has locks on it: the
 * operating system would give up all of them.
 */
export const identify = (
  path: string,
  { logged }: { readonly logged: boolean }
): Effect.Effect<Identity, SqlError | StoreError> =>
  asking(logged ? path : `${pathToFileURL(path).href}?immutable=1`, (database) => {
    database.exec(`PRAGMA busy_timeout = ${defaultBusyTimeout}`)
    return {
      applicationId: Number(database.pragma("application_id")),
      version: Number(database.pragma("user_version")),
      blank: Number(database.pragma("schema_version")) === 0
    }
  })

/** Looks whether a file is sound; returns what is not, or `ok`. */
export const quickCheck = (path: string): Effect.Effect<string, SqlError | StoreError> =>
  asking(path, (database) => {
    database.exec(`PRAGMA busy_timeout = ${defaultBusyTimeout}; PRAGMA cache_size = -${cacheSize}`)
    return String(database.pragma("quick_check"))
  })

/** Returns whether another has a file locked for itself, by reading from it: nobody may then. Nobody is waited for. */
export const isLocked = (path: string): Effect.Effect<boolean, SqlError | StoreError> =>
  asking(path, (database) => {
    database.exec("PRAGMA busy_timeout = 0")
    database.pragma("schema_version")
    return false
  }).pipe(Effect.catchIf(isBusy, () => Effect.succeed(true)))

const openDatabase = ({
  busyTimeout = defaultBusyTimeout,
  disableWAL = false,
  filename,
  readonly = false
}: Config) =>
  Effect.gen(function* () {
    const driver = yield* load
    const database = yield* Effect.acquireRelease(
      attempt(() => driver.open(filename, { readOnly: readonly })),
      close
    )
    yield* attempt(() => {
      database.exec(`PRAGMA busy_timeout = ${busyTimeout}; PRAGMA cache_size = -${cacheSize}`)
      if (!disableWAL) database.exec("PRAGMA journal_mode = WAL")
    })
    return database
  })

/** Makes a client with one connection, for the scope; transactions take turns at it. Fails when the file cannot be opened. */
export const make = (
  config: Config
): Effect.Effect<SqlClient.SqlClient, SqlError | StoreError, Scope.Scope> =>
  Effect.gen(function* () {
    const connection = connectionOf(yield* openDatabase(config))
    const semaphore = yield* Effect.makeSemaphore(1)
    return yield* SqlClient.make({
      acquirer: semaphore.withPermits(1)(Effect.succeed(connection)),
      transactionAcquirer: Effect.uninterruptibleMask((restore) =>
        restore(semaphore.take(1)).pipe(
          Effect.zipRight(
            Effect.flatMap(Effect.scope, (scope) => Scope.addFinalizer(scope, semaphore.release(1)))
          ),
          Effect.as(connection)
        )
      ),
      compiler: SqlStatement.makeCompilerSqlite(),
      spanAttributes: [["db.system.name", "sqlite"]]
    }).pipe(Effect.provideServiceEffect(Reactivity.Reactivity, Reactivity.make))
  })
