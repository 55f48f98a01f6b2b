/**
 * Credential records in a SQL database, or in a SQLite file of their own.
 *
 * Their own, beside the runtime's, and not a table in it: the runtime's file has one writer, and a record would wait for
 * the commits of events. Apart, a record is one statement that is on disk when it returns, whatever
 * `synchronous` the events are written with, and it is there also when the events' file is damaged or full. A thread
 * of its own writes it, so that nobody else waits for that disk.
 */
import * as fs from "node:fs"
import type * as SqlClient from "@effect/sql/SqlClient"
import type { SqlError } from "@effect/sql/SqlError"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Argument from "../../protocol/Argument.js"
import {
  type CredentialRecord,
  CredentialStore,
  type CredentialStoreService
} from "../../services/credentials/CredentialStore.js"
import { StoreError } from "../../services/store/Store.js"
import { whileBusy } from "../store/busy.js"
import { borrowed, kept, type Lend } from "../store/lending.js"
import { type TableOptions, tablesOf } from "../store/migrate.js"
import { naming, prefixProblem } from "../store/naming.js"
import type { Options as StoreSqliteOptions } from "../store/StoreSqlite.js"
import { SqlClientTag } from "../store/sqlClientTag.js"
import { isBusy, toStoreError } from "../store/sqlError.js"
import type { Values } from "../store/sqliteDriver.js"
import {
  connect,
  connectOwn,
  createOwn,
  credentialsBeside,
  lock,
  lockPatiently,
  pragma,
  prepareFolder,
  regularFile,
  type SqliteClient
} from "../store/sqliteFile.js"
import * as Thread from "../store/sqliteThread.js"

/** "ARCC", in the file header. */
const applicationId = 0x41524343
const schemaVersion = 1

const createTable = `CREATE TABLE IF NOT EXISTS {credentials} (
  id TEXT NOT NULL PRIMARY KEY,
  credential_id TEXT NOT NULL,
  job_id TEXT NOT NULL,
  principal TEXT NOT NULL,
  state TEXT NOT NULL,
  endpoint TEXT,
  reference TEXT,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  unsettled_until INTEGER,
  attempts INTEGER NOT NULL,
  last_error TEXT
)`

/** Column → field. What is not named here is not written down, whatever else a record may carry. */
const fields = {
  id: "id",
  credential_id: "credentialId",
  job_id: "jobId",
  principal: "principal",
  state: "state",
  endpoint: "endpoint",
  reference: "reference",
  created_at: "createdAt",
  updated_at: "updatedAt",
  unsettled_until: "unsettledUntil",
  attempts: "attempts",
  last_error: "lastError"
} as const satisfies Record<string, keyof CredentialRecord>

const columns = Object.keys(fields)
const values = (record: CredentialRecord) => Object.values(fields).map((field) => record[field] ?? null)
const toRecord = ([row]: ReadonlyArray<unknown>): CredentialRecord => {
  const found = JSON.parse(String(row)) as ReadonlyArray<unknown>
  const record: Record<string, unknown> = {}
  for (const [i, field] of Object.values(fields).entries()) if (found[i] !== null) record[field] = found[i]
  return record as unknown as CredentialRecord
}

const insertRow = `INSERT INTO {credentials} (${columns.join(", ")}) VALUES (${columns.map(() => "?").join(", ")})`
const updateRow = `UPDATE {credentials} SET ${columns.map((column) => `${column} = ?`).join(", ")} WHERE id = ?`
const removeRow = "DELETE FROM {credentials} WHERE id = ?"
/** As JSON: some drivers read text only up to its first NUL, and what others name may have one. */
const listRows = `SELECT json_array(${columns.join(", ")}) FROM {credentials} ORDER BY created_at, id`

/** Where the table of records is: `arcp_credentials`, or what else the prefix makes of it. */
export interface Options extends TableOptions {}

/** Runs single statements, as their rows are wanted or not. */
interface Access {
  readonly change: (sql: string, params: Values) => Effect.Effect<unknown, StoreError>
  readonly rows: (sql: string) => Effect.Effect<ReadonlyArray<Values>, StoreError>
}

/** Makes a store on what runs statements. A lock of another program is waited for with pauses, up to 30 s. */
const makeOver = ({ change, rows }: Access): Effect.Effect<CredentialStoreService, StoreError> =>
  Effect.gen(function* () {
    /** A statement is uninterruptible, so whoever writes learns whether it is written; waiting for a lock is not. */
    const write = (sql: string, params: Values): Effect.Effect<void, StoreError> =>
      whileBusy(Effect.uninterruptible(Effect.asVoid(change(sql, params))))

    yield* write(createTable, [])

    return {
      kind: "durable",
      insert: (record) => write(insertRow, values(record)),
      update: (record) => write(updateRow, [...values(record), record.id]),
      remove: (id) => write(removeRow, [id]),
      list: Effect.map(whileBusy(rows(listRows)), (found) => found.map(toRecord))
    }
  })

/** Runs statements on what is lent. */
const onLent = (name: string, lend: Lend): Access => {
  const mapError = Effect.mapError(toStoreError(name))
  return {
    change: (sql, params) => mapError(lend((statements) => statements.executeRaw(sql, params))),
    rows: (sql) => mapError(lend((statements) => statements.executeValues(sql, [])))
  }
}

/**
 * Makes a store in a table of a database that speaks SQLite's dialect; the table too, when it is not there. It borrows a
 * connection for each statement, so that none ends up in a transaction of whoever calls, and a client that has only one
 * can be the application's too.
 */
export const make = (
  options: Options = {}
): Effect.Effect<CredentialStoreService, StoreError, SqlClient.SqlClient> =>
  Effect.gen(function* () {
    const { name, prefix } = tablesOf(options)
    const problem = prefixProblem(prefix)
    if (problem !== undefined) return yield* new StoreError({ message: problem })
    const sql = yield* SqlClientTag
    const lend = yield* Effect.mapError(borrowed(sql, naming(prefix), name), toStoreError(name))
    return yield* makeOver(onLent(name, lend))
  })

/** `CredentialStore` over the `SqlClient` in context. Commits must be durable: with SQLite, `synchronous` FULL. */
export const layer = (options: Options = {}): Layer.Layer<CredentialStore, StoreError, SqlClient.SqlClient> =>
  Layer.effect(CredentialStore, make(options))

/** Where a file of credential records is. */
export interface FileOptions {
  /** Path of the file. It and its folder are created when they do not exist. */
  readonly filename: string
}

const fileRule = Argument.options<FileOptions & Pick<StoreSqliteOptions, "worker">>({
  filename: Argument.text,
  worker: Argument.maybe(Argument.that("a URL", (value) => value instanceof URL))
})

export { credentialsBeside as beside }

const number = (sql: SqliteClient, text: string): Effect.Effect<number, SqlError> =>
  Effect.map(sql.unsafe(text).values, (rows) => Number(rows[0]?.[0]))

const refuse = (message: string) => Effect.fail(new StoreError({ message }))

/** Refuses a file that is not ours before anything is written to it. */
const check = (path: string, name: string): Effect.Effect<void, StoreError> =>
  Effect.gen(function* () {
    if (((yield* regularFile(path, name)) ?? 0) === 0) return
    const sql = yield* connect({ filename: path, readonly: true, disableWAL: true }, name)
    const owner = yield* number(sql, "PRAGMA application_id")
    const version = yield* number(sql, "PRAGMA user_version")
    // What a crash between creating the file and its table leaves is as good as no file.
    if (owner === 0 && (yield* number(sql, "SELECT count(*) FROM sqlite_master")) === 0) return
    if (owner !== applicationId)
      return yield* refuse(`${name} does not hold the credentials of a runtime; choose another file`)
    if (version > schemaVersion)
      return yield* refuse(`${name} was written by a newer version; use that version, or choose another file`)
    const [problem] = (yield* sql.unsafe("PRAGMA quick_check(1)").values)[0] ?? []
    if (problem !== "ok")
      return yield* refuse(
        `${name} is corrupt; restore it from a backup, or revoke its credentials upstream by hand`
      )
  }).pipe(Effect.mapError(toStoreError(name)), Effect.scoped)

/** The name of the table in a file of its own. */
const inFile = naming("arcp_")

const pragmas: ReadonlyArray<string> = [
  // Waiting in SQLite would hold up whoever waits for the connection; the store waits by itself.
  "busy_timeout = 0",
  "synchronous = FULL",
  `application_id = ${applicationId}`,
  `user_version = ${schemaVersion}`
]

/** Opens the file on a connection of this process. */
const openHere = (path: string, name: string) =>
  Effect.gen(function* () {
    const sql = yield* connectOwn(path, name)
    yield* Effect.forEach(pragmas, (text) => whileBusy(pragma(sql, text))).pipe(
      Effect.mapError(toStoreError(name))
    )
    yield* Effect.addFinalizer(() => Effect.ignore(pragma(sql, "wal_checkpoint(TRUNCATE)")))
    const lend = yield* Effect.mapError(kept(sql, inFile), toStoreError(name))
    return yield* makeOver(onLent(name, lend))
  })

/** Opens the file in a thread, so that nobody in this process waits for the disk. */
const openInThread = (starting: Thread.StartingThread, path: string, name: string) =>
  Effect.gen(function* () {
    yield* createOwn(path, name)
    const thread = yield* whileBusy(starting.open(path, ["journal_mode = WAL", ...pragmas]))
    return yield* makeOver({
      change: (sql, params) => thread.run(inFile(sql), params),
      rows: (sql) => thread.run(inFile(sql), [])
    })
  })

/**
 * The store of a runtime in a SQLite file, for the lifetime of the layer. Fails when another runtime uses the file,
 * or when it is corrupt or something else; the file is then as it was.
 */
export const layerSqlite = (
  options: FileOptions & Pick<StoreSqliteOptions, "worker">
): Layer.Layer<CredentialStore, StoreError> => {
  Argument.check("CredentialStoreSql.layerSqlite", ["options", fileRule, options])
  const { filename, worker } = options
  return Layer.scoped(
    CredentialStore,
    Effect.gen(function* () {
      const starting = yield* Thread.start(filename, worker)
      const path = yield* prepareFolder(filename)
      yield* lockPatiently(path, filename)
      yield* check(path, filename)
      return yield* openInThread(starting, path, filename).pipe(
        Effect.catchTag("NoThread", () => openHere(path, filename))
      )
    })
  )
}

/**
 * An existing file beside its runtime, for tools. What a running job holds is in there too: a tool that revokes asks
 * `inUse` after it has listed.
 */
export const layerSqliteShared = (options: FileOptions): Layer.Layer<CredentialStore, StoreError> => {
  Argument.check("CredentialStoreSql.layerSqliteShared", ["options", fileRule, options])
  const { filename } = options
  return Layer.scoped(
    CredentialStore,
    Effect.gen(function* () {
      if (!fs.existsSync(filename))
        return yield* refuse(`${filename} does not exist; name the file of a runtime`)
      const path = yield* prepareFolder(filename)
      yield* check(path, filename)
      return yield* openHere(path, filename)
    })
  )
}

/** Does a runtime use this file at the moment? */
export const inUse = ({ filename }: FileOptions): Effect.Effect<boolean, StoreError> =>
  prepareFolder(filename).pipe(
    Effect.flatMap((path) => lock(path, filename)),
    Effect.as(false),
    Effect.catchIf(isBusy, () => Effect.succeed(true)),
    Effect.scoped
  )

export * from "../../services/credentials/CredentialStore.js"
