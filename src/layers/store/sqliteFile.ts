/** Opening a SQLite file without harm: whose it is, whether it is whole, and that it is ours alone. */

import * as fs from "node:fs"
import * as nodePath from "node:path"
import type * as SqlClient from "@effect/sql/SqlClient"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as ExecutionStrategy from "effect/ExecutionStrategy"
import * as Exit from "effect/Exit"
import * as Scope from "effect/Scope"
import { codeOf, fileProblem } from "../../services/runtime/fileProblem.js"
import { needs } from "../../services/runtime/needs.js"
import { StoreError } from "../../services/store/Store.js"
import { whileBusy } from "./busy.js"
import { lockHolder } from "./lockHolder.js"
import { ensureFile, ensureFolder } from "./ownerOnly.js"
import { applicationId, schemaVersion } from "./schema.js"
import { isBusy, toStoreError } from "./sqlError.js"
import type * as Sqlite from "./sqliteClient.js"

/** The client of one SQLite file. */
export type SqliteClient = SqlClient.SqlClient

/** Bytes up to which a file is checked whole when it is opened; checking takes time in proportion. */
const maxCheckedBytes = 64 * 1024 * 1024

const attempt = <A>(name: string, f: () => A): Effect.Effect<A, StoreError> =>
  Effect.try({ try: f, catch: toStoreError(name) })

const refuse = (message: string) => Effect.fail(new StoreError({ message }))

/** Imported when the first file is opened: who imports the store need not have what it needs. */
const client = needs("a store on a SQLite file", "@effect/sql", () => import("./sqliteClient.js")).pipe(
  Effect.mapError(({ cause, message }) => new StoreError({ message, cause }))
)

/** Of a file that is to be made it says nothing that there is none. */
const whyNotCreated = (cause: unknown): string =>
  codeOf(cause) === "ENOENT" ? "the file system makes none there (ENOENT)" : fileProblem(cause)

/** Says what there is to do about a file or folder that cannot be made. */
const cannotCreate = (name: string) => (cause: unknown) =>
  new StoreError({
    message: `${name} cannot be created: ${whyNotCreated(cause)}; choose a file in a folder that takes new ones`,
    publicMessage: "the database cannot be created",
    cause
  })

/** Opens a connection for the scope. */
export const connect = (
  config: Sqlite.Config,
  name: string
): Effect.Effect<SqliteClient, StoreError, Scope.Scope> =>
  Effect.flatMap(client, ({ make }) => Effect.mapError(make(config), toStoreError(name)))

/** Says something to a connection. The client makes a span of each statement, and these belong to nobody's trace. */
export const pragma = (sql: SqliteClient, text: string) =>
  Effect.withTracerEnabled(sql.unsafe(`PRAGMA ${text}`), false)

/** Creates the file when there is none; it is its owner's alone. */
export const createOwn = (path: string, name: string): Effect.Effect<void, StoreError> =>
  Effect.try({ try: () => ensureFile(path), catch: cannotCreate(name) })

/** Opens a connection that writes, for the scope, to a file that is created when there is none. */
export const connectOwn = (
  path: string,
  name: string,
  config: Omit<Sqlite.Config, "filename"> = {}
): Effect.Effect<SqliteClient, StoreError, Scope.Scope> =>
  Effect.zipRight(createOwn(path, name), connect({ ...config, filename: path }, name))

/** Links that are followed to a file that is not there yet; systems follow as many. */
const maxLinks = 40

/** Returns where a path leads that leads to nothing yet: the name of what is to be made there. */
const nameToMake = (path: string, links: number): string => {
  const named = nodePath.dirname(path)
  const folder = fs.existsSync(named) ? fs.realpathSync(named) : named
  const here = nodePath.join(folder, nodePath.basename(path))
  const isLink = fs.lstatSync(here, { throwIfNoEntry: false })?.isSymbolicLink() === true
  return isLink && links > 0 ? realName(nodePath.resolve(folder, fs.readlinkSync(here)), links - 1) : here
}

/**
 * Returns the path by which every process knows a file: with the links resolved, also one to a file that is still to be made,
 * which is made where that leads. What is no path to anything, or may not be looked at, stays as it is, for whoever opens it
 * to say why.
 */
export const realName = (filename: string, links = maxLinks): string => {
  const path = nodePath.resolve(filename)
  for (const look of [() => fs.realpathSync(path), () => nameToMake(path, links)])
    try {
      return look()
    } catch {
      // Whoever opens it says why.
    }
  return path
}

/** Where the credentials of the runtime on a database are, and where those of its backup. */
export const credentialsBeside = (database: string): string => `${realName(database)}.credentials`

/** Returns why there is no file of this name, which is not yet followed to where it leads, as the end of a sentence. */
export const whyMissing = (path: string): string =>
  fs.lstatSync(path, { throwIfNoEntry: false }) === undefined
    ? "does not exist"
    : "is a link that leads nowhere"

/** Creates the folder; answers the path by which every process knows the file, links resolved. */
export const prepareFolder = (filename: string): Effect.Effect<string, StoreError> =>
  Effect.gen(function* () {
    // SQLite's name for a database in memory; here it would be a file of that name, kept.
    if (filename === ":memory:")
      return yield* refuse(":memory: is not a file; keep everything in memory with --memory or StoreMemory")
    const path = nodePath.resolve(filename)
    const folder = nodePath.dirname(path)
    yield* Effect.try({
      try: () => ensureFolder(folder),
      catch: cannotCreate(`the folder of ${filename}`)
    })
    return yield* attempt(filename, () => realName(path))
  })

/** Who holds the lock of a file, as the beginning of a sentence. */
export const holderOf = (path: string): string => {
  const pid = lockHolder(`${path}.lock`)
  if (pid === process.pid) return "another arcp runtime of this process"
  return `another arcp runtime${pid === undefined ? "" : ` (process ${pid})`}`
}

/**
 * Returns whether a runtime has a file; `undefined` where that cannot be told. It is the lock that is asked: {@link lockHolder} does not
 * see who is in another container, nor what is on some file systems. A runtime that starts at this very moment tries again.
 */
export const isHeld = (path: string): Effect.Effect<boolean | undefined> =>
  Effect.suspend(() => {
    const lock = `${path}.lock`
    if (fs.lstatSync(lock, { throwIfNoEntry: false }) === undefined) return Effect.succeed(false)
    return Effect.flatMap(client, ({ isLocked }) => isLocked(lock))
  }).pipe(Effect.catchAllCause(() => Effect.succeed(undefined)))

/** Takes the lock, or fails at once. What was opened for it is closed again when it fails. */
const tryLock = (path: string, name: string): Effect.Effect<void, StoreError, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Scope.fork(yield* Effect.scope, ExecutionStrategy.sequential)
    yield* Effect.gen(function* () {
      const config = { disableWAL: true, busyTimeout: 0 }
      const sql = yield* connectOwn(`${path}.lock`, `${name}.lock`, config)
      const connection = yield* sql.reserve
      for (const statement of ["PRAGMA journal_mode = MEMORY", "BEGIN EXCLUSIVE"])
        yield* connection.executeRaw(statement, [])
    }).pipe(
      Scope.extend(scope),
      Effect.onError((cause) => Scope.close(scope, Exit.failCause(cause)))
    )
  }).pipe(Effect.mapError(toStoreError(`${name}.lock`)))

/**
 * Makes this process the only runtime on the file until the scope closes or the process dies: the
 * operating system releases the lock. It is on a file beside the database, so that tools may read that. Fails at once when
 * another runtime has it.
 */
export const lock = (path: string, name: string): Effect.Effect<void, StoreError, Scope.Scope> =>
  Effect.zipRight(
    Effect.all([regularFile(path, name), oneName(path, name), ownLock(path, name)], { discard: true }),
    Effect.mapError(tryLock(path, name), (error) =>
      isBusy(error)
        ? new StoreError({
            message: `${holderOf(path)} uses ${name}; stop it, or choose another file`,
            cause: error
          })
        : error
    )
  )

/** How long another runtime is waited for: as long as one may take to shut down, unless told otherwise. */
const lockPatience = Duration.seconds(5)

/** Does the same, but gives a runtime that is about to end the time for it, and says so. */
export const lockPatiently = (path: string, name: string): Effect.Effect<void, StoreError, Scope.Scope> =>
  Effect.catchIf(lock(path, name), isBusy, () => {
    const said = `it is given ${Duration.toSeconds(lockPatience)} s to let go of it`
    return Effect.zipRight(
      Effect.logWarning(`${holderOf(path)} uses ${name}: ${said}`),
      whileBusy(lock(path, name), lockPatience)
    )
  }).pipe(
    // The sentence says all of it: what a driver said of the lock would stand below it, wherever a program prints what it ended with.
    Effect.mapError((error) => (isBusy(error) ? new StoreError({ message: error.message }) : error))
  )

/**
 * Refuses a file with several names. The lock, and SQLite's own log, are beside one of them: a program that comes by
 * another name would see neither, and what both write would destroy the file. Links made later are found by whoever
 * comes second.
 */
const oneName = (path: string, name: string): Effect.Effect<void, StoreError> =>
  Effect.gen(function* () {
    const stat = yield* attempt(name, () => fs.statSync(path, { throwIfNoEntry: false }))
    if (stat !== undefined && stat.nlink > 1)
      return yield* refuse(
        `${name} has ${stat.nlink} names (hard links), and a database can be used by one only; ` +
          "remove the others, or make a copy"
      )
  })

/** Refuses a lock that is a link, or no file at all: whoever put it there would choose what is locked, and made. */
const ownLock = (path: string, name: string): Effect.Effect<void, StoreError> =>
  Effect.gen(function* () {
    const lock = `${name}.lock`
    const stat = yield* attempt(lock, () => fs.lstatSync(`${path}.lock`, { throwIfNoEntry: false }))
    if (stat !== undefined && !stat.isFile())
      return yield* refuse(
        `${lock} is ${stat.isSymbolicLink() ? "a link" : "not a regular file"}, and has to be a file of its own; remove it`
      )
  })

/** Refuses what cannot be written, in words, before anything is tried. Links are resolved in `path`. */
export const writable = (path: string, name: string): Effect.Effect<void, StoreError> =>
  Effect.forEach(
    [
      [path, name],
      [nodePath.dirname(path), `the folder of ${name}`]
    ] as const,
    ([what, called]) =>
      Effect.try({
        try: () => {
          if (fs.existsSync(what)) fs.accessSync(what, fs.constants.W_OK)
        },
        catch: (cause) =>
          new StoreError({
            message: `${called} is read-only; make the file and its folder writable, or choose another file`,
            publicMessage: "the database is read-only",
            cause
          })
      }),
    { discard: true }
  )

/** Files that SQLite works with beside a database. */
const besides = ["-wal", "-shm", "-journal"]

const sizeOf = (path: string): number | undefined => fs.statSync(path, { throwIfNoEntry: false })?.size

/**
 * Returns what removes the files that have come to be beside a database since, when they hold nothing: what opening a
 * file leaves there that is refused after all. To be run when nothing of ours has it open.
 */
export const besideNow = (path: string): Effect.Effect<Effect.Effect<void>> =>
  Effect.sync(() => {
    const before = besides.filter((suffix) => fs.existsSync(path + suffix))
    return Effect.ignore(
      Effect.try(() => {
        if (besides.some((suffix) => suffix !== "-shm" && (sizeOf(path + suffix) ?? 0) > 0)) return
        for (const suffix of besides) if (!before.includes(suffix)) fs.rmSync(path + suffix, { force: true })
      })
    )
  })

/** Returns the size of a file in bytes, `undefined` when there is no such file; anything but a file is refused. */
export const regularFile = (path: string, name: string): Effect.Effect<number | undefined, StoreError> =>
  Effect.gen(function* () {
    const stat = yield* attempt(name, () => fs.statSync(path, { throwIfNoEntry: false }))
    if (stat === undefined) return undefined
    if (stat.isDirectory()) return yield* refuse(`${name} is a directory; name a file in it`)
    if (!stat.isFile()) return yield* refuse(`${name} is not a regular file; choose another`)
    yield* attempt(name, () => fs.accessSync(path, fs.constants.R_OK))
    return stat.size
  })

/**
 * Returns the schema version of a file, 0 when it does not exist or is empty; refuses what is not a sound
 * database of ours. Does not write to it.
 */
export const inspect = (path: string, name: string): Effect.Effect<number, StoreError> =>
  Effect.suspend(() => {
    const real = realName(path)
    return Effect.flatMap(besideNow(real), (clean) => Effect.tapErrorCause(look(real, name), () => clean))
  })

/** Returns the schema of a file of a runtime. Refuses everything else, also one that holds nothing yet; `wanted` is what to name. */
export const schemaOf = (
  path: string,
  name: string,
  wanted = "the file of a runtime"
): Effect.Effect<number, StoreError> =>
  Effect.filterOrFail(
    inspect(path, name),
    (version) => version > 0,
    () =>
      new StoreError({
        message: `${name} ${fs.existsSync(path) ? "holds no runtime's data" : whyMissing(name)}; name ${wanted}`
      })
  )

const look = (path: string, name: string): Effect.Effect<number, StoreError> =>
  Effect.gen(function* () {
    const size = yield* regularFile(path, name)
    yield* oneName(path, name)
    if (size === undefined || size === 0) return 0
    const { identify, quickCheck } = yield* client
    // Where there is a write-ahead log a file may be half of what it is to be; else not even the files SQLite works with appear.
    const logged = ((yield* regularFile(`${path}-wal`, `${name}-wal`)) ?? 0) > 0
    const identity = yield* identify(path, { logged })
    // What a crash between creating the file and its first migration leaves is as good as no file.
    if (identity.blank && identity.applicationId === 0 && identity.version === 0) return 0
    if (identity.applicationId !== applicationId)
      return yield* refuse(`${name} is the database of another application; choose another file`)
    if (identity.version > schemaVersion)
      return yield* refuse(
        `${name} was written by a newer version (schema ${identity.version}, this one knows ` +
          `${schemaVersion}); use that version, or choose another file`
      )
    if (size <= maxCheckedBytes) {
      const problem = yield* quickCheck(path)
      if (problem !== "ok") return yield* refuse(`${name} is corrupt; restore it from a backup (${problem})`)
    }
    return identity.version
  }).pipe(Effect.mapError(toStoreError(name)), Effect.scoped)
